"""Each person's face at each time: as seen, or filled in from a time within a second.

Faces are sampled several times a second where only people are asked for. Between samples a face
moves with its person's head.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.spool import Spool, Window

FILL_MS = 1000
"""How far from the time at which a face was seen it is filled in."""

_MOVING = ("box", "landmarks")  # of a face's record; the rest stays as it was seen


def owned_type(face_type: np.dtype) -> np.dtype:
    """Return the type of records of a face and the person whose it is."""
    return np.dtype(
        [
            ("timestamp_ms", "i8"),
            ("index", "i4"),
            ("person", "f4", (4,)),
            ("face", face_type),
        ]
    )


class PersonFaces(NamedTuple):
    """The faces of some people, one for each record of theirs.

    Attributes:
        faces: Records of a face type; meaningless where there is no face.
        present: Whether there is a face.
        filled: Whether it was seen at another time.
    """

    faces: npt.NDArray
    present: npt.NDArray[np.bool_]
    filled: npt.NDArray[np.bool_]


class FaceFill:
    """Finds the face of each person at each time, in order of time.

    Args:
        owned: Records of an :func:`owned_type`, by time.
    """

    def __init__(self, owned: Spool) -> None:
        self._window = Window(owned)
        self._face_type = owned.dtype["face"]

    def of(self, people: npt.NDArray) -> PersonFaces:
        """Return the faces of records of type ``PERSON``, later than those before.

        A face that was seen at the time itself is that one. Else, where it was seen within
        ``FILL_MS`` before or after, it is the nearer of the two, moved with the person's head.
        """
        found = PersonFaces(
            np.zeros(len(people), self._face_type),
            np.zeros(len(people), bool),
            np.zeros(len(people), bool),
        )
        if not len(people):
            return found
        begin, end = people["timestamp_ms"][0], people["timestamp_ms"][-1]
        seen = self._window.between(begin - FILL_MS, end + FILL_MS)
        order = np.argsort(people["index"], kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(people["index"][order])) + 1):
            theirs = seen[seen["index"] == people["index"][rows[0]]]
            if len(theirs):
                _fill(people[rows], theirs, rows, found)
        return found


def _fill(people: npt.NDArray, seen: npt.NDArray, rows: npt.NDArray, found: PersonFaces) -> None:
    """Put the faces of one person, who is in the records ``rows``, into what was found."""
    times, at = people["timestamp_ms"], seen["timestamp_ms"]
    after = np.searchsorted(at, times)
    later, earlier = np.minimum(after, len(at) - 1), np.maximum(after - 1, 0)
    until = np.where(after < len(at), at[later] - times, np.inf)
    since = np.where(after > 0, times - at[earlier], np.inf)
    near = np.minimum(until, since) <= FILL_MS
    faces = seen["face"][np.where(until <= since, later, earlier)].copy()
    faces["timestamp_ms"] = times
    with np.errstate(invalid="ignore"):
        weight = np.where(since > FILL_MS, 1.0, since / (since + until))  # of the later one
    weight = np.where(until > FILL_MS, 0.0, np.where(until == 0, 1.0, weight))
    for name in _MOVING:
        one, other = (_moved(seen[k], name, people["box"]) for k in (earlier, later))
        share = weight.reshape(-1, *[1] * (one.ndim - 1))
        faces[name] = one + share * (other - one)
    found.faces[rows[near]] = faces[near]
    found.present[rows[near]] = True
    found.filled[rows[near]] = (np.minimum(until, since) > 0)[near]


def _moved(seen: npt.NDArray, name: str, boxes: npt.NDArray) -> npt.NDArray:
    """Return points of faces, moved as far as their persons' heads have moved to ``boxes``."""
    points = seen["face"][name]
    shift = _heads(boxes) - _heads(seen["person"])
    return points + (np.tile(shift, 2) if points.ndim == 2 else shift[:, None])


def _heads(boxes: npt.NDArray) -> npt.NDArray:
    """Return the middle of each box's upper edge, shape (n, 2)."""
    return np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 1]], axis=1)
