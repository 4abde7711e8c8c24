"""One video from file to rows: decode ahead, detect, track, hand out.

The decoder runs in a thread of its own, inference on OpenVINO's threads; this thread only waits
for results, tracks and hands out rows, so that the three overlap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from rekognition_dagster.engine.decode import (
    DamagedVideo,
    Frame,
    OpenVideo,
    ahead,
    depth_for,
    open_video,
)
from rekognition_dagster.engine.detectors import Detector, open_detector
from rekognition_dagster.engine.detectors.centerface import input_size
from rekognition_dagster.engine.detectors.centerface import shared as open_face_detector
from rekognition_dagster.engine.faces import FACE, describe, face_struct
from rekognition_dagster.engine.labels import label_rows
from rekognition_dagster.engine.metadata import VideoMetadata
from rekognition_dagster.engine.tracking.cuts import Cuts
from rekognition_dagster.engine.tracking.tracks import PersonTracks
from rekognition_dagster.operations import OPERATIONS

Rows = list[dict[str, Any]]

_PERSONS, _FACES, _LABELS = "person_tracking", "face_detection", "label_detection"
_BATCH = 2048
_GLANCE_MS = 1000  # where only people are asked for, how often their faces are looked for
_RARE_GLANCE_MS = 8000  # and at least, where there was none to see
_FACE_IN_PERSON = 0.1  # a face's width in heights of its person
_SMALLEST_FACE = 8  # pixels of the face network's input


def analyze(
    source: str | Path,
    sinks: Mapping[str, Callable[[Rows], None]],
    *,
    detector: str | None,
    sample_fps: float | None,
    progress: Callable[[float], None] | None,
    video: str | None,
) -> VideoMetadata:
    """See :func:`rekognition_dagster.engine.analyze`."""
    if unknown := set(sinks) - set(OPERATIONS):
        known = ", ".join(OPERATIONS)
        raise ValueError(f"unknown operations {sorted(unknown)}; there are {known}")
    if sample_fps is not None and not sample_fps > 0:
        raise ValueError(f"sample_fps is {sample_fps}; it must be positive")
    with open_video(source, video) as opened:
        return _Analysis(opened, sinks, detector, sample_fps, progress).run()


class _Analysis:
    """The state of one call: batches that wait for their sinks, and counts."""

    def __init__(
        self,
        opened: OpenVideo,
        sinks: Mapping[str, Callable[[Rows], None]],
        detector: str | None,
        sample_fps: float | None,
        progress: Callable[[float], None] | None,
    ) -> None:
        self._video = opened
        self._sinks = sinks
        self._spec = detector
        self._sample_fps = sample_fps
        self._progress = progress
        self._waiting: dict[str, Rows] = {name: [] for name in sinks}
        self._kept = 0
        self._cuts = Cuts()

    def run(self) -> VideoMetadata:
        damage: DamagedVideo | None = None
        with ExitStack() as stack:
            people, faces = self._detectors()
            tracks = None
            if people is not None and _PERSONS in self._sinks:
                tracks = PersonTracks(people.scores, self._rate())
                stack.callback(tracks.close)
            frames = stack.enter_context(
                closing(
                    ahead(self._video.frames(self._sample_fps), depth_for(self._video.metadata))
                )
            )
            source = _until_damage(frames)
            every = faces if _FACES in self._sinks else None
            glance = _Glance(faces) if faces is not None and every is None else None
            for frame, found, seen in _detect(source, people, every):
                if glance is not None and found is not None:
                    seen = glance.at(frame, found)  # noqa: PLW2901
                self._take(frame, found, seen, people, tracks)
            damage = source.damage
            if tracks is not None:
                for batch in tracks.rows():
                    self._give(_PERSONS, batch)
        for name in self._sinks:
            self._flush(name)
        if damage is not None:
            raise self._video.failure(damage, self._kept)
        self._report(1.0)
        return self._video.metadata

    def _detectors(self) -> tuple[Detector | None, Detector | None]:
        people = open_detector(self._spec) if {_PERSONS, _LABELS} & set(self._sinks) else None
        faces = open_face_detector() if {_PERSONS, _FACES} & set(self._sinks) else None
        return people, faces

    def _rate(self) -> float:
        rate = self._video.metadata.frame_rate or 25.0
        return min(rate, self._sample_fps) if self._sample_fps else rate

    def _take(
        self,
        frame: Frame,
        found: sv.Detections | None,
        seen: sv.Detections | None,
        people: Detector | None,
        tracks: PersonTracks | None,
    ) -> None:
        faces = np.zeros(0, FACE) if seen is None else describe(seen, frame)
        if _FACES in self._sinks:
            self._give(
                _FACES,
                [{"timestamp_ms": frame.timestamp_ms, "face": face_struct(f)} for f in faces],
            )
        if people is not None and found is not None:
            if _LABELS in self._sinks:
                rows = label_rows(found, frame, people.labels, people.scores.sure)
                self._give(_LABELS, rows)
            if tracks is not None:
                cut = self._cuts.between(frame.image)
                tracks.add(_only_people(found, people.labels), faces, frame, cut=cut)
        if duration := self._video.metadata.duration_ms:
            self._report(min(frame.timestamp_ms / duration, 0.99))

    def _give(self, name: str, rows: Rows) -> None:
        self._waiting[name] += rows
        if len(self._waiting[name]) >= _BATCH:
            self._flush(name)

    def _flush(self, name: str) -> None:
        rows, self._waiting[name] = self._waiting[name], []
        if rows:
            self._sinks[name](rows)
            self._kept += len(rows)

    def _report(self, fraction: float) -> None:
        if self._progress is not None:
            self._progress(fraction)


class _until_damage:
    """Iterates frames to the end or the damage, and remembers the damage."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self.damage: DamagedVideo | None = None

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._frames
        except DamagedVideo as damage:
            self.damage = damage


