"""What a camera shows: which scene, and how the camera moves in it, picture by picture.

A blank picture, or another scene for some seconds, interrupts a scene and does not end it: if what
comes after it looks as what was there before, it is the same scene, in the same coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from rekognition_dagster.engine.tracking.cuts import Cuts, is_same_scene, thumbnail
from rekognition_dagster.engine.tracking.link import LONGEST_ABSENCE_S
from rekognition_dagster.engine.tracking.motion import CameraMotion, Similarity


@dataclass(frozen=True)
class _Interrupted:
    """A scene that a cut ended: its last picture, when that was, and the camera's motion in it."""

    scene: int
    timestamp_ms: int
    small: npt.NDArray
    motion: CameraMotion


class Camera:
    """Follows scenes and the camera's motion through a video's pictures."""

    def __init__(self) -> None:
        self._cuts = Cuts()
        self._motion = CameraMotion()
        self._scene = self._scenes = 0
        self._interrupted: dict[int, _Interrupted] = {}
        self._before: npt.NDArray | None = None
        self._timestamp_ms = 0

    def update(
        self, grey: npt.NDArray, people: npt.NDArray, width: int, timestamp_ms: int
    ) -> tuple[int, Similarity]:
        """Return the scene's number, from 0, and what takes places to its steady coordinates.

        Args:
            grey: The picture's :func:`~.motion.small_grey`.
            people: Boxes of the people in it, in ratios of the picture, shape (n, 4).
            width: Of the coordinates, in pixels.
            timestamp_ms: When the picture was.
        """
        small = thumbnail(grey)
        if self._cuts.between(small) and self._before is not None:
            self._cut(self._before, small, timestamp_ms)
        elif self._motion.has_drifted:
            self._begin()
        self._before, self._timestamp_ms = small, timestamp_ms
        return self._scene, self._motion.update(grey, people, width)

    def _cut(self, before: npt.NDArray, now: npt.NDArray, timestamp_ms: int) -> None:
        self._interrupted[self._scene] = _Interrupted(
            self._scene, self._timestamp_ms, before, self._motion
        )
        earliest = timestamp_ms - 1000 * LONGEST_ABSENCE_S
        self._interrupted = {
            number: one for number, one in self._interrupted.items() if one.timestamp_ms >= earliest
        }
        for one in reversed(self._interrupted.values()):
            if is_same_scene(one.small, now):
                self._scene, self._motion = one.scene, one.motion
                return
        self._begin()

    def _begin(self) -> None:
        self._scenes += 1
        self._scene, self._motion = self._scenes, CameraMotion()
