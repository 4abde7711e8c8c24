"""What is kept of a frame to find segments: a small grey picture, and how much of it is black."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.black_frames import BlackFrames
from rekognition_dagster.engine.frame import Frame

_SIDE = 48
"""Cells along the longer side of the picture."""
_SHORTEST = 6  # cells along the other side, at least


class Observation(NamedTuple):
    """One frame.

    Args:
        small: Grey levels as displayed, shape (height, width), 48 along the longer side.
        black: Percent of the frame's pixels that are black.
    """

    small: npt.NDArray[np.uint8]
    black: float


def observe(frame: Frame, black: BlackFrames) -> Observation:
    """Return the observation of a frame; ask before its image, which lets go of the planes."""
    scale = _SIDE / max(frame.width, frame.height)
    size = (max(_SHORTEST, round(side * scale)) for side in (frame.width, frame.height))
    dark = 100 * frame.dark_share(black.max_pixel_threshold)
    return Observation(frame.grey(*size), dark)