def _detect(
    frames: Iterable[Frame], people: Detector | None, faces: Detector | None
) -> Iterator[tuple[Frame, sv.Detections | None, sv.Detections | None]]:
    """Each frame with what the detectors found in it. Each detector reads ahead on its own."""
    ours, *others = _fan_out(frames, 1 + sum(d is not None for d in (people, faces)))
    found = people.detect(others.pop()) if people is not None else None
    seen = faces.detect(others.pop()) if faces is not None else None
    for frame in ours:
        yield (
            frame,
            None if found is None else next(found),
            None if seen is None else next(seen),
        )


def _fan_out(items: Iterable[Frame], readers: int) -> list[Iterator[Frame]]:
    """Several iterators over the same items, holding only those that some have yet to read.

    ``itertools.tee`` holds what all have read too, in blocks of dozens: too much of frames.
    """
    source = iter(items)
    unread: list[deque[Frame]] = [deque() for _ in range(readers)]

    def read(mine: deque[Frame]) -> Iterator[Frame]:
        while True:
            if not mine:
                try:
                    item = next(source)
                except StopIteration:
                    return
                for queue in unread:
                    queue.append(item)
            yield mine.popleft()

    return [read(mine) for mine in unread]


class _Glance:
    """Looks for people's faces now and then: often where there are faces, rarely where not.

    Which frames are looked at depends on the video alone, so the same video gives the same rows.
    """

    def __init__(self, faces: Detector) -> None:
        self._faces = faces
        self._due_ms = 0
        self._interval_ms = _GLANCE_MS

    def at(self, frame: Frame, people: sv.Detections) -> sv.Detections | None:
        """The faces of a frame, if it is time to look and somebody is near enough."""
        if frame.timestamp_ms < self._due_ms or not len(people):
            return None
        tallest = float((people.xyxy[:, 3] - people.xyxy[:, 1]).max())
        scale = input_size(frame.width, frame.height)[0] / frame.width
        if tallest * _FACE_IN_PERSON * scale < _SMALLEST_FACE:
            return None
        seen = next(self._faces.detect([frame]))
        sure = seen.confidence is not None and (seen.confidence >= self._faces.scores.sure).any()
        self._interval_ms = _GLANCE_MS if sure else min(2 * self._interval_ms, _RARE_GLANCE_MS)
        self._due_ms = frame.timestamp_ms + self._interval_ms
        return seen


def _only_people(found: sv.Detections, labels: Mapping[int, str]) -> sv.Detections:
    if all(name == "person" for name in labels.values()) or found.class_id is None:
        return found
    wanted = [i for i, name in labels.items() if name == "person"]
    people = found[np.isin(found.class_id, wanted)]
    assert isinstance(people, sv.Detections)
    return people
