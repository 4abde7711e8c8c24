"""How fast a detector is on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from rekognition_dagster.engine.detectors import Detector
from rekognition_dagster.engine.frame import Frame

_WARM_S = 0.5


def frames_per_second(
    detector: Detector, width: int = 1280, height: int = 720, seconds: float = 2.0
) -> float:
    """Frames a second that the detector looks at: detection alone, without decoding or tracking.

    Args:
        detector: Any.
        width: Of the pictures, in pixels.
        height: Of the pictures, in pixels.
        seconds: How long to measure.
    """
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    frame = Frame.from_image(noise)

    def during(seconds: float) -> Iterator[Frame]:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            yield frame

    sum(1 for _ in detector.detect(during(_WARM_S)))
    begin = time.perf_counter()
    count = sum(1 for _ in detector.detect(during(seconds)))
    return count / (time.perf_counter() - begin)
