"""Joining tracklets into people, once all of them are known.

Two tracklets are one person if the second begins where and when the first, walking on, would be,
at the same size. All joins of a stretch are decided together, as an assignment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

_MAX_GAP_S = 6.0
_END_S = 0.8  # how much of a tracklet's end tells its speed there
_SAMPLES = 40  # at most so many of its detections
_BASE = 0.20  # deviation of the place after no time, in heights, of a detector without tremble
_WANDER = 0.2  # and what each second adds
_FAST = 1.8  # heights per second that nobody walks
_SIZE = 0.12  # and of the logarithm of the height
_TREMBLE = 1.5  # what a detector's own tremble, measured in the video, adds to both
_FADE_S = 1.0  # a longer gap is the less likely by this
_ACCEPT = 2.5
_BORDER = 0.015
_TURN_S = 1.2  # a speed measured now says less and less about later


@dataclass
class Tracklet:
    """What linking needs to know of one tracklet; a kilobyte or two however long it is.

    Times in seconds, places (bottom centre) and sizes in pixels.
    """

    number: int
    first: float
    last: float
    count: int = 0
    sure: int = 0
    best: float = 0.0
    head: list[npt.NDArray] | npt.NDArray = field(default_factory=list)
    tail: deque[npt.NDArray] | npt.NDArray = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def add(self, time: float, box: npt.NDArray, score: float, is_sure: bool) -> None:
        """Count one detection."""
        row = np.array(
            [
                *(time, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2),
                *np.maximum(box[2:] - box[:2], 1),
            ]
        )
        assert isinstance(self.head, list)
        assert isinstance(self.tail, deque)
        if len(self.head) < _SAMPLES and time <= self.first + _END_S:
            self.head.append(row)
        self.tail.append(row)
        self.last = time
        self.count += 1
        self.sure += is_sure
        self.best = max(self.best, score)

    def close(self) -> None:
        """Nothing more is coming: keep the ends alone, packed. A long video has many tracklets."""
        self.head = np.array(self.head, np.float32)
        self.tail = _last_part(np.array(self.tail)).astype(np.float32)


@dataclass(frozen=True)
class _Ends:
    """The ends of many tracklets as arrays."""

    first: npt.NDArray
    last: npt.NDArray
    start: npt.NDArray  # place, (n, 2)
    stop: npt.NDArray
    start_speed: npt.NDArray
    stop_speed: npt.NDArray
    start_size: npt.NDArray  # width, height
    stop_size: npt.NDArray
    place_tremble: float  # deviation from a straight walk, in heights
    size_tremble: float  # deviation of the logarithm of the height


def link(
    tracklets: Iterable[Tracklet], frame_size: tuple[int, int], cuts: Sequence[float] = ()
) -> dict[int, int]:
    """The person of each tracklet.

    Args:
        tracklets: All of a video, as the first pass made them.
        frame_size: Width and height in pixels.
        cuts: Times in seconds, ascending, at which a new shot begins; nobody is joined across.

    Returns:
        For each tracklet's number the number of the first tracklet of the same person.
    """
    items = sorted(tracklets, key=lambda t: (t.first, t.number))
    person = {t.number: t.number for t in items}
    if len(items) < 2:
        return person
    ends = _ends(items)
    shots = np.array(cuts, float)
    for earlier, later in _joins(ends, np.array(frame_size, float), shots):
        person[items[later].number] = person[items[earlier].number]
    return person


def _joins(ends: _Ends, frame: npt.NDArray, cuts: npt.NDArray) -> list[tuple[int, int]]:
    """Pairs to join, in order of the later one's beginning."""
    rows, columns, costs = _candidates(ends, frame, cuts)
    pairs = []
    for part in _components(rows, columns, len(ends.first)):
        befores, r = np.unique(rows[part], return_inverse=True)
        afters, c = np.unique(columns[part], return_inverse=True)
        # joining nothing is always possible, at the price of acceptance
        table = np.full((len(befores), len(afters) + len(befores)), _ACCEPT)
        table[:, : len(afters)] = 1e6
        table[r, c] = costs[part]
        for i, j in zip(*linear_sum_assignment(table), strict=True):
            if j < len(afters) and table[i, j] < _ACCEPT:
                pairs.append((int(befores[i]), int(afters[j])))
    return sorted(pairs, key=lambda pair: (ends.first[pair[1]], pair[1]))


