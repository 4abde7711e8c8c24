"""All people of one video: both passes, and what lies on disk between them.

Detections go to disk as they come, numbered by tracklet. When the video has ended, tracklets are
joined, and rows are made stretch by stretch, each with enough of its surroundings for the result
not to depend on where a stretch begins.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from math import expm1, isnan
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.faces import FACE, Steadier, box_struct, face_struct
from rekognition_dagster.engine.frame import Moment
from rekognition_dagster.engine.spool import Spool, Window
from rekognition_dagster.engine.tracking import smooth
from rekognition_dagster.engine.tracking.heads import Heads
from rekognition_dagster.engine.tracking.link import ENDS, Shots, Tracklet, link
from rekognition_dagster.engine.tracking.motion import STILL, Similarity, moved
from rekognition_dagster.engine.tracking.online import Association, Crowd
from rekognition_dagster.engine.tracking.person_faces import FaceFill, PersonFaces, owned_type

DETECTION = np.dtype(
    [("timestamp_ms", "i8"), ("tracklet", "i4"), ("box", "f4", (4,)), ("confidence", "f4")]
)
"""A detection that belongs to a tracklet; confidence 0 to 1. Its box is in steady coordinates, in
pixels of the first frame."""

TIME = np.dtype([("timestamp_ms", "i8"), ("scene", "i4"), ("turn", "c16"), ("shift", "c16")])
"""A frame, its scene, and the similarity that takes places in it to steady coordinates."""

PERSON = np.dtype(
    [("timestamp_ms", "i8"), ("index", "i4"), ("box", "f4", (4,)), ("confidence", "f4")]
)
"""A person at a time; box in ratios of the frame, confidence 0 to 100, NaN where filled in."""

_STRETCH_MS = 60_000
_BATCH = 2048  # rows
_SWEEP_MS, _SWEEP = 10_000, 4.0  # longer than anybody is awaited, and at least so many looks
_TREMBLE_S = 0.4  # time constant of a camera's place without its trembling
_SWAY = 0.04  # widths of the picture within which it sways
_SHOWN = 1 / 3  # of a box that is filled in, or it is not in the picture
_MARGIN_MS = round((smooth.FILL_S + smooth.REACH_S) * 1000)
_EVIDENCE_S = 2.0  # seconds of just sure detections, or less of surer ones: somebody was there
_EVIDENCE_SHARE = 0.5  # but of a short shot no more than this
_RARE_S = 0.5  # between two looks
_USUAL = 9  # steps from look to look of which the median is the usual one
_PAUSE = 3.0  # of the usual step: no look stands for a longer time
_SURE_SHARE = 0.15  # of somebody's detections that have to be sure
_THING_S = 5.0  # what stays in its place for so long
_THING_MOVES = 0.5  # within so many heights
_THING_SHARE = 0.5  # and is sure more rarely, is a thing
_OBVIOUS = 3  # detections that are clearly a person, and for a track that has them
_OBVIOUS_SHARE = 0.02  # with this share, the rest may be doubtful
_DOUBLE = 0.75  # a box that lies in another so much
_ALIKE = 0.5  # or is so much like it
_DOUBLE_SHARE = 0.5  # for this part of its time, is the same person's
_HANDOVER_S = 1.0  # longest time for which two tracklets of one person may go side by side


class PersonTracks:
    """All people of one video.

    Args:
        scores: The detector's scale.
        frame_rate: Frames looked at in a second, by the header; time stamps correct it.
        face_type: The type of the faces' records: ``FACE`` or ``DETAILED``.
    """

    def __init__(self, scores: ScoreScale, frame_rate: float, face_type: np.dtype = FACE) -> None:
        self._scores = scores
        self._pace = _Pace(1 / frame_rate)
        self._travel = _Travel()
        self._association = Association(scores)
        self._cuts: list[float] = []
        self._scenes = [0]
        self._begin_s = self._end_s = 0.0
        self._tracklets: dict[int, Tracklet] = {}
        self._open: dict[int, Tracklet] = {}
        self._swept_ms = 0
        self._together: dict[tuple[int, int], int] = {}
        self._detections = Spool(DETECTION)
        self._times = Spool(TIME)
        self._faces = Spool(face_type)
        self._ends = Spool(ENDS)
        self._size: tuple[int, int] | None = None

    def add(
        self,
        people: sv.Detections | None,
        faces: npt.NDArray,
        frame: Moment,
        *,
        scene: int = 0,
        motion: Similarity = STILL,
    ) -> None:
        """Take one frame's people, and its faces as records of the faces' type.

        Another ``scene`` than before is a cut; an earlier one goes on with its people. The first
        is 0. No ``people`` at all is a frame that nobody looked at: who was there is told from the
        looks before and after it. ``motion`` takes places in this frame to the scene's steady
        coordinates, in pixels of the first frame.
        """
        time = frame.timestamp_ms
        self._begin_s = self._begin_s if self._times.count else time / 1000
        self._end_s = time / 1000 + self._pace.usual_s
        self._times.append(np.array([(time, scene, *motion)], TIME))
        self._faces.append(faces)
        if scene != self._scenes[-1]:
            self._cuts.append(time / 1000)
            self._scenes.append(scene)
            self._association.forget()
        if people is None:
            return
        people = self._in_first_size(people, frame)
        if motion is not STILL:
            people = replace(people, xyxy=moved(people.xyxy, *motion).astype(np.float32))
        step, travel = (
            self._step(time / 1000),
            self._travel.add(time / 1000, motion, self._size or (1, 1)),
        )
        crowd = Crowd(people)
        numbers = self._association.update(crowd, time, self._pace.usual_s)
        ours = np.flatnonzero(numbers >= 0)
        if not len(ours):
            return
        records = np.zeros(len(ours), DETECTION)
        records["timestamp_ms"] = time
        records["tracklet"] = numbers[ours]
        records["box"] = boxes = people.xyxy[ours]
        records["confidence"] = scores = crowd.scores[ours]
        self._detections.append(records)
        telling = crowd.alone & crowd.described
        each = zip(
            ours.tolist(), numbers[ours].tolist(), boxes.tolist(), scores.tolist(), strict=True
        )
        for k, number, box, score in each:
            if number not in self._tracklets:
                self._tracklets[number] = Tracklet(number, time / 1000, time / 1000)
                self._open[number] = self._tracklets[number]
            look = crowd.looks[k] if telling[k] else None
            tracklet = self._tracklets[number]
            tracklet.add(time / 1000, box, score, self._scores, look, motion, step, travel)
        self._count_doubles(crowd, numbers)
        swept = max(_SWEEP_MS, round(1000 * _SWEEP * self._pace.usual_s))
        if time - self._swept_ms > swept:
            self._swept_ms = time
            self._sweep((time - swept) / 1000)

    def _step(self, time: float) -> float:
        """Return the seconds that a look at a time, in seconds, stands for."""
        step = self._pace.add(time)
        if self._pace.looks == 2:  # only now it is known how long the first one stood for
            for first in self._tracklets.values():
                first.weigh(step)
        return step

    def _in_first_size(self, people: sv.Detections, frame: Moment) -> sv.Detections:
        """Return boxes in pixels of the first frame: a stream's size may change."""
        size = frame.width, frame.height
        self._size = self._size or size
        if size == self._size:
            return people
        scale = np.tile(np.divide(self._size, size), 2).astype(np.float32)
        return replace(people, xyxy=people.xyxy * scale)

    def _sweep(self, before: float) -> None:
        """Close the tracklets that ended before a time, in seconds."""
        for tracklet in [t for t in self._open.values() if t.last < before]:
            self._open.pop(tracklet.number).close(self._ends)

    def _count_doubles(self, crowd: Crowd, numbers: npt.NDArray) -> None:
        # boxes that are alike hide each other, too
        a, b = np.nonzero(crowd.hidden > min(_DOUBLE, _ALIKE))
        ours = (numbers[a] >= 0) & (numbers[b] >= 0)
        a, b = a[ours], b[ours]
        one, other = crowd.hidden[a, b], crowd.hidden[b, a]
        alike = one * other / (one + other - one * other)  # their intersection over union
        same = (one > _DOUBLE) | (alike > _ALIKE)
        for pair in zip(numbers[a[same]].tolist(), numbers[b[same]].tolist(), strict=True):
            self._together[pair] = self._together.get(pair, 0) + 1

    def people(self) -> Iterator[npt.NDArray]:
        """Records of type ``PERSON``, by time and index, the frames of a stretch at a time."""
        person = self._persons()
        index: dict[int, int] = {}
        lookup = np.full(max(self._tracklets, default=0) + 1, -1)
        spans = np.zeros((len(lookup), 2), int)
        for number, first in person.items():
            lookup[number] = first
            one = self._tracklets[number]
            spans[number] = round(1000 * one.first), round(1000 * one.last)
        detections, around_frames = Window(self._detections), Window(self._times)
        for times in _stretches(self._times):
            stamps = times["timestamp_ms"]
            begin, end = stamps[0], stamps[-1]
            around = detections.between(begin - _MARGIN_MS, end + _MARGIN_MS)
            frames = around_frames.between(begin - _MARGIN_MS, end + _MARGIN_MS)
            size = self._size or (1, 1)
            begins, ends = spans[around["tracklet"]].T
            inside = (around["timestamp_ms"] >= begins) & (around["timestamp_ms"] <= ends)
            around = around[inside]
            found = _paths(around, lookup[around["tracklet"]], frames, size, begin, end)
            for first in found["index"]:
                index.setdefault(int(first), len(index))
            found["index"] = [index[int(first)] for first in found["index"]]
            yield found[np.lexsort((found["index"], found["timestamp_ms"]))]

    def _persons(self) -> dict[int, int]:
        """The person of each tracklet that is one: ghosts and doubles are left out."""
        if not self._tracklets:
            return {}
        self._sweep(np.inf)
        doubles = {
            a
            for (a, b), times in self._together.items()
            if times > _DOUBLE_SHARE * self._tracklets[a].count
            and (self._tracklets[b].sure, -b) > (self._tracklets[a].sure, -a)
        }
        alone = [t for t in self._tracklets.values() if t.number not in doubles]
        handovers = [
            (a, b)
            for (a, b), times in self._together.items()
            if not {a, b} & doubles
            and self._is_handover(self._tracklets[a], self._tracklets[b], times)
        ]
        assert self._size is not None
        person = link(alone, self._size, Shots(self._cuts, self._scenes), handovers)
        members: dict[int, list[Tracklet]] = {}
        for number, first in person.items():
            members.setdefault(first, []).append(self._tracklets[number])
        real = {first for first, parts in members.items() if self._is_real(parts)}
        return {number: first for number, first in person.items() if first in real}

    def _is_handover(self, a: Tracklet, b: Tracklet, times: int) -> bool:
        """Whether ``b`` began on the body of ``a``, and goes on without it."""
        shared = a.last - b.first
        if not (a.first < b.first <= a.last < b.last) or shared > _HANDOVER_S:
            return False
        return times >= _DOUBLE_SHARE * (shared / (a.seconds / a.count) + 1)

    def _is_real(self, parts: list[Tracklet]) -> bool:
        if max(t.best for t in parts) < self._scores.clear:
            return False
        count, sure = sum(t.count for t in parts), sum(t.sure for t in parts)
        seconds = sum(t.seconds for t in parts)
        interval = seconds / count
        # in a shot of a second, nobody can be seen for two
        needed = min(_EVIDENCE_S, _EVIDENCE_SHARE * self._shot_s(parts[0].first))
        if interval > _RARE_S:  # one look at a time is all there is
            return sure > 0 and seconds > 0.9 * needed
        lasted = sum(t.last - t.first for t in parts) + interval
        obvious = sum(t.obvious for t in parts)
        is_obvious = obvious >= max(_OBVIOUS, _OBVIOUS_SHARE * count)
        if lasted > _THING_S and sure < _THING_SHARE * count and not is_obvious and _stays(parts):
            return False
        evidence = sum(t.evidence for t in parts)
        return evidence > needed and sure >= 2 and (is_obvious or sure > _SURE_SHARE * count)

    def _shot_s(self, time: float) -> float:
        """How long the shot at a time is; nobody walks from one into the next."""
        shots = [self._begin_s, *self._cuts, self._end_s]
        shot = bisect_right(shots, time, 1, len(shots) - 1)
        return shots[shot] - shots[shot - 1]

    def rows(self) -> Iterator[list[dict[str, Any]]]:
        """Return the lake's rows, by time and person, in batches."""
        with Spool(PERSON) as people, Spool(owned_type(self._faces.dtype)) as owned:
            for records in self.people():
                people.append(records)
            heads, steadier = Heads(), Steadier()
            for present, faces in _frames(people, self._faces):
                heads.learn(present, faces)
            for present, faces in _frames(people, self._faces):
                theirs = _owned(present, faces, heads.assign(present, faces), owned.dtype)
                steadier.add(theirs["index"], theirs["face"])
                owned.append(theirs)
            fill = FaceFill(owned)
            for records in people.chunks(_BATCH):
                found = fill.of(records)
                steady = steadier.steadied(records["index"], found.faces)
                yield _rows(records, found._replace(faces=steady))

    def close(self) -> None:
        """Give the disk space back."""
        for spool in (self._detections, self._times, self._faces, self._ends):
            spool.close()


