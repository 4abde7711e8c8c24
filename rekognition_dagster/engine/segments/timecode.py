"""SMPTE timecodes of frame numbers: ``HH:MM:SS:FF``, and ``HH:MM:SS;FF`` where frames are dropped.

At 30000/1001 frames a second and its multiples, timecodes count 30 a second and leave out the first
two numbers of each minute but every tenth, so that they keep up with the clock (SMPTE ST 12-1).
"""

from __future__ import annotations

_DROPPED = 2  # numbers a minute, for each 30 frames a second
_OFF = 0.005  # by which a header's rate may be off


def timecode(frame: int, rate: float) -> str | None:
    """Return the timecode of a frame.

    Args:
        frame: Its number, from 0.
        rate: Frames per second; the timecode counts in whole ones.

    Returns:
        None where the rate is not known.
    """
    whole = round(rate)
    if whole < 1:
        return None
    drops = whole % 30 == 0 and abs(rate - whole * 1000 / 1001) < _OFF * whole / 30
    if drops:
        frame += _left_out(frame, whole)
    seconds, number = divmod(frame, whole)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if drops else ':'}{number:02}"


def _left_out(frame: int, whole: int) -> int:
    """Return how many numbers are left out before a frame."""
    dropped = _DROPPED * whole // 30
    minute = 60 * whole - dropped
    tens, rest = divmod(frame, 10 * minute + dropped)
    # The first minute of each ten has all its numbers.
    return 9 * dropped * tens + dropped * max(0, (rest - dropped) // minute)
