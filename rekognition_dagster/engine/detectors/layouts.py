"""What comes out of the known families of networks, recognised from shapes and metadata, and read.

A family is told by the shapes of its outputs and, where shapes alone leave two readings, by what
the exporter wrote beside or into the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.detectors.description import Description

KNOWN = (
    "YOLO v5 to v12 and 26 ([1,4+classes,n], [1,n,5+classes], [1,n,6]), YOLOX, "
    "RT-DETR ([1,n,4+classes], logits and boxes, or labels, boxes and scores)"
)

Size = tuple[int, int]
"""Width and height of the network's input."""

Found = tuple[npt.NDArray, npt.NDArray, npt.NDArray]
"""Boxes (n, 4) in pixels of the network's input, scores (n,), class ids (n,)."""


class Output(NamedTuple):
    """An output's shape, and whether its type is of whole numbers."""

    shape: tuple[int, ...]
    whole: bool


_PYRAMIDS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
_ANCHORS = 3  # a cell, in YOLO v5 and v7
_MOST_QUERIES = 1000
_OVERLAP = 0.65
_YOLO = ScoreScale(noise=0.1, sure=0.3)
_QUERIES = ScoreScale(noise=0.15, sure=0.45)


@dataclass(frozen=True)
class Layout:
    """How a family of networks is fed and read.

    Args:
        family: Its name.
        classes: How many classes it tells apart; 0 where the shapes do not say.
        read: Makes boxes, scores and classes above a score from the outputs for an input's size.
        scores: Its scale.
        stride: Both sides of the input are multiples of it; 0 where the outputs do not follow the
            input, so that nothing is known of other sizes.
        overlap: Threshold for suppression; None where the network does that itself.
        letterbox: ``centre``, ``corner``, or nothing for a stretched image.
        divisor: Of the 0 to 255 image.
        bgr: Whether blue comes first.
    """

    family: str
    classes: int
    read: Callable[[list[np.ndarray], float, Size], Found]
    scores: ScoreScale = _YOLO
    stride: int = 0
    overlap: float | None = _OVERLAP
    letterbox: str | None = "centre"
    divisor: float = 255.0
    bgr: bool = False


def recognise(outputs: Sequence[Output], size: Size, description: Description) -> Layout | None:
    """The layout of a network, or None.

    Args:
        outputs: In order.
        size: Of its input.
        description: What its exporter told.
    """
    if layout := _of_boxes_and_scores(outputs):
        return layout
    # Others beside the detections are masks of segments, or one for each level of the pyramid.
    for index, (shape, _) in enumerate(outputs):
        if len(shape) == 3 and shape[0] == 1:
            layout = _of_cells(index, *shape[1:], size, description)
            if layout := layout or _of_rows(index, *shape[1:], description):
                return layout
    return None