class _Pace:
    """The time from look to look, by the time stamps.

    Args:
        usual_s: What it is until two looks tell.
    """

    def __init__(self, usual_s: float) -> None:
        self.usual_s = usual_s
        self.looks = 0
        self._last: float | None = None
        self._steps: deque[float] = deque(maxlen=_USUAL)

    def add(self, time: float) -> float:
        """Return how long a look stands for: since the one before, or less after a pause."""
        before, self._last, self.looks = self._last, time, self.looks + 1
        if before is None:
            return self.usual_s
        self._steps.append(time - before)
        self.usual_s = median(self._steps)
        return min(time - before, _PAUSE * self.usual_s)


class _Travel:
    """How far a camera turns and zooms, apart from its trembling and swaying."""

    def __init__(self) -> None:
        self._far = 0.0
        self._at: npt.NDArray | None = None
        self._anchor = np.zeros(2, complex)
        self._time = 0.0

    def add(self, time: float, motion: Similarity, size: tuple[int, int]) -> float:
        """Return how far the picture's corners have gone until a time in seconds, in its widths."""
        to = (motion.turn * np.array([0, complex(*size)]) + motion.shift) / size[0]
        if self._at is None:
            self._at = self._anchor = to
        self._at = at = self._at + (to - self._at) * -expm1((self._time - time) / _TREMBLE_S)
        self._time = time
        away = float(np.abs(at - self._anchor).max())
        if away > _SWAY:  # it is drawn along
            self._anchor = self._anchor + (at - self._anchor) * (1 - _SWAY / away)
            self._far += away - _SWAY
        return self._far


