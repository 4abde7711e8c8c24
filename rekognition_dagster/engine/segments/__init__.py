"""Segments of a video: its shots, and its technical cues, which are runs of black frames.

``observation`` is what is kept of a frame, ``picture`` compares two frames, ``boundaries`` finds
where a shot begins, ``timecode`` names frames, ``fold`` makes rows of it all. No detector here.
"""

from __future__ import annotations

from rekognition_dagster.engine.segments.fold import Segments
from rekognition_dagster.engine.segments.observation import Observation, observe

__all__ = ["Observation", "Segments", "observe"]
