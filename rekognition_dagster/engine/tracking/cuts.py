"""Where one shot ends and another begins: nobody walks from one into the next.

Two frames of one shot are alike up to brightness and contrast, which a cloud or a lamp changes; so
what counts is the correlation of small pictures of them, and how much of them has changed.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

_SIDE = 24  # cells of the small picture, each way
_ALIKE = 0.35  # correlation below which two frames show different things
_CHANGED = 0.4  # deviations by which a cell has changed
_SAME = 0.6  # correlation from which on they show the same, after something else
_MOST = 0.6  # of the cells, or it is somebody large before the same scene
_FLAT = 4.0  # deviation in grey levels below which a picture shows nothing to compare
_FLASH = 60.0  # grey levels between two such pictures that are no longer one


class Cuts:
    """Notices cuts in a run of frames."""

    def __init__(self) -> None:
        self._before: npt.NDArray | None = None

    def between(self, small: npt.NDArray) -> bool:
        """Whether a cut lies between the last image and this one.

        Args:
            small: The :func:`thumbnail` of this one.
        """
        if self._before is None:
            self._before = small
            return False
        before, now = _Scene.of(_resized(self._before, small.shape)), _Scene.of(small)
        self._before = small
        flat = before.deviation < _FLAT, now.deviation < _FLAT
        if all(flat):
            return abs(before.mean - now.mean) > _FLASH
        if any(flat):
            return True
        if before.correlation(now) >= _ALIKE:
            return False
        changed = np.abs(before.off / before.deviation - now.off / now.deviation) > _CHANGED
        return bool(changed.mean() > _MOST)


def is_same_scene(one: npt.NDArray, other: npt.NDArray) -> bool:
    """Whether two thumbnails, with something else between them, show the same scene."""
    before, now = _Scene.of(_resized(one, other.shape)), _Scene.of(other)
    if min(before.deviation, now.deviation) < _FLAT:
        return False
    return before.correlation(now) >= _SAME


def _resized(small: npt.NDArray, shape: tuple[int, ...]) -> npt.NDArray:
    """Return a picture in another shape: the size of a stream's frames may change."""
    if small.shape == shape:
        return small
    return np.asarray(cv2.resize(small, shape[::-1], interpolation=cv2.INTER_LINEAR))


class _Scene(NamedTuple):
    """A small picture as its mean, and what is off it in each cell."""

    mean: float
    off: npt.NDArray
    deviation: float

    @classmethod
    def of(cls, small: npt.NDArray) -> _Scene:
        values = small.astype(float)
        mean = float(values.sum()) / values.size
        off = values - mean
        return cls(mean, off, sqrt(np.vdot(off, off) / off.size))

    def correlation(self, other: _Scene) -> float:
        shared = float(np.vdot(self.off, other.off)) / self.off.size
        return shared / (self.deviation * other.deviation)


def thumbnail(luma: npt.NDArray) -> npt.NDArray:
    """Grey means of cells, from a sample of each cell's pixels.

    Args:
        luma: Shape (height, width), 0 to 255.

    Returns:
        float32, about 24 cells each way.
    """
    height, width = luma.shape
    down, across = max(1, height // (3 * _SIDE)), max(1, width // (3 * _SIDE))
    grey = luma[::down, ::across]
    rows, columns = (max(1, side // _SIDE) for side in grey.shape)
    small = grey.shape[1] // columns, grey.shape[0] // rows
    grey = grey[: small[1] * rows, : small[0] * columns].astype(np.float32)
    return np.asarray(cv2.resize(grey, small, interpolation=cv2.INTER_AREA))
