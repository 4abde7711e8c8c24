"""The mesh of a face: 478 points in three dimensions and 52 expressions (MediaPipe).

The network sees the face upright in the middle of a square. What the points say about the face is
in ``attributes``.
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as ops

from rekognition_dagster.engine.faces.pose import pose
from rekognition_dagster.engine.frame import Frame, Image

SIDE = 256
"""Pixels of the square that the network sees."""

_SQUARE = 1.35  # in longer sides of the detector's box: then the mesh fills two thirds
_LOWER = 0.055  # and so far below the box's centre lies the mesh's

# The network's points (source: MediaPipe's canonical face model) that the API's landmarks are:
# several are averaged. In the order of LANDMARK_NAMES; left is the picture's left.
_LANDMARKS = (
    *((33, 133, 159, 145), (362, 263, 386, 374), (1,), (61,), (291,)),
    *((70,), (107,), (105,), (336,), (300,), (334,)),
    *((33,), (133,), (159,), (145,), (362,), (263,), (386,), (374,)),
    *((129,), (358,), (0,), (17,), (468,), (473,)),
    *((234,), (58,), (152,), (288,), (454,)),
)
_EYES = ((468, 33, 133), (473, 362, 263))  # iris, and the eye's corners from left to right
_ACROSS = ((234, 454), (33, 263), (127, 356))  # from left to right, at temples and eyes
_DOWN = ((10, 2), (151, 197))  # down the forehead and the nose, which no expression moves
_LIPS = (13, 14, 61, 291)  # inside: above, below, and the corners

_LEANS_BACK = 9.9  # degrees: those lines, of a face that looks straight ahead
_EYEBALL = 2.5  # widths of the eye's opening in radii of the eyeball
_IRIS_ABOVE = 0.07  # the corners' line, in widths of the opening, when looking straight ahead

# Which points the expressions are told from (source: face_blendshapes_graph.cc of MediaPipe).
_EXPRESSIVE = (
    *(0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65),
    *(66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136),
    *(144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168),
    *(172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276),
    *(282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318),
    *(321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380),
    *(381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466),
    *range(468, 478),
)


@dataclass(frozen=True)
class Square:
    """A face upright in a square.

    Args:
        image: RGB, shape (256, 256, 3); black outside the frame.
        roll: Degrees by which the face is turned in the frame.
        to_frame: Matrix from the square's pixels to the frame's, shape (2, 3).
    """

    image: Image
    roll: float
    to_frame: npt.NDArray

    @classmethod
    def of(cls, frame: Frame, box: npt.NDArray, points: npt.NDArray) -> Square:
        """Cut out the face with a box (4,) and five landmarks (5, 2), in pixels."""
        roll = pose(points)[0]
        side = float((box[2:] - box[:2]).max())
        scale = side * _SQUARE / SIDE
        across = np.array([np.cos(np.radians(roll)), np.sin(np.radians(roll))])
        down = np.array([-across[1], across[0]])
        centre = (box[:2] + box[2:]) / 2 + down * side * _LOWER
        turn = np.stack([across, down], axis=1) * scale
        to_frame = np.column_stack([turn, centre - turn @ [SIDE / 2, SIDE / 2]])
        return cls(_cut(frame, to_frame, scale), roll, to_frame)


def _cut(frame: Frame, to_frame: npt.NDArray, scale: float) -> Image:
    """Return the square's pixels; only the frame's part around it is converted."""
    corners = np.array([(0, 0, 1), (SIDE, 0, 1), (0, SIDE, 1), (SIDE, SIDE, 1)]) @ to_frame.T
    bounds = frame.width, frame.height
    left, top = (np.clip(corners.min(axis=0) // 4 * 4, 0, bounds)).astype(int).tolist()
    right, bottom = np.clip(corners.max(axis=0) // 4 * 4 + 4, 0, bounds).astype(int).tolist()
    if right - left < 2 or bottom - top < 2:
        return np.zeros((SIDE, SIDE, 3), np.uint8)
    width, height = (max(2, round(n / max(scale, 1.0))) for n in (right - left, bottom - top))
    part = frame.part((left, top, right, bottom), width, height)
    shrunk = np.array([width / (right - left), height / (bottom - top)])
    to_part = to_frame * shrunk[:, None]
    to_part[:, 2] -= np.array([left, top]) * shrunk
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(part, to_part, (SIDE, SIDE), flags=how), np.uint8)


@dataclass(frozen=True)
class Mesh:
    """What the network found in a :class:`Square`.

    Args:
        points: x, y and depth in the square's pixels, shape (478, 3); depth grows away from the
            camera.
        presence: How well the mesh fits a face: of a clear one about 20, below 0 there is none.
        expressions: 0 to 1 each, shape (52,), in the order of ARKit's blend shapes.
    """

    points: npt.NDArray
    presence: float
    expressions: npt.NDArray

    @property
    def landmarks(self) -> npt.NDArray:
        """The API's landmarks in the square's pixels, shape (30, 2)."""
        return np.array([self.points[list(which), :2].mean(axis=0) for which in _LANDMARKS])

    @cached_property
    def axes(self) -> npt.NDArray:
        """The face's axes as rows: to the right, downwards, and out of the face."""
        across, down = (
            np.sum([self.points[b] - self.points[a] for a, b in lines], axis=0)
            for lines in (_ACROSS, _DOWN)
        )
        across = across / max(np.linalg.norm(across), 1e-6)
        down = down - across * (down @ across)
        down = down / max(np.linalg.norm(down), 1e-6)
        return np.stack([across, down, np.cross(down, across)])

    @property
    def pose(self) -> tuple[float, float, float]:
        """Roll in the square, yaw and pitch, in degrees, with the API's signs."""
        across, _, out = self.axes
        roll = np.degrees(np.arctan2(across[1], across[0]))
        yaw = np.degrees(np.arctan2(out[0], -out[2]))
        pitch = np.degrees(np.arcsin(np.clip(-out[1], -1, 1))) - _LEANS_BACK
        return float(roll), float(yaw), float(pitch)

    @property
    def gaze(self) -> tuple[float, float]:
        """Yaw and pitch of the eyes in the head, in degrees; to the right and up are positive."""
        across, down, _ = self.axes
        plane = np.stack([across[:2], down[:2]], axis=1)
        aside = np.array([0.0, _IRIS_ABOVE])
        for iris, left, right in _EYES:
            width = max(np.linalg.norm(self.points[right] - self.points[left]), 1e-6)
            off = self.points[iris] - (self.points[left] + self.points[right]) / 2
            aside += np.linalg.lstsq(plane, off[:2], rcond=None)[0] / width / len(_EYES)
        sines = np.clip(_EYEBALL * aside, -1, 1)
        yaw, pitch = np.degrees(np.arcsin(sines))
        return float(yaw), float(-pitch)

    @property
    def lips_apart(self) -> float:
        """The opening between the lips in widths of the mouth."""
        above, below, left, right = self.points[list(_LIPS), :2]
        return float(np.linalg.norm(below - above) / max(np.linalg.norm(right - left), 1e-6))


