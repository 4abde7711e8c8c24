"""Runs a command and, when it has ended, writes the CPU seconds of it and of all that it started.

    python meter.py RESULT.json COMMAND...

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
import subprocess
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run the command line."""
    result, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, _ = os.wait()
            if pid == process.pid:
                _end_the_rest()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(result).write_text(json.dumps({"cpu_s": used.ru_utime + used.ru_stime}))


def _end_the_rest() -> None:
    tasks = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    for pid in tasks.read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)


if __name__ == "__main__":
    main()