def _stays(parts: list[Tracklet]) -> bool:
    """Whether somebody was never anywhere else."""
    ends = np.array([row for t in map(Tracklet.whole, parts) for row in (t.head[0], t.tail[-1])])
    return float(np.ptp(ends[:, 1:3], axis=0).max()) < _THING_MOVES * float(np.median(ends[:, 4]))


def _paths(
    detections: npt.NDArray,
    persons: npt.NDArray,
    frames: npt.NDArray,
    size: tuple[int, int],
    begin: int,
    end: int,
) -> npt.NDArray:
    """Everybody between two times, numbered by their first tracklet."""
    found = []
    stamps = frames["timestamp_ms"]
    order = np.argsort(persons, kind="stable")
    order = order[persons[order] >= 0]
    for rows in np.split(order, np.flatnonzero(np.diff(persons[order])) + 1):
        if not len(rows):
            continue
        seen = detections[rows]
        # two parts of one person never share a frame, but for a join across an overlap
        seen_times, once = np.unique(seen["timestamp_ms"], return_index=True)
        steady = seen["box"][once].astype(float)
        times, steady, scores = smooth.path(stamps, seen_times, steady, seen["confidence"][once])
        there = frames[np.searchsorted(stamps, times)]
        boxes = moved(steady, 1 / there["turn"], -there["shift"] / there["turn"])
        boxes = boxes / np.tile(size, 2)
        shown = np.clip(boxes, 0, 1)
        visible = _areas(shown) > _SHOWN * _areas(boxes)  # the camera may have turned away
        scene = frames["scene"][np.searchsorted(stamps, seen_times[0])]
        filled = visible & (there["scene"] == scene)
        inside = (times >= begin) & (times <= end) & (filled | ~np.isnan(scores))
        records = np.zeros(int(inside.sum()), PERSON)
        records["timestamp_ms"] = times[inside]
        records["index"] = persons[rows[0]]
        records["box"] = shown[inside]
        records["confidence"] = scores[inside] * 100
        found.append(records)
    return np.concatenate(found) if found else np.zeros(0, PERSON)


