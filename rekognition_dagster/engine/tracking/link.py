"""Joining tracklets into people, once all of them are known.

Two tracklets are one person if the second begins where and when the first, walking on, would be,
at the same size. All joins of a stretch are decided together, as an assignment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.spool import Spool
from rekognition_dagster.engine.tracking import appearance
from rekognition_dagster.engine.tracking.motion import STILL, Similarity, moved

LONGEST_ABSENCE_S = 6.0
"""The longest gap that is bridged for anybody."""

_ROUNDS_S = (1.0, LONGEST_ABSENCE_S)  # longest gap that is bridged, round by round
_ABSENT_S = 60.0  # and for a person who stands where they stood, in the same clothes
_NEAR = 0.75  # within so many heights
_STOOD = 0.25  # at less than so many a second
_AS_TALL = 0.25  # and by the logarithm of the height
_SURELY = 1.5  # if appearances say so much for it
_MARGIN = 1.0  # and no other pair costs as little, by as much
_END_S = 0.8  # how much of a tracklet's end tells its speed there
_FEWEST = 3  # at least so many of its detections, however far apart
_SAMPLES = 40  # and at most so many
_BASE = 0.20  # deviation of the place after no time, in heights, of a detector without tremble
_WANDER = 0.2  # and what each second adds
_FAST = 1.8  # heights per second that nobody walks
_SIZE = 0.12  # and of the logarithm of the height
_TREMBLE = 1.5  # what a detector's own tremble, measured in the video, adds to both
_FADE_S = 1.0  # a longer gap is the less likely by this
_ACCEPT = 2.5
_HANDOVER = 0.3  # cost where two boxes lay on one body and one of them goes on
_BORDER = 0.015
_TURNED = 0.03  # widths by which a camera turns to lose a person from its picture
_DOUBTFUL_S, _DOUBTFUL = 0.9, 3  # longer, and of more detections: a doubtful end is a thing
_STANDS = 0.25  # if it moves by less than this, in heights, and the person moved before
_MOST_EVIDENCE = 3.0  # of one detection; one that is just sure has 1
_LOOKS = 10  # detections that make an end's appearance
_SAME, _OTHER, _LOOK_SPREAD = 0.15, 0.36, 0.08  # distances of appearances, where none were learnt
_LEARN = 12  # pairs from which on they are learnt from the video
_MOST_FOR, _MOST_AGAINST = 3.0, 1.2  # said by an appearance: light changes, too
_APPEARANCE = 1.5  # what it counts beside the way
_PAIRS = 4096  # weighed at once: a long video has millions, each with two appearances
_TURN_S = 1.2  # a speed measured now says less and less about later

_BLANK = np.zeros(appearance.SIZE, np.float32)
_NOTHING = np.zeros((0, 5))

_Row = tuple[float, float, float, float, float]

ENDS = np.dtype(
    [
        *((end, "f8", (_SAMPLES, 5)) for end in ("head", "tail")),
        *((count, "i4") for count in ("heads", "tails")),
        *((look, "f4", (appearance.SIZE,)) for look in ("early", "late")),
    ]
)
"""A closed tracklet's ends on disk: rows of time, place and size, how many there are, looks."""


