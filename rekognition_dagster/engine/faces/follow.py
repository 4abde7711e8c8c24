"""One face from frame to frame: the same while its boxes overlap.

Whose face it is, the tracker decides (``tracking.heads``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import supervision as sv
from scipy.optimize import linear_sum_assignment

_SAME = 0.25  # overlap of one face with itself, a moment later
_MEMORY_MS = 1500  # how long a face is awaited


class Follower:
    """Numbers faces: one number from a face's first frame to its last."""

    def __init__(self) -> None:
        self._boxes = np.zeros((0, 4))
        self._speeds = np.zeros((0, 4))  # ratios of the frame per millisecond
        self._numbers = np.zeros(0, int)
        self._seen = np.zeros(0, int)
        self._next = 0

    def update(self, faces: npt.NDArray) -> npt.NDArray[np.int_]:
        """Return the number of each face of a frame, later than the frames before.

        Args:
            faces: Records of type ``FACE`` or ``DETAILED``, all of one time.
        """
        numbers = np.full(len(faces), -1)
        if not len(faces):
            return numbers
        time = int(faces["timestamp_ms"][0])
        kept = time - self._seen <= _MEMORY_MS
        boxes, speeds = self._boxes[kept], self._speeds[kept]
        runs, seen = self._numbers[kept], self._seen[kept]
        passed = np.maximum(time - seen, 1)[:, None]
        found = faces["box"].astype(float)
        moved = np.zeros((len(faces), 4))
        likeness = sv.box_iou_batch(found, boxes + speeds * passed)
        for f, r in zip(*linear_sum_assignment(likeness, maximize=True), strict=True):
            if likeness[f, r] >= _SAME:
                numbers[f] = runs[r]
                moved[f] = (found[f] - boxes[r]) / passed[r]
        new = np.flatnonzero(numbers < 0)
        numbers[new] = np.arange(self._next, self._next + len(new))
        self._next += len(new)
        others = ~np.isin(runs, numbers)
        self._boxes = np.concatenate([boxes[others], found])
        self._speeds = np.concatenate([speeds[others], moved])
        self._numbers = np.concatenate([runs[others], numbers])
        self._seen = np.concatenate([seen[others], np.full(len(faces), time)])
        return numbers
