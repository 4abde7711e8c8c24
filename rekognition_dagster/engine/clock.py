"""Presentation times of decoded frames, from the time stamps of their container.

Time stamps are not always times: some containers tell decoding order alone, recordings are joined,
recorders repeat a stamp or are late with it.
"""

from __future__ import annotations

import copy
import heapq
from fractions import Fraction
from typing import Any

_JUMP_MS = 500.0
"""A smaller step back is a stamp that came late, a longer one another recording's beginning."""

_JUMP_FRAMES = 2.0  # and at a low frame rate so many frames
_DEFAULT_STEP_MS = 40.0


class Clock:
    """Milliseconds since the video's start, strictly increasing.

    Where a stamp is missing, or jumps back as in joined recordings, time goes on by a frame. A
    small step back is clamped, and the next frame has its own time again. A frame that comes long
    after its time while packets are in order, as after a loss, has no time. ``regular`` is false
    after any of them: then a time depends on the frames before. ``step_ms`` is the usual interval.

    Args:
        start_us: The time stamp of the container's start, in microseconds.
        stream: The stream, as PyAV has it.
        in_decoding_order: Whether stamps tell the order of decoding, as those of AVI do, instead
            of that of presentation.
    """

    def __init__(self, start_us: int | None, stream: Any, *, in_decoding_order: bool = False):
        self.offset_ms = -start_us / 1000 if start_us is not None else 0.0
        base = stream.time_base or Fraction(1)
        self._ms = base * 1000  # of a unit of time stamps, as a fraction
        rate = stream.average_rate or stream.guessed_rate
        self.step_ms = float(1000 / rate) if rate else _DEFAULT_STEP_MS
        self._in_decoding_order = in_decoding_order
        self._decoding: list[int] = []  # stamps of packets whose frame has not come yet, a heap
        self._last_stamp: int | None = None
        self._last_dts: int | None = None
        self._jumps = 0  # of packets, which their frames have yet to follow
        self._last: float | None = None
        self.last_ms = 0
        self.regular = True

    def restarted(self) -> Clock:
        """Return the same clock for frames that do not follow those before."""
        other = copy.copy(self)
        other._last, other.last_ms = None, 0
        other._decoding, other._last_stamp = [], None
        other._last_dts, other._jumps = None, 0
        return other

    def feed(self, packet: Any) -> None:
        """Note a packet that is decoded next."""
        if packet.size and packet.dts is not None:
            back = (self._last_dts or 0) - packet.dts
            self._jumps += self._last_dts is not None and self._is_jump(back * self._ms)
            self._last_dts = packet.dts
        if self._in_decoding_order and packet.size and packet.dts is not None:
            heapq.heappush(self._decoding, packet.dts)

    def drop(self, packet: Any) -> None:
        """Note that the packet fed last gives no frame."""
        if packet.dts in self._decoding:
            self._decoding.remove(packet.dts)
            heapq.heapify(self._decoding)

    def tick(self, raw: Any) -> int | None:
        """Return the time of the next frame in milliseconds; None if it is misplaced."""
        time = self._time_of(raw)
        if self._last is None:
            if time is None:
                self.regular, time = False, 0.0
            elif time < 0:
                self.offset_ms -= time
                time = 0.0
        elif time is None:
            self.regular, time = False, self._last + self.step_ms
        elif self._is_jump(self._last - time):
            self.regular = False
            if not self._jumps and self._last_dts is not None:
                return None
            self._jumps -= 1
            self.offset_ms += self._last + self.step_ms - time
            time = self._last + self.step_ms
        stamp = round(time)
        if self._last is not None and stamp <= self.last_ms:
            self.regular = False
            stamp = self.last_ms + 1
        self._last = time if self._last is None else max(time, self._last)
        self.last_ms = stamp
        return stamp

    def _is_jump(self, back_ms: float) -> bool:
        return back_ms > max(_JUMP_MS, _JUMP_FRAMES * self.step_ms)

    def _time_of(self, raw: Any) -> float | None:
        stamp = raw.pts
        if self._decoding:
            if stamp is not None:
                self.regular = self.regular and stamp > (self._last_stamp or -1)
                self._last_stamp = stamp
            stamp = heapq.heappop(self._decoding)
        if stamp is None:
            return None
        return float(stamp * self._ms) + self.offset_ms
