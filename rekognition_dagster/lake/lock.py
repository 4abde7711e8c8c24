"""One at a time: a lock in a lake, for what must not be done by two at once.

In a folder it is the operating system's, which a killed process cannot keep. On S3, which has none,
it is a claim that the others see: who sees another's claim takes back his own and tries again
later. So two never hold it; a claim that a killed process left is ignored after a quarter of an
hour.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake.storage import Storage

LEASE_S = 900.0
"""A claim on S3 holds for so long after it was last renewed."""


@contextmanager
def locked(
    storage: Storage, name: str, *, lease_s: float = LEASE_S, wait_s: float = 2 * LEASE_S
) -> Iterator[Callable[[], None]]:
    """Hold the lock ``name``, a path in the storage; waits while another holds it.

    Yields:
        What to call now and then in long work: it keeps the lock, or raises if it was lost.

    Raises:
        LakeError: Others held it for ``wait_s``.
    """
    if storage.is_local:
        import fcntl

        path = Path(storage.full(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield lambda: None
        return
    claim, renewed = _claim(storage, name, lease_s, time.monotonic() + wait_s)

    def keep() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > lease_s / 3:
            if not storage.exists(claim):
                raise LakeError(f"{storage.uri(name)} was taken by another. Run this again")
            storage.write(claim, b"")
            renewed = time.monotonic()

    try:
        yield keep
    finally:
        storage.delete(claim)


def _claim(storage: Storage, name: str, lease_s: float, until: float) -> tuple[str, float]:
    while True:
        claim, began = f"{name}/{uuid.uuid4().hex}", time.monotonic()
        storage.write(claim, b"")
        # The storage's clock on both sides: those of two machines may differ.
        claims = {f.path: f.mtime_ns / 1e9 for f in storage.listing(name)}
        own = claims.pop(claim, 0.0)
        for other in [c for c, at in claims.items() if at < own - lease_s]:
            storage.delete(other)
            del claims[other]
        if own and not claims:
            return claim, began
        storage.delete(claim)
        if time.monotonic() > until:
            raise LakeError(
                f"another process holds {storage.uri(name)}. Run this again when it has ended"
            )
        time.sleep(random.uniform(0.05, 0.5))
