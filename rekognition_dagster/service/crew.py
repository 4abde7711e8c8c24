"""The worker processes: started, watched, replaced, and stopped in good order.

A worker that crashes, hangs or takes too much memory costs its job an attempt; one that is killed
from outside costs it none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rekognition_dagster.service.backoff import backoff_s
from rekognition_dagster.service.health import Health
from rekognition_dagster.service.owners import (
    is_dead_here,
    owner_prefix,
    scratch_place,
    scratch_prefix,
)
from rekognition_dagster.service.reports import ReportReader
from rekognition_dagster.service.settings import GIB, Settings
from rekognition_dagster.service.store import JobStore

log = logging.getLogger(__name__)

_TICK_S = 0.1
_LEAST_SILENCE_S = 10.0
"""A machine that is overloaded must not look like workers that hang."""
_SETTLED_S = 5.0
"""Seconds that a worker must live for its start to count as one that worked."""
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class _Worker:
    """A worker process, and what it has reported."""

    def __init__(self, settings: Settings):
        with contextlib.ExitStack() as stack:
            ours, theirs = _pipe(stack)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rekognition_dagster.service.worker", str(theirs)],
                stdin=subprocess.PIPE,
                pass_fds=[theirs],
            )
            stack.pop_all()
        _close(theirs)
        self.reports = ReportReader(ours)
        self.owner: str | None = None
        self.refused: str | None = None
        self.job: tuple[str, int] | None = None
        self.killed_for: str | None = None
        self.silent_s = 0.0
        self.started = time.monotonic()
        self._sent = "hold"
        self._write(json.dumps(settings.as_dict()))

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded its detector."""
        return self.owner is not None and self.is_alive

    def read(self, health: Health) -> None:
        """Take in what it reported."""
        for report in self.reports.new():
            self.silent_s = 0.0
            if "ready" in report:
                self.owner = report["ready"]
            elif "refused" in report:
                self.refused = report["refused"]
            elif "taken" in report:
                job_id, claims = report["taken"]
                self.job = (job_id, claims)
            elif "idle" in report:
                self.job = None
            elif "fault" in report:
                self._sent = "hold"  # which it does by itself
                health.failed(*report["fault"])

    def send(self, word: str) -> None:
        """Send ``hold`` or ``go``, if it differs from what was sent last."""
        if self.owner is not None and word != self._sent:
            self._sent = word
            self._write(word)

    def kill(self, reason: str) -> None:
        """End it; ``reason`` is a clause about its job."""
        self.killed_for = reason
        self.process.kill()

    def resident_bytes(self) -> int:
        """The memory that it uses; 0 where that is not known (not on Linux)."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def close_stdin(self) -> None:
        """Tell it to give back its job and end."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def close(self) -> None:
        """Close the pipes of a worker that has ended."""
        self.close_stdin()
        self.reports.close()

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, which its exit status tells
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()


