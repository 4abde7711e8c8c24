"""Presentation times of decoded frames, from the time stamps of their container.

Time stamps are not always times: some containers tell decoding order alone, recordings are joined,
recorders repeat a stamp, are late with it, or write a wrong one.
"""

from __future__ import annotations

import copy
import heapq
from collections import deque
from fractions import Fraction
from statistics import median
from typing import Any

_JUMP_MS = 500.0
"""A smaller step back is a stamp that came late, a longer one another recording's beginning. A
longer step ahead is a pause, or a wrong stamp."""

_JUMP_FRAMES = 2.0  # and at a low frame rate so many frames
_DEFAULT_STEP_MS = 40.0
_WRONG = 3  # frames in a row that may have wrong stamps; more are another recording
_REPEATS = 3  # frames in a row with one stamp, from which on it tells no time
_REORDERED = 4.0  # frames by which the first one may be late
_LONGEST_LOSS_MS = 10_000.0  # a longer gap is a pause, or another recording's beginning
_STEPS = 31  # between packets, of which the median is the usual one

Timed = list[tuple[Any, int]]
"""Decoded frames and their times in milliseconds."""


class Clock:
    """Milliseconds since the video's start, strictly increasing.

    Where a stamp is missing, or jumps back as in joined recordings, time goes on by a frame. A
    small step back is clamped, and the next frame has its own time again. Up to three frames whose
    stamps are far from those before and after them are spread between these. A frame that comes
    long after its time while packets are in order, as after a loss, is dropped. ``regular`` is
    false after any of them: then a time depends on the frames before.

    Args:
        start_us: The time stamp of the container's start, in microseconds.
        stream: The stream, as PyAV has it.
        in_decoding_order: Whether stamps tell the order of decoding, as those of AVI do, instead
            of that of presentation.
        wraps: The number of time stamps, where they begin anew after the last one.
        starts_at_first: Whether the first frame is the container's start, where it comes no later
            than reordering explains.
    """

    def __init__(
        self,
        start_us: int | None,
        stream: Any,
        *,
        in_decoding_order: bool = False,
        wraps: int | None = None,
        starts_at_first: bool = False,
    ) -> None:
        self.offset_ms = -start_us / 1000 if start_us is not None else 0.0
        base = stream.time_base or Fraction(1)
        self._ms = base * 1000  # of a unit of time stamps, as a fraction
        self._wrap_ms = float(wraps * self._ms) if wraps else None
        rate = stream.average_rate or stream.guessed_rate
        self.step_ms = float(1000 / rate) if rate else _DEFAULT_STEP_MS
        self._starts_at_first = starts_at_first
        self._order = _DecodingOrder(stream) if in_decoding_order else None
        self._last_dts: int | None = None
        self._steps: deque[float] = deque(maxlen=_STEPS)
        self._jumps = 0  # of packets, which their frames have yet to follow
        self._held: list[tuple[Any, float | None]] = []  # frames far from the one before them
        self._repeats = 0
        self._last_stamp: float | None = None
        self._last: float | None = None
        self.last_ms = 0
        self.read_ms = 0.0  # when the last packet is decoded
        self.lost = 0
        """Frames that are missing, or came too late to have a time; since it was last set to 0."""
        self.regular = True

    def restarted(self) -> Clock:
        """Return the same clock for frames that do not follow those before."""
        other = copy.copy(self)
        other._last, other.last_ms, other._last_stamp = None, 0, None
        other._order = self._order and self._order.restarted()
        other._last_dts, other._jumps, other._repeats = None, 0, 0
        other._starts_at_first = False
        other._steps, other._held = deque(maxlen=_STEPS), []
        return other

    def feed(self, packet: Any) -> float:
        """Note a packet that is decoded next, and return how many are missing before it."""
        if not packet.size or packet.dts is None:
            return 0.0
        missing = 0.0
        if self._last_dts is not None:
            ahead = float((packet.dts - self._last_dts) * self._ms)
            if self._wrap_ms:
                ahead -= round(ahead / self._wrap_ms) * self._wrap_ms
            self._jumps += -ahead > self._far_ms()
            if ahead > 0:
                self._steps.append(ahead)
                missing = ahead / median(self._steps) - 1 if ahead < _LONGEST_LOSS_MS else 0.0
        self._last_dts = packet.dts
        self.read_ms = float(packet.dts * self._ms) + self.offset_ms
        if self._order is not None:
            self._order.feed(packet)
        return missing

    def drop(self) -> None:
        """Note that one of the packets fed gives no frame."""
        if self._order is not None:
            self._order.drop()

    def skip(self, raw: Any) -> None:
        """Note a frame that is not wanted."""
        if self._order is not None:
            self.lost += self._order.place(raw)[1]

    def tick(self, raw: Any) -> Timed:
        """Return the frames whose times are known once this one has come."""
        self._held.append((raw, self._stamp_of(raw)))
        ready: Timed = []
        while self._held and (count := self._settled()):
            ready += self._release(count)
        return ready

    def end(self) -> Timed:
        """Return the frames whose times were not known yet."""
        ready: Timed = []
        while self._held:
            ready += self._release(self._settled() or 1)
        return ready

    def _settled(self) -> int:
        """Return how many of the held frames, from the first on, are known to be where they are."""
        if self._last is None:
            return 1
        times = [self._time(stamp) for _, stamp in self._held]
        if -self._far_ms() <= times[0] - self._last <= self._far_ms() or self._is_late(times[0]):
            return 1
        for count in range(1, len(times)):
            in_order = self._last < times[count - 1] <= times[count]
            if not in_order and 0 < times[count] - self._last <= self._far_ms(count):
                return count + 1
        return 1 if len(times) > _WRONG else 0

    def _release(self, count: int) -> Timed:
        """Return the first frames held: one, or wrong ones and the right one after them."""
        frames, self._held = self._held[:count], self._held[count:]
        if count > 1 and self._last is not None:
            self.regular = False
            self._jumps = max(0, self._jumps - 1)
            begin, end = self._last, self._time(frames[-1][1])
            times = [begin + (end - begin) * (i + 1) / count for i in range(count)]
            return [(raw, self._set(time)) for (raw, _), time in zip(frames, times, strict=True)]
        raw, stamp = frames[0]
        time = self._time(stamp)
        if self._last is None:
            is_start = self._starts_at_first and time <= _REORDERED * self.step_ms
            first = 0.0 if time < 0 or is_start else time
            self.offset_ms += first - time
            time = first
        elif self._last - time > self._far_ms():
            self.regular = False
            if self._is_late(time):
                self.lost += 1
                return []
            self._jumps -= 1
            self.offset_ms += self._last + self.step_ms - time
            time = self._last + self.step_ms
        return [(raw, self._set(time))]

    def _set(self, time: float) -> int:
        stamp = round(time)
        if self._last is not None and stamp <= self.last_ms:
            self.regular = False
            stamp = self.last_ms + 1
        self._last = time if self._last is None else max(time, self._last)
        self.last_ms = stamp
        return stamp

    def _is_late(self, time: float) -> bool:
        """Whether a frame comes long after its time, though no packet jumped back."""
        if self._last is None or self._jumps or self._last_dts is None:
            return False
        return self._last - time > self._far_ms()

    def _far_ms(self, frames: int = 0) -> float:
        """Return by how much a time is far from the one so many frames and one before it."""
        return max(_JUMP_MS, _JUMP_FRAMES * self.step_ms) + frames * self.step_ms

    def _time(self, stamp: float | None) -> float:
        """Return the time of the frame after the last one."""
        before = self._last or 0.0
        if stamp is None:
            return before + self.step_ms if self._last is not None else 0.0
        time = stamp + self.offset_ms
        if self._wrap_ms and (rounds := round((before - time) / self._wrap_ms)):
            self.regular = False
            time += rounds * self._wrap_ms
        return time

    def _stamp_of(self, raw: Any) -> float | None:
        """Return a frame's time stamp in milliseconds; None where it has none that tells."""
        stamp = raw.pts
        if self._order is not None:
            stamp, lost = self._order.place(raw)
            self.lost += lost
            self.regular = self.regular and stamp == raw.pts
        if stamp is None:
            self.regular = False
            return None
        before, self._last_stamp = self._last_stamp, stamp
        self._repeats = self._repeats + 1 if stamp == before else 0
        if self._repeats >= _REPEATS:
            self.regular = False
            return None
        return float(stamp * self._ms)


