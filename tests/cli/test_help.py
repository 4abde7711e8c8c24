"""Help teaches, and comes at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import Result
from command_line import Command

from rekognition_dagster.engine import SPECS

COMMANDS = ("demo", "dev", "serve", "analyze", "status", "query", "provision", "models", "jobs")
HEAVY = ("cv2", "openvino", "av", "torch", "ultralytics", "moto", "dagster", "boto3", "duckdb")


def test_help_lists_every_command(command: Command) -> None:
    result: Result = command("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.output


@pytest.mark.parametrize("name", [c for c in COMMANDS if c != "models"])
def test_the_help_of_a_command_has_an_example(command: Command, name: str) -> None:
    result = command(name, "--help")
    assert result.exit_code == 0
    assert f"rekognition-dagster {name}" in result.output.partition("\n")[2]


@pytest.mark.parametrize("name", ["analyze", "serve"])
def test_every_kind_of_detector_is_named(command: Command, name: str) -> None:
    assert " ".join(SPECS.split()) in " ".join(command(name, "--help").output.split())


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from rekognition_dagster.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_wrong_command_line_is_status_2(command: Command) -> None:
    assert command("analyse").exit_code == 2
    assert command("analyze").exit_code == 2
    assert command("query").exit_code == 2