@dataclass
class Crew:
    """The worker processes of a service.

    Args:
        settings: The service's.
        store: Where the jobs are.
        health: What they report faults to, and what says whether they may take up jobs.
        stop: Set when the service ends.
        on_failure: Called when no worker can start at all; ``failure`` has the reason.
    """

    settings: Settings
    store: JobStore
    health: Health
    stop: threading.Event
    on_failure: Callable[[], None] = lambda: None
    failure: str = ""
    _workers: list[_Worker] = field(default_factory=list)
    _due: list[Callable[[], Any]] = field(default_factory=list)
    _due_at: float = 0.0
    _has_worked: bool = False
    _draining: bool = False
    _hurried: bool = False
    _failed_starts: int = 0
    _start_at: float = 0.0

    def hurry(self) -> None:
        """Let nothing finish any more, if it is draining."""
        self._hurried = self._draining

    def alive(self) -> int:
        """Count the workers that run."""
        return sum(w.is_alive for w in list(self._workers))

    def ready(self) -> int:
        """Count the workers that have loaded their detector."""
        return sum(w.is_ready for w in list(self._workers))

    def wait_for_a_worker(self) -> None:
        """Return once a worker is ready, or none can be."""
        while not (self._has_worked or self.failure or self.stop.is_set()):
            self.stop.wait(0.05)

    def keep_up(self) -> None:
        """Start workers, watch them, and start others in the place of those that ended."""
        self._clean_after_the_last_time()
        last = time.monotonic()
        while not self.stop.is_set() and not self._draining and not self.failure:
            now = time.monotonic()
            # A machine that slept, or a debugger, must not look like workers that were silent.
            self._watch(min(now - last, 1.0))
            last = now
            self._start_missing()
            self._do_due()
            self.stop.wait(_TICK_S)

    def _watch(self, seconds: float) -> None:
        word = "go" if self.health.is_good else "hold"
        for worker in list(self._workers):
            worker.read(self.health)
            if not worker.is_alive:
                worker.read(self.health)  # what it reported last
                self._bury(worker)
                continue
            worker.send(word)
            if worker.owner is None:
                continue
            self._has_worked = True
            if time.monotonic() - worker.started > _SETTLED_S:
                self._failed_starts = 0
            worker.silent_s += seconds
            self._check_limits(worker)

    def _check_limits(self, worker: _Worker) -> None:
        silence_s, most = self._silence_s, self.settings.memory_bytes_of_worker
        if worker.killed_for is not None:
            return
        if worker.silent_s > silence_s:
            worker.kill(f"it made no progress for {max(self.settings.stall_s, silence_s):g} s")
        elif worker.job is not None and worker.resident_bytes() > most:
            worker.kill(f"it needed more than {most / GIB:.1f} GiB of memory, which is the limit")

    @property
    def _silence_s(self) -> float:
        """Just less than the lease, so that the attempt is counted before the lease expires."""
        return max(0.9 * self.settings.lease_s, _LEAST_SILENCE_S)

    def _start_missing(self) -> None:
        while (
            len(self._workers) < self.settings.workers
            and time.monotonic() >= self._start_at
            and not self._draining
            and not self.failure
        ):
            try:
                self._workers.append(_Worker(self.settings))
            except OSError as error:
                self._delay_starts()
                log.error(
                    "worker not started", extra={"error": error, "again_s": self._start_delay_s}
                )

    def _delay_starts(self) -> None:
        self._failed_starts += 1
        self._start_at = time.monotonic() + self._start_delay_s

    @property
    def _start_delay_s(self) -> float:
        return backoff_s(self._failed_starts, 30.0)

    def _bury(self, worker: _Worker) -> None:
        """Log why a worker ended, and clean up; the first that reports a fault ends the service."""
        about = {"worker": worker.pid, "status": worker.process.returncode}
        if worker.refused and not self._has_worked:
            self.failure = worker.refused
            self.on_failure()
        elif worker.refused:
            log.error("worker cannot start", extra={**about, "error": worker.refused})
        else:
            about["reason"] = worker.killed_for
            log.error("worker died; its job is taken up again", extra=about)
        self._workers.remove(worker)
        if worker.job is None:
            self._delay_starts()
        self._clean_after(worker)

    def _clean_after(self, worker: _Worker) -> None:
        worker.close()
        name = worker.owner or f"{owner_prefix(worker.pid)}-"
        reason = worker.killed_for or _crash(worker.process.returncode)
        if worker.job is not None and reason is not None:
            job_id, claims = worker.job
            attempts = self.settings.attempts
            self._due.append(lambda: self.store.count_crash(job_id, claims, name, reason, attempts))
        self._due.append(lambda: self.store.release_dead(lambda owner: owner == name))
        self._due.append(lambda: self._remove_scratch(f"{scratch_prefix(worker.pid)}*"))
        self._due_at = 0.0
        self._do_due()

    def _remove_scratch(
        self, pattern: str, is_left: Callable[[Path], bool] = lambda _: True
    ) -> None:
        for folder in filter(is_left, self.settings.scratch_folder.glob(pattern)):
            shutil.rmtree(folder, ignore_errors=True)

    def _do_due(self) -> None:
        """Do what is due after the end of workers, again and again until that works."""
        while self._due and time.monotonic() >= self._due_at:
            try:
                self._due[0]()
            except Exception:
                log.exception("cleaning up after a worker failed; it is tried again")
                self._due_at = time.monotonic() + 1.0
            else:
                self._due.pop(0)

    def drain(self) -> None:
        """Let workers finish the job they are at, for ``drain_s``; then give those jobs back."""
        self._draining = True
        for worker in self._workers:
            worker.process.terminate()
        self._wait(self.settings.drain_s)
        for worker in self._workers:
            worker.close_stdin()
        self._wait(5.0)
        for worker in self._workers:
            worker.read(self.health)
            if worker.is_alive:
                worker.process.kill()
                worker.process.wait()
            self._clean_after(worker)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.alive() and time.monotonic() < end and not self._hurried:
            time.sleep(0.02)

    def _clean_after_the_last_time(self) -> None:
        """Release what workers held that were killed together with their service."""

        def is_left(folder: Path) -> bool:
            return is_dead_here(owner_prefix(int(folder.name.split("-")[1])))

        self._due.append(lambda: self.store.release_dead(is_dead_here))
        self._due.append(lambda: self._remove_scratch(f"{scratch_place()}-*-*", is_left))
        self._do_due()


def _crash(status: int) -> str | None:
    """What an exit status says of the job, as a clause; None where it says nothing of it."""
    if status == 0 or -status in _FROM_OUTSIDE:
        return None
    if status > 0:
        return f"it ended its process with status {status}"
    with contextlib.suppress(ValueError):
        return f"it crashed its process ({signal.Signals(-status).name})"
    return f"it crashed its process (signal {-status})"


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    ours, theirs = os.pipe()
    stack.callback(_close, ours)
    stack.callback(_close, theirs)
    return ours, theirs


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)
