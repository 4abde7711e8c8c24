"""One video from file to rows: look, fold the looks into rows, hand out.

In one process the decoder runs in a thread of its own and inference on OpenVINO's threads; this
thread only waits for looks, tracks and hands out rows, so that the three overlap.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import supervision as sv

from rekognition_dagster.engine import (
    AUTO,
    BlackFrames,
    FaceAttributes,
    SampleFps,
    parse_sample_fps,
    sampling,
)
from rekognition_dagster.engine.decode import PAUSE_MS, DamagedVideo
from rekognition_dagster.engine.faces import SteadyFaces, face_struct, record_type
from rekognition_dagster.engine.labels import label_rows
from rekognition_dagster.engine.limits import MAX_LOST_VARIABLE, max_lost_share
from rekognition_dagster.engine.looking import FACES, FOUND_HERE, LABELS, PERSONS, SEGMENTS, Look
from rekognition_dagster.engine.metadata import VideoMetadata
from rekognition_dagster.engine.segments import Segments
from rekognition_dagster.engine.spans import Ended, Message, Opened, Source, Span, look_at
from rekognition_dagster.engine.tracking.camera import Camera
from rekognition_dagster.engine.tracking.motion import STILL, Similarity
from rekognition_dagster.engine.tracking.tracks import PersonTracks
from rekognition_dagster.engine.workers import Workers
from rekognition_dagster.errors import VideoError

Rows = list[dict[str, Any]]

_BATCH = 2048
_FEWEST = 10  # frames of which an average is one
_RATE_OFF = 0.02  # by which the header's frame rate is right
_SLACK_MS = 1_000  # by which a header's duration may exceed the last frame's time


def analyze(
    source: str | Path | Source,
    sinks: Mapping[str, Callable[[Rows], None]],
    *,
    detector: str | None,
    sample_fps: SampleFps,
    face_attributes: FaceAttributes,
    black_frames: BlackFrames,
    progress: Callable[[float], None] | None,
    video: str | None,
    workers: Workers | None,
) -> VideoMetadata:
    """See :func:`rekognition_dagster.engine.analyze`."""
    if unknown := set(sinks) - FOUND_HERE:
        known = ", ".join(sorted(FOUND_HERE))
        raise ValueError(f"operations {sorted(unknown)} are not known here; there are {known}")
    if face_attributes not in ("default", "all"):
        raise ValueError(f"face_attributes is {face_attributes!r}; it must be default or all")
    rate = parse_sample_fps(sample_fps)
    name = video or str(source)
    if workers is not None and not callable(source):
        source = os.path.abspath(source)
    detailed = face_attributes == "all"
    span = Span(source, name, tuple(sinks), detector, rate, detailed, black=black_frames)
    messages = look_at(span) if workers is None else workers.look_at(span)
    with closing(messages):
        return _Analysis(span, sinks, progress).run(messages)


@dataclass
class _Decoded:
    """What decoding a video showed of it.

    Args:
        interval_ms: Between two sampled frames; 0 where all are handed out.
    """

    interval_ms: float = 0.0
    first_ms: int = 0
    last_ms: int | None = None
    end_ms: int = 0  # the last frame's time, whether it was looked at or not
    frames: int = 0  # up to the last one that was looked at
    waiting: int = 0  # those after it
    analyzed: int = 0
    gaps: int = 0
    gap_ms: int = 0

    def note(self, seen: Look) -> None:
        """Count a frame."""
        if self.last_ms is None:
            self.first_ms = seen.timestamp_ms
        elif (gap := seen.timestamp_ms - self.last_ms) > PAUSE_MS:
            self.gaps += 1
            self.gap_ms += gap
        self.frames, self.waiting = self.frames + self.waiting + seen.passed, 0
        self.last_ms = seen.timestamp_ms
        self.analyzed += seen.analyzed

    def note_end(self, span: Ended) -> None:
        """Count what comes after the last look of a span."""
        self.waiting += span.passed
        self.end_ms = max(self.end_ms, span.last_ms)

    def _frame_rate(self, declared: float) -> float:
        """Return the average, the header's where that is right."""
        seconds = ((self.last_ms or 0) - self.first_ms) / 1000
        if self.frames < _FEWEST or seconds <= 0:
            return declared
        rate = (self.frames - 1) / seconds
        return declared if abs(rate / (declared or 1) - 1) < _RATE_OFF else round(rate, 6)

    def added_to(self, metadata: VideoMetadata, damage: DamagedVideo | None) -> VideoMetadata:
        """Return the metadata with what decoding showed, and with the true duration."""
        interval = 1000 / metadata.frame_rate if metadata.frame_rate else 0
        declared, last = metadata.duration_ms, max(self.last_ms or 0, self.end_ms)
        if damage is not None:
            last = max(last, round(damage.end_ms - interval))
        is_right = last < declared < last + _SLACK_MS + 2 * self.interval_ms
        return replace(
            metadata,
            duration_ms=declared if is_right else round(last + interval),
            frame_rate=self._frame_rate(metadata.frame_rate),
            declared_duration_ms=declared,
            frames_analyzed=self.analyzed,
            gaps=self.gaps,
            gap_ms=self.gap_ms,
            lost_share=round(damage.lost_share, 4) if damage else 0.0,
            warning=str(damage) if damage else None,
        )


