from __future__ import annotations

import os
from pathlib import Path

import pytest
from clips import write_clip
from command_line import Command, run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs a command line in an empty folder, without any AWS or other settings."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "REKOGNITION_DAGSTER_")) and not name.endswith("_MODELS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.chdir(tmp_path)

    return run


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of people in a street."""
    return write_clip(tmp_path_factory.mktemp("clips") / "street.mp4")
