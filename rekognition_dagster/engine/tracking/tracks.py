"""The second pass: tracklets on disk become people with compact numbers, and rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import supervision as sv
from scipy.optimize import linear_sum_assignment

from rekognition_dagster.engine.decode import Frame
from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.detectors.boxes import covered
from rekognition_dagster.engine.faces import FACE, box_struct, face_struct
from rekognition_dagster.engine.spool import Spool
from rekognition_dagster.engine.tracking.online import Association

PERSON = np.dtype(
    [("timestamp_ms", "i8"), ("tracklet", "i4"), ("box", "f4", (4,)), ("confidence", "f4")]
)
"""A person in a frame as a record; box in ratios of the frame, confidence 0 to 100."""

_HEAD = 0.5  # a head lies in the upper half of its person


class PersonTracks:
    """All people of one video.

    Args:
        scores: The detector's scale.
        frame_rate: Frames looked at in a second.
    """

    def __init__(self, scores: ScoreScale, frame_rate: float) -> None:
        self._association = Association(scores, frame_rate)
        self._people = Spool(PERSON)
        self._faces = Spool(FACE)

    def add(self, people: sv.Detections, faces: npt.NDArray, frame: Frame) -> None:
        """Take one frame's people, and its faces as records of type ``FACE``."""
        tracked = self._association.update(people, frame.timestamp_ms)
        records = np.zeros(len(tracked), PERSON)
        records["timestamp_ms"] = frame.timestamp_ms
        if len(tracked):
            size = np.array([frame.width, frame.height] * 2, np.float32)
            records["tracklet"] = tracked.tracker_id
            records["box"] = np.clip(tracked.xyxy / size, 0, 1)
            records["confidence"] = np.asarray(tracked.confidence) * 100
        self._people.append(records)
        self._faces.append(faces)

    def rows(self) -> Iterator[list[dict[str, Any]]]:
        """All rows, by time and person, in batches."""
        numbers: dict[int, int] = {}
        faces = _by_time(self._faces)
        waiting = next(faces, None)
        batch: list[dict[str, Any]] = []
        for people in _by_time(self._people):
            time = people["timestamp_ms"][0]
            while waiting is not None and waiting["timestamp_ms"][0] < time:
                waiting = next(faces, None)
            seen = waiting if waiting is not None and waiting["timestamp_ms"][0] == time else None
            batch += _rows_of_frame(people, seen, numbers)
            if len(batch) >= 4096:
                yield batch
                batch = []
        if batch:
            yield batch

    def close(self) -> None:
        """Give the disk space back."""
        self._people.close()
        self._faces.close()


def _rows_of_frame(
    people: npt.NDArray, faces: npt.NDArray | None, numbers: dict[int, int]
) -> list[dict[str, Any]]:
    faces_of = {} if faces is None else _heads(people["box"], faces["box"])
    rows = []
    for i, person in enumerate(people):
        row = {
            "timestamp_ms": int(person["timestamp_ms"]),
            "person_index": numbers.setdefault(int(person["tracklet"]), len(numbers)),
            "bounding_box": box_struct(person["box"]),
            "confidence": float(person["confidence"]),
        }
        if faces is not None and i in faces_of:
            row["face"] = face_struct(faces[faces_of[i]])
        rows.append(row)
    return sorted(rows, key=lambda row: row["person_index"])


def _heads(people: npt.NDArray, faces: npt.NDArray) -> dict[int, int]:
    """Which face sits on which person's shoulders, one for each at most."""
    heads = people.copy()
    heads[:, 3] = people[:, 1] + (people[:, 3] - people[:, 1]) * _HEAD
    inside = covered(faces, heads)
    middle = (faces[:, None, 0] + faces[:, None, 2]) / 2
    centre = (heads[None, :, 0] + heads[None, :, 2]) / 2
    width = np.maximum(heads[None, :, 2] - heads[None, :, 0], 1e-6)
    off = np.abs(middle - centre) / width
    score = np.where(inside >= 0.6, inside - off, -1)
    return {
        int(p): int(f)
        for f, p in zip(*linear_sum_assignment(score, maximize=True), strict=True)
        if score[f, p] > 0
    }


def _by_time(spool: Spool) -> Iterator[npt.NDArray]:
    """The records of one time after another."""
    rest: npt.NDArray = np.zeros(0, PERSON)
    for chunk in spool.chunks():
        records = np.concatenate([rest, chunk]) if len(rest) else chunk
        times = records["timestamp_ms"]
        edges = np.flatnonzero(np.diff(times)) + 1
        *whole, rest = np.split(records, edges)
        yield from whole
    if len(rest):
        yield rest
