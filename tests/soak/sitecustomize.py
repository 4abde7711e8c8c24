"""Loaded by every process of the service under test: its clock, as far ahead as a file says."""

from __future__ import annotations

import os
import time
from pathlib import Path

_real = time.time
_file = Path(os.environ["SOAK_CLOCK"]) if os.environ.get("SOAK_CLOCK") else None
_read_at, _ahead = 0.0, 0.0


def _shifted() -> float:
    global _read_at, _ahead  # noqa: PLW0603 -- a process has one clock
    now = time.monotonic()
    if _file is not None and now > _read_at + 0.2:
        _read_at = now
        try:
            _ahead = float(_file.read_text() or 0)
        except (OSError, ValueError):
            _ahead = 0.0
    return _real() + _ahead


if _file is not None:
    time.time = _shifted
