"""A span of a video is the unit of work: what looks at one, here or in any other process.

Looking at a span gives a stream of messages: one :class:`Opened`, a :class:`Look` for each frame
looked at, one :class:`Ended`. A whole video is a span, too. What is found in a span is the same
whether it is looked at by itself or as part of a longer one, or looking at it raises ``Uncut``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

from rekognition_dagster.engine import AUTO, BlackFrames, SampleFps
from rekognition_dagster.engine.decode import (
    DamagedVideo,
    Joint,
    Uncut,
    ahead,
    depth_for,
    open_video,
)
from rekognition_dagster.engine.detectors import (
    Detector,
    ScoreScale,
    check_knows_people,
    open_detector,
)
from rekognition_dagster.engine.faces.detailed import face_detector
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.looking import FACES, LABELS, PERSONS, SEGMENTS, Look, look
from rekognition_dagster.engine.metadata import VideoMetadata

Source: TypeAlias = Callable[[], AbstractContextManager[Path]]
"""Lends a file with the video's content to the process that calls it. Can be pickled."""


@dataclass(frozen=True)
class Span:
    """What to look at, and for what.

    Args:
        source: The file, or what lends it.
        video: The video's name in errors.
        operations: What to look for.
        detector: The detector's spec.
        sample_fps: Frames to look at in a second of video, or as needed; every frame by default.
        detailed: Whether faces have every attribute.
        begin_ms: Frames from this time on.
        end_ms: Frames before this time, decoded from a keyframe near ``begin_ms``. None is to the
            video's end, and all before ``begin_ms`` is decoded.
        skip: Looks that are not wanted: somebody has them already.
        black: What a black frame is.
    """

    source: str | Path | Source
    video: str
    operations: tuple[str, ...]
    detector: str | None = None
    sample_fps: SampleFps = None
    detailed: bool = False
    begin_ms: int = 0
    end_ms: int | None = None
    skip: int = 0
    black: BlackFrames = field(default_factory=BlackFrames)

    def lend(self) -> AbstractContextManager[str | Path]:
        """The file."""
        return self.source() if callable(self.source) else nullcontext(self.source)


@dataclass(frozen=True)
class Opened:
    """What is known before the first look.

    Args:
        metadata: The video's.
        labels: Names of the detector's class ids.
        scores: The scale of its confidences; None where nothing needs the detector.
        before: The last frame before the span; None at the video's start.
        place: Where in the file decoding began, in bytes.
    """

    metadata: VideoMetadata
    labels: dict[int, str]
    scores: ScoreScale | None
    before: Joint | None = None
    place: int = 0


@dataclass(frozen=True)
class Ended:
    """What is known after the last look.

    Args:
        next_ms: The time of the frame after the span; None where the video has ended, too.
        last: The last frame before the span's end.
        place: How far the file was read, in bytes.
        last_ms: The time of the last frame before the span's end.
        passed: Frames after the last look.
    """

    next_ms: int | None = None
    last: Joint | None = None
    place: int = 0
    last_ms: int = 0
    passed: int = 0


Message: TypeAlias = Opened | Look | Ended

_MOST_LOOKS = 10_000  # in a span; more have to be handed on one by one


def look_at(span: Span) -> Generator[Message, None, None]:
    """What is found in a span.

    Raises:
        VideoError: The video cannot be opened.
        DamagedVideo: After all looks, if the video is damaged and the span goes to its end.
        Uncut: The span cannot be had by itself; one that goes to the video's end can.
        ModelError: The detector cannot be had.
    """
    with span.lend() as path, open_video(path, span.video) as opened, ExitStack() as stack:
        people, faces = _detectors(span)
        rate = None if isinstance(span.sample_fps, str) else span.sample_fps
        every = SEGMENTS in span.operations
        if span.end_ms is None:
            frames = opened.frames(rate, begin_ms=span.begin_ms, every=every)
        else:
            frames = _few(opened.cut(span.begin_ms, span.end_ms, rate, every=every))
        frames = stack.enter_context(closing(ahead(frames, depth_for(opened.metadata))))
        source = _until_damage(frames)
        as_needed = span.sample_fps == AUTO
        black = span.black if every else None
        looks = look(source, span.operations, people, faces, as_needed=as_needed, black=black)
        looks = islice(looks, span.skip, None)
        first = list(islice(looks, 1))  # when there is one, it is known how the span begins
        known = Opened(
            opened.metadata,
            dict(people.labels) if people is not None else {},
            people.scores if people is not None else None,
        )
        if span.end_ms is not None:
            known = replace(known, before=opened.before, place=opened.reads[0])
        yield known
        yield from chain(first, looks)
        if source.damage is not None:
            raise source.damage
        if span.end_ms is None:
            yield Ended(last_ms=opened.last_ms, passed=opened.passed)
        else:
            place = opened.reads[1]
            yield Ended(opened.next_ms, opened.end, place, opened.last_ms, opened.passed)


def _few(frames: Iterator[Frame]) -> Iterator[Frame]:
    for number, frame in enumerate(frames):
        if number == _MOST_LOOKS:
            raise Uncut("there are too many frames in it")
        yield frame


def _detectors(span: Span) -> tuple[Detector | None, Detector | None]:
    wanted = set(span.operations)
    people = open_detector(span.detector) if {PERSONS, LABELS} & wanted else None
    if people is not None and PERSONS in wanted:
        check_knows_people(people, span.detector)
    faces = face_detector(span.detailed) if {PERSONS, FACES} & wanted else None
    return people, faces


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