def mesh_network(task: Path) -> ov.Model:
    """Build one network of a face landmarker's two.

    Args:
        task: MediaPipe's ``face_landmarker.task``, a zip.

    Returns:
        Input [1, 256, 256, 3], RGB from 0 to 1. Outputs: points [478, 3], presence [1, 1, 1, 1],
        expressions [52].
    """
    runtime = ov.Core()
    runtime.set_property({"ENABLE_MMAP": False})  # the files below do not stay
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(task) as archive:
        mesh, blend = (
            runtime.read_model(archive.extract(f"face_{name}.tflite", folder))
            for name in ("landmarks_detector", "blendshapes")
        )
    mesh.reshape([1, SIDE, SIDE, 3])
    points = ops.reshape(mesh.output(0).get_node().input_value(0), [478, 3], special_zero=False)
    chosen = ops.gather(points, np.array(_EXPRESSIVE, np.int32), np.int32(0))
    flat = ops.unsqueeze(ops.gather(chosen, np.array([0, 1], np.int32), np.int32(1)), np.int32(0))
    for reader in blend.get_parameters()[0].output(0).get_target_inputs():
        reader.replace_source_output(flat.output(0))
    others = [m.output(i).get_node().input_value(0) for m, i in ((mesh, 1), (blend, 0))]
    results = [points.output(0), *others]
    return ov.Model(results, mesh.get_parameters(), "mesh")  # pyright: ignore[reportGeneralTypeIssues]
