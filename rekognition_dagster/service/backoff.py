"""How long to wait before something is tried again: twice as long each time, up to a limit."""

from __future__ import annotations

LONGEST_S = 300.0


def backoff_s(times: int, longest_s: float = LONGEST_S) -> float:
    """Return the seconds to wait after ``times`` failures: 1, 2, 4 ... up to ``longest_s``."""
    return min(2.0 ** min(times - 1, 30), longest_s)
