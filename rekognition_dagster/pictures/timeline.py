"""What a video's rows say of any moment, also of one between two of them.

Where a video was sampled, frames lie between rows. A person's box moves from one row to the next in
a straight line; a face or a label without a person stays where it was until the next sample.
To cover a person, more is taken than the rows say: see :meth:`Timeline.covered`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from rekognition_dagster.pictures.rows import Box, Row

Blur = Literal["faces", "people"]
_LOST_MS = 5000
"""A person who is seen again within this time is covered in between."""
_MOMENT_MS = 500
"""Covered before the first row, and after the last one."""
_BRIDGED_MS = 1000
"""Boxes move between rows no further apart, or than samples are."""
_HEAD = 0.3
"""The part of a person's box, from the top, that counts as the head."""
_MARGIN = 0.15
"""By which what is covered is wider and higher on each side."""
_SAME = 0.1
"""Overlap, of the smaller one, from which two faces in a row are of one person."""


@dataclass
class Scene:
    """What a frame shows.

    Args:
        people: A row each, moved to the frame's time.
        faces: Faces of people, else of anybody.
        labels: Labels; a row for each place, and one without a box.
    """

    people: list[Row] = field(default_factory=list)
    faces: list[Row] = field(default_factory=list)
    labels: list[Row] = field(default_factory=list)


class Timeline:
    """Rows around a moment that only moves on; earlier ones are forgotten.

    Args:
        rows: In the order of time.
        sample_ms: Between two samples of the video, as far as known.
    """

    def __init__(self, rows: Iterable[Row], sample_ms: float | None = None) -> None:
        self._rows = iter(rows)
        self._next: Row | None = next(self._rows, None)
        self._hold_ms = min(2000.0, max(100.0, 1.5 * (sample_ms or 500.0)))
        self._margin_ms = _MOMENT_MS + self._hold_ms
        self._tracks: dict[tuple[str, int | str | None], deque[Row]] = {}
        self._samples: dict[str, deque[list[Row]]] = {"face": deque(), "label": deque()}

    def at(self, time_ms: int) -> Scene:
        """Return what is there at a time, which is no earlier than the one before."""
        self._move(time_ms)
        people, heads = [], []
        for (kind, _), track in self._tracks.items():
            if (row := self._placed(track, time_ms)) is not None:
                (people if kind == "person" else heads).append(row)
        faces = self._latest("face", time_ms) or heads
        return Scene(people, faces, self._latest("label", time_ms))

    def covered(self, time_ms: int, what: Blur) -> list[Box]:
        """Return what hides all faces or all people at a time.

        Of each person that is the hull of the boxes just before and just after, also of those
        around a gap in which they are lost for up to five seconds; before their first and after
        their last box, that of half a second. ``faces`` are the faces found, and the top of each
        person's box, be there a face or not.
        """
        self._move(time_ms)
        hulls = [
            hull
            for (kind, _), track in self._tracks.items()
            if (what == "faces" or kind == "person")
            and (hull := self._hull(track, time_ms, top=what == "faces" and kind == "person"))
        ]
        if what == "faces":
            hulls += self._face_hulls(time_ms)
        return [_grown(hull) for hull in hulls]

    def _move(self, time_ms: int) -> None:
        while self._next is not None and self._next.time_ms <= time_ms + _LOST_MS:
            self._keep(self._next)
            self._next = next(self._rows, None)
        for key, track in list(self._tracks.items()):
            while len(track) > 1 and track[1].time_ms < time_ms - self._margin_ms:
                track.popleft()
            if track[-1].time_ms < time_ms - _LOST_MS:
                del self._tracks[key]
        for samples in self._samples.values():
            while samples and samples[0][0].time_ms < time_ms - self._margin_ms:
                samples.popleft()

    def _keep(self, row: Row) -> None:
        if row.kind in self._samples:
            samples = self._samples[row.kind]
            if not samples or samples[-1][0].time_ms != row.time_ms:
                samples.append([])
            samples[-1].append(row)
        elif row.box is not None:
            self._tracks.setdefault((row.kind, row.key), deque()).append(row)

    def _placed(self, track: deque[Row], time_ms: int) -> Row | None:
        before, after = _around(track, time_ms)
        if before is None or before.time_ms == time_ms:
            return before
        if after is None:
            return None
        apart = after.time_ms - before.time_ms
        if apart > max(_BRIDGED_MS, self._hold_ms) or not (before.box and after.box):
            return None
        share = (time_ms - before.time_ms) / apart
        moved = tuple(a + (b - a) * share for a, b in zip(before.box, after.box, strict=True))
        return before._replace(time_ms=time_ms, box=moved, points=())

    def _latest(self, kind: str, time_ms: int) -> list[Row]:
        past = [s for s in self._samples[kind] if s[0].time_ms <= time_ms]
        is_current = past and time_ms - past[-1][0].time_ms <= self._hold_ms
        return past[-1] if is_current else []

    def _hull(self, track: deque[Row], time_ms: int, *, top: bool) -> Box | None:
        before, after = _around(track, time_ms)
        is_between = before and after and after.time_ms - before.time_ms <= _LOST_MS
        margin = self._hold_ms if is_between else self._margin_ms
        rows = [r for r in track if abs(r.time_ms - time_ms) <= margin]
        rows += [r for r in (before, after) if r and is_between]
        boxes = [r.box for r in rows if r.box is not None]
        return _hull_of(map(_head, boxes) if top else boxes) if boxes else None

    def _face_hulls(self, time_ms: int) -> list[Box]:
        """Return the hulls of faces without a person, followed by their overlap."""
        latest: list[Box] = []
        hulls: list[Box] = []
        for sample in self._samples["face"]:
            if sample[0].time_ms > time_ms + self._margin_ms:
                break
            for row in sample:
                if row.box is None:
                    continue
                same = [n for n, box in enumerate(latest) if _overlap(box, row.box) > _SAME]
                if same:
                    latest[same[0]] = row.box
                    hulls[same[0]] = _hull_of((hulls[same[0]], row.box))
                else:
                    latest.append(row.box)
                    hulls.append(row.box)
        return hulls


def _around(track: deque[Row], time_ms: int) -> tuple[Row | None, Row | None]:
    """Return the last row until a time, and the first one after it."""
    if track[0].time_ms > time_ms:
        return None, track[0]
    for before, after in pairwise(track):
        if after.time_ms > time_ms:
            return before, after
    return track[-1], None


def _hull_of(boxes: Iterable[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _head(box: Box) -> Box:
    left, top, right, bottom = box
    return left, top, right, top + (bottom - top) * _HEAD


def _grown(box: Box) -> Box:
    left, top, right, bottom = box
    across, down = (right - left) * _MARGIN, (bottom - top) * _MARGIN
    return left - across, top - down, right + across, bottom + down


def _overlap(one: Box, other: Box) -> float:
    """Return the share of the smaller box that both have."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / max(1e-12, min(areas))
