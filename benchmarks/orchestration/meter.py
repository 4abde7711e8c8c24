"""Runs a command and, when it has ended, writes the CPU seconds of it and of all that it started.

    [CODE_SERVER_PORT=n CODE_SERVER_MODULE=m] python meter.py RESULT.json COMMAND...

With these variables a Dagster code server runs first, and counts.

Processes that lose their parent are adopted (Linux's subreaper), so that none is missed. Ends the
command on SIGTERM, and what it left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 20.0


def main() -> None:
    """Run the command line."""
    result, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if port := os.environ.get("CODE_SERVER_PORT"):
        _serve_code(port, os.environ["CODE_SERVER_MODULE"])
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, _ = os.wait()
            if pid == process.pid:
                _end_the_rest()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(result).write_text(json.dumps({"cpu_s": used.ru_utime + used.ru_stime}))


def _serve_code(port: str, module: str) -> None:
    server = [str(Path(sys.executable).with_name("dagster")), "api", "grpc", "--location-name"]
    subprocess.Popen([*server, "benchmark", "-h", "127.0.0.1", "-p", port, "-m", module])
    for _ in range(300):
        time.sleep(0.2)
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", int(port))):
                return
    sys.exit("the code server does not listen")


def _end_the_rest() -> None:
    """End what the command left; a code server that hangs in its shutdown is killed."""
    tasks = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in tasks.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), number)
        if number is signal.SIGTERM:
            _wait_for_children(_GRACE_S)


def _wait_for_children(seconds: float) -> None:
    give_up = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < give_up:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.1)


if __name__ == "__main__":
    main()