@dataclass(slots=True)
class Tracklet:
    """What linking needs to know of one tracklet, however long it is: two kilobytes, and a few
    numbers once it is closed and its ends lie on disk. A long video has many.

    ``seconds`` is for how long it was seen; ``evidence`` the same, weighted by how far the scores
    were above noise, in steps from noise to sure. Times in seconds, places (centre) and sizes in
    pixels.
    """

    number: int
    first: float
    last: float
    count: int = 0
    sure: int = 0
    obvious: int = 0
    best: float = 0.0
    seconds: float = 0.0
    evidence: float = 0.0
    looked: int = 0
    view: Similarity = STILL
    first_travel: float = 0.0
    travel: float = 0.0
    early: npt.NDArray = field(default_factory=lambda: _BLANK)
    late: npt.NDArray = field(default_factory=lambda: _BLANK)
    head: list[_Row] | npt.NDArray = field(default_factory=list)
    tail: deque[_Row] | npt.NDArray = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    doubtful: deque[_Row] | None = None
    doubtful_count: int = 0
    _kept: tuple[Spool, int] | None = None

    def add(
        self,
        time: float,
        box: Sequence[float],
        score: float,
        scale: ScoreScale,
        look: npt.NDArray | None = None,
        view: Similarity = STILL,
        seconds: float = 0.0,
        travel: float = 0.0,
    ) -> None:
        """Count one detection, which stands for some seconds; ``look`` where it shows no one else.
        ``view`` takes places in the picture to steady coordinates, which places and sizes are in;
        ``travel`` is how far the camera has turned until now, in widths of its picture.
        """
        left, top, right, bottom = box
        size = max(right - left, 1.0), max(bottom - top, 1.0)
        row = (time, (left + right) / 2, (top + bottom) / 2, *size)
        assert isinstance(self.head, list)
        assert isinstance(self.tail, deque)
        if score >= scale.sure:
            self.tail.extend(self.doubtful or ())
            self.tail.append(row)
            self.doubtful, self.doubtful_count = None, 0
            self.sure += 1
            self.obvious += score >= scale.obvious
        else:
            self.doubtful = self.doubtful or deque(maxlen=_SAMPLES)
            self.doubtful.append(row)
            self.doubtful_count += 1
        if score >= scale.sure or not self.sure:
            self.view, self.travel = view, travel
        if not self.count:
            self.first_travel = travel
        near = len(self.head) < _SAMPLES and time <= self.first + _END_S
        if near or len(self.head) < _FEWEST:
            self.head.append(row)
        self.last = time
        self.count += 1
        above = (score - scale.noise) / max(scale.sure - scale.noise, 1e-6)
        self.seconds += seconds
        self.evidence += min(max(above, 0.0), _MOST_EVIDENCE) * seconds
        self.best = max(self.best, score)
        if look is not None:
            self.looked += 1
            share = 1 / min(self.looked, _LOOKS)
            self.late = self.late + share * (look - self.late)
            if self.looked <= _LOOKS:
                self.early = self.late

    def weigh(self, seconds: float) -> None:
        """Correct the time that the only detection stands for."""
        self.seconds, self.evidence = seconds, self.evidence / self.seconds * seconds

    def _is_thing(self, lasted: float, count: int) -> bool:
        """Whether the doubtful detections at an end, so many over so many seconds, show a thing."""
        if self.doubtful is None or lasted <= _DOUBTFUL_S or count <= _DOUBTFUL:
            return False
        return _extent(self.doubtful) < _STANDS

    def _end(self) -> None:
        """Decide whether the doubtful detections at the end belong to it."""
        assert isinstance(self.tail, deque)
        doubtful = self.doubtful or ()
        until = self.tail[-1][0] if self.sure else self.last
        is_thing = self._is_thing(self.last - until, self.doubtful_count)
        if is_thing and not _stands([*self.tail], doubtful):
            self.last = until
            self.seconds *= 1 - self.doubtful_count / self.count
            self.count -= self.doubtful_count
            self.head = [row for row in self.head if row[0] <= until]
        else:
            self.tail.extend(doubtful)
        self.doubtful = None

    def close(self, kept: Spool) -> None:
        """Nothing more is coming: put the ends away, as a record of type ``ENDS``."""
        self._end()
        record = np.zeros(1, ENDS)
        tail = _last_part(np.array(self.tail))
        record["heads"], record["tails"] = len(self.head), len(tail)
        record["head"][0, : len(self.head)] = self.head
        record["tail"][0, : len(tail)] = tail
        record["early"], record["late"] = self.early, self.late
        self._kept = kept, kept.count
        kept.append(record)
        self.head, self.tail, self.early, self.late = [], _NOTHING, _BLANK, _BLANK

    def whole(self) -> Tracklet:
        """The same with its ends at hand."""
        if self._kept is None:
            return self
        spool, index = self._kept
        record = spool.at(index)
        return replace(
            self,
            head=record["head"][: record["heads"]],
            tail=record["tail"][: record["tails"]],
            early=record["early"],
            late=record["late"],
            _kept=None,
        )


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
    start_look: npt.NDArray
    stop_look: npt.NDArray
    stop_view: npt.NDArray  # the similarity of the last picture, (n, 2), complex
    start_travel: npt.NDArray  # how far the camera has turned, in widths of its picture
    stop_travel: npt.NDArray
    looked: npt.NDArray  # how many detections told the appearance
    place_tremble: float  # deviation from a straight walk, in heights
    size_tremble: float  # deviation of the logarithm of the height


