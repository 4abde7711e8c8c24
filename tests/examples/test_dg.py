"""Dagster's own command line finds the component and accepts the YAML example."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rekognition_dagster

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "yaml"
DG = Path(sys.executable).with_name("dg")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example: dg writes into its project."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "yaml"))


def run(project: Path, *command: str) -> str:
    """What dg prints in a project."""
    environment = {**os.environ, "COLUMNS": "200", "PATH": f"{DG.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(DG), *command],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.skipif(not DG.exists(), reason="dagster-dg-cli is not installed")
@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("list", "components"), "rekognition_dagster.RekognitionVideoComponent"),
        (("check", "yaml"), "validated successfully"),
        (("check", "defs"), "loaded successfully"),
    ],
    ids=["list components", "check yaml", "check defs"],
)
def test_dg_accepts_the_example(project: Path, command: tuple[str, ...], text: str) -> None:
    assert text in run(project, *command)


@pytest.mark.skipif(not DG.exists(), reason="dagster-dg-cli is not installed")
def test_dg_scaffolds_a_deployment_that_loads(project: Path) -> None:
    component = "rekognition_dagster.RekognitionVideoComponent"
    run(project, "scaffold", "defs", component, "gate", "--bucket", "gate-videos")
    run(project, "check", "defs")
    assert "bucket: gate-videos" in (project / "cameras/defs/gate/defs.yaml").read_text()


def test_every_public_name_is_listed() -> None:
    assert set(rekognition_dagster.__all__) <= set(dir(rekognition_dagster))
