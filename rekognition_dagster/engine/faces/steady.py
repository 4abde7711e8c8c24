"""One age and one gender for a face that is followed, instead of each frame's estimate."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from math import isnan

import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.faces.follow import Follower
from rekognition_dagster.engine.faces.record import DETAILED
from rekognition_dagster.engine.spool import Spool

_SUREST = 0.99  # no single frame decides


class Steadier:
    """Averages age and gender over all records with one key.

    A key is whatever stays with a face: the number of a :class:`Follower`, or a person's index.
    Memory grows with the number of keys, not of records.
    """

    def __init__(self) -> None:
        self._sums: dict[int, npt.NDArray] = {}

    def add(self, keys: Iterable[int], records: npt.NDArray) -> None:
        """Take records of type ``DETAILED``, each with its key; others are ignored."""
        if records.dtype != DETAILED:
            return
        for key, record in zip(keys, records, strict=True):
            sums = self._sums.setdefault(int(key), np.zeros(5))
            age, spread = record["age"].tolist()
            if not isnan(age):
                weight = 1 / spread**2
                sums[:3] += weight, weight * age, weight * spread**2
            if not isnan(female := float(record["female"])):
                likely = np.clip(female, 1 - _SUREST, _SUREST)
                weight = (2 * likely - 1) ** 2
                sums[3:] += weight, weight * np.log(likely / (1 - likely))

    def steadied(self, keys: Iterable[int], records: npt.NDArray) -> npt.NDArray:
        """Return the records with the average age and gender of each one's key.

        Call it when all records were added. A frame without an estimate gets that of the others.
        """
        if records.dtype != DETAILED:
            return records
        steady = records.copy()
        for record, key in zip(steady, keys, strict=True):
            sums = self._sums.get(int(key))
            if sums is not None and sums[0]:
                record["age"] = sums[1] / sums[0], np.sqrt(sums[2] / sums[0])
            if sums is not None and sums[3]:
                record["female"] = 1 / (1 + np.exp(-sums[4] / sums[3]))
        return steady


class SteadyFaces:
    """Keeps a video's faces on disk until all are known, then returns them steadied."""

    def __init__(self) -> None:
        self._faces = Spool(DETAILED)
        self._follower = Follower()
        self._numbers = array("i")
        self._steadier = Steadier()

    def add(self, faces: npt.NDArray) -> None:
        """Take a frame's faces: records of type ``DETAILED``, later than those before."""
        if not len(faces):
            return
        numbers = self._follower.update(faces)
        self._numbers.extend(numbers.tolist())
        self._steadier.add(numbers, faces)
        self._faces.append(faces)

    def chunks(self) -> Iterator[npt.NDArray]:
        """Return all records in the order in which they came, steadied."""
        begin = 0
        for records in self._faces.chunks(2048):
            yield self._steadier.steadied(self._numbers[begin : begin + len(records)], records)
            begin += len(records)

    def close(self) -> None:
        """Free the disk space."""
        self._faces.close()
