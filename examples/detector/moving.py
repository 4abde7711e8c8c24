"""A detector of one's own: whatever moves before a still background, without any network.

    PYTHONPATH=examples/detector rekognition-dagster analyze corridor.mp4 \\
        --operation person-tracking --detector moving:Moving
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import cv2
import numpy as np
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.frame import Frame

SMALLEST = 0.001  # of the picture
SHADOW = 127  # how OpenCV marks one


class Moving:
    """What moves in a corridor is somebody: OpenCV's background subtraction (Zivkovic 2004).

    The confidence is how much of the box moves.
    """

    labels: Mapping[int, str] = {0: "person"}
    scores = ScoreScale(noise=0.2, sure=0.4)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        # What it has seen is kept here, not in the detector: each video begins anew.
        background = cv2.createBackgroundSubtractorMOG2(history=200)
        for frame in frames:
            moving = (background.apply(frame.image) > SHADOW).astype(np.uint8)
            moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
            _, _, stats, _ = cv2.connectedComponentsWithStats(moving)
            left, top, width, height, area = stats[1:].T  # the first is the background
            large = area > SMALLEST * frame.width * frame.height
            if frame.index == 0:  # nothing is known yet: all of it is new
                large &= False
            yield sv.Detections(
                xyxy=np.stack([left, top, left + width, top + height], 1)[large].astype(np.float32),
                confidence=(area / (width * height))[large].astype(np.float32),
                class_id=np.zeros(int(large.sum()), int),
            )
