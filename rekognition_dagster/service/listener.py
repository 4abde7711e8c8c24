"""The listening socket, which bounds how many connections are open, whoever opens them.

A connection counts from its first packet, before TLS and before a request. While there are too
many, those that have waited longest without a signed request are closed; callers keep theirs.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from typing import Any

from rekognition_dagster.errors import ConfigurationError

log = logging.getLogger(__name__)

_LOG_S = 60.0


class Listener(socket.socket):
    """A listening socket. For one thread: the event loop's.

    Args:
        family: ``AF_INET`` or ``AF_INET6``.
        most: Open connections.
    """

    def __init__(self, family: int, most: int):
        # The protocol has to be named: asyncio switches Nagle's algorithm off only then.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.most = most
        self._strangers: dict[int, socket.socket] = {}
        self._callers: dict[int, socket.socket] = {}
        self._logged = -_LOG_S

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; close the oldest ones of strangers where there are too many."""
        connection, address = super().accept()
        descriptor = connection.fileno()
        self._forget(descriptor)  # a connection that had it before is closed
        if len(self._strangers) + len(self._callers) >= self.most:
            self._make_room()
        self._strangers[descriptor] = connection
        if len(self._strangers) + len(self._callers) > self.most:
            self._close(descriptor)  # all others are callers'
        return connection, address

    def trust(self, descriptor: int) -> None:
        """Note that a connection has sent a signed request."""
        if descriptor in self._strangers:
            self._callers[descriptor] = self._strangers.pop(descriptor)

    def _forget(self, descriptor: int) -> None:
        self._strangers.pop(descriptor, None)
        self._callers.pop(descriptor, None)

    def _make_room(self) -> None:
        """Forget what is closed, and close a twentieth of the rest, so that this is rare."""
        for known in (self._strangers, self._callers):
            for descriptor in [d for d, c in known.items() if c.fileno() != d]:
                del known[descriptor]
        excess = len(self._strangers) + len(self._callers) - self.most + 1
        if excess <= 0:
            return
        oldest = list(self._strangers)[: max(excess, self.most // 20)]
        for descriptor in oldest:
            self._close(descriptor)
        if time.monotonic() - self._logged > _LOG_S:
            self._logged = time.monotonic()
            log.warning(
                "too many connections: the oldest without a signed request are closed",
                extra={"connections": self.most, "closed": len(oldest)},
            )

    def _close(self, descriptor: int) -> None:
        # Its owner, asyncio, sees the end and closes it.
        with contextlib.suppress(OSError):
            self._strangers.pop(descriptor).shutdown(socket.SHUT_RDWR)


def listen(host: str, port: int, most: int) -> Listener:
    """Return a socket that listens, for at most ``most`` connections.

    Raises:
        ConfigurationError: The address is taken, or is not this machine's.
    """
    listener = Listener(socket.AF_INET6 if ":" in host else socket.AF_INET, most)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. "
            "Choose another address with --host or --port"
        ) from error
    return listener


def raise_open_files() -> int:
    """Raise the number of files that this process may open to the highest, and return it."""
    try:
        import resource
    except ImportError:  # Windows
        return 8192
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= highest:
        return highest
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