class Shots(NamedTuple):
    """The shots of a video, in order.

    Args:
        cuts: Times in seconds, ascending, at which a new shot begins.
        scenes: The scene of each shot: one more than cuts. Nobody is joined from one to another.
    """

    cuts: Sequence[float] = ()
    scenes: Sequence[int] = (0,)

    def scenes_at(self, times: npt.NDArray) -> npt.NDArray:
        """Return the scene at each of some times in seconds."""
        return np.asarray(self.scenes)[np.searchsorted(self.cuts, times, side="right")]


ONE_SHOT = Shots()
"""A video without a cut."""


def link(
    tracklets: Iterable[Tracklet],
    frame_size: tuple[int, int],
    shots: Shots = ONE_SHOT,
    handovers: Collection[tuple[int, int]] = (),
) -> dict[int, int]:
    """The person of each tracklet.

    Args:
        tracklets: All of a video, as the first pass made them.
        frame_size: Width and height in pixels.
        shots: Where the video is cut, and what is one scene.
        handovers: Pairs of tracklets of which the second began on the first one's body before the
            first ended.

    Returns:
        For each tracklet's number the number of the first tracklet of the same person.
    """
    items = sorted(tracklets, key=lambda t: (t.first, t.number))
    person = {t.number: t.number for t in items}
    palette = _palette(items)
    chains = [[t] for t in items]
    for longest in _ROUNDS_S:
        if len(chains) < 2:
            break
        ends = _ends((_joined(chain) for chain in chains), len(chains))
        before = {chain[-1].number: i for i, chain in enumerate(chains)}
        after = {chain[0].number: i for i, chain in enumerate(chains)}
        shared = [(before[a], after[b]) for a, b in handovers if a in before and b in after]
        follows = _joins(ends, palette, np.array(frame_size, float), shots, longest, shared)
        chains = _followed(chains, follows)
    if len(chains) > 1:
        ends = _ends((_joined(chain) for chain in chains), len(chains))
        chains = _followed(chains, _returns(ends, palette, shots))
    for chain in chains:
        person.update((t.number, chain[0].number) for t in chain)
    return person


def _followed(chains: list[list[Tracklet]], follows: list[tuple[int, int]]) -> list[list[Tracklet]]:
    """The chains after pairs of them, in order of the later one's beginning, were joined."""
    leader = list(range(len(chains)))
    for earlier, later in follows:
        leader[later] = leader[earlier]
        chains[leader[earlier]] += chains[later]
    return [chain for i, chain in enumerate(chains) if leader[i] == i]


def _joined(chain: list[Tracklet]) -> Tracklet:
    """Several tracklets of one person as one."""
    chain = [t.whole() for t in chain]
    if len(chain) == 1:
        return chain[0]
    first, last = chain[0], chain[-1]
    head = np.concatenate([np.array(t.head) for t in chain])
    tail = np.concatenate([np.array(t.tail) for t in chain])
    seen = [t for t in chain if t.looked]
    return Tracklet(
        first.number,
        first.first,
        last.last,
        view=last.view,
        first_travel=first.first_travel,
        travel=last.travel,
        head=_first_part(head),
        tail=_last_part(tail),
        looked=sum(t.looked for t in seen),
        early=_blend([(t.early, t.looked) for t in seen]),
        late=_blend([(t.late, t.looked) for t in reversed(seen)]),
    )


def _blend(looks: list[tuple[npt.NDArray, int]]) -> npt.NDArray:
    """The mean appearance of as many tracklets, from one end, as tell it well."""
    total, weight = _BLANK, 0
    for look, count in looks:
        if weight < _LOOKS:
            part = min(count, _LOOKS)
            total, weight = total + part * look, weight + part
    return total / max(weight, 1)


