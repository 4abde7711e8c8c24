"""Faces as records: from a detector's boxes and landmarks to the lake's rows.

Attributes beyond pose and quality are estimated only where they are asked for (``attributes``).
"""

from __future__ import annotations

from rekognition_dagster.engine.faces.follow import Follower
from rekognition_dagster.engine.faces.pose import pose
from rekognition_dagster.engine.faces.quality import quality
from rekognition_dagster.engine.faces.record import (
    DETAILED,
    DETAILS,
    FACE,
    LANDMARK_NAMES,
    box_struct,
    describe,
    face_struct,
    record_type,
)
from rekognition_dagster.engine.faces.steady import Steadier, SteadyFaces

__all__ = [
    "DETAILED",
    "DETAILS",
    "FACE",
    "LANDMARK_NAMES",
    "Follower",
    "Steadier",
    "SteadyFaces",
    "box_struct",
    "describe",
    "face_struct",
    "pose",
    "quality",
    "record_type",
]
