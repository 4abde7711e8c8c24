"""The wheel and the source distribution, each installed alone into an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADS = """
import rekognition_dagster
from rekognition_dagster import Settings, build_definitions
assert "site-packages" in rekognition_dagster.__file__
assert build_definitions(Settings(bucket="cameras")).sensors
"""


def uv(*arguments: object, cwd: Path) -> None:
    """Run uv, which installs in seconds."""
    program = Path(sys.executable).with_name("uv")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [program, *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both, made from the files that git has."""
    folder = tmp_path_factory.mktemp("distributions")
    uv("build", "--quiet", "--out-dir", folder, ROOT, cwd=folder)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": source}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_distribution_installs_and_works_by_itself(
    kind: str, distributions: dict[str, Path], tmp_path: Path
) -> None:
    uv("venv", "--quiet", "--python", sys.executable, "environment", cwd=tmp_path)
    bin_ = tmp_path / "environment" / "bin"
    uv("pip", "install", "--quiet", "--python", bin_ / "python", distributions[kind], cwd=tmp_path)
    for command in (
        [bin_ / "python", "-c", LOADS],
        [bin_ / "rekognition-dagster", "--help"],
        [bin_ / "rekognition-dagster", "analyze", "--help"],
    ):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_distributions_hold_the_package_and_nothing_of_the_machine(
    distributions: dict[str, Path],
) -> None:
    with zipfile.ZipFile(distributions["wheel"]) as archive:
        names = archive.namelist()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"rekognition_dagster"}
    assert "rekognition_dagster/analytics/person_paths.sql" in names
    assert "rekognition_dagster/py.typed" in names
    with tarfile.open(distributions["sdist"]) as archive:
        inside = [n.partition("/")[2] for n in archive.getnames()]
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= set(inside)
    assert not [n for n in inside if n.startswith((".venv", ".rekognition-dagster", "dist"))]