def _areas(boxes: npt.NDArray) -> npt.NDArray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _owned(
    people: npt.NDArray, faces: npt.NDArray, owners: dict[int, int], owned: np.dtype
) -> npt.NDArray:
    """Return a frame's faces with the persons whose they are."""
    records = np.zeros(len(owners), owned)
    persons, theirs = people[list(owners)], faces[list(owners.values())]
    records["timestamp_ms"], records["index"] = persons["timestamp_ms"], persons["index"]
    records["person"], records["face"] = persons["box"], theirs
    return records


def _rows(people: npt.NDArray, found: PersonFaces) -> list[dict[str, Any]]:
    """Return the lake's rows of records of type ``PERSON`` and their faces."""
    rows = []
    each = zip(*(people[name].tolist() for name in PERSON.names or ()), strict=True)
    for i, (time, index, box, confidence) in enumerate(each):
        interpolated = isnan(confidence)
        row = {
            "timestamp_ms": time,
            "person_index": index,
            "bounding_box": box_struct(box),
            "confidence": None if interpolated else confidence,
            "interpolated": interpolated,
        }
        if found.present[i]:
            row["face"] = face_struct(found.faces[i])
            row["face_interpolated"] = bool(found.filled[i])
        rows.append(row)
    return rows


def _frames(people: Spool, faces: Spool) -> Iterator[tuple[npt.NDArray, npt.NDArray]]:
    """People and faces of one time after another, of those with people."""
    others = _by_time(faces)
    waiting = next(others, None)
    nobody = np.zeros(0, faces.dtype)
    for records in _by_time(people):
        time = records["timestamp_ms"][0]
        while waiting is not None and waiting["timestamp_ms"][0] < time:
            waiting = next(others, None)
        there = waiting is not None and waiting["timestamp_ms"][0] == time
        yield records, waiting if waiting is not None and there else nobody


def _stretches(times: Spool) -> Iterator[npt.NDArray]:
    """The frames' records, those of about a minute at a time."""
    window, begin = Window(times), 0
    first = next(iter(times.chunks(1)), None)
    if first is None:
        return
    begin = int(first["timestamp_ms"][0])
    while True:
        stretch = window.between(begin, begin + _STRETCH_MS - 1)
        if len(stretch):
            yield stretch
            begin += _STRETCH_MS
            continue
        later = window.following(begin)
        if later is None:
            return
        begin = later


def _by_time(spool: Spool) -> Iterator[npt.NDArray]:
    """The records of one time after another."""
    rest: npt.NDArray = np.zeros(0, spool.dtype)
    for chunk in spool.chunks():
        *whole, rest = _split_by_time(np.concatenate([rest, chunk]))
        yield from whole
    if len(rest):
        yield rest


def _split_by_time(records: npt.NDArray) -> list[npt.NDArray]:
    if not len(records):
        return []
    return np.split(records, np.flatnonzero(np.diff(records["timestamp_ms"])) + 1)
