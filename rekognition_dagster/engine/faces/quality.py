"""A face's quality from its own pixels: the frame around it is not converted."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine.frame import Frame, Luma

_SHARPNESS_SIDE = 64
_SHARPNESS_HALF = 120.0  # variance of the Laplacian that counts as half sharp


def quality(grey: Luma) -> tuple[float, float]:
    """Return brightness and sharpness, 0 to 100, of a face's pixels.

    Brightness is mean luma. Sharpness is the variance of the Laplacian at a fixed size, so that
    it measures focus and motion rather than the face's size.
    """
    if not grey.size:
        return 0.0, 0.0
    small = cv2.resize(grey, (_SHARPNESS_SIDE, _SHARPNESS_SIDE), interpolation=cv2.INTER_AREA)
    detail = float(cv2.Laplacian(small, cv2.CV_32F).var())
    return float(grey.mean() / 2.55), 100 * detail / (detail + _SHARPNESS_HALF)


def quality_at(frame: Frame, box: npt.NDArray) -> tuple[float, float]:
    """Return brightness and sharpness, 0 to 100, of a box in a frame's pixels."""
    bounds = np.array([frame.width, frame.height] * 2)
    left, top, right, bottom = np.clip(np.round(box), 0, bounds).astype(int)
    rows, columns = np.arange(top, bottom)[:, None], np.arange(left, right)[None, :]
    return quality(frame.colours(rows, columns)[0])
