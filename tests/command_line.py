"""Command lines run in the test's own process, and how those that fail have to end."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import CliRunner, Result

from rekognition_dagster.cli import main

Command = Callable[..., Result]


def run(*arguments: object) -> Result:
    """Run a command line; anything but an orderly end is a failure of the test."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def assert_told(result: Result, *words: str, status: int = 1) -> None:
    """It failed with ``status``, and standard error has every word and no traceback."""
    assert result.exit_code == status
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    for word in words:
        assert word in result.stderr
