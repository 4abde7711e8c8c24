"""Installs the AWS CLI and the AWS SDK for JavaScript into a folder, for the tests of clients.

``python tests/service/clients/install.py FOLDER``; then ``REKOGNITION_DAGSTER_CLIENTS=FOLDER``.
Each gets an environment of its own, as users have it. Without node, only the CLI.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

if __name__ == "__main__":
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "aws" / "bin" / "aws").exists():
        venv.create(folder / "aws", with_pip=True)
        pip = folder / "aws" / "bin" / "pip"
        subprocess.run([pip, "install", "--quiet", "awscli"], check=True)
    npm = shutil.which("npm")
    if npm and not (folder / "node_modules" / "@aws-sdk" / "client-rekognition").exists():
        (folder / "package.json").write_text('{"private": true}\n')
        packages = ["@aws-sdk/client-rekognition", "@aws-sdk/client-sqs"]
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", *packages]
        subprocess.run(command, cwd=folder, check=True)
