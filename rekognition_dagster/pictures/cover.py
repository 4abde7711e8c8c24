"""Covering faces and people so that their pixels are gone.

Each box becomes a few coloured blocks: three across its shorter side, at most sixteen across the
longer one. Nothing computes the picture back from them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import supervision as sv

from rekognition_dagster.engine.frame import Image
from rekognition_dagster.pictures.rows import Box

_BLOCKS = 3, 16


def cover(image: Image, boxes: Iterable[Box]) -> None:
    """Replace the pixels in boxes by blocks, in place.

    Args:
        image: RGB, shape (height, width, 3).
        boxes: In ratios of the picture; what is outside of it is ignored.
    """
    height, width = image.shape[:2]
    for box in boxes:
        pixels = np.array([box]).clip(0, 1) * (width, height, width, height)
        pixels = np.hstack([np.floor(pixels[:, :2]), np.ceil(pixels[:, 2:])])
        shorter, longer = sorted((pixels[0, 2:] - pixels[0, :2]).tolist())
        if shorter >= 1:
            size = max(1, round(max(shorter / _BLOCKS[0], longer / _BLOCKS[1])))
            sv.PixelateAnnotator(max(2, size)).annotate(image, sv.Detections(pixels))
