"""Observations in order, folded into rows of segments: shots that tile the video, black frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rekognition_dagster.engine.black_frames import BlackFrames
from rekognition_dagster.engine.segments.boundaries import Boundaries, Boundary
from rekognition_dagster.engine.segments.observation import Observation
from rekognition_dagster.engine.segments.timecode import timecode

Rows = list[dict[str, Any]]

_SURE, _LEAST_SURE = 100.0, 50.0


@dataclass
class _BlackRun:
    """Black frames in a row: the first and the last, as number and time."""

    first: tuple[int, int]
    last: tuple[int, int]
    frames: int
    black: float


class Segments:
    """Makes the rows of a video's segments.

    Args:
        frame_rate: The video's, for timecodes; 0 where it is not known.
        black: What a black frame is.
    """

    def __init__(self, frame_rate: float, black: BlackFrames) -> None:
        self._rate = frame_rate
        self._least_black = black.min_coverage_percentage
        self._boundaries = Boundaries()
        self._start = Boundary(0, 0, 0, _SURE)
        self._last: tuple[int, int] | None = None
        self._run: _BlackRun | None = None
        self._shots = 0

    def add(self, timestamp_ms: int, seen: Observation) -> Rows:
        """Take the next frame; return the segments that have ended, each when that is certain."""
        number = self._last[0] + 1 if self._last else 0
        if self._last is None:
            self._start = Boundary(0, timestamp_ms, timestamp_ms, _SURE)
        self._last = number, timestamp_ms
        rows = self._follow_black(self._last, seen.black)
        return rows + self._shots_until(self._boundaries.add(number, timestamp_ms, seen.small))

    def end(self) -> Rows:
        """Return the segments that the video's end ends."""
        if self._last is None:
            return []
        rows = self._shots_until(self._boundaries.end())
        if self._run is not None:
            rows.append(self._black_frames(self._run))
        number, timestamp_ms = self._last
        return rows + self._shots_until([Boundary(number + 1, timestamp_ms, timestamp_ms, _SURE)])

    def _follow_black(self, now: tuple[int, int], black: float) -> Rows:
        run = self._run
        if black >= self._least_black:
            if run is None:
                self._run = _BlackRun(now, now, 1, black)
            else:
                run.last, run.frames, run.black = now, run.frames + 1, run.black + black
            return []
        self._run = None
        return [] if run is None else [self._black_frames(run)]

    def _black_frames(self, run: _BlackRun) -> dict[str, Any]:
        return {
            "type": "TECHNICAL_CUE",
            **self._place(run.first, run.last),
            "cue_type": "BlackFrames",
            "cue_confidence": max(_LEAST_SURE, run.black / run.frames),
        }

    def _shots_until(self, boundaries: list[Boundary]) -> Rows:
        return [self._shot_until(b) for b in boundaries if b.frame > self._start.frame]

    def _shot_until(self, following: Boundary) -> dict[str, Any]:
        """Return the shot that a boundary ends, and begin the next."""
        start, self._start = self._start, following
        first, last = (start.frame, start.time_ms), (following.frame - 1, following.before_ms)
        self._shots += 1
        return {
            "type": "SHOT",
            **self._place(first, last),
            "shot_index": self._shots - 1,
            "shot_confidence": min(start.confidence, following.confidence),
        }

    def _place(self, first: tuple[int, int], last: tuple[int, int]) -> dict[str, Any]:
        (first_frame, start_ms), (last_frame, end_ms) = first, last
        return {
            "start_timestamp_ms": start_ms,
            "end_timestamp_ms": end_ms,
            "duration_ms": end_ms - start_ms,
            "start_timecode_smpte": timecode(first_frame, self._rate),
            "end_timecode_smpte": timecode(last_frame, self._rate),
            "duration_smpte": timecode(last_frame - first_frame, self._rate),
            "start_frame_number": first_frame,
            "end_frame_number": last_frame,
            "duration_frames": last_frame - first_frame,
        }
