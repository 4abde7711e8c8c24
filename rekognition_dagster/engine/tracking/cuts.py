"""Where one shot ends and another begins: nobody walks from one into the next.

Two frames of one shot are alike up to brightness and contrast, which a cloud or a lamp changes; so
what counts is the correlation of small pictures of them, and how much of them has changed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_SIDE = 24  # cells of the small picture, each way
_ALIKE = 0.35  # correlation below which two frames show different things
_CHANGED = 0.4  # deviations by which a cell has changed
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
        before = self._before
        self._before = small
        if before is None or before.shape != small.shape:
            return before is not None
        flat = before.std() < _FLAT, small.std() < _FLAT
        if all(flat):
            return bool(abs(before.mean() - small.mean()) > _FLASH)
        if any(flat):
            return True
        if np.corrcoef(before.ravel(), small.ravel())[0, 1] >= _ALIKE:
            return False
        changed = np.abs(_standard(before) - _standard(small)) > _CHANGED
        return bool(changed.mean() > _MOST)


def _standard(small: npt.NDArray) -> npt.NDArray:
    return (small - small.mean()) / small.std()


def thumbnail(luma: npt.NDArray) -> npt.NDArray:
    """Grey means of cells, from a sample of each cell's pixels.

    Args:
        luma: Shape (height, width), 0 to 255.

    Returns:
        float32, about 24 cells each way.
    """
    height, width = luma.shape
    down, across = max(1, height // (3 * _SIDE)), max(1, width // (3 * _SIDE))
    grey = luma[::down, ::across].astype(np.float32)
    rows, columns = (max(1, side // _SIDE) for side in grey.shape)
    grey = grey[: grey.shape[0] // rows * rows, : grey.shape[1] // columns * columns]
    return grey.reshape(grey.shape[0] // rows, rows, -1, columns).mean(axis=(1, 3))
