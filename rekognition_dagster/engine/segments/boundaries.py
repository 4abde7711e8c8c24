"""Where a shot begins: cuts, fades through a blank picture, dissolves, and pauses.

A cut is a step between two frames that is large, larger than the steps around it, and lasting: what
follows is like nothing before it, so a flash or somebody who passes close by is none. A run of
blank frames is judged as a whole, by how the picture goes and comes back. In a dissolve, each frame
is a mixture of the first and the last.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.segments.picture import Picture, Small

_STEP = 0.2
"""Difference between two frames from which a cut is considered."""
_OUTSTANDING = 2.2  # times the usual step around it
_AROUND_MS = 200.0  # within which a cut is compared with the steps and frames around it
_FEWEST_AROUND, _MOST_AROUND = 3, 15  # and frames
_OTHER_SCENE = 0.2  # difference between what was before and what comes after

_BLANK = 5.0  # deviation in grey levels below which a picture is blank
_ABRUPT = 14.0  # and above which one that turns blank was cut off
_LEVEL = 60.0  # grey levels between two blank pictures that are not of one run
_SHOT_MS = 500.0  # of blank frames between two cuts that are a shot of their own

_DISSOLVES_MS = (600.0, 1_200.0, 2_400.0)  # lengths of time in which a dissolve is sought
_EVERY_MS = 200.0
_MIXED = 0.33  # what of a mixture may be neither of its two pictures
_FEWEST_MIXED = 4  # frames
_DISSOLVED = 0.42  # difference between the two
_CUT_OFF = 0.35  # difference between two frames across which no dissolve is sought
_UNLIKE = 0.6  # times that difference, by which the middle may differ from the mixture
_PURE = 0.15  # share of the other picture up to which a frame is one of them
_APART_MS = 400.0  # between a dissolve and another boundary
_PAUSE_MS = 10_000.0  # between two frames, after which the camera was started again
_PAUSE_STEPS = 10  # and usual steps, for a time lapse has no pauses
_HOLD_MS = _DISSOLVES_MS[-1] + 2 * _APART_MS
_FEWEST_MS = 1.0


@dataclass(frozen=True)
class Boundary:
    """The beginning of a shot.

    Args:
        frame: Number of its first frame, from 0.
        time_ms: That frame's time.
        before_ms: The time of the frame before.
        confidence: 50 to 100, by how far it is beyond what is demanded.
    """

    frame: int
    time_ms: int
    before_ms: int
    confidence: float


@dataclass(eq=False)
class _Seen:
    """A frame: its number, time and picture, and the difference from the frame before."""

    number: int
    time_ms: int
    before_ms: int
    picture: Picture
    step: float

    @property
    def is_blank(self) -> bool:
        return self.picture.deviation < _BLANK


@dataclass
class _Blank:
    """A run of blank frames that has not ended."""

    before: _Seen | None
    first: _Seen
    last: _Seen

    @property
    def begins_abruptly(self) -> bool:
        return self.before is not None and _is_abrupt(self.before)


@dataclass(frozen=True)
class _Dissolve:
    """A dissolve: the first frame that is more of the new scene, and what is neither's."""

    at: _Seen
    rest: float


