"""The camera's motion, so that people are tracked in coordinates that stand still.

Sparse optical flow (Lucas and Kanade 1981, in pyramids) between small grey pictures, and a
similarity that most of it agrees with (RANSAC). Pictures are compared with a reference as long as
they overlap it, so that errors do not add up from frame to frame; a camera that does not move
gives exactly no motion.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.frame import Frame

_WIDTH = 160  # pixels of the small picture's longer side
_SAME = 2.0  # grey levels; where half the corners differ by no more, nothing moved
_STILL = 0.35  # pixels of the small picture: what is smaller is the estimate's own error
_POINTS = 80
_FEWEST = 12  # points that agree
_AGREE = 0.5  # and which part of all
_OFF = 0.75  # pixels by which a point may be off
_FAR = 0.12  # of the picture's width: beyond, a new reference
_ZOOMED = 0.05  # as the logarithm of the scale, likewise
_DRIFTED = np.log(4.0)  # scale at which coordinates begin anew


class Similarity(NamedTuple):
    """A turn, scale and shift of the plane: a place ``z = x + iy`` goes to ``turn * z + shift``."""

    turn: complex = 1 + 0j
    shift: complex = 0j

    def after(self, other: Similarity) -> Similarity:
        """Return the similarity that does the other first."""
        return Similarity(self.turn * other.turn, self.turn * other.shift + self.shift)


STILL = Similarity()


def small_grey(frame: Frame) -> npt.NDArray[np.uint8]:
    """Return a small grey picture of a frame as displayed, 160 pixels along its longer side."""
    scale = _WIDTH / max(frame.width, frame.height)
    return frame.grey(max(8, round(frame.width * scale)), max(8, round(frame.height * scale)))


class CameraMotion:
    """Follows the camera through a video's pictures."""

    def __init__(self) -> None:
        self._reference: npt.NDArray | None = None
        self._points: npt.NDArray | None = None
        self._last: tuple[npt.NDArray, npt.NDArray] | None = None
        self._at_reference = STILL
        self._now = STILL

    def update(self, grey: npt.NDArray, people: npt.NDArray, width: int) -> Similarity:
        """Return what takes places of this picture to steady coordinates.

        Args:
            grey: The picture's :func:`small_grey`.
            people: Boxes of the people in it, in ratios of the picture, shape (n, 4).
            width: Of the coordinates of both, in pixels: the result is in these.
        """
        last, self._last = self._last, (grey, people)
        if self._reference is None or self._reference.shape != grey.shape:
            self._refer(grey, people)
            return self._now
        unit = width / grey.shape[1]
        step = self._between(grey)
        if step is None and last is not None and last[0] is not self._reference:
            self._refer(*last)  # which shares more with this picture
            step = self._between(grey)
        if step is None:  # unknown: as before
            self._refer(grey, people)
        elif step is not STILL:
            moved = Similarity(step.turn, step.shift * unit)
            self._now = self._at_reference.after(moved)
            far = abs(step.shift) > _FAR * grey.shape[1]
            if far or abs(np.log(abs(step.turn))) > _ZOOMED:
                self._refer(grey, people)
        else:
            self._now = self._at_reference
        return self._now

    @property
    def has_drifted(self) -> bool:
        """Whether steady coordinates have become much larger or smaller than the picture's."""
        return bool(abs(np.log(abs(self._now.turn))) > _DRIFTED)

    def _refer(self, grey: npt.NDArray, people: npt.NDArray) -> None:
        self._reference, self._at_reference = grey, self._now
        height, width = grey.shape
        mask = np.full(grey.shape, 255, np.uint8)
        for left, top, right, bottom in (people * [width, height, width, height]).astype(int):
            mask[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = 0
        self._points = cv2.goodFeaturesToTrack(grey, _POINTS, 0.01, 4, mask=mask)

    def _between(self, grey: npt.NDArray) -> Similarity | None:
        """Return what takes this picture to the reference, in pixels of the small picture."""
        reference, points = self._reference, self._points
        assert reference is not None
        if points is None or len(points) < _FEWEST:
            return None
        columns, rows = points[:, 0].astype(int).T
        # At corners alone: a sky does not change when the camera pans.
        if np.median(cv2.absdiff(grey, reference)[rows, columns]) <= _SAME:
            return STILL
        flow: Any = cv2.calcOpticalFlowPyrLK(
            reference, grey, points, np.empty_like(points), winSize=(11, 11), maxLevel=2
        )
        found = flow[1].ravel() > 0
        before, now = points[found], flow[0][found]
        if len(now) < _FEWEST:
            return None
        matrix, agreed = cv2.estimateAffinePartial2D(
            now, before, method=cv2.RANSAC, ransacReprojThreshold=_OFF
        )
        if matrix is None or agreed.sum() < max(_FEWEST, _AGREE * len(now)):
            return None
        step = Similarity(complex(matrix[0, 0], matrix[1, 0]), complex(*matrix[:, 2]))
        height, width = grey.shape
        corners = np.array([0, width, height * 1j, width + height * 1j])
        most = np.abs(step.turn * corners + step.shift - corners).max()
        return STILL if most < _STILL else step


def moved(boxes: npt.NDArray, turn: npt.NDArray | complex, shift: npt.NDArray | complex) -> Any:
    """Return boxes under similarities: centres go where they go, sizes are scaled.

    Args:
        boxes: Left, top, right, bottom, shape (n, 4).
        turn: Of one similarity, or of one for each box.
        shift: Likewise.
    """
    centre = (boxes[:, 0] + boxes[:, 2]) / 2 + 1j * (boxes[:, 1] + boxes[:, 3]) / 2
    centre = turn * centre + shift
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * np.abs(np.asarray(turn)).reshape(-1, 1)
    place = np.stack([centre.real, centre.imag], axis=1)
    return np.concatenate([place - half, place + half], axis=1)