class _DecodingOrder:
    """Time stamps of frames whose packets have the stamps of decoding alone.

    A frame has the stamp of its packet to know it by, and the lowest stamp that no frame has yet is
    its time. Packets that give no frame have stamps, too: they are known as lost once the decoder
    has to have handed out what came before a frame.
    """

    def __init__(self, stream: Any) -> None:
        self._context = stream.codec_context
        self._free: list[int] = []  # stamps that no frame has yet, a heap
        self._waiting: list[int] = []  # packets whose frames have not come, in order
        self._dropped = 0  # packets known to give no frame, which wait still

    def restarted(self) -> _DecodingOrder:
        """Return the same for packets that do not follow those before."""
        other = copy.copy(self)
        other._free, other._waiting, other._dropped = [], [], 0
        return other

    def feed(self, packet: Any) -> None:
        """Note a packet, and mark its frame with its stamp."""
        packet.pts = packet.dts
        heapq.heappush(self._free, packet.dts)
        self._waiting.append(packet.dts)

    def drop(self) -> None:
        """Note that one of the packets gives no frame."""
        self._dropped += 1
        if self._free:
            heapq.heappop(self._free)

    def place(self, raw: Any) -> tuple[int | None, int]:
        """Return a frame's stamp, and how many frames are missing that nobody dropped."""
        if raw.pts in self._waiting:
            self._waiting.remove(raw.pts)
        before = [stamp for stamp in self._waiting if raw.pts is not None and stamp < raw.pts]
        kept = 0 if raw.key_frame else self._context.reorder_depth
        gone = before[: max(0, len(before) - kept)]
        self._waiting = self._waiting[len(gone) :]
        dropped = min(self._dropped, len(gone))
        self._dropped -= dropped
        for _ in gone[dropped:]:
            if self._free:
                heapq.heappop(self._free)
        return heapq.heappop(self._free) if self._free else raw.pts, len(gone) - dropped
