"""The head's pose from five landmarks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Of an average face, in distances between the eyes: how far the nose's tip stands out from the
# plane of eyes and mouth, and where between eyes (0) and mouth (1) it lies, seen straight on and
# per tangent of pitch. Fitted to the poses and landmarks in the API's published examples.
_NOSE_OUT = 0.53
_NOSE_LEVEL = 0.575
_NOSE_RISE = 0.43


def pose(points: npt.NDArray) -> tuple[float, float, float]:
    """Return roll, yaw and pitch in degrees from five landmarks in pixels, shape (5, 2).

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
