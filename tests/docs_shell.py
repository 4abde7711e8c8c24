"""A shell in which a page's commands are typed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

_LIMIT_S = 90.0


class Shell:
    """One bash, in which a page's commands run one after another.

    Args:
        folder: Where it starts.
        environment: All that it has.
    """

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, list[str]]:
        """The exit status of a command, and the lines that it printed."""
        process, end = self._process, f"end-of-{time.monotonic_ns()}"
        assert process.stdin is not None
        assert process.stdout is not None
        script = f"{{ {command}\n}} </dev/null\n" if "<<" not in command else f"{command}\n"
        limit = threading.Timer(_LIMIT_S, self._interrupt)
        limit.start()
        process.stdin.write(f"{script}printf '\\n%s %s\\n' {end} $?\n")
        process.stdin.flush()
        lines: list[str] = []
        for line in process.stdout:
            if line.startswith(end):
                output: list[str] = "".join(lines).rstrip("\n").split("\n")
                limit.cancel()
                return int(line.split()[1]), output
            lines.append(line)
        raise AssertionError(f"the shell ended in {command!r}: {''.join(lines)}")

    def _interrupt(self) -> None:
        """End what has run for too long, and the shell with it."""
        os.killpg(self._process.pid, signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """What has been exported."""
        _, lines = self.run("env")
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {name: value for name, _, value in pairs}

    def close(self) -> None:
        """End it, and what it runs in the background."""
        group = self._process.pid
        if not _is_alive(group):
            self._process.wait()
            return
        os.killpg(group, signal.SIGTERM)
        end = time.monotonic() + 20.0
        while _is_alive(group) and time.monotonic() < end:
            self._process.poll()
            time.sleep(0.05)
        if _is_alive(group):
            os.killpg(group, signal.SIGKILL)
        self._process.wait()


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
