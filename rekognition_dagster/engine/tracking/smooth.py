"""A person's path at every frame: gaps filled, tremble taken out, with the future known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FILL_S = 6.0
"""Longest gap that is filled."""

_PLACE_S = 0.12  # reach (deviation) of smoothing for the centre
_SIZE_S = 0.45  # and for the size, which changes slowly
_FILLED = 0.15  # what a filled box weighs against a detected one
REACH_S = 3 * _SIZE_S
"""How far into past and future one box is influenced, beside the gap it lies in."""


def path(
    times: npt.NDArray, seen_times: npt.NDArray, boxes: npt.NDArray, scores: npt.NDArray
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """One person at every frame between the first and the last detection.

    Args:
        times: Of all frames, in milliseconds, shape (frames,).
        seen_times: Of the person's detections, increasing, shape (n,).
        boxes: Their boxes as (left, top, right, bottom), shape (n, 4).
        scores: Their confidences, shape (n,).

    Returns:
        Times (m,), smoothed boxes (m, 4), and confidences (m,) with NaN where a box was filled in.
    """
    between = times[np.searchsorted(times, seen_times[0]) :]
    between = between[: np.searchsorted(between, seen_times[-1], side="right")]
    after = np.searchsorted(seen_times, between)
    before = np.maximum(np.searchsorted(seen_times, between, side="right") - 1, 0)
    gap = seen_times[after] - seen_times[before]
    wanted = gap <= FILL_S * 1000
    between, after, before, gap = between[wanted], after[wanted], before[wanted], gap[wanted]
    seen = after == before
    part = np.where(seen, 0.0, (between - seen_times[before]) / np.maximum(gap, 1))[:, None]
    filled = boxes[before] * (1 - part) + boxes[after] * part
    confidence = np.where(seen, scores[after], np.nan)
    weight = np.where(seen, scores[after], _FILLED * np.minimum(scores[before], scores[after]))
    return between, _smooth(between, filled, np.maximum(weight, 1e-3)), confidence


def _smooth(times: npt.NDArray, boxes: npt.NDArray, weight: npt.NDArray) -> npt.NDArray:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = boxes[:, 2:] - boxes[:, :2]
    centre = _local_line(times, centre, weight, _PLACE_S * 1000)
    size = _local_line(times, size, weight, _SIZE_S * 1000)
    half = np.maximum(size, 0) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _local_line(
    times: npt.NDArray, values: npt.NDArray, weight: npt.NDArray, deviation: float
) -> npt.NDArray:
    """Weighted regression to a line around each time (Cleveland 1979, locally weighted), which
    unlike an average does not lag at the ends."""
    count = len(times)
    step = max(float(np.median(np.diff(times))) if count > 1 else 1.0, 1.0)
    reach = min(int(3 * deviation / step), count - 1)
    of = np.arange(count)[:, None] + np.arange(-reach, reach + 1)  # the neighbours of each time
    there = (of >= 0) & (of < count)
    of = of.clip(0, count - 1)
    away = (times[of] - times[:, None]).astype(float)
    w0 = np.where(there, weight[of] * np.exp(-0.5 * (away / deviation) ** 2), 0)
    w1 = w0 * away
    s0, s1, s2 = w0.sum(axis=1), w1.sum(axis=1), (w1 * away).sum(axis=1)
    v0, v1 = (np.einsum("ij,ijk->ik", w, values[of]) for w in (w0, w1))
    flat = s0 * s2 - s1**2
    # a ridge in units of the reach: where times hardly differ, the average decides
    flat = np.maximum(flat + 1e-3 * s0**2 * deviation**2, 1e-12)
    return ((s2 + 1e-3 * s0 * deviation**2)[:, None] * v0 - s1[:, None] * v1) / flat[:, None]
