"""HOTA, IDF1, MOTA, switches and identities of tracks against the truth, by ``trackers.eval``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from trackers.eval import (
    box_iou,
    compute_clear_metrics,
    compute_hota_metrics,
    compute_identity_metrics,
)

Tracks = Mapping[int, tuple[np.ndarray, np.ndarray]]
"""For each time in milliseconds: identities (n,), boxes (n, 4) as left, top, right, bottom."""


@dataclass(frozen=True)
class Score:
    """How good tracks are; ratios but for the last three."""

    hota: float
    deta: float
    assa: float
    idf1: float
    mota: float
    switches: int
    identities: int
    true_identities: int


def score(truth: Tracks, found: Tracks) -> Score:
    """Compare tracks with the truth at the truth's times."""
    true_number = _numbers(truth)
    found_number = _numbers({t: found[t] for t in truth if t in found})
    nobody = (np.zeros(0, int), np.zeros((0, 4)))
    true_ids, found_ids, likeness = [], [], []
    for time, (ids, boxes) in truth.items():
        others, places = found.get(time, nobody)
        true_ids.append(np.array([true_number[i] for i in ids.tolist()], int))
        found_ids.append(np.array([found_number[i] for i in others.tolist()], int))
        likeness.append(
            box_iou(boxes, places, "xyxy")
            if len(boxes) and len(places)
            else np.zeros((len(boxes), len(places)))
        )
    hota = compute_hota_metrics(true_ids, found_ids, likeness)
    clear = compute_clear_metrics(true_ids, found_ids, likeness)
    identity = compute_identity_metrics(true_ids, found_ids, likeness)
    return Score(
        hota=float(hota["HOTA"]),
        deta=float(hota["DetA"]),
        assa=float(hota["AssA"]),
        idf1=float(identity["IDF1"]),
        mota=float(clear["MOTA"]),
        switches=int(clear["IDSW"]),
        identities=len(found_number),
        true_identities=len(true_number),
    )


def _numbers(tracks: Tracks) -> dict[int, int]:
    return {i: n for n, i in enumerate(sorted({i for ids, _ in tracks.values() for i in ids}))}
