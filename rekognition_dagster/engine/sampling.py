"""Which frames are looked at: all, some in a second, or as many as the scene needs.

What the scene needs is told by its pixels alone, before any detector: a small grey picture of each
frame is compared with that of the last frame looked at. While something has changed, the rate is
:data:`MOVING_FPS`; while nothing has, it is :data:`STILL_FPS`, and what stands still is where it
was. The choice starts anew at each span, so that it is the same wherever a video is divided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.decode import is_sample
from rekognition_dagster.engine.frame import Frame

MOVING_FPS = 10.0
"""Looks in a second of a scene that changes: people go a tenth of their height meanwhile."""

STILL_FPS = 2.5
"""Looks in a second of a scene where nothing changes."""

_CELLS = 48  # of the small picture, along its shorter side
_SAMPLES = 4  # pixels of a cell, each way
_CHANGED = 8  # grey levels by which a cell has changed; noise and compression stay below


def as_needed(frames: Iterable[Frame], span_ms: int) -> Iterator[tuple[Frame, bool]]:
    """Each frame, and whether to look at it.

    The first and the last frame of each span are looked at, so that paths are whole.

    Args:
        frames: In order; one is read ahead.
        span_ms: Where the choice starts anew, at each multiple of it.
    """
    need = _Need()
    before: Frame | None = None
    wanted = False
    for frame in frames:
        new_span = before is None or frame.timestamp_ms // span_ms != before.timestamp_ms // span_ms
        if before is not None:
            yield before, wanted or new_span
        if new_span:
            need = _Need()
        wanted = need.of(frame)
        before = frame
    if before is not None:
        yield before, True


class _Need:
    """The need to look, in one span."""

    def __init__(self) -> None:
        self._last: tuple[int, npt.NDArray] | None = None

    def of(self, frame: Frame) -> bool:
        """Whether the frame has to be looked at, after those before it."""
        time, picture = frame.timestamp_ms, _small(frame.luma)
        if self._last is not None:
            last, seen = self._last
            if not is_sample(time, last, STILL_FPS) and (
                not is_sample(time, last, MOVING_FPS) or not _differ(picture, seen)
            ):
                return False
        self._last = time, picture
        return True


def _differ(one: npt.NDArray, other: npt.NDArray) -> bool:
    """Whether two small pictures show different things, up to the exposure."""
    if one.shape != other.shape:
        return True
    change = one.astype(np.int16) - other
    return bool(np.abs(change - np.median(change)).max() > _CHANGED)


def _small(luma: npt.NDArray) -> npt.NDArray:
    """Grey means of cells, from a sample of each cell's pixels."""
    step = max(1, min(luma.shape) // (_CELLS * _SAMPLES))
    sampled = np.ascontiguousarray(luma[::step, ::step])
    size = (max(1, sampled.shape[1] // _SAMPLES), max(1, sampled.shape[0] // _SAMPLES))
    return np.asarray(cv2.resize(sampled, size, interpolation=cv2.INTER_AREA))
