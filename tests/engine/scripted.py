"""Detectors that find what a script says, as a user's own package would hold them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.detectors.yunet import LANDMARKS
from rekognition_dagster.engine.frame import Frame


def found(*boxes: tuple[float, float, float, float], scores=None, classes=None) -> sv.Detections:
    """Detections with full confidence unless told otherwise."""
    count = len(boxes)
    return sv.Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        confidence=np.array([0.9] * count if scores is None else scores, np.float32),
        class_id=np.array([0] * count if classes is None else classes, int),
    )


class Walkers:
    """Two people who walk past each other, and a dog that sits."""

    labels: Mapping[int, str] = {0: "person", 7: "dog"}
    scores = ScoreScale(noise=0.1, sure=0.5)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in frames:
            x = frame.timestamp_ms / 25
            yield found(
                (x, 10, x + 16, 50),
                (110 - x, 45, 126 - x, 90),
                (60, 60, 80, 80),
                classes=[0, 0, 7],
            )


class Standing(Walkers):
    """One person who stands in the same part of the picture, whatever its size."""

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in frames:
            w, h = frame.width, frame.height
            yield found((0.4 * w, 0.2 * h, 0.55 * w, 0.9 * h))


class Blinking(Walkers):
    """Closes its eyes from 600 to 760 milliseconds."""

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in frames:
            shut = 600 <= frame.timestamp_ms < 800
            yield found() if shut else next(super().detect([frame]))


class Dogs(Walkers):
    """Knows no people."""

    labels: Mapping[int, str] = {0: "cat", 7: "dog"}


class Spot:
    """A person and a dog where the picture's pixels say: nothing but the frame decides."""

    labels: Mapping[int, str] = {0: "person", 7: "dog"}
    scores = ScoreScale(noise=0.1, sure=0.5)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in frames:
            rows, columns = np.nonzero(frame.image.min(axis=2) > 250)
            x, y = float(columns.mean() / 8 if len(columns) else 0), float(len(rows) % 4)
            score = 0.8 + float(frame.image.mean()) / 1000
            yield found(
                (x, y, x + 16, y + 40), (60, 60, 80, 80), scores=[score] * 2, classes=[0, 7]
            )


class Deadly(Spot):
    """Ends its process where a picture is narrow."""

    width = 16

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        def checked() -> Iterator[Frame]:
            for frame in frames:
                if frame.width == self.width:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield frame

        return super().detect(checked())


class NoDetector:
    """Lacks all that a detector needs."""


class Unmakeable:
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no licence")


class HeadOfFirst:
    """A face on the first of the walkers."""

    labels: Mapping[int, str] = {0: "face"}
    scores = ScoreScale(noise=0.1, sure=0.5)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in frames:
            x = frame.timestamp_ms / 25
            face = found((x + 4, 11, x + 12, 21))
            marks = [(6, 14), (10, 14), (8, 16), (6.5, 18), (9.5, 18)]
            face.data[LANDMARKS] = np.array([[(x + mx, my) for mx, my in marks]], np.float32)
            yield face
