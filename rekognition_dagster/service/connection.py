"""One HTTP connection: how large a request's head may be, and how long it may take to come."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEADER_BYTES = 32 * 1024
TRUST = "trust"
"""Of a request's state: what to call once its signature is right."""
HEAD_TIMEOUT_S = 20.0
KEEP_ALIVE_S = 65
"""Longer than what clients keep an idle connection for, so that theirs is the side that closes."""


class BoundedHttp(H11Protocol):
    """uvicorn's HTTP/1.1, which bounds the time between requests but not that of a request's head.

    A caller that sends its head byte by byte would hold a connection for ever.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def trust(self, descriptor: int) -> None:
        """Called with a connection's descriptor once its caller is known; the listener's."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        descriptor = transport.get_extra_info("socket").fileno()
        self.app_state = {**self.app_state, TRUST: lambda: self.trust(descriptor)}
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Called when the service stops: an idle connection ends at once.

        Over TLS, closing one waits for the other side, which has no reason to answer.
        """
        if self._awaits_head:
            self.transport.abort()
        else:
            super().shutdown()

    @property
    def _awaits_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch_head(self) -> None:
        if not self._awaits_head:
            self._forget_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._too_slow)

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._awaits_head and not self.transport.is_closing():
            self.transport.close()
