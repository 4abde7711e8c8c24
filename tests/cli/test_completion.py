"""``completion``: each shell gets a script that completes commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(command: Command, shell: str) -> None:
    result = command("completion", shell)
    assert result.exit_code == 0
    assert f"_REKOGNITION_DAGSTER_COMPLETE={shell}_complete" in result.stdout


def test_bash_completes_a_command() -> None:
    name = Path(sys.executable).with_name("rekognition-dagster")
    script = (
        f'PATH="{name.parent}:$PATH"; eval "$(rekognition-dagster completion bash)"\n'
        "COMP_WORDS=(rekognition-dagster ana); COMP_CWORD=1\n"
        "_rekognition_dagster_completion rekognition-dagster ana\n"
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "analyze", done.stderr
