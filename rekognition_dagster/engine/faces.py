"""What can be told of a face from its box, five landmarks and pixels: pose and quality.

Attributes that no model here can tell (age, emotions, glasses) are left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import supervision as sv

from rekognition_dagster.engine.detectors.yunet import LANDMARK_NAMES, LANDMARKS
from rekognition_dagster.engine.frame import Frame, Luma

FACE = np.dtype(
    [
        ("timestamp_ms", "i8"),
        ("box", "f4", (4,)),
        ("confidence", "f4"),
        ("landmarks", "f4", (5, 2)),
        ("pose", "f4", (3,)),
        ("quality", "f4", (2,)),
    ]
)
"""A face as a record: box and landmarks in ratios of the frame; pose is roll, yaw, pitch in
degrees; quality is brightness and sharpness, 0 to 100; confidence 0 to 100."""

# Of an average face, in distances between the eyes: how far the nose's tip stands out from the
# plane of eyes and mouth, and where between eyes (0) and mouth (1) it lies, seen straight on and
# per tangent of pitch. Fitted to the poses and landmarks in the API's published examples.
_NOSE_OUT = 0.53
_NOSE_LEVEL = 0.575
_NOSE_RISE = 0.43

_SHARPNESS_SIDE = 64
_SHARPNESS_HALF = 120.0  # variance of the Laplacian that counts as half sharp


def describe(faces: sv.Detections, frame: Frame) -> npt.NDArray:
    """Records of type :data:`FACE` for the faces found in a frame, from left to right.

    Boxes and landmarks of a real face have a known shape: what has not is left out.
    """
    records = np.zeros(len(faces), FACE)
    if not len(faces):
        return records
    points = np.asarray(faces.data[LANDMARKS], np.float32)
    size = np.array([frame.width, frame.height], np.float32)
    records["timestamp_ms"] = frame.timestamp_ms
    records["box"] = np.clip(faces.xyxy / np.tile(size, 2), 0, 1)
    if faces.confidence is not None:
        records["confidence"] = faces.confidence * 100
    records["landmarks"] = points / size
    records["pose"] = [pose(p) for p in points]
    records["quality"] = [quality(_crop(frame, box)) for box in faces.xyxy]
    kept = records[_plausible(faces.xyxy, points)]
    return kept[np.argsort(kept["box"][:, 0], kind="stable")]


def _plausible(boxes: npt.NDArray, points: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Faces whose box is neither a sliver nor empty, with landmarks in or next to it."""
    size = boxes[:, 2:] - boxes[:, :2]
    aspect = size[:, 0] / np.maximum(size[:, 1], 1e-6)
    relative = (points - boxes[:, None, :2]) / np.maximum(size[:, None], 1e-6)
    inside = np.all((relative > -0.25) & (relative < 1.25), axis=(1, 2))
    return (size.min(axis=1) >= 4) & (aspect > 0.3) & (aspect < 2.0) & inside


def pose(points: npt.NDArray) -> tuple[float, float, float]:
    """Roll, yaw and pitch in degrees from five landmarks in pixels, shape (5, 2).

    With the API's signs: roll is positive when the head turns clockwise in the picture, yaw when
    the nose points to the picture's right, pitch when it points up.
    """
    eye_left, eye_right, nose, mouth_left, mouth_right = points.astype(float)
    across = (eye_right - eye_left) + (mouth_right - mouth_left)
    roll = np.arctan2(across[1], across[0])
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    eyes = turn @ (eye_left + eye_right) / 2
    mouth = turn @ (mouth_left + mouth_right) / 2
    tip = turn @ nose
    apart = max(np.hypot(*(eye_right - eye_left)), 1e-6)
    height = max(mouth[1] - eyes[1], 1e-6)
    level = (tip[1] - eyes[1]) / height
    axis = eyes[0] + level * (mouth[0] - eyes[0])
    yaw = np.arctan2((tip[0] - axis) / apart, _NOSE_OUT)
    pitch = np.arctan2(_NOSE_LEVEL - level, _NOSE_RISE)
    roll_degrees, yaw_degrees, pitch_degrees = np.degrees([roll, yaw, pitch])
    return float(roll_degrees), float(yaw_degrees), float(pitch_degrees)


def quality(grey: Luma) -> tuple[float, float]:
    """Brightness and sharpness, 0 to 100, of a face's pixels.

    Brightness is mean luma. Sharpness is the variance of the Laplacian at a fixed size, so that
    it tells focus and motion rather than the face's size.
    """
    if not grey.size:
        return 0.0, 0.0
    small = cv2.resize(grey, (_SHARPNESS_SIDE, _SHARPNESS_SIDE), interpolation=cv2.INTER_AREA)
    detail = float(cv2.Laplacian(small, cv2.CV_32F).var())
    return float(grey.mean() / 2.55), 100 * detail / (detail + _SHARPNESS_HALF)


def _crop(frame: Frame, box: npt.NDArray) -> Luma:
    """The brightness of a part of a frame, without converting the rest."""
    bounds = np.array([frame.width, frame.height] * 2)
    left, top, right, bottom = np.clip(np.round(box), 0, bounds).astype(int)
    return frame.colours(np.arange(top, bottom)[:, None], np.arange(left, right)[None, :])[0]


def face_struct(record: np.void) -> dict:
    """The lake's ``face`` struct for a record of type :data:`FACE`."""
    roll, yaw, pitch = (float(v) for v in record["pose"])
    brightness, sharpness = (float(v) for v in record["quality"])
    return {
        "bounding_box": box_struct(record["box"].tolist()),
        "confidence": float(record["confidence"]),
        "landmarks": [
            {"type": name, "x": float(x), "y": float(y)}
            for name, (x, y) in zip(LANDMARK_NAMES, record["landmarks"], strict=True)
        ],
        "pose": {"roll": roll, "yaw": yaw, "pitch": pitch},
        "quality": {"brightness": brightness, "sharpness": sharpness},
    }


def box_struct(box: Sequence[float]) -> dict[str, float]:
    """The lake's ``bounding_box`` struct for (left, top, right, bottom) in ratios."""
    left, top, right, bottom = box
    return {"left": left, "top": top, "width": right - left, "height": bottom - top}