@dataclass(frozen=True)
class _Palette:
    """How far appearances of one person, and of two, lie apart in a video."""

    same: float
    other: float
    spread: float

    def says(self, distance: npt.NDArray) -> npt.NDArray:
        """By how much (in log likelihood) a distance speaks for one person."""
        slope = max(self.other - self.same, 0.0) / self.spread**2
        said = slope * ((self.same + self.other) / 2 - distance)
        return np.clip(said, -_MOST_AGAINST, _MOST_FOR)


def _palette(items: list[Tracklet]) -> _Palette:
    """Learnt from the video: a tracklet's two ends are one person, those in one frame are two."""
    same, other = [], []
    before: Tracklet | None = None
    for known in (t.whole() for t in items if t.looked >= _LOOKS):
        if known.looked >= 2 * _LOOKS:
            same.append(appearance.distance(known.early, known.late))
        if before is not None and known.first < before.last:
            other.append(appearance.distance(before.early, known.early))
        before = known
    if len(same) < _LEARN or len(other) < _LEARN:
        return _Palette(_SAME, _OTHER, _LOOK_SPREAD)
    spread = np.sqrt((np.var(same) + np.var(other)) / 2)
    return _Palette(float(np.mean(same)), float(np.mean(other)), max(float(spread), 1e-3))


