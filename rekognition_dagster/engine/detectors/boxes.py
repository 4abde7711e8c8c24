"""Boxes as arrays of (left, top, right, bottom), beside what ``supervision`` has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray
"""Shape (n, 4): left, top, right, bottom."""


def covered(a: Boxes, b: Boxes) -> npt.NDArray:
    """Which part of each of ``a`` lies in each of ``b``, shape (len(a), len(b))."""
    return _intersections(a, b) / np.maximum(_areas(a)[:, None], 1e-9)


def _areas(boxes: Boxes) -> npt.NDArray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _intersections(a: Boxes, b: Boxes) -> npt.NDArray:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    size = np.maximum(high - low, 0)
    return size[..., 0] * size[..., 1]