class Boundaries:
    """Finds the beginnings of shots in a run of frames, with a delay of some seconds.

    Memory holds the small pictures of the last seconds.
    """

    def __init__(self) -> None:
        self._seen: deque[_Seen] = deque()
        self._undecided: deque[_Seen] = deque()
        self._found: list[Boundary] = []
        self._blank: _Blank | None = None
        self._dissolves: list[_Dissolve] = []
        self._next_search_ms = 0.0

    def add(self, number: int, time_ms: int, small: Small) -> list[Boundary]:
        """Take the next frame; return boundaries that are certain by now, in order."""
        picture = Picture.of(small)
        before = self._seen[-1] if self._seen else None
        step = 0.0 if before is None else before.picture.difference(picture)
        before_ms = time_ms if before is None else before.time_ms
        now = _Seen(number, time_ms, before_ms, picture, step)
        if before is not None and step >= _CUT_OFF:
            self._search_dissolve(before)
        if time_ms - before_ms > _PAUSE_MS and self._is_pause(time_ms - before_ms):
            self._note(now, 100.0)
        self._seen.append(now)
        self._follow_blank(before, now)
        self._undecided.append(now)
        around = self._around()
        while len(self._undecided) > around:
            self._decide(self._undecided.popleft(), around)
        if time_ms >= self._next_search_ms:
            self._next_search_ms = time_ms + _EVERY_MS
            self._search_dissolve(now)
        while self._seen[0].time_ms < time_ms - _DISSOLVES_MS[-1] and len(self._seen) > 64:
            self._seen.popleft()
        return self._certain(time_ms - _HOLD_MS)

    def end(self) -> list[Boundary]:
        """Return what is left at the video's end."""
        around = self._around()
        while self._undecided:
            self._decide(self._undecided.popleft(), around)
        if self._blank is not None:
            self._end_blank(self._blank, None)
            self._blank = None
        return self._certain(float("inf"))

    def _around(self) -> int:
        """Return how many frames make up the time around a cut."""
        span = self._seen[-1].time_ms - self._seen[0].time_ms
        step = max(_FEWEST_MS, span / max(1, len(self._seen) - 1))
        return int(np.clip(round(_AROUND_MS / step), _FEWEST_AROUND, _MOST_AROUND))

    def _is_pause(self, step_ms: float) -> bool:
        """Return whether a step in time is far longer than the usual one."""
        steps = [seen.time_ms - seen.before_ms for seen in islice(self._seen, 1, None)]
        return bool(steps) and step_ms > _PAUSE_STEPS * float(np.median(steps))

    def _decide(self, now: _Seen, around: int) -> None:
        """Note a cut before a frame, once the frames after it are there."""
        if now.step < _STEP:
            return
        at = now.number - self._seen[0].number
        before = list(islice(self._seen, max(0, at - around), at))
        after = list(islice(self._seen, at + 1, at + 1 + around))
        if not before or now.is_blank or before[-1].is_blank:
            return
        near = [seen.step for seen in (*before[1:], *after)]
        if near and now.step < _OUTSTANDING * float(np.median(near)):
            return
        if any(seen.step > now.step for seen in (*before[-1:], *after[:1]) if not seen.is_blank):
            return
        apart = min(
            [now.step]
            + [before[-1].picture.difference(seen.picture) for seen in after if not seen.is_blank]
            + [seen.picture.difference(now.picture) for seen in before if not seen.is_blank]
        )
        if apart >= _OTHER_SCENE:
            self._note(now, _sure(apart, _OTHER_SCENE))

    # -- blank frames ------------------------------------------------------------------------------

    def _follow_blank(self, before: _Seen | None, now: _Seen) -> None:
        run = self._blank
        if run is not None:
            leveled = abs(run.last.picture.mean - now.picture.mean) < _LEVEL
            if now.is_blank and leveled:
                run.last = now
                return
            self._end_blank(run, now)
            self._blank = None
        if now.is_blank:
            self._blank = _Blank(before, now, now)

    def _end_blank(self, run: _Blank, after: _Seen | None) -> None:
        """Note the boundaries that a run of blank frames makes."""
        lasts = run.last.time_ms - run.first.time_ms >= _SHOT_MS
        out, back = run.begins_abruptly, after is not None and _is_abrupt(after)
        if run.before is None or after is None:
            if lasts and out:
                self._note(run.first, 100.0)
            if lasts and back and after is not None:
                self._note(after, 100.0)
            return
        apart = run.before.picture.difference(after.picture)
        if not lasts and apart < _OTHER_SCENE:
            return
        sure = 100.0 if lasts else _sure(apart, _OTHER_SCENE)
        if back:
            self._note(after, sure)
        if not back or (out and lasts):
            self._note(run.first, sure)

    # -- dissolves ---------------------------------------------------------------------------------

    def _search_dissolve(self, last: _Seen) -> None:
        """Look for a dissolve that ends with a frame or before."""
        shot: list[_Seen] = []
        for seen in reversed(self._seen):
            if seen.number > last.number:
                continue
            if seen.is_blank:
                break
            shot.append(seen)
            if seen.step >= _CUT_OFF:
                break
        shot.reverse()
        for length in _DISSOLVES_MS:
            window = [seen for seen in shot if seen.time_ms >= last.time_ms - length]
            if len(window) > _FEWEST_MIXED + 1 and (found := _dissolve(window)) is not None:
                self._dissolves.append(found)
            if len(window) == len(shot):
                return

    def _settle_dissolves(self, until_ms: float) -> None:
        """Note the best of the dissolves that were found at about the same time."""
        while self._dissolves and self._dissolves[0].at.time_ms < until_ms:
            first = self._dissolves[0]
            same = [d for d in self._dissolves if d.at.time_ms - first.at.time_ms < 2 * _APART_MS]
            best = min(same, key=lambda d: d.rest)
            self._dissolves = [d for d in self._dissolves if d not in same]
            if all(abs(b.time_ms - best.at.time_ms) > _APART_MS for b in self._found):
                self._note(best.at, 50 + 50 * (1 - best.rest / _MIXED))

    # -- in order ----------------------------------------------------------------------------------

    def _note(self, first: _Seen, confidence: float) -> None:
        if first.number > 0 and all(b.frame != first.number for b in self._found):
            found = Boundary(first.number, first.time_ms, first.before_ms, confidence)
            self._found.append(found)

    def _certain(self, until_ms: float) -> list[Boundary]:
        """Return and forget the boundaries before a time, and before what is undecided."""
        if self._undecided:
            until_ms = min(until_ms, self._undecided[0].time_ms)
        if self._blank is not None:
            until_ms = min(until_ms, self._blank.first.time_ms)
        if not self._found and not self._dissolves:
            return []
        self._dissolves.sort(key=lambda d: d.at.number)
        self._settle_dissolves(until_ms + _APART_MS)
        certain = sorted((b for b in self._found if b.time_ms < until_ms), key=lambda b: b.frame)
        self._found = [b for b in self._found if b.time_ms >= until_ms]
        return certain


