"""Processes of the local stack: started under supervision, awaited by a condition, stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from rekognition_dagster.errors import RekognitionDagsterError
from rekognition_dagster.stack import leash

T = TypeVar("T")


class StackError(RekognitionDagsterError):
    """A part of the local stack did not start, or died; the text has the end of its log."""


class Process:
    """One process of the stack, and all that it starts.

    Args:
        name: What messages call it.
        command: Its command line.
        env: Its whole environment.
        log: Where its output goes, appended.
        grace_s: Seconds it gets between being asked to stop and being killed.
        held: A file that stays open, and so locked, until the process is gone.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        grace_s: float = 5.0,
        held: IO[Any] | None = None,
    ):
        self.name, self.log = name, log
        self._grace_s = grace_s
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._leash = subprocess.Popen(
                [sys.executable, "-I", leash.__file__, str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(env),
                pass_fds=[held.fileno()] if held else [],
                start_new_session=True,  # Ctrl-C in a terminal is for the starter to act on
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._leash.poll() is None

    def output(self) -> str:
        """What it has printed since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def check(self) -> None:
        """Raise StackError, with the end of its log, if it has ended."""
        if not self.is_running:
            last = "\n".join(f"  {line}" for line in self.output().strip().splitlines()[-5:])
            raise StackError(
                f"{self.name} ended with status {self._leash.returncode}. Its log is {self.log}"
                + (f" and ends with:\n{last}" if last else "")
            )

    def wait_for(self, condition: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """What ``condition`` gives once it is true.

        Raises:
            StackError: The process ended, or ``timeout_s`` passed, before that.
        """
        end = time.monotonic() + timeout_s
        while not (found := condition()):
            self.check()
            if time.monotonic() > end:
                raise StackError(
                    f"{self.name} {what} not within {timeout_s:.0f} s. Its log is {self.log}"
                )
            time.sleep(0.05)
        return found

    def stop(self) -> None:
        """Stop it and all that it started; returns when they are gone. Can be repeated."""
        assert self._leash.stdin is not None
        self._leash.stdin.close()
        try:
            self._leash.wait(self._grace_s + 10.0)
        except subprocess.TimeoutExpired:
            self._leash.kill()
            self._leash.wait()
