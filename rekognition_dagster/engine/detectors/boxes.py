"""Boxes as arrays of (left, top, right, bottom): overlap and suppression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray
"""Shape (n, 4): left, top, right, bottom."""


def iou(a: Boxes, b: Boxes) -> npt.NDArray:
    """Intersection over union of each of ``a`` with each of ``b``, shape (len(a), len(b))."""
    inner = _intersections(a, b)
    union = _areas(a)[:, None] + _areas(b)[None, :] - inner
    return inner / np.maximum(union, 1e-9)


def covered(a: Boxes, b: Boxes) -> npt.NDArray:
    """Which part of each of ``a`` lies in each of ``b``, shape (len(a), len(b))."""
    return _intersections(a, b) / np.maximum(_areas(a)[:, None], 1e-9)


def suppress(boxes: Boxes, scores: npt.NDArray, overlap: float) -> npt.NDArray[np.intp]:
    """Greedy non-maximum suppression.

    Returns:
        Indices of the boxes that stay, best first.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) < 2:
        return order
    rivals = np.triu(iou(boxes[order], boxes[order]) > overlap, 1)
    alive = np.ones(len(order), bool)
    for i in rivals.any(axis=1).nonzero()[0]:
        if alive[i]:
            alive[rivals[i]] = False
    return order[alive]


def suppress_by_class(
    boxes: Boxes, scores: npt.NDArray, classes: npt.NDArray, overlap: float
) -> npt.NDArray[np.intp]:
    """Suppress as :func:`suppress` does, but only among boxes of one class."""
    if not len(boxes):
        return np.zeros(0, np.intp)
    apart = (boxes.max() - boxes.min() + 1) * classes[:, None]
    return suppress((boxes + apart).astype(np.float32), scores, overlap)


def _areas(boxes: Boxes) -> npt.NDArray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _intersections(a: Boxes, b: Boxes) -> npt.NDArray:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    size = np.maximum(high - low, 0)
    return size[..., 0] * size[..., 1]
