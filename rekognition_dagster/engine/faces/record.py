"""A face's record, lean or with every attribute, and the lake's ``face`` struct made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt
import supervision as sv

from rekognition_dagster.engine.detectors.yunet import LANDMARKS
from rekognition_dagster.engine.faces.pose import pose
from rekognition_dagster.engine.faces.quality import quality_at
from rekognition_dagster.engine.frame import Frame

LANDMARK_NAMES = (
    *("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight"),
    *("leftEyeBrowLeft", "leftEyeBrowRight", "leftEyeBrowUp"),
    *("rightEyeBrowLeft", "rightEyeBrowRight", "rightEyeBrowUp"),
    *("leftEyeLeft", "leftEyeRight", "leftEyeUp", "leftEyeDown"),
    *("rightEyeLeft", "rightEyeRight", "rightEyeUp", "rightEyeDown"),
    *("noseLeft", "noseRight", "mouthUp", "mouthDown", "leftPupil", "rightPupil"),
    *("upperJawlineLeft", "midJawlineLeft", "chinBottom"),
    *("midJawlineRight", "upperJawlineRight"),
)
"""The API's names; left and right as seen in the picture. A detector finds the first five."""

EMOTIONS = ("HAPPY", "SAD", "ANGRY", "DISGUSTED", "SURPRISED", "CALM", "FEAR")
"""The API's names, less CONFUSED, which no model here recognises."""

FLAGS = ("smile", "eyes_open", "mouth_open", "face_occluded")
"""Attributes that are true or false."""

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

_OTHERS = [
    ("age", "f4", (2,)),
    ("female", "f4"),
    *((name, "f4") for name in FLAGS),
    ("emotions", "f4", (len(EMOTIONS),)),
    ("eye_direction", "f4", (3,)),
]
_ALL_LANDMARKS = ("landmarks", "f4", (len(LANDMARK_NAMES), 2))

DETAILS = np.dtype([_ALL_LANDMARKS, ("pose", "f4", (3,)), *_OTHERS])
"""What :mod:`attributes` adds to a detected face; NaN is unknown. Landmarks in pixels; pose as in
``FACE``; age and its spread in years; ``female``, the flags and emotions are probabilities, 0 to 1;
eye direction is yaw and pitch in degrees, and a confidence, 0 to 100."""

DETAILED = np.dtype(
    [
        *((name, FACE[name]) for name in ("timestamp_ms", "box", "confidence")),
        _ALL_LANDMARKS,
        *((name, FACE[name]) for name in ("pose", "quality")),
        *_OTHERS,
    ]
)
"""``FACE`` with ``DETAILS``; landmarks in ratios of the frame."""

DETAILS_KEY = "details"
"""Key in ``sv.Detections.data``: records of type ``DETAILS``, shape (n,)."""

_AGE_RANGE = 1.3  # spreads to either side: four of five ages are in it


def record_type(detailed: bool) -> np.dtype:
    """Return the type of a video's records: with every attribute, or lean."""
    return DETAILED if detailed else FACE


def describe(faces: sv.Detections, frame: Frame) -> npt.NDArray:
    """Return a record for each face found in a frame, from left to right.

    Boxes and landmarks of a real face have a known shape: what has not is left out. Records are of
    type ``DETAILED`` where the detections carry details, else ``FACE``.
    """
    details = faces.data.get(DETAILS_KEY)
    records = np.zeros(len(faces), record_type(details is not None))
    if not len(faces):
        return records
    points = np.asarray(faces.data[LANDMARKS], np.float32)
    size = np.array([frame.width, frame.height], np.float32)
    records["timestamp_ms"] = frame.timestamp_ms
    records["box"] = np.clip(faces.xyxy / np.tile(size, 2), 0, 1)
    if faces.confidence is not None:
        records["confidence"] = faces.confidence * 100
    if details is None:
        records["landmarks"] = points / size
        records["pose"] = [pose(p) for p in points]
    else:
        for name in DETAILS.names or ():
            records[name] = np.asarray(details)[name]
        records["landmarks"] /= size
    records["quality"] = [quality_at(frame, box) for box in faces.xyxy]
    kept = records[_plausible(faces.xyxy, points)]
    return kept[np.argsort(kept["box"][:, 0], kind="stable")]


def _plausible(boxes: npt.NDArray, points: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Select faces whose box is neither a sliver nor empty, with landmarks in or next to it."""
    size = boxes[:, 2:] - boxes[:, :2]
    aspect = size[:, 0] / np.maximum(size[:, 1], 1e-6)
    relative = (points - boxes[:, None, :2]) / np.maximum(size[:, None], 1e-6)
    inside = np.all((relative > -0.25) & (relative < 1.25), axis=(1, 2))
    return (size.min(axis=1) >= 4) & (aspect > 0.3) & (aspect < 2.0) & inside


def face_struct(record: np.void) -> dict[str, Any]:
    """Return the lake's ``face`` struct; what is unknown is left out."""
    roll, yaw, pitch = record["pose"].tolist()
    brightness, sharpness = record["quality"].tolist()
    points = record["landmarks"].tolist()
    face = {
        "bounding_box": box_struct(record["box"].tolist()),
        "confidence": float(record["confidence"]),
        "landmarks": [
            {"type": name, "x": x, "y": y}
            for name, (x, y) in zip(LANDMARK_NAMES, points, strict=False)
            if not isnan(x)
        ],
        "pose": {"roll": roll, "yaw": yaw, "pitch": pitch},
        "quality": {"brightness": brightness, "sharpness": sharpness},
    }
    return face if record.dtype == FACE else {**face, **_attributes(record)}


def _attributes(record: np.void) -> Mapping[str, Any]:
    """Return the attributes that are known."""
    found: dict[str, Any] = {}
    age, spread = record["age"].tolist()
    if not isnan(age):
        reach = _AGE_RANGE * spread
        found["age_range"] = {"low": max(0, round(age - reach)), "high": round(age + reach)}
    if not isnan(female := float(record["female"])):
        value = "Female" if female >= 0.5 else "Male"
        found["gender"] = {"value": value, "confidence": 100 * max(female, 1 - female)}
    for name in FLAGS:
        if not isnan(likely := float(record[name])):
            confidence = 100 * max(likely, 1 - likely)
            found[name] = {"value": likely >= 0.5, "confidence": confidence}
    emotions = sorted(zip(record["emotions"].tolist(), EMOTIONS, strict=True), reverse=True)
    if not isnan(emotions[0][0]):
        found["emotions"] = [{"type": name, "confidence": 100 * p} for p, name in emotions]
    yaw, pitch, confidence = record["eye_direction"].tolist()
    if not isnan(yaw):
        found["eye_direction"] = {"yaw": yaw, "pitch": pitch, "confidence": confidence}
    return found


def box_struct(box: Sequence[float]) -> dict[str, float]:
    """Return the lake's ``bounding_box`` struct for (left, top, right, bottom) in ratios."""
    left, top, right, bottom = box
    return {"left": left, "top": top, "width": right - left, "height": bottom - top}
