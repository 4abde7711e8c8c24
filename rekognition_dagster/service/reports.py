"""What a worker process reports to its service: one JSON object a line, on a pipe."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rekognition_dagster.service.faults import Part, reason_of
from rekognition_dagster.service.store import Job


@dataclass(frozen=True)
class Reports:
    """The worker's end of the pipe.

    Args:
        descriptor: Its file descriptor.
    """

    descriptor: int

    def ready(self, owner: str) -> None:
        """The detector is loaded; ``owner`` is the worker's name on leases."""
        self._send(ready=owner)

    def refused(self, text: str) -> None:
        """The detector cannot be loaded; the worker ends."""
        self._send(refused=text)

    def taken(self, job: Job) -> None:
        """The worker took up a job."""
        self._send(taken=[job.job_id, job.claims])

    def idle(self) -> None:
        """The worker has no job any more."""
        self._send(idle=True)

    def beat(self) -> None:
        """The worker is alive, and its job makes progress."""
        self._send(beat=True)

    def fault(self, part: Part, error: BaseException, about: Any = None) -> None:
        """A part of the surroundings is at fault; the worker takes up no job until it may."""
        self._send(fault=[part, reason_of(error), about])

    def _send(self, **report: Any) -> None:
        with contextlib.suppress(OSError):  # the service has ended, and so will this process
            os.write(self.descriptor, json.dumps(report).encode() + b"\n")


class ReportReader:
    """The service's end of the pipe.

    Args:
        descriptor: Its file descriptor; reads from it do not block from here on.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor, self._rest = descriptor, b""

    def new(self) -> Iterator[dict[str, Any]]:
        """Return what was reported since the last call."""
        with contextlib.suppress(BlockingIOError, OSError):
            while more := os.read(self._descriptor, 65536):
                self._rest += more
        *lines, self._rest = self._rest.split(b"\n")
        return map(json.loads, lines)

    def close(self) -> None:
        """Close the pipe."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
