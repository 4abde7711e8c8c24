"""The first pass: detections of one frame after another get the number of a tracklet.

Two rounds as in ByteTrack (Zhang et al. 2022), sure detections first, doubtful ones for the people
then still missing. Motion and uncertainty are in body heights and seconds, so that one setting
holds for any resolution and frame rate, and all tracklets are filtered at once as arrays.
A tracklet only has to be pure here: what belongs together is joined when the video is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import supervision as sv
from scipy.optimize import linear_sum_assignment

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.detectors.boxes import covered
from rekognition_dagster.engine.tracking import appearance

_MEMORY_S = 1.5  # how long a missing person is looked for
_DOUBT_S = 0.5  # how long by doubtful detections too
_TRIAL_S = 0.35  # how long one that was seen less than three times
_MEMORY, _DOUBT, _TRIAL, _RESUME = 2.5, 1.5, 1.5, 1.5  # but for so many looks at least
_MEASURE = 0.06  # deviation of a detection's centre, in heights
_DRIFT = 0.4  # how fast a walk's speed wanders, in heights per second, after a second
_FIRST_SPEED = 0.8  # deviation of an unknown speed, in heights per second
_GATE = 3.5  # deviations from where somebody is expected
_MIN_LIKENESS = 0.15
_SIZE_S = 0.4  # time constant of a body's size
_RESUME_S = 0.8  # whoever was missing for longer begins anew
_ENTANGLED = 0.4  # two boxes that share this much of the smaller may be taken for each other
_APART = 0.15  # until they share no more than this
_APART_S = 0.25  # for this long
_DIFFERENT = 0.28  # distance of appearances at which a likeness falls to a third
_LOOK = 0.12  # share of the last look in somebody's usual appearance
_HIDDEN = 0.2  # of a box that another may cover for its appearance to be its own
_DOUBLE = 0.8  # a new box that lies this much in a followed one is the same person


@dataclass
class Live:
    """The people being followed, one row each.

    ``place`` is the box's centre, ``size`` its width and height, ``speed`` per second, all in
    pixels; ``spread`` the variance of place, their covariance and the variance of speed, in
    squared pixels. ``look`` is the usual appearance, all zero while unknown; ``entangled`` says
    when somebody else was last in the way, -1 if that is settled.
    """

    number: npt.NDArray = field(default_factory=lambda: np.zeros(0, int))
    place: npt.NDArray = field(default_factory=lambda: np.zeros((0, 2)))
    size: npt.NDArray = field(default_factory=lambda: np.zeros((0, 2)))
    speed: npt.NDArray = field(default_factory=lambda: np.zeros((0, 2)))
    spread: npt.NDArray = field(default_factory=lambda: np.zeros((0, 3)))
    seen: npt.NDArray = field(default_factory=lambda: np.zeros(0))
    hits: npt.NDArray = field(default_factory=lambda: np.zeros(0, int))
    look: npt.NDArray = field(default_factory=lambda: np.zeros((0, appearance.SIZE), np.float32))
    entangled: npt.NDArray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.number)

    def keep(self, which: npt.NDArray) -> None:
        """Forget the others."""
        for name in vars(self):
            setattr(self, name, getattr(self, name)[which])

    def boxes(self) -> npt.NDArray:
        """Where they are expected, as (left, top, right, bottom)."""
        return np.concatenate([self.place - self.size / 2, self.place + self.size / 2], axis=1)


class Crowd:
    """The people found in a frame, as arrays; in pixels, one row for each.

    ``boxes`` are (left, top, right, bottom), ``place`` their centres, ``size`` widths and heights.
    ``looks`` are the appearances, all zero where nobody described them; ``described`` says where
    somebody did. ``hidden`` is the part of each box that each other one covers, and ``alone`` says
    whose box shows nobody else.
    """

    def __init__(self, people: sv.Detections) -> None:
        count = len(people)
        self.boxes = people.xyxy.astype(float)
        low, high = self.boxes[:, :2], self.boxes[:, 2:]
        self.place, self.size = (low + high) / 2, np.maximum(high - low, 1)
        self.scores = np.ones(count) if people.confidence is None else people.confidence
        looks = people.data.get(appearance.APPEARANCE)
        looks = np.zeros((count, appearance.SIZE)) if looks is None or not count else looks
        self.looks = np.asarray(looks, np.float32)
        self.described = self.looks.any(axis=1)
        self.hidden = hidden(self.boxes)
        self.alone = self.hidden.max(axis=1, initial=0) < _HIDDEN

    def __len__(self) -> int:
        return len(self.boxes)


class Association:
    """Numbers the tracklets of one video.

    Args:
        scores: The detector's scale.
    """

    def __init__(self, scores: ScoreScale) -> None:
        self._sure = scores.sure
        self._start = (scores.noise + scores.sure) / 2
        self._live = Live()
        self._time: float | None = None
        self._interval = 0.0
        self._next = 0

    def update(self, crowd: Crowd, timestamp_ms: int, interval_s: float = 0.0) -> npt.NDArray:
        """Which tracklet each of the people found in a frame belongs to.

        ``interval_s`` is the usual time from look to look: who misses none is not missing.

        Returns:
            Shape (len(crowd),); -1 for those that belong to none. Where it is not certain that
            somebody is still the same, after a crossing or an absence, they get a new number:
            who is who is decided when the video is known.
        """
        time = timestamp_ms / 1000
        self._interval = interval_s
        self._predict(time)
        taken, found = self._match(crowd, time)
        live = self._live
        resumed = max(_RESUME_S, _RESUME * self._interval)
        self._renumber(taken[time - live.seen[taken] > resumed])
        self._correct(taken, crowd.place[found], crowd.size[found], time)
        self._remember(taken, crowd.looks[found], crowd.alone[found])
        self._untangle(time)
        numbers = np.full(len(crowd), -1)
        numbers[found] = live.number[taken]
        self._forget(time)
        self._begin(crowd, numbers, time)
        return numbers

    def forget(self) -> None:
        """Follow nobody any more: a cut shows other people, or the same ones elsewhere."""
        self._live = Live()

    def _predict(self, time: float) -> None:
        if self._time is not None and len(self._live):
            step = max(time - self._time, 1e-3)
            live = self._live
            noise = (_DRIFT * live.size[:, 1]) ** 2
            live.place += live.speed * step
            live.spread[:, 0] += step * (2 * live.spread[:, 1] + step * live.spread[:, 2])
            live.spread[:, 0] += noise * step**3 / 3
            live.spread[:, 1] += step * live.spread[:, 2] + noise * step**2 / 2
            live.spread[:, 2] += noise * step
        self._time = time

    def _renumber(self, which: npt.NDArray) -> None:
        self._live.number[which] = np.arange(self._next, self._next + len(which))
        self._next += len(which)

    def _remember(
        self, which: npt.NDArray, looks: npt.NDArray, alone: npt.NDArray[np.bool_]
    ) -> None:
        which, looks = which[alone], looks[alone]
        before = self._live.look[which]
        share = np.where(before.any(axis=1), np.float32(_LOOK), np.float32(1))[:, None]
        self._live.look[which] = before + share * (looks - before)

    def _untangle(self, time: float) -> None:
        """New numbers for those who could have been taken for each other, once they are apart."""
        live = self._live
        shared = hidden(live.boxes())
        most = np.maximum(shared.max(axis=0, initial=0), shared.max(axis=1, initial=0))
        tangled = live.entangled >= 0
        near = (most > _ENTANGLED) | (tangled & (most > _APART))
        live.entangled[near] = time
        if tangled.any():
            apart = tangled & (time - live.entangled >= _APART_S) & (live.seen == time)
            self._renumber(np.flatnonzero(apart))
            live.entangled[apart] = -1

    def _match(self, crowd: Crowd, time: float) -> tuple[npt.NDArray, npt.NDArray]:
        """Who is found where, as indices of the followed and of the found: first among the sure
        detections, then among the doubtful ones whoever is still missing."""
        live = self._live
        pairs = [(np.zeros(0, int), np.zeros(0, int))]
        if len(live) and len(crowd):
            likeness = self._likeness(crowd)
            missing = time - live.seen
            sure = crowd.scores >= self._sure
            free = np.ones(len(live), bool)
            memory = max(_MEMORY_S, _MEMORY * self._interval)
            doubt = max(_DOUBT_S, _DOUBT * self._interval)
            for candidates, within in ((sure, memory), (~sure, doubt)):
                awaited = np.flatnonzero(free & (missing <= within))
                offered = np.flatnonzero(candidates)
                if not len(awaited) or not len(offered):
                    continue
                some = likeness[awaited[:, None], offered]
                rows, columns = linear_sum_assignment(some, maximize=True)
                good = some[rows, columns] > _MIN_LIKENESS
                taken = awaited[rows[good]]
                free[taken] = False
                pairs.append((taken, offered[columns[good]]))
        taken, found = (np.concatenate(part) for part in zip(*pairs, strict=True))
        return taken, found

    def _likeness(self, crowd: Crowd) -> npt.NDArray:
        """How well each of the found could be each of the followed, 0 to 1, shape (followed,
        found)."""
        live = self._live
        height = live.size[:, 1]
        deviation = np.sqrt(live.spread[:, 0] + (_MEASURE * height) ** 2)
        # A box grows by what is uncertain, so that a likeness remains where it misses closely.
        grown = (np.minimum(deviation, height) / 2)[:, None]
        half = live.size / 2 + grown
        expected = np.concatenate([live.place - half, live.place + half], axis=1)
        ratio = np.log(crowd.size[:, 1] / height[:, None])
        far = appearance.distances(live.look, crowd.looks)
        far[~np.logical_and.outer(live.look.any(axis=1), crowd.described)] = 0
        likeness = sv.box_iou_batch(expected, crowd.boxes)
        likeness *= np.exp(-2 * ratio**2 - (far / _DIFFERENT) ** 2)
        off = np.hypot(*(crowd.place[None] - live.place[:, None]).transpose(2, 0, 1))
        likeness[off > (_GATE * deviation + 0.25 * height)[:, None]] = 0
        return likeness

    def _correct(
        self, which: npt.NDArray, place: npt.NDArray, size: npt.NDArray, time: float
    ) -> None:
        if not len(which):
            return
        live = self._live
        measure = (_MEASURE * live.size[which, 1]) ** 2
        spread = live.spread[which]
        total = spread[:, 0] + measure
        gain_place, gain_speed = spread[:, 0] / total, spread[:, 1] / total
        miss = place - live.place[which]
        live.place[which] += gain_place[:, None] * miss
        live.speed[which] += gain_speed[:, None] * miss
        live.spread[which] = np.stack(
            [
                (1 - gain_place) * spread[:, 0],
                (1 - gain_place) * spread[:, 1],
                spread[:, 2] - gain_speed * spread[:, 1],
            ],
            axis=1,
        )
        # The size follows slowly: half hidden people are found in cropped boxes.
        share = 1 - np.exp(-np.maximum(time - live.seen[which], 0.02) / _SIZE_S)
        share = np.maximum(share, 1 / (live.hits[which] + 1))[:, None]
        live.size[which] += share * (size - live.size[which])
        live.seen[which] = time
        live.hits[which] += 1

    def _forget(self, time: float) -> None:
        live = self._live
        missing = time - live.seen
        trial = max(_TRIAL_S, _TRIAL * self._interval)
        gone = missing > np.where(live.hits < 3, trial, max(_MEMORY_S, _MEMORY * self._interval))
        if gone.any():
            live.keep(~gone)

    def _begin(self, crowd: Crowd, numbers: npt.NDArray, time: float) -> None:
        new = np.flatnonzero((numbers < 0) & (crowd.scores >= self._start))
        if len(new):
            followed = numbers >= 0
            new = new[crowd.hidden[new][:, followed].max(axis=1, initial=0) < _DOUBLE]
        if not len(new):
            return
        count, size, live = len(new), crowd.size[new], self._live
        numbers[new] = np.arange(self._next, self._next + count)
        self._next += count
        place = (_MEASURE * size[:, 1]) ** 2
        speed = (_FIRST_SPEED * size[:, 1]) ** 2
        begun = Live(
            number=numbers[new],
            place=crowd.place[new],
            size=size,
            speed=np.zeros((count, 2)),
            spread=np.stack([place, np.zeros(count), speed], axis=1),
            seen=np.full(count, time),
            hits=np.ones(count, int),
            look=crowd.looks[new] * crowd.alone[new, None],
            entangled=np.full(count, -1.0),
        )
        for name in vars(live):
            setattr(live, name, np.concatenate([getattr(live, name), getattr(begun, name)]))


def hidden(boxes: npt.NDArray) -> npt.NDArray:
    """Which part of each box each other one covers, shape (n, n)."""
    shared = covered(boxes, boxes)
    np.fill_diagonal(shared, 0)
    return shared