def _candidates(
    ends: _Ends, frame: npt.NDArray, cuts: npt.NDArray
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Which tracklet could go on as which, and at what cost, as three arrays of one length."""
    order = np.argsort(ends.first, kind="stable")
    starts = ends.first[order]
    low = np.searchsorted(starts, ends.last, side="right")
    high = np.searchsorted(starts, ends.last + _MAX_GAP_S, side="right")
    counts = np.maximum(high - low, 0)
    rows = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = order[np.repeat(low, counts) + within]
    costs = _cost(ends, rows, columns, frame)
    shot, next_shot = (np.searchsorted(cuts, t, side="right") for t in (ends.last, ends.first))
    good = (costs < _ACCEPT) & (shot[rows] == next_shot[columns])
    return rows[good], columns[good], costs[good]


def _cost(ends: _Ends, rows: npt.NDArray, columns: npt.NDArray, frame: npt.NDArray) -> npt.NDArray:
    gap = ends.first[columns] - ends.last[rows]
    height = np.sqrt(ends.stop_size[rows, 1] * ends.start_size[columns, 1])
    lasting = _TURN_S * (1 - np.exp(-gap / _TURN_S))  # how far a speed carries, in seconds
    moved = ends.start[columns] - ends.stop[rows]
    carried = (ends.stop_speed[rows] + ends.start_speed[columns]) * lasting[:, None]
    # two speeds, each good for its side of the gap; together never for longer than the gap
    carried *= np.minimum(1, gap / np.maximum(2 * lasting, 1e-9))[:, None]
    off = np.hypot(*(moved - carried).T) / height
    deviation = _BASE + _TREMBLE * ends.place_tremble + _WANDER * gap
    expected_size = _SIZE + _TREMBLE * ends.size_tremble
    size = np.log(ends.start_size[columns, 1] / ends.stop_size[rows, 1])
    cost = 0.5 * (off / deviation) ** 2 + 0.5 * (size / expected_size) ** 2 + gap / _FADE_S
    too_fast = np.hypot(*moved.T) / height > _FAST * gap + 0.7
    return np.where(too_fast | _left(ends, rows, gap, frame), np.inf, cost)


def _left(ends: _Ends, rows: npt.NDArray, gap: npt.NDArray, frame: npt.NDArray) -> npt.NDArray:
    """Whether the earlier one walked out of the picture."""
    half = ends.stop_size[rows] / 2
    place, speed = ends.stop[rows], ends.stop_speed[rows]
    near = _BORDER * frame
    out = ((place - half < near) & (speed < 0)) | ((place + half > frame - near) & (speed > 0))
    return out.any(axis=1) & (gap > 1.0)


def _components(rows: npt.NDArray, columns: npt.NDArray, count: int) -> list[npt.NDArray]:
    """Candidates that compete with each other, as index arrays."""
    if not len(rows):
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(rows)), (rows, columns + count)), shape=(2 * count, 2 * count))
    _, part = connected_components(graph, directed=False)
    parts = part[rows]
    order = np.argsort(parts, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(parts[order])) + 1)


def _ends(items: list[Tracklet]) -> _Ends:
    starts = [_line(np.array(t.head), at_end=False) for t in items]
    stops = [_line(_last_part(np.array(t.tail)), at_end=True) for t in items]
    return _Ends(
        first=np.array([t.first for t in items]),
        last=np.array([t.last for t in items]),
        start=np.array([s[0] for s in starts]),
        stop=np.array([s[0] for s in stops]),
        start_speed=np.array([s[1] for s in starts]),
        stop_speed=np.array([s[1] for s in stops]),
        start_size=np.array([s[2] for s in starts]),
        stop_size=np.array([s[2] for s in stops]),
        place_tremble=_typical([line[3] for line in starts + stops]),
        size_tremble=_typical([line[4] for line in starts + stops]),
    )


def _typical(values: list[float]) -> float:
    known = [value for value in values if value >= 0]
    return float(np.median(known)) if known else 0.0


def _last_part(rows: npt.NDArray) -> npt.NDArray:
    return rows[rows[:, 0] >= rows[-1, 0] - _END_S]


def _line(
    rows: npt.NDArray, at_end: bool
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray, float, float]:
    """A straight walk through the rows: its place at the end, its speed, the median size, and how
    far places (in heights) and sizes (logarithm of the height) lie from it; -1 if that is unknown.
    """
    size = np.median(rows[:, 3:], axis=0)
    time = rows[:, 0] - rows[-1 if at_end else 0, 0]
    if len(rows) < 3 or np.ptp(time) < 0.15:
        return rows[-1 if at_end else 0, 1:3], np.zeros(2), size, -1.0, -1.0
    mean_time, mean_place = time.mean(), rows[:, 1:3].mean(axis=0)
    spread = ((time - mean_time) ** 2).sum()
    speed = ((time - mean_time)[:, None] * (rows[:, 1:3] - mean_place)).sum(axis=0) / spread
    off = rows[:, 1:3] - mean_place - speed * (time - mean_time)[:, None]
    place_off = float(np.sqrt((off**2).mean()) / size[1])
    size_off = float(np.log(rows[:, 4] / size[1]).std())
    # few detections over a short time tell a speed badly: hold it back
    speed = speed * (np.ptp(time) / (np.ptp(time) + 0.2))
    return mean_place - speed * mean_time, speed, size, place_off, size_off