def _is_abrupt(seen: _Seen) -> bool:
    return seen.picture.deviation >= _ABRUPT


def _sure(value: float, least: float) -> float:
    """Return a confidence: 50 for the least value, 100 for twice that and more."""
    return 50 + 50 * min(1.0, (value - least) / least)


def _dissolve(window: list[_Seen]) -> _Dissolve | None:
    """Return the dissolve from a window's first frame to its last, if there is one."""
    first, last = window[0].picture, window[-1].picture
    apart = first.difference(last)
    if min(first.deviation, last.deviation) < _ABRUPT or apart < _DISSOLVED:
        return None
    pictures = np.stack([seen.picture.small.ravel() for seen in window]).astype(np.float32)
    change = pictures[-1] - pictures[0]
    size = float(change @ change)
    share = (pictures - pictures[0]) @ change / size
    mixed = _mixed(share)
    if mixed.stop - mixed.start < _FEWEST_MIXED:
        return None
    off = pictures[mixed] - pictures[0] - np.outer(share[mixed], change)
    rest = float(np.sqrt((off**2).sum(1) / size).mean())
    if rest > _MIXED:
        return None
    unlike = [
        seen.picture.difference(_mixture(first, last, float(part)))
        for seen, part in zip(window[mixed], share[mixed], strict=True)
    ]
    if float(np.mean(unlike)) > _UNLIKE * apart:  # a flash is such a mixture in brightness alone
        return None
    at = mixed.start + int(np.argmax(share[mixed.start :] >= 0.5))
    return _Dissolve(window[at], rest)


def _mixed(share: npt.NDArray[np.float32]) -> slice:
    """Return which frames are mixtures of the first and the last; none where they go to and fro.

    Args:
        share: How much of the last picture each frame has; 0 for the first, 1 for the last.
    """
    begin = int(np.flatnonzero(share <= _PURE)[-1]) + 1
    end = begin + int(np.argmax(share[begin:] >= 1 - _PURE))
    to_and_fro = share[:begin].max() > 2 * _PURE or share[end:].min() < 1 - 2 * _PURE
    return slice(begin, begin) if to_and_fro else slice(begin, end)


def _mixture(one: Picture, other: Picture, share: float) -> Picture:
    mixed = one.small * (1 - share) + other.small * share
    return Picture.of(np.clip(mixed, 0, 255).astype(np.uint8))
