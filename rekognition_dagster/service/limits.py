"""How much is taken in: requests per second of each caller, and requests at work at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rekognition_dagster.service.protocol import ApiError


@dataclass
class Throughput:
    """Requests per second, for each name apart; a second's worth may come at once.

    Args:
        per_s: Requests per second; None takes any number.
        clock: Seconds, rising.
    """

    per_s: float | None
    clock: Callable[[], float] = time.monotonic
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> None:
        """Count one request.

        Raises:
            ApiError: ``ProvisionedThroughputExceededException``.
        """
        if self.per_s is None:
            return
        most = max(self.per_s, 1.0)
        with self._lock:
            now = self.clock()
            left, since = self._left.get(name, (most, now))
            left = min(most, left + (now - since) * self.per_s)
            if left < 1:
                self._left[name] = (left, now)
                raise ApiError(
                    "ProvisionedThroughputExceededException",
                    f"more than {self.per_s:g} requests per second of {name}; slow down and retry",
                )
            self._left[name] = (left - 1, now)


@dataclass
class Admission:
    """Requests at work at once.

    Args:
        most: How many.
    """

    most: int
    _now: int = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while one request is at work. For one thread: the event loop's.

        Raises:
            ApiError: ``ThrottlingException``.
        """
        if self._now >= self.most:
            raise ApiError(
                "ThrottlingException", f"{self.most} requests are at work; retry in a moment"
            )
        self._now += 1
        try:
            yield
        finally:
            self._now -= 1
