"""Run a command that cannot outlive its starter: ``python leash.py SECONDS COMMAND...``.

The starter holds the other end of standard input. When that closes, on purpose or because the
starter died, however it died, the command and everything it started is stopped: asked first, killed
after SECONDS. Only the standard library, so that a leash costs little time and memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable


def main(arguments: list[str]) -> int:
    """Run the command until it ends or standard input closes; its exit status."""
    grace, command = float(arguments[0]), arguments[1:]
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    let_go = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: let_go.set())
    try:
        # Its own group, so that one signal reaches all that it starts, and not the leash.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    threading.Thread(target=_until_closed, args=(let_go,), daemon=True).start()
    while child.poll() is None and not let_go.wait(0.05):
        pass
    if child.poll() is None:
        child.terminate()  # the command itself first: it knows best how to stop its own
        _wait(lambda: child.poll() is not None, grace)
    _stop_group(child.pid, min(grace, 2.0))
    return child.wait()


def _until_closed(let_go: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    let_go.set()


def _stop_group(group: int, grace: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
        except PermissionError:  # macOS says so of a group of which only zombies are left
            return
        _wait(lambda: not _is_alive(group), grace)


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _wait(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
