"""The first half of an analysis: frames in, what the detectors find in each out.

A :class:`Look` stands for itself: it holds no pixels of the video and needs no look before it, so
that spans of one video can be looked at apart from each other, in any process, and folded into
rows in order. Whatever state looking has, it starts anew at each multiple of :data:`SPAN_MS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import supervision as sv

from rekognition_dagster.engine import sampling
from rekognition_dagster.engine.black_frames import BlackFrames
from rekognition_dagster.engine.detectors import Detector
from rekognition_dagster.engine.detectors.yunet import input_size
from rekognition_dagster.engine.faces import FACE, describe
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.segments import Observation, observe
from rekognition_dagster.engine.tracking import appearance
from rekognition_dagster.engine.tracking.appearance import APPEARANCE
from rekognition_dagster.engine.tracking.motion import small_grey

T = TypeVar("T")

PERSONS, FACES, LABELS = "person_tracking", "face_detection", "label_detection"
SEGMENTS = "segment_detection"
FOUND_HERE = frozenset((PERSONS, FACES, LABELS, SEGMENTS))
"""The operations that the engine serves."""

SPAN_MS = 30_000
"""How long the spans are that a video can be divided into."""

_FACES_MS = 200  # between two samples of faces, where only people are asked for
_FACE_IN_PERSON = 0.1  # a face's width in heights of its person
_SMALLEST_FACE = 8  # pixels of the face network's input
_MOST_WAITING = 32  # looks, while faces are being looked for


@dataclass(frozen=True)
class Look:
    """What was found in one frame.

    Args:
        timestamp_ms: The frame's time since the start of the video.
        width: Its width in pixels.
        height: Its height in pixels.
        found: People and things, if they were looked for; with their appearance, if people are
            tracked. None where nobody looked.
        faces: Records of type ``FACE``; none where faces were not looked for.
        scene: A small grey picture of it that shows where a shot ends and how the camera moves, if
            people are tracked.
        analyzed: Whether detectors looked at it.
        observation: What segments need of it, if they are asked for.
        passed: Frames of the video that it stands for, itself and those left out before it.
    """

    timestamp_ms: int
    width: int
    height: int
    found: sv.Detections | None = None
    faces: npt.NDArray = field(default_factory=lambda: np.zeros(0, FACE))
    scene: npt.NDArray | None = None
    analyzed: bool = True
    observation: Observation | None = None
    passed: int = 1


def look(
    frames: Iterable[Frame],
    operations: Collection[str],
    people: Detector | None,
    faces: Detector | None,
    *,
    as_needed: bool = False,
    black: BlackFrames | None = None,
) -> Iterator[Look]:
    """A look at each frame, in order.

    Args:
        frames: In order; read some frames ahead of what is returned.
        operations: What for.
        people: Finds people and things, if they are asked for.
        faces: Finds faces: in every frame where faces are asked for, else five times a second.
        as_needed: Look only at the frames that the scene needs; the others' looks are empty.
        black: What a black frame is, where segments are asked for. They need an observation of
            each frame, also of those that are no samples, whose looks have nothing else.
    """
    every = faces if FACES in operations else None
    if as_needed:
        chosen = sampling.as_needed(frames, SPAN_MS)
    elif people is None and faces is None:
        chosen = zip(frames, repeat(True))
    else:
        chosen = ((frame, frame.is_sample) for frame in frames)
    with_scene = PERSONS in operations
    candidates = (_Candidate.of(*choice, with_scene, black) for choice in chosen)
    waiting: deque[tuple[Look, Future[npt.NDArray] | None]] = deque()
    with ThreadPoolExecutor(1, "faces") as runner:
        sampler = _FaceSampler(faces, runner) if faces is not None and every is None else None
        for candidate, found, seen in _detect(candidates, people, every):
            frame = candidate.frame
            if found is not None and PERSONS in operations:
                found.data[APPEARANCE] = appearance.describe(frame, found.xyxy)
            known = np.zeros(0, FACE) if seen is None else describe(seen, frame)
            size = frame.width, frame.height
            looked = Look(
                frame.timestamp_ms,
                *size,
                found,
                known,
                scene=candidate.scene,
                analyzed=candidate.wanted,
                observation=candidate.observation,
                passed=frame.passed,
            )
            sampled = None if sampler is None or found is None else sampler.at(frame, found)
            waiting.append((looked, sampled))
            while waiting and _is_ready(waiting[0][1], len(waiting)):
                yield _with_faces(*waiting.popleft())
        while waiting:
            yield _with_faces(*waiting.popleft())


def _is_ready(sampled: Future[npt.NDArray] | None, waiting: int) -> bool:
    return sampled is None or sampled.done() or waiting > _MOST_WAITING


def _with_faces(looked: Look, sampled: Future[npt.NDArray] | None) -> Look:
    return looked if sampled is None else replace(looked, faces=sampled.result())


class _Candidate(NamedTuple):
    """A frame, whether to look at it, and what is kept of it even if not."""

    frame: Frame
    wanted: bool
    scene: npt.NDArray | None
    observation: Observation | None

    @classmethod
    def of(
        cls, frame: Frame, wanted: bool, with_scene: bool, black: BlackFrames | None
    ) -> _Candidate:
        scene = small_grey(frame) if with_scene and frame.is_sample else None
        observation = None if black is None else observe(frame, black)
        return cls(frame if wanted else frame.without_pixels(), wanted, scene, observation)


def _detect(
    candidates: Iterable[_Candidate], people: Detector | None, faces: Detector | None
) -> Iterator[tuple[_Candidate, sv.Detections | None, sv.Detections | None]]:
    """Each candidate with what the detectors found in it, if it is wanted. Each detector reads
    ahead on its own."""
    ours, *others = _fan_out(candidates, 1 + sum(d is not None for d in (people, faces)))
    found = people.detect(_wanted(others.pop())) if people is not None else None
    seen = faces.detect(_wanted(others.pop())) if faces is not None else None
    for candidate in ours:
        looked = candidate.wanted
        yield (
            candidate,
            next(found) if found is not None and looked else None,
            next(seen) if seen is not None and looked else None,
        )


def _wanted(candidates: Iterable[_Candidate]) -> Iterator[Frame]:
    return (candidate.frame for candidate in candidates if candidate.wanted)


def _fan_out(items: Iterable[T], readers: int) -> list[Iterator[T]]:
    """Several iterators over the same items, holding only those that some have yet to read.

    ``itertools.tee`` holds what all have read too, in blocks of dozens: too much of frames.
    """
    source = iter(items)
    unread: list[deque[T]] = [deque() for _ in range(readers)]

    def read(mine: deque[T]) -> Iterator[T]:
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


class _FaceSampler:
    """Finds people's faces several times a second, while people are found in the next frames.

    Which frames it takes depends on the span alone, so that the same video gives the same rows.
    """

    def __init__(self, faces: Detector, runner: Executor) -> None:
        self._faces = faces
        self._runner = runner
        self._span = 0
        self._due_ms = 0

    def at(self, frame: Frame, people: sv.Detections) -> Future[npt.NDArray] | None:
        """Return the faces of a frame, records of type ``FACE``, if a sample is due and a person is
        large enough for a face to be found."""
        if (span := frame.timestamp_ms // SPAN_MS) != self._span:
            self._span, self._due_ms = span, 0
        if frame.timestamp_ms < self._due_ms or not len(people):
            return None
        tallest = float((people.xyxy[:, 3] - people.xyxy[:, 1]).max())
        scale = input_size(frame.width, frame.height)[0] / frame.width
        if tallest * _FACE_IN_PERSON * scale < _SMALLEST_FACE:
            return None
        self._due_ms = frame.timestamp_ms + _FACES_MS
        return self._runner.submit(self._find, frame)

    def _find(self, frame: Frame) -> npt.NDArray:
        return describe(next(self._faces.detect([frame])), frame)
