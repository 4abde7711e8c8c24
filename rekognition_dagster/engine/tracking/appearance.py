"""What people wear, in a few dozen numbers: colours of a body's stripes.

Cheap enough for every frame: a fixed number of pixels of each person is looked at, whatever the
picture's size. Compared with each other, never with people.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.frame import BLUE, RED, Frame

APPEARANCE = "appearance"
"""Key in the ``data`` of ``sv.Detections`` under which :func:`describe` 's result travels."""

_STRIPES = 3  # chest, hips, legs
_ROWS, _COLUMNS = 7, 8  # pixels looked at in each
_TOP, _BOTTOM = 0.16, 0.88  # without the head, and without the ground between the feet
_SIDE = 0.28  # and without what is left and right of the body
_CHANNELS, _BINS = 3, 8  # of luma and of both colour differences
SIZE = _STRIPES * _CHANNELS * _BINS
"""Numbers for each person."""

_FARTHEST = 255**2 * 2 * _STRIPES * _CHANNELS  # squared, of two that share no colour
_DOWN = _TOP + (_BOTTOM - _TOP) * (np.arange(_STRIPES * _ROWS) + 0.5) / (_STRIPES * _ROWS)
_ACROSS = _SIDE + (1 - 2 * _SIDE) * (np.arange(_COLUMNS) + 0.5) / _COLUMNS


def _shared() -> tuple[npt.NDArray, npt.NDArray]:
    """For each channel and value, the lower of the two bins that it lies between, among those of
    all channels, and which part of it counts for the upper one."""
    values = np.arange(256.0)
    # a root spreads the dull colours that most clothes have
    off = (values - 128) * np.array([[BLUE], [RED]]) / 255
    place = np.vstack([values / 256, 0.5 + 0.5 * np.sign(off) * np.sqrt(np.abs(off))])
    at = np.clip(place * _BINS - 0.5, 0, _BINS - 1 - 1e-4)
    low = at.astype(int)
    return low + _BINS * np.arange(_CHANNELS)[:, None], at - low


_LOW, _UPPER = _shared()
_CHANNEL = np.arange(_CHANNELS).reshape(-1, 1, 1, 1)


def describe(frame: Frame, boxes: npt.NDArray) -> npt.NDArray[np.uint8]:
    """What each box shows: square roots of the shares of colours, 0 to 255.

    Args:
        frame: With its pixels.
        boxes: Left, top, right, bottom in pixels, shape (n, 4).

    Returns:
        Shape (n, SIZE).
    """
    count = len(boxes)
    size = boxes[:, 2:] - boxes[:, :2]
    y = (boxes[:, 1, None] + size[:, 1, None] * _DOWN).astype(int).clip(0, frame.height - 1)
    x = (boxes[:, 0, None] + size[:, 0, None] * _ACROSS).astype(int).clip(0, frame.width - 1)
    known = _CHANNEL * 256 + frame.colours(y[:, :, None], x[:, None, :])
    first = (
        _CHANNELS
        * _BINS
        * np.arange(count * _STRIPES).repeat(_ROWS).reshape(count, _STRIPES * _ROWS, 1)
    )
    low, upper = _LOW.take(known) + first, _UPPER.take(known)
    counted = np.bincount(
        np.concatenate([low, low + 1], axis=None),
        np.concatenate([1 - upper, upper], axis=None),
        count * SIZE,
    )
    shares = counted.reshape(count, SIZE) / (_ROWS * _COLUMNS)
    return np.round(255 * np.sqrt(shares)).astype(np.uint8)


def distance(a: npt.NDArray, b: npt.NDArray) -> npt.NDArray:
    """Hellinger distance, 0 to 1, of means of descriptions in the last axis."""
    return np.sqrt(((a - b) ** 2).sum(axis=-1) / _FARTHEST)


def distances(a: npt.NDArray, b: npt.NDArray) -> npt.NDArray:
    """The :func:`distance` of each of ``a`` from each of ``b``, shape (len(a), len(b))."""
    square = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return np.sqrt(np.maximum(square, 0) / _FARTHEST)
