"""How many cores this process may use: all of them, unless it shares them with others."""

from __future__ import annotations

import os

_share: int | None = None


def cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share() -> int | None:
    """The threads that each library may use; None is what it thinks best."""
    return _share


def use(threads: int) -> None:
    """From here on, decoders and detectors are opened to use so many threads."""
    global _share  # noqa: PLW0603 -- a process has one
    _share = threads
