"""A small grey picture of a frame, and how different two of them are.

Frames of one shot are alike up to exposure and motion, so pictures are compared without their
brightness and contrast, and each part of one with the parts around the same place in the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BLOCK = 6  # cells of a part, each way
_REACH = 2  # cells by which a part may have moved
_NOISE = 2.0
"""Grey levels added to a picture's deviation, so that noise on a blank one stays small."""
_MOST = 0.7  # of a part, so that something that leaps across the picture does not count for more
_ALIKE = 0.12  # below, no part needs to be sought elsewhere

Small = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """A small picture, and itself without brightness and contrast.

    Args:
        small: Grey levels, shape (height, width).
        even: The same with mean 0 and a deviation just below 1; less where there is little to see.
        mean: Mean grey level.
        deviation: Standard deviation in grey levels.
    """

    small: Small
    even: npt.NDArray[np.float32]
    mean: float
    deviation: float

    @classmethod
    def of(cls, small: Small) -> Picture:
        """Return the picture with these grey levels."""
        values = small.astype(np.float32)
        mean, deviation = float(values.mean()), float(values.std())
        return cls(small, (values - mean) / (deviation + _NOISE), mean, deviation)

    def difference(self, other: Picture) -> float:
        """Return how different two pictures are: 0 is equal, 0.6 and more is another scene."""
        if self.even.shape != other.even.shape:
            return 1.0
        plain = float(np.abs(self.even - other.even).mean())
        return plain if plain < _ALIKE else self._moved(other)

    def _moved(self, other: Picture) -> float:
        """Return the difference where each block is compared with the most alike one nearby."""
        height, width = self.even.shape
        rows, columns = height // _BLOCK, width // _BLOCK
        padded = np.pad(other.even, _REACH, mode="edge")
        shifted = np.lib.stride_tricks.sliding_window_view(padded, (height, width))
        shifted = shifted[:, :, : rows * _BLOCK, : columns * _BLOCK]
        off = np.abs(shifted - self.even[: rows * _BLOCK, : columns * _BLOCK])
        blocks = off.reshape(-1, rows, _BLOCK, columns, _BLOCK).mean((2, 4))
        return float(np.minimum(blocks.min(0), _MOST).mean())
