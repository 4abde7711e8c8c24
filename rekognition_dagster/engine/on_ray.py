"""Workers on a Ray cluster: an actor for each core or GPU has the detector, and looks at spans.

Ray keeps the actors on nodes that have room. Which span goes where, what waits, and what a lost
node was at is the business of ``workers.Workers``, as it is for processes of one machine.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from rekognition_dagster.engine.spans import Span
from rekognition_dagster.engine.workers import Looker, Lost, Worker, Workers
from rekognition_dagster.errors import ConfigurationError, ModelError, VideoError

log = logging.getLogger("rekognition_dagster.ray")

_TRIES = 3  # actors that may end while they start
_PATIENCE_S = 60.0  # without room for an actor, before it is said


def workers(address: str, size: int | None = None, detector: str | None = None) -> Workers:
    """Actors on a Ray cluster.

    Args:
        address: As ``ray.init`` takes it: ``auto``, ``host:6379``, ``ray://host:10001``; ``local``
            starts a cluster on this machine. A connection that there is already is used.
        size: How many; by default one for each core of the cluster, or each GPU where the
            detector runs on GPUs.
        detector: The detector's spec.

    Raises:
        ModelError: The extra is not installed.
        ConfigurationError: There is no such cluster.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    there = ray.cluster_resources()
    needs = {"num_cpus": 1.0}
    if (detector or "").startswith("ultralytics:") and there.get("GPU"):
        needs = {"num_cpus": 0.0, "num_gpus": 1.0}
    size = size or max(1, int(there.get("GPU" if "num_gpus" in needs else "CPU", 1)))
    closed = threading.Event()
    actor = ray.remote(**needs, max_restarts=0)(NodeLooker)

    def end() -> None:
        closed.set()
        if ours:
            ray.shutdown()

    return Workers(lambda: _Actor(actor, closed), size, elsewhere=True, end=end)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import, which reads it
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ModelError(
            "a Ray cluster needs ray, which is not installed. "
            "Run pip install 'rekognition-dagster[engine,ray]', here and on its nodes"
        ) from error


def _connect(ray: Any, address: str) -> None:
    # Ray takes the signal for itself; whoever calls this may have a use for it.
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    how: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **how)
    except Exception as error:  # of many kinds, by what is wrong
        raise ConfigurationError(
            f"there is no Ray cluster at {address!r} that can be used: {error}. Name a cluster's "
            "address, and use the same versions of Python and Ray here as there"
        ) from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


class NodeLooker(Looker):
    """What looks at spans on a node: files are the node's."""

    def __init__(self) -> None:
        assigned = _ray().get_runtime_context().get_assigned_resources()
        super().__init__(max(1, int(assigned.get("CPU", 1))))

    def borrow(self, span: Span) -> Any:
        """See :class:`Looker`."""
        path = super().borrow(span)
        if not os.path.exists(path):
            raise VideoError(
                span.video,
                f"there is no such file on the Ray node {socket.gethostname()} ({path})",
                "Put it where every node has it under this path, or into S3",
            )
        return path


class _Actor(Worker):
    """An actor, once there is room for it."""

    def __init__(self, make: Any, closed: threading.Event) -> None:
        self._ray = _ray()
        for left in reversed(range(_TRIES)):
            self._actor = make.remote()
            try:
                self._wait(closed)
                return
            except self._ray.exceptions.RayError as error:  # its node may have ended meanwhile
                if not left:
                    raise ConfigurationError(
                        f"no process on the Ray cluster can look at videos: {error}. Install "
                        "rekognition-dagster[engine,ray] on its nodes, as it is here"
                    ) from error

    def _wait(self, closed: threading.Event) -> None:
        ready, begun, told = self._actor.__ray_ready__.remote(), time.monotonic(), False
        while not self._ray.wait([ready], timeout=1.0)[0]:
            if closed.is_set():
                self.close()
                raise ConfigurationError("the connection to the Ray cluster was closed")
            if not told and time.monotonic() - begun > _PATIENCE_S:
                log.warning("the Ray cluster has had no room for a process for %d s", _PATIENCE_S)
                told = True
        self._ray.get(ready)

    def run(self, span: Span) -> Generator[list[Any], None, None]:
        """See :class:`Worker`."""
        try:
            self._actor.begin.remote(span)
            coming = self._actor.more.remote()
            while True:
                following = self._actor.more.remote()  # so that it goes on while this one is read
                if not (chunk := self._ray.get(coming)):
                    return
                yield chunk
                coming = following
        except self._ray.exceptions.RayError as error:
            raise Lost(type(error).__name__) from error

    def close(self) -> None:
        """See :class:`Worker`."""
        with suppress(Exception):  # it may have ended, or its cluster
            self._ray.kill(self._actor)
