"""Records on disk between the passes over a video, so that memory does not grow with its length."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType

import numpy as np

_BUFFERED = 128 * 1024  # bytes


class Spool:
    """Appends numpy records to a temporary file, and reads them back in order, again and again.

    Args:
        dtype: The records' structured type.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self._file = tempfile.TemporaryFile(prefix="rekognition-dagster-")  # noqa: SIM115
        self._pending = bytearray()
        self.count = 0

    def append(self, records: np.ndarray) -> None:
        """Add records of the spool's type, shape (n,)."""
        if not len(records):
            return
        self._pending += records.tobytes()
        self.count += len(records)
        if len(self._pending) >= _BUFFERED:
            self._flush()

    def chunks(self, size: int = 16_384) -> Iterator[np.ndarray]:
        """All records in the order they came, in arrays of at most ``size``."""
        self._flush()
        position = 0
        while True:
            self._file.seek(position)
            data = self._file.read(size * self.dtype.itemsize)
            if not data:
                return
            position += len(data)
            yield np.frombuffer(data, self.dtype)

    def at(self, index: int) -> np.void:
        """One record, by the order they came in."""
        self._flush()
        self._file.seek(index * self.dtype.itemsize)
        return np.frombuffer(self._file.read(self.dtype.itemsize), self.dtype)[0]

    def _flush(self) -> None:
        if self._pending:
            self._file.seek(0, 2)
            self._file.write(self._pending)
            self._pending.clear()

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Window:
    """Reads a spool that is sorted by time once, forwards, keeping only what later windows need."""

    def __init__(self, spool: Spool) -> None:
        self._chunks = spool.chunks()
        self._held: np.ndarray = np.zeros(0, spool.dtype)
        self._ended = False

    def between(self, begin: int, end: int) -> np.ndarray:
        """Return records from ``begin`` to ``end`` inclusive; ``begin`` may not go back."""
        while not self._ended and (not len(self._held) or self._held["timestamp_ms"][-1] <= end):
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            if chunk is not None:
                self._held = np.concatenate([self._held, chunk])
        times = self._held["timestamp_ms"]
        self._held = self._held[np.searchsorted(times, begin) :]
        return self._held[: np.searchsorted(self._held["timestamp_ms"], end, side="right")]

    def following(self, begin: int) -> int | None:
        """Return the time of the first record from ``begin`` on, if there is one."""
        self.between(begin, begin)
        return int(self._held["timestamp_ms"][0]) if len(self._held) else None
