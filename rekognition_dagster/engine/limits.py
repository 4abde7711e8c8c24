"""Limits on what is decoded, and on how much of a video may be lost: set by the environment.

They hold wherever the engine runs: on the command line, in the service and its workers, and in a
backfill.
"""

from __future__ import annotations

import os

from rekognition_dagster.errors import ConfigurationError

MAX_PIXELS_VARIABLE = "REKOGNITION_DAGSTER_MAX_PIXELS"
MAX_LOST_VARIABLE = "REKOGNITION_DAGSTER_MAX_LOST_SHARE"

MAX_FRAME_RATE = 1_000.0
MAX_FRAMES = 100_000_000


def max_pixels() -> int:
    """Return how many pixels a frame may have; 64 megapixels by default.

    Raises:
        ConfigurationError: The variable is no positive number.
    """
    return int(_number(MAX_PIXELS_VARIABLE, 64_000_000, most=1e12))


def max_lost_share() -> float:
    """Return which part of a video may be lost, 0 to 1, before its analysis fails; half by default.

    Raises:
        ConfigurationError: The variable is no number from 0 to 1.
    """
    return _number(MAX_LOST_VARIABLE, 0.5, most=1.0)


def _number(name: str, default: float, *, most: float) -> float:
    told = os.environ.get(name, "").strip()
    try:
        value = float(told) if told else default
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise ConfigurationError(f"{name} is {told!r}; it must be a number from 0 to {most:g}")
    return value
