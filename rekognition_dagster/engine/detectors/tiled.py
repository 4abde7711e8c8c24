"""Looking at a picture in overlapping tiles besides as a whole, so that small people are found.

A network sees a large picture shrunk to its input, and who is then a few pixels tall is lost. A
tile is shrunk less. (Akyon et al. 2022, Slicing Aided Hyper Inference, slices likewise.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import supervision as sv

from rekognition_dagster.engine.detectors import Detector
from rekognition_dagster.engine.detectors.boxes import covered
from rekognition_dagster.engine.frame import Frame

PASSES = 5
"""Looks at a frame at most, unless another number is asked for: the whole, and two by two tiles."""

_SHARED = 0.2  # of a tile's side lies in its neighbour too
_MUCH_LARGER = 1.5  # times the network's input a frame has to be, or tiles show nothing new
_EDGE = 0.01  # of a tile's side: a box that ends so near to an inner edge is of half a person
_SAME = 0.5  # overlap of two boxes of one person
_PART = 0.8  # a tile's box that lies so far in one of the whole picture's is part of that person
_USUAL_INPUT = 640


class Tile(NamedTuple):
    """A part of a frame, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def cut(self, frame: Frame) -> Frame:
        """The part as a frame of its own, without a copy."""
        part = frame.image[self.top : self.bottom, self.left : self.right]
        return Frame.from_image(part, frame.index, frame.timestamp_ms)

    def whole(self, boxes: npt.NDArray, frame: Frame) -> npt.NDArray:
        """Which boxes, in pixels of the tile, are not cut off by an edge inside of the frame."""
        width, height = self.right - self.left, self.bottom - self.top
        x, y = width * _EDGE, height * _EDGE
        inner = np.array([self.left, self.top, self.right, self.bottom]) != (
            np.array([0, 0, frame.width, frame.height])
        )
        beyond = np.concatenate(
            [boxes[:, :2] <= (x, y), boxes[:, 2:] >= (width - x, height - y)], 1
        )
        return ~(beyond & inner).any(axis=1)


class Tiled:
    """Another detector, looking at each frame as a whole and in tiles.

    Args:
        detector: What looks.
        passes: How often it looks at a frame at most; that many times the cost. A frame that is
            hardly larger than the detector's input is looked at once.
    """

    def __init__(self, detector: Detector, passes: int = PASSES) -> None:
        self._detector = detector
        self._most = max(1, int(np.sqrt(max(passes - 1, 0))))
        self.labels, self.scores = detector.labels, detector.scores

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        waiting: deque[tuple[Frame, list[Tile]]] = deque()

        def looks() -> Iterator[Frame]:
            for frame in frames:
                parts = self.tiles(frame)
                waiting.append((frame, parts))
                yield frame
                for part in parts:
                    yield part.cut(frame)

        found = self._detector.detect(looks())
        for whole in found:
            frame, parts = waiting.popleft()
            yield _merged(frame, whole, [(part, next(found)) for part in parts])

    def tiles(self, frame: Frame) -> list[Tile]:
        """The tiles of a frame: as many rows as columns, each of the frame's own shape."""
        larger = frame.width / self._input_width(frame)
        sides = min(self._most, int(np.ceil(larger))) if larger >= _MUCH_LARGER else 1
        if sides == 1:
            return []
        part = 1 / (sides - (sides - 1) * _SHARED)
        width, height = round(frame.width * part), round(frame.height * part)
        across = np.linspace(0, frame.width - width, sides).round().astype(int).tolist()
        down = np.linspace(0, frame.height - height, sides).round().astype(int).tolist()
        return [Tile(x, y, x + width, y + height) for y in down for x in across]

    def _input_width(self, frame: Frame) -> int:
        network_for = getattr(self._detector, "network_for", None)
        return network_for(frame).width if network_for else _USUAL_INPUT


def _merged(
    frame: Frame, whole: sv.Detections, parts: list[tuple[Tile, sv.Detections]]
) -> sv.Detections:
    """What was found, each thing once: of a large one the whole picture's box, of a small one the
    surest."""
    pieces = [whole]
    for tile, found in parts:
        kept = _chosen(found, tile.whole(found.xyxy, frame))
        kept.xyxy = kept.xyxy + np.array([tile.left, tile.top] * 2, kept.xyxy.dtype)
        if len(whole) and len(kept):
            inside = (covered(kept.xyxy, whole.xyxy) > _PART) & _same_class(kept, whole)
            larger = _areas(whole.xyxy)[None, :] * _SAME > _areas(kept.xyxy)[:, None]
            kept = _chosen(kept, np.flatnonzero(~(inside & larger).any(axis=1)))
        pieces.append(kept)
    if not any(len(p) for p in pieces):
        return whole
    together = sv.Detections.merge([p for p in pieces if len(p)])
    return together.with_nms(_SAME, class_agnostic=together.class_id is None)


def _chosen(found: sv.Detections, which: npt.NDArray) -> sv.Detections:
    chosen = found[which]  # pyright: ignore[reportArgumentType]
    assert isinstance(chosen, sv.Detections)
    return chosen


def _same_class(one: sv.Detections, other: sv.Detections) -> npt.NDArray[np.bool_]:
    return _classes(one)[:, None] == _classes(other)[None, :]


def _classes(found: sv.Detections) -> npt.NDArray:
    return np.zeros(len(found), int) if found.class_id is None else np.asarray(found.class_id)


def _areas(boxes: npt.NDArray) -> npt.NDArray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