def _joins(
    ends: _Ends,
    palette: _Palette,
    frame: npt.NDArray,
    shots: Shots,
    longest: float,
    handovers: list[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Pairs to join, in order of the later one's beginning."""
    rows, columns, costs = _candidates(ends, palette, frame, shots, longest)
    earlier, later = np.array(handovers, int).reshape(-1, 2).T
    said = _HANDOVER - _APPEARANCE * _said(ends, palette, earlier, later)
    rows, columns = np.concatenate([rows, earlier]), np.concatenate([columns, later])
    costs = np.concatenate([costs, said])
    good = (costs < _ACCEPT) & (rows != columns)
    rows, columns, costs = rows[good], columns[good], costs[good]
    pairs = [(int(rows[i]), int(columns[i])) for i in _cheapest(rows, columns, costs)]
    return sorted(pairs, key=lambda pair: (ends.first[pair[1]], pair[1]))


def _cheapest(rows: npt.NDArray, columns: npt.NDArray, costs: npt.NDArray) -> list[int]:
    """Which of some pairs to choose, so that each row and column has one at most, and what is
    chosen, with the price of acceptance for each row that has none, costs least.

    A crowd's pairs compete with each other over hours, so there is no table of them all.
    """
    if not len(rows):
        return []
    befores, r = np.unique(rows, return_inverse=True)
    afters, c = np.unique(columns, return_inverse=True)
    count = len(befores)
    nobody = np.arange(count)  # a column for each row, for joining nothing
    weights = np.concatenate([costs, np.full(count, _ACCEPT)])
    # every row gets one column, so a constant changes nothing; an absent pair has weight zero
    weights += 1 - weights.min()
    where = np.concatenate([r, nobody]), np.concatenate([c, len(afters) + nobody])
    where = tuple(indices.astype(np.int32) for indices in where)  # as older scipy wants them
    table = csr_array((weights, where), shape=(count, len(afters) + count))
    chosen = dict(zip(*min_weight_full_bipartite_matching(table), strict=True))
    return [k for k, (i, j) in enumerate(zip(r, c, strict=True)) if chosen[i] == j]


def _candidates(
    ends: _Ends, palette: _Palette, frame: npt.NDArray, shots: Shots, longest: float
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Which tracklet could go on as which, and at what cost, as three arrays of one length."""
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for rows, columns in _pairs(ends, shots, 0.0, longest):
        costs = _cost(ends, rows, columns, frame)
        costs -= _APPEARANCE * _said(ends, palette, rows, columns)
        good = costs < _ACCEPT
        found.append((rows[good], columns[good], costs[good]))
    rows, columns, costs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, columns, costs


def _pairs(
    ends: _Ends, shots: Shots, shortest: float, longest: float
) -> Iterator[tuple[npt.NDArray, npt.NDArray]]:
    """Tracklets, and others that begin some seconds after them in the same scene, in runs."""
    order = np.argsort(ends.first, kind="stable")
    starts = ends.first[order]
    low = np.searchsorted(starts, ends.last + shortest, side="right")
    high = np.searchsorted(starts, ends.last + longest, side="right")
    counts = np.maximum(high - low, 0)
    scene, next_scene = (shots.scenes_at(times) for times in (ends.last, ends.first))
    for block in _blocks(counts):
        some = counts[block]
        rows = np.repeat(block, some)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(some) - some, some)
        columns = order[np.repeat(low[block], some) + within]
        good = scene[rows] == next_scene[columns]
        yield rows[good], columns[good]


def _returns(ends: _Ends, palette: _Palette, shots: Shots) -> list[tuple[int, int]]:
    """Pairs of one person, long absent, who stands where they stood; only clear pairs, in
    order of the later one's beginning."""
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for rows, columns in _pairs(ends, shots, _ROUNDS_S[-1], _ABSENT_S):
        height = np.sqrt(ends.stop_size[rows, 1] * ends.start_size[columns, 1])
        off = np.hypot(*(ends.start[columns] - ends.stop[rows]).T) / height
        size = np.abs(np.log(ends.start_size[columns, 1] / ends.stop_size[rows, 1]))
        known = np.minimum(ends.looked[rows], ends.looked[columns]) >= _LOOKS
        speeds = np.hypot(*ends.stop_speed[rows].T), np.hypot(*ends.start_speed[columns].T)
        stood = np.maximum(*speeds) < _STOOD * height
        near = np.flatnonzero(known & stood & (off < _NEAR) & (size < _AS_TALL))
        said = _said(ends, palette, rows[near], columns[near])
        near, said = near[said > _SURELY], said[said > _SURELY]
        found.append((rows[near], columns[near], off[near] - said))
    rows, columns, costs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    count = len(ends.first)
    clear = costs < np.minimum(_others(rows, costs, count), _others(columns, costs, count))
    pairs = zip(rows[clear].tolist(), columns[clear].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (ends.first[pair[1]], pair[1]))


def _others(group: npt.NDArray, costs: npt.NDArray, count: int) -> npt.NDArray:
    """What each pair has to cost less than: the cheapest other one of its group, less a margin."""
    best, second = np.full(count, np.inf), np.full(count, np.inf)
    np.minimum.at(best, group, costs)
    is_best = costs == best[group]
    np.minimum.at(second, group[~is_best], costs[~is_best])
    return np.where(is_best, second[group], best[group]) - _MARGIN


def _blocks(counts: npt.NDArray) -> list[npt.NDArray]:
    """Indices in runs of which each has about ``_PAIRS`` pairs at most."""
    block = (np.cumsum(counts) - counts) // _PAIRS
    return np.split(np.arange(len(counts)), np.flatnonzero(np.diff(block)) + 1)


def _said(ends: _Ends, palette: _Palette, rows: npt.NDArray, columns: npt.NDArray) -> npt.NDArray:
    """What appearances say for each pair, the less the fewer detections showed them alone."""
    count = np.minimum(ends.looked[rows], ends.looked[columns])
    weight = count / (count + 2)
    far = appearance.distance(ends.stop_look[rows], ends.start_look[columns])
    return weight * palette.says(far)


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
    return np.where(too_fast | _left(ends, rows, columns, gap, frame), np.inf, cost)


def _left(
    ends: _Ends, rows: npt.NDArray, columns: npt.NDArray, gap: npt.NDArray, frame: npt.NDArray
) -> npt.NDArray:
    """Whether the earlier one walked out of the picture, rather than the camera away from them."""
    turn, shift = ends.stop_view[rows].T
    place, half, speed = ends.stop[rows], ends.stop_size[rows] / 2, ends.stop_speed[rows]
    boxes = moved(np.concatenate([place - half, place + half], axis=1), 1 / turn, -shift / turn)
    near = _BORDER * frame
    out = ((boxes[:, :2] < near) & (speed < 0)) | ((boxes[:, 2:] > frame - near) & (speed > 0))
    turned = ends.start_travel[columns] - ends.stop_travel[rows] > _TURNED
    return out.any(axis=1) & (gap > 1.0) & ~turned


def _ends(items: Iterable[Tracklet], count: int) -> _Ends:
    spans, looked = np.zeros((count, 2)), np.zeros(count, int)
    views, travels = np.zeros((count, 2), complex), np.zeros((2, count))
    start, stop = np.zeros((count, 8)), np.zeros((count, 8))
    looks = np.zeros((2, count, appearance.SIZE), np.float32)
    for i, t in enumerate(items):
        spans[i] = t.first, t.last
        looked[i], views[i], travels[:, i] = t.looked, t.view, (t.first_travel, t.travel)
        start[i] = _line(_first_part(np.array(t.head)), at_end=False)
        stop[i] = _line(_last_part(np.array(t.tail)), at_end=True)
        looks[:, i] = t.early, t.late
    lines = np.concatenate([start, stop])
    return _Ends(
        first=spans[:, 0],
        last=spans[:, 1],
        start=start[:, :2],
        stop=stop[:, :2],
        start_speed=start[:, 2:4],
        stop_speed=stop[:, 2:4],
        start_size=start[:, 4:6],
        stop_size=stop[:, 4:6],
        start_look=looks[0],
        stop_look=looks[1],
        stop_view=views,
        start_travel=travels[0],
        stop_travel=travels[1],
        looked=looked,
        place_tremble=_typical(lines[:, 6]),
        size_tremble=_typical(lines[:, 7]),
    )


def _typical(values: npt.NDArray) -> float:
    known = values[values >= 0]
    return float(np.median(known)) if len(known) else 0.0


def _extent(rows: Iterable[_Row]) -> float:
    """How far places lie apart, in heights of the last one."""
    places = np.array([*rows])
    return float(np.ptp(places[:, 1:3], axis=0).max() / places[-1, 4])


def _stands(tail: list[_Row], doubtful: Iterable[_Row]) -> bool:
    """Whether a person who stood before doubtful rows still does in them."""
    return _extent([*(row for row in tail if row[0] >= tail[-1][0] - _END_S), *doubtful]) < _STANDS


def _first_part(rows: npt.NDArray) -> npt.NDArray:
    return rows[: max(_FEWEST, int((rows[:, 0] <= rows[0, 0] + _END_S).sum()))]


def _last_part(rows: npt.NDArray) -> npt.NDArray:
    return rows[-max(_FEWEST, int((rows[:, 0] >= rows[-1, 0] - _END_S).sum())) :]


def _line(rows: npt.NDArray, at_end: bool) -> npt.NDArray:
    """A straight walk through the rows: its place at the end, its speed, the median size, and how
    far places (in heights) and sizes (logarithm of the height) lie from it, shape (8,); -1 if that
    is unknown.
    """
    size = _median(rows[:, 3:])
    end = -1 if at_end else 0
    time, lasted = rows[:, 0] - rows[end, 0], rows[-1, 0] - rows[0, 0]
    if len(rows) < 3 or lasted < 0.15:
        return np.array([*rows[end, 1:3], 0.0, 0.0, *size, -1.0, -1.0])
    mean_time, mean_place = time.sum() / len(rows), rows[:, 1:3].sum(axis=0) / len(rows)
    away, off = time - mean_time, rows[:, 1:3] - mean_place
    speed = away @ off / (away @ away)
    off -= away[:, None] * speed
    place_off = np.sqrt((off**2).sum() / off.size) / size[1]
    size_off = np.log(rows[:, 4] / size[1]).std()
    # few detections over a short time tell a speed badly: hold it back
    speed *= lasted / (lasted + 0.2)
    place = mean_place - speed * mean_time
    return np.array([*place, *speed, *size, place_off, size_off])


def _median(values: npt.NDArray) -> npt.NDArray:
    """Of each column: some numbers at a time, thousands of times."""
    ordered, half = np.sort(values, axis=0), len(values) // 2
    return (ordered[half] + ordered[-half - 1]) / 2
