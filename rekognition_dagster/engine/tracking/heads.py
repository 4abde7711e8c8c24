"""Whose face it is, from the whole time for which a face is seen.

In a single frame a face can lie in the boxes of two people who pass each other. A face is followed
from frame to frame, and belongs to the one of those present who holds it most.
"""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from rekognition_dagster.engine.detectors.boxes import covered
from rekognition_dagster.engine.faces.follow import Follower

_HEAD = 0.5  # a head lies in the upper half of its person
_INSIDE = 0.6  # of a face that lies there
_LOOSELY = 0.3  # and for somebody who holds it at other times


class Heads:
    """Learns which faces are whose, then assigns them.

    All frames are given twice, in order: first to :meth:`learn`, then to :meth:`assign`.
    """

    def __init__(self) -> None:
        self._runs = array("i")  # of each face, in the order they come
        self._votes: dict[int, dict[int, float]] = {}
        self._follower = Follower()
        self._assigned = 0

    def learn(self, people: npt.NDArray, faces: npt.NDArray) -> None:
        """Take a frame's people and faces: records of types ``PERSON`` and ``FACE``."""
        if not len(faces):
            return
        numbers = self._follower.update(faces)
        self._runs.extend(numbers.tolist())
        fits = _fit(people["box"], faces["box"], _INSIDE)
        for f, p in np.argwhere(fits > 0).tolist():
            votes = self._votes.setdefault(int(numbers[f]), {})
            person = int(people["index"][p])
            votes[person] = votes.get(person, 0.0) + float(fits[f, p])

    def assign(self, people: npt.NDArray, faces: npt.NDArray) -> dict[int, int]:
        """Return which of a frame's people have which of its faces, as positions in both.

        Only those present count: where the person who holds a face most is not there, because the
        tracker counts two where there is one, it is the one who holds it next to most.
        """
        runs = self._runs[self._assigned : self._assigned + len(faces)]
        self._assigned += len(faces)
        if not len(faces) or not len(people):
            return {}
        votes = np.zeros((len(faces), len(people)))
        for face, run in enumerate(runs):
            of_run = self._votes.get(run, {})
            votes[face] = [of_run.get(person, 0.0) for person in people["index"].tolist()]
        votes[votes < votes.max(axis=1, keepdims=True)] = 0
        votes[_fit(people["box"], faces["box"], _LOOSELY) <= 0] = 0
        pairs = zip(*linear_sum_assignment(votes, maximize=True), strict=True)
        return {int(person): int(face) for face, person in pairs if votes[face, person] > 0}


def _fit(people: npt.NDArray, faces: npt.NDArray, inside: float) -> npt.NDArray:
    """How well each face sits on each person's shoulders, shape (faces, people); 0 where not."""
    heads = people.astype(float)
    heads[:, 3] = heads[:, 1] + (heads[:, 3] - heads[:, 1]) * _HEAD
    part = covered(faces.astype(float), heads)
    middle = (faces[:, None, 0] + faces[:, None, 2]) / 2
    centre = (heads[None, :, 0] + heads[None, :, 2]) / 2
    width = np.maximum(heads[None, :, 2] - heads[None, :, 0], 1e-6)
    fit = part - np.abs(middle - centre) / width
    return np.where((part >= inside) & (fit > 0), fit, 0.0)
