"""A process on a leash ends with whoever started it, together with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rekognition_dagster.stack import StackError
from rekognition_dagster.stack.processes import Process

SLEEPER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPER


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def start(tmp_path: Path, code: str, grace_s: float = 5.0) -> Process:
    command = [sys.executable, "-c", code]
    return Process("the sleeper", command, env=os.environ, log=tmp_path / "log", grace_s=grace_s)


def child_of(process: Process) -> int:
    return int(process.wait_for(lambda: process.output().strip(), "spoke", 20.0))


def test_stopping_a_process_stops_what_it_started(tmp_path: Path) -> None:
    process = start(tmp_path, SLEEPER)
    child = child_of(process)
    assert is_alive(child)
    process.stop()
    assert not process.is_running
    assert not is_alive(child)


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path, STUBBORN, grace_s=0.3)
    child = child_of(process)
    process.stop()
    assert not is_alive(child)


def test_a_killed_starter_takes_its_processes_along(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from rekognition_dagster.stack.processes import Process
process = Process("s", [sys.executable, "-c", {SLEEPER!r}], env=os.environ, log=Path("log"))
print(process.wait_for(lambda: process.output().strip(), "spoke", 20.0), flush=True)
time.sleep(600)
"""
    starter = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert starter.stdout is not None
    child = int(starter.stdout.readline())
    assert is_alive(child)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    assert wait(lambda: not is_alive(child))


def test_the_last_words_of_a_process_that_died_are_told(tmp_path: Path) -> None:
    process = start(tmp_path, "import sys; sys.exit('no more paper')")
    with pytest.raises(StackError, match="no more paper") as told:
        process.wait_for(lambda: None, "printed", 20.0)
    assert "status 1" in str(told.value)
    assert str(tmp_path / "log") in str(told.value)
    process.stop()


def test_a_condition_that_does_not_come_true_is_told(tmp_path: Path) -> None:
    process = start(tmp_path, SLEEPER)
    with pytest.raises(StackError, match="the sleeper woke not within 0 s"):
        process.wait_for(lambda: None, "woke", 0.2)
    process.stop()


def test_the_log_of_an_earlier_process_is_not_its_output(tmp_path: Path) -> None:
    for word in ("first", "second"):
        process = start(tmp_path, f"print({word!r})")
        assert wait(lambda process=process: not process.is_running)
        assert process.output().strip() == word
        process.stop()
