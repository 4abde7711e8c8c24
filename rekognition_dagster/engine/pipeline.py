"""One video from file to rows: decode ahead, look, fold the looks into rows, hand out.

The decoder runs in a thread of its own, inference on OpenVINO's threads; this thread only waits
for looks, tracks and hands out rows, so that the three overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from rekognition_dagster.engine.detectors import Detector, check_knows_people, open_detector
from rekognition_dagster.engine.detectors.centerface import shared as open_face_detector
from rekognition_dagster.engine.faces import face_struct
from rekognition_dagster.engine.labels import label_rows
from rekognition_dagster.engine.looking import FACES, LABELS, PERSONS, Look, look
from rekognition_dagster.engine.metadata import VideoMetadata
from rekognition_dagster.engine.tracking.cuts import Cuts
from rekognition_dagster.engine.tracking.tracks import PersonTracks
from rekognition_dagster.operations import OPERATIONS

Rows = list[dict[str, Any]]

_BATCH = 2048


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
            if people is not None and PERSONS in self._sinks:
                tracks = PersonTracks(people.scores, self._rate())
                stack.callback(tracks.close)
            frames = stack.enter_context(
                closing(
                    ahead(self._video.frames(self._sample_fps), depth_for(self._video.metadata))
                )
            )
            source = _until_damage(frames)
            for seen in look(source, self._sinks, people, faces):
                self._fold(seen, people, tracks)
            damage = source.damage
            if tracks is not None:
                for batch in tracks.rows():
                    self._give(PERSONS, batch)
        for name in self._sinks:
            self._flush(name)
        if damage is not None:
            raise self._video.failure(damage, self._kept)
        self._report(1.0)
        return self._video.metadata

    def _detectors(self) -> tuple[Detector | None, Detector | None]:
        people = open_detector(self._spec) if {PERSONS, LABELS} & set(self._sinks) else None
        if people is not None and PERSONS in self._sinks:
            check_knows_people(people, self._spec)
        faces = open_face_detector() if {PERSONS, FACES} & set(self._sinks) else None
        return people, faces

    def _rate(self) -> float:
        rate = self._video.metadata.frame_rate or 25.0
        return min(rate, self._sample_fps) if self._sample_fps else rate

    def _fold(self, seen: Look, people: Detector | None, tracks: PersonTracks | None) -> None:
        if FACES in self._sinks:
            time = seen.timestamp_ms
            self._give(FACES, [{"timestamp_ms": time, "face": face_struct(f)} for f in seen.faces])
        if people is not None and seen.found is not None:
            if LABELS in self._sinks:
                rows = label_rows(seen.found, seen, people.labels, people.scores.sure)
                self._give(LABELS, rows)
            if tracks is not None:
                cut = seen.scene is not None and self._cuts.between(seen.scene)
                found = _only_people(seen.found, people.labels)
                tracks.add(found, seen.faces, seen, cut=cut)
        if duration := self._video.metadata.duration_ms:
            self._report(min(seen.timestamp_ms / duration, 0.99))

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


def _only_people(found: sv.Detections, labels: Mapping[int, str]) -> sv.Detections:
    if all(name == "person" for name in labels.values()) or found.class_id is None:
        return found
    wanted = [i for i, name in labels.items() if name == "person"]
    people = found[np.isin(found.class_id, wanted)]
    assert isinstance(people, sv.Detections)
    return people
