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
_BINS = (8, 8, 8)  # of luma and of both colour differences
SIZE = _STRIPES * sum(_BINS)
"""Numbers for each person."""


def describe(frame: Frame, boxes: npt.NDArray) -> npt.NDArray[np.uint8]:
    """What each box shows: square roots of the shares of colours, 0 to 255.

    Args:
        frame: With its pixels.
        boxes: Left, top, right, bottom in pixels, shape (n, 4).

    Returns:
        Shape (n, SIZE).
    """
    count = len(boxes)
    if not count:
        return np.zeros((0, SIZE), np.uint8)
    down = _TOP + (_BOTTOM - _TOP) * (np.arange(_STRIPES * _ROWS) + 0.5) / (_STRIPES * _ROWS)
    across = _SIDE + (1 - 2 * _SIDE) * (np.arange(_COLUMNS) + 0.5) / _COLUMNS
    size = boxes[:, 2:] - boxes[:, :2]
    y = (boxes[:, 1, None] + size[:, 1, None] * down).astype(int).clip(0, frame.height - 1)
    x = (boxes[:, 0, None] + size[:, 0, None] * across).astype(int).clip(0, frame.width - 1)
    luma, blue, red = np.moveaxis(frame.colours(y[:, :, None], x[:, None, :]), -1, 0)
    # a root spreads the dull colours that most clothes have
    differences = (blue * (BLUE / 255), red * (RED / 255))
    values = [luma / 256, *(0.5 + 0.5 * np.sign(v) * np.sqrt(np.abs(v)) for v in differences)]
    stripe = np.arange(count * _STRIPES).repeat(_ROWS * _COLUMNS)
    parts = [
        _histograms(value.reshape(-1), stripe, count * _STRIPES, bins)
        for value, bins in zip(values, _BINS, strict=True)
    ]
    shares = np.concatenate([p.reshape(count, _STRIPES, -1) for p in parts], axis=2)
    return np.round(255 * np.sqrt(shares / (_ROWS * _COLUMNS))).astype(np.uint8).reshape(count, -1)


def _histograms(values: npt.NDArray, row: npt.NDArray, rows: int, bins: int) -> npt.NDArray:
    """One for each row; a value counts for the two bins it lies between."""
    at = np.clip(values * bins - 0.5, 0, bins - 1 - 1e-4)
    low = at.astype(int)
    part = at - low
    cell = row * bins + low
    total = np.bincount(cell, 1 - part, rows * bins) + np.bincount(cell + 1, part, rows * bins)
    return total.reshape(rows, bins)


def distance(a: npt.NDArray, b: npt.NDArray) -> npt.NDArray:
    """Hellinger distance, 0 to 1, of means of descriptions in the last axis."""
    return np.sqrt(((a - b) ** 2).sum(axis=-1) / (2 * _STRIPES * len(_BINS))) / 255