def _of_cells(
    index: int, rows: int, columns: int, size: Size, description: Description
) -> Layout | None:
    """A box, or three, for each cell of the grids that lie over the input."""
    named = len(description.names)
    for strides in _PYRAMIDS:
        cells = sum((size[0] // s) * (size[1] // s) for s in strides)
        if columns == cells and rows > 4:
            read = partial(_read_columns, index, _named(named, rows - 4))
            return Layout("YOLOv8", _named(named, rows - 4), read, stride=max(strides))
        if rows == _ANCHORS * cells and columns > 5:
            read = partial(_read_with_objectness, index, _named(named, columns - 5))
            return Layout("YOLOv5", _named(named, columns - 5), read, stride=max(strides))
        if rows == cells and columns > 5:
            return Layout(
                "YOLOX",
                columns - 5,
                partial(_read_yolox, index, strides),
                scores=ScoreScale(noise=0.1, sure=0.4),
                stride=max(strides),
                letterbox="corner",
                divisor=1.0,
                bgr=True,
            )
    return None


def _named(names: int, columns: int) -> int:
    """How many of the columns are classes: beyond the named ones are masks' or joints' numbers."""
    return names if 0 < names < columns else columns


def _of_rows(index: int, rows: int, columns: int, description: Description) -> Layout | None:
    """Some hundred rows, each a detection."""
    if rows > _MOST_QUERIES or columns < 5:
        return None
    classes = columns - 4
    if description.queries or (
        columns != 6 and not description.ends_whole and len(description.names) in (0, classes)
    ):
        read = partial(_read_queries, index)
        return Layout("RT-DETR", classes, read, _QUERIES, overlap=None, letterbox=None)
    if columns == 6 or description.ends_whole:
        return Layout("end to end", 0, partial(_read_final, index), overlap=None)
    return None


def _of_boxes_and_scores(outputs: Sequence[Output]) -> Layout | None:
    """Boxes in an output of their own, as RT-DETR and its descendants are exported."""
    shapes = [output.shape for output in outputs]
    boxes = [i for i, s in enumerate(shapes) if len(s) == 3 and s[2] == 4]
    if len(boxes) != 1 or shapes[boxes[0]][1] > _MOST_QUERIES:
        return None
    queries = shapes[boxes[0]][1]
    logits = [i for i, s in enumerate(shapes) if len(s) == 3 and s[1] == queries and i != boxes[0]]
    flat = sorted(  # scores before labels
        (i for i, s in enumerate(shapes) if s == (1, queries)), key=lambda i: outputs[i].whole
    )
    if len(logits) == 1:
        read = partial(_read_logits, boxes[0], logits[0])
        classes = shapes[logits[0]][2]
    elif len(flat) == 2 and outputs[flat[1]].whole:
        read, classes = partial(_read_lists, boxes[0], *flat), 0
    else:
        return None
    return Layout("DETR", classes, read, _QUERIES, overlap=None, letterbox=None)


# -- reading outputs ------------------------------------------------------------------------------


def _corners(boxes: npt.NDArray) -> npt.NDArray:
    """(centre x, centre y, width, height) as (left, top, right, bottom)."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _best(scores: npt.NDArray, minimum: float) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Which rows have a class above the score, that score, and the class."""
    best = scores.max(axis=1) if len(scores) else np.zeros(0, np.float32)
    keep = np.flatnonzero(best > minimum)
    return keep, best[keep], scores[keep].argmax(axis=1)


def _read_columns(
    index: int, classes: int, outputs: list[np.ndarray], minimum: float, size: Size
) -> Found:
    out = outputs[index][0]
    scores = out[4 : 4 + classes]
    best = scores.max(axis=0)
    likely = np.flatnonzero(best > minimum)
    return _corners(out[:4, likely].T), best[likely], scores[:, likely].argmax(axis=0)


def _read_with_objectness(
    index: int, classes: int, outputs: list[np.ndarray], minimum: float, size: Size
) -> Found:
    rows = outputs[index][0]
    rows = rows[rows[:, 4] > minimum]
    keep, best, which = _best(rows[:, 5 : 5 + classes] * rows[:, 4:5], minimum)
    return _corners(rows[keep, :4]), best, which


@lru_cache(maxsize=16)
def _grid(size: Size, strides: tuple[int, ...]) -> npt.NDArray:
    """Column, row and stride of each cell of YOLOX's output, shape (n, 3)."""
    cells = []
    for stride in strides:
        y, x = np.mgrid[0 : size[1] // stride, 0 : size[0] // stride]
        cells.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    return np.concatenate(cells).astype(np.float32)


def _read_yolox(
    index: int, strides: tuple[int, ...], outputs: list[np.ndarray], minimum: float, size: Size
) -> Found:
    out = outputs[index][0]
    likely = np.flatnonzero(out[:, 4] > minimum)
    rows, cells = out[likely], _grid(size, strides)[likely]
    keep, best, which = _best(rows[:, 5:] * rows[:, 4:5], minimum)
    rows, cells = rows[keep], cells[keep]
    centre = (rows[:, :2] + cells[:, :2]) * cells[:, 2:]
    return _corners(np.hstack([centre, np.exp(rows[:, 2:4]) * cells[:, 2:]])), best, which


def _read_final(index: int, outputs: list[np.ndarray], minimum: float, size: Size) -> Found:
    out = outputs[index][0]
    rows = out[out[:, 4] > minimum]
    return rows[:, :4], rows[:, 4], rows[:, 5].astype(int)


def _read_queries(index: int, outputs: list[np.ndarray], minimum: float, size: Size) -> Found:
    rows = outputs[index][0]
    keep, best, which = _best(rows[:, 4:], minimum)
    return _corners(rows[keep, :4] * _twice(size)), best, which


def _read_logits(
    boxes: int, logits: int, outputs: list[np.ndarray], minimum: float, size: Size
) -> Found:
    keep, best, which = _best(1 / (1 + np.exp(-outputs[logits][0])), minimum)
    return _corners(outputs[boxes][0][keep] * _twice(size)), best, which


def _read_lists(
    boxes: int, scores: int, labels: int, outputs: list[np.ndarray], minimum: float, size: Size
) -> Found:
    keep = np.flatnonzero(outputs[scores][0] > minimum)
    return outputs[boxes][0][keep], outputs[scores][0][keep], outputs[labels][0][keep].astype(int)


def _twice(size: Size) -> npt.NDArray:
    return np.array([*size, *size], np.float32)
