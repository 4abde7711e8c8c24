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
from rekognition_dagster.engine.detectors.boxes import covered, iou
from rekognition_dagster.engine.tracking import appearance

_MEMORY_S = 1.5  # how long a missing person is looked for
_DOUBT_S = 0.5  # how long by doubtful detections too
_TRIAL_S = 0.35  # how long one that was seen less than three times
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
    look: npt.NDArray = field(default_factory=lambda: np.zeros((0, appearance.SIZE)))
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
        self._next = 0

    def update(self, people: sv.Detections, timestamp_ms: int) -> npt.NDArray:
        """Which tracklet each detection of a frame belongs to.

        Returns:
            Shape (len(people),); -1 for those that belong to none. Where it is not certain that
            somebody is still the same, after a crossing or an absence, they get a new number:
            who is who is decided when the video is known.
        """
        time = timestamp_ms / 1000
        numbers = np.full(len(people), -1)
        self._predict(time)
        live = self._live
        boxes = people.xyxy.astype(float)
        scores = np.asarray(
            people.confidence if people.confidence is not None else np.ones(len(people))
        )
        looks = looks_of(people)
        plain = alone(boxes)
        sure = np.flatnonzero(scores >= self._sure)
        doubtful = np.flatnonzero(scores < self._sure)
        free = np.ones(len(live), bool)
        matched = np.full(len(people), -1)
        for candidates, within in ((sure, _MEMORY_S), (doubtful, _DOUBT_S)):
            awaited = np.flatnonzero(free & (time - live.seen <= within))
            rows, columns = self._match(awaited, boxes[candidates], looks[candidates])
            taken, found = awaited[rows], candidates[columns]
            self._renumber(taken[time - live.seen[taken] > _RESUME_S])
            self._correct(taken, boxes[found], time)
            self._remember(taken, looks[found], plain[found])
            matched[found] = taken
            free[taken] = False
        self._untangle(time)
        ours = matched >= 0
        numbers[ours] = live.number[matched[ours]]
        self._forget(time)
        self._begin(boxes, scores, looks * plain[:, None], numbers, time)
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

    def _remember(self, which: npt.NDArray, looks: npt.NDArray, plain: npt.NDArray) -> None:
        live = self._live
        which, looks = which[plain], looks[plain]
        known = live.look[which].any(axis=1)
        share = np.where(known, _LOOK, 1.0)[:, None]
        live.look[which] += share * (looks - live.look[which])

    def _untangle(self, time: float) -> None:
        """New numbers for those who could have been taken for each other, once they are apart."""
        live = self._live
        if len(live) > 1:
            boxes = live.boxes()
            shared = covered(boxes, boxes)
            shared = np.maximum(shared, shared.T)
            np.fill_diagonal(shared, 0)
            most = shared.max(axis=1)
            live.entangled[most > _ENTANGLED] = time
            still = (live.entangled >= 0) & (most > _APART)
            live.entangled[still] = time
        settled = (live.entangled >= 0) & (time - live.entangled >= _APART_S) & (live.seen == time)
        self._renumber(np.flatnonzero(settled))
        live.entangled[settled] = -1

    def _match(
        self, awaited: npt.NDArray, boxes: npt.NDArray, looks: npt.NDArray
    ) -> tuple[npt.NDArray, npt.NDArray]:
        if not len(awaited) or not len(boxes):
            return np.zeros(0, int), np.zeros(0, int)
        live = self._live
        expected = live.boxes()[awaited]
        height = live.size[awaited, 1]
        deviation = np.sqrt(live.spread[awaited, 0] + (_MEASURE * height) ** 2)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        off = np.hypot(*(centres[None] - live.place[awaited][:, None]).transpose(2, 0, 1))
        # Both boxes grow by what is uncertain, so that a likeness remains where they miss closely.
        grown = np.minimum(deviation, height)[:, None]
        margin = np.concatenate([-grown, -grown, grown, grown], axis=1) / 2
        likeness = iou(expected + margin, boxes)
        ratio = np.log(np.maximum(boxes[:, 3] - boxes[:, 1], 1)[None] / height[:, None])
        likeness = likeness * np.exp(-(ratio**2) / 0.5)
        likeness *= self._alike(awaited, looks)
        likeness[off > _GATE * deviation[:, None] + 0.25 * height[:, None]] = 0
        rows, columns = linear_sum_assignment(likeness, maximize=True)
        good = likeness[rows, columns] > _MIN_LIKENESS
        return rows[good], columns[good]

    def _alike(self, awaited: npt.NDArray, looks: npt.NDArray) -> npt.NDArray:
        """A factor for each pair, 1 where appearances are equal or unknown."""
        before = self._live.look[awaited]
        far = appearance.distance(before[:, None], looks[None])
        known = np.logical_and.outer(before.any(axis=1), looks.any(axis=1))
        return np.where(known, np.exp(-((far / _DIFFERENT) ** 2)), 1.0)

    def _correct(self, which: npt.NDArray, boxes: npt.NDArray, time: float) -> None:
        if not len(which):
            return
        live = self._live
        size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
        measure = (_MEASURE * live.size[which, 1]) ** 2
        spread = live.spread[which]
        total = spread[:, 0] + measure
        gain_place, gain_speed = spread[:, 0] / total, spread[:, 1] / total
        miss = (boxes[:, :2] + boxes[:, 2:]) / 2 - live.place[which]
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
        missing = time - self._live.seen
        patience = np.where(self._live.hits < 3, _TRIAL_S, _MEMORY_S)
        if self._time is not None:
            self._live.keep(missing <= patience)

    def _begin(
        self,
        boxes: npt.NDArray,
        scores: npt.NDArray,
        looks: npt.NDArray,
        numbers: npt.NDArray,
        time: float,
    ) -> None:
        new = np.flatnonzero((numbers < 0) & (scores >= self._start))
        followed = boxes[numbers >= 0]
        if len(followed) and len(new):
            new = new[covered(boxes[new], followed).max(axis=1) < _DOUBLE]
        if not len(new):
            return
        count, chosen, live = len(new), boxes[new], self._live
        numbers[new] = np.arange(self._next, self._next + count)
        self._next += count
        size = np.maximum(chosen[:, 2:] - chosen[:, :2], 1)
        place = (_MEASURE * size[:, 1]) ** 2
        speed = (_FIRST_SPEED * size[:, 1]) ** 2
        begun = Live(
            number=numbers[new],
            place=(chosen[:, :2] + chosen[:, 2:]) / 2,
            size=size,
            speed=np.zeros((count, 2)),
            spread=np.stack([place, np.zeros(count), speed], axis=1),
            seen=np.full(count, time),
            hits=np.ones(count, int),
            look=looks[new],
            entangled=np.full(count, -1.0),
        )
        for name in vars(live):
            setattr(live, name, np.concatenate([getattr(live, name), getattr(begun, name)]))


def looks_of(people: sv.Detections) -> npt.NDArray:
    """The detections' appearances, shape (n, SIZE); zeros where nobody described them."""
    described = people.data.get(appearance.APPEARANCE)
    if described is None or not len(people):
        return np.zeros((len(people), appearance.SIZE))
    return np.asarray(described, float)


def alone(boxes: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Which boxes show nobody else."""
    if len(boxes) < 2:
        return np.ones(len(boxes), bool)
    shared = covered(boxes, boxes)
    np.fill_diagonal(shared, 0)
    return shared.max(axis=1) < _HIDDEN
