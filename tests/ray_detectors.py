"""Detectors as a user's package has them on each node of a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.frame import Frame


class Spot:
    """Something where the picture is white."""

    labels: Mapping[int, str] = {0: "person"}
    scores = ScoreScale(noise=0.1, sure=0.5)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in frames:
            _, columns = np.nonzero(frame.image.min(axis=2) > 250)
            x = float(columns.mean()) if len(columns) else 0.0
            yield sv.Detections(
                xyxy=np.array([[x, 0, x + 16, 40]], np.float32),
                confidence=np.array([0.5 + frame.image.mean() / 1000], np.float32),
                class_id=np.zeros(1, int),
            )


class Slow(Spot):
    """The same, so that there is time for something to happen."""

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for found in super().detect(frames):
            time.sleep(0.02)
            yield found
