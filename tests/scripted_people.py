"""A detector of one's own, as a user would write it: one person who walks to the right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.frame import Frame


class Walker:
    """Finds the same person in every frame, two pixels further each time."""

    def __init__(self) -> None:
        self.labels = {0: "person"}
        self.scores = ScoreScale(noise=0.1, sure=0.5)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for index, _ in enumerate(frames):
            box = np.array([[10.0 + 2 * index, 20.0, 40.0 + 2 * index, 80.0]], np.float32)
            yield sv.Detections(
                xyxy=box, confidence=np.array([0.9], np.float32), class_id=np.array([0])
            )