class _Analysis:
    """The state of one call: tracks, batches that wait for their sinks, and counts."""

    def __init__(
        self,
        span: Span,
        sinks: Mapping[str, Callable[[Rows], None]],
        progress: Callable[[float], None] | None,
    ) -> None:
        self._span = span
        self._sinks = sinks
        self._progress = progress
        self._waiting: dict[str, Rows] = {name: [] for name in sinks}
        self._kept = 0
        rate = span.sample_fps
        self._decoded = _Decoded(1000 / rate if isinstance(rate, (int, float)) else 0.0)
        self._camera = Camera()
        steady = span.detailed and FACES in sinks
        self._steady = SteadyFaces() if steady else None
        self._segments: Segments | None = None

    def run(self, messages: Iterator[Message | None]) -> VideoMetadata:
        """Fold what was looked at into rows."""
        damage: DamagedVideo | None = None
        opened, done = None, 0.0
        with ExitStack() as stack:
            tracks = None
            stack.callback(self._close)
            try:
                for message in messages:
                    if isinstance(message, Opened) and opened is None:
                        opened = message
                        if SEGMENTS in self._sinks:
                            rate = opened.metadata.frame_rate
                            self._segments = Segments(rate, self._span.black)
                        if PERSONS in self._sinks and opened.scores is not None:
                            rate = self._rate(opened.metadata)
                            faces = record_type(self._span.detailed)
                            tracks = PersonTracks(opened.scores, rate, faces)
                            stack.callback(tracks.close)
                    elif isinstance(message, Look) and opened is not None:
                        self._fold(message, opened, tracks)
                        if duration := opened.metadata.duration_ms:
                            done = min(message.timestamp_ms / duration, 0.99)
                            self._report(done)
                    elif isinstance(message, Ended):
                        self._decoded.note_end(message)
                    elif message is None:
                        self._report(done)
            except DamagedVideo as error:
                damage = error
            for name, batch in self._rows_at_the_end(tracks):
                self._give(name, batch)
        for name in self._sinks:
            self._flush(name)
        if damage is not None and (opened is None or damage.lost_share > max_lost_share()):
            raise VideoError(
                self._span.video,
                f"{damage}: {100 * damage.lost_share:.0f} % of it are lost; {self._kept} rows from "
                "what could be decoded were kept",
                f"Upload or record it again, or set {MAX_LOST_VARIABLE} higher to accept what is "
                "left",
                self._kept,
                opened and self._decoded.added_to(opened.metadata, damage),
            )
        assert opened is not None
        self._report(1.0)
        return self._decoded.added_to(opened.metadata, damage)

    def _rate(self, metadata: VideoMetadata) -> float:
        rate, wanted = metadata.frame_rate or 25.0, self._span.sample_fps
        wanted = sampling.MOVING_FPS if isinstance(wanted, str) else wanted
        return min(rate, wanted) if wanted else rate

    def _fold(self, seen: Look, opened: Opened, tracks: PersonTracks | None) -> None:
        self._decoded.note(seen)
        if self._segments is not None and seen.observation is not None:
            self._give(SEGMENTS, self._segments.add(seen.timestamp_ms, seen.observation))
        if not seen.analyzed and self._span.sample_fps != AUTO:
            return  # only segments need this frame
        if self._steady is not None:
            self._steady.add(seen.faces)
        elif FACES in self._sinks:
            self._give(FACES, _face_rows(seen.faces))
        if opened.scores is not None and seen.found is not None and LABELS in self._sinks:
            self._give(LABELS, label_rows(seen.found, seen, opened.labels, opened.scores.sure))
        if tracks is not None:
            found = None if seen.found is None else _only_people(seen.found, opened.labels)
            scene, motion = self._shown(seen, found, opened.metadata.width)
            tracks.add(found, seen.faces, seen, scene=scene, motion=motion)

    def _shown(self, seen: Look, found: sv.Detections | None, width: int) -> tuple[int, Similarity]:
        """Return the scene's number, and what takes places to its steady coordinates."""
        if seen.scene is None:
            return 0, STILL
        size = [seen.width, seen.height] * 2
        people = np.zeros((0, 4)) if found is None else found.xyxy / size
        return self._camera.update(seen.scene, people, width, seen.timestamp_ms)

    def _rows_at_the_end(self, tracks: PersonTracks | None) -> Iterator[tuple[str, Rows]]:
        """Return what depends on the whole video, by operation, in batches."""
        if self._steady is not None:
            yield from ((FACES, _face_rows(faces)) for faces in self._steady.chunks())
        if tracks is not None:
            yield from ((PERSONS, batch) for batch in tracks.rows())
        if self._segments is not None:
            yield SEGMENTS, self._segments.end()

    def _close(self) -> None:
        if self._steady is not None:
            self._steady.close()

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


def _face_rows(faces: npt.NDArray) -> Rows:
    times = faces["timestamp_ms"].tolist()
    return [
        {"timestamp_ms": time, "face": face_struct(face)}
        for time, face in zip(times, faces, strict=True)
    ]


def _only_people(found: sv.Detections, labels: Mapping[int, str]) -> sv.Detections:
    if all(name == "person" for name in labels.values()) or found.class_id is None:
        return found
    wanted = [i for i, name in labels.items() if name == "person"]
    people = found[np.isin(found.class_id, wanted)]
    assert isinstance(people, sv.Detections)
    return people
