"""Painting zones, lines and the ground plane on a frame, to see whether they lie where meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from rekognition_dagster.engine.decode import DamagedVideo, open_video
from rekognition_dagster.engine.draw import color_of
from rekognition_dagster.engine.frame import Image


class Drawn(Protocol):
    """A zone or a line, as far as it is painted."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def points(self) -> Sequence[tuple[float, float]]: ...
    @property
    def directions(self) -> tuple[str, str]: ...


def draw_zones(source: str | Path, shapes: Sequence[Drawn], output: str | Path, at_ms: int) -> Path:
    """Paint shapes on the first frame at or after a time, else on the last.

    Args:
        source: The video.
        shapes: Zones and lines, in ratios of the picture.
        output: A ``.png`` or ``.jpg``.
        at_ms: Milliseconds since the start of the video.

    Returns:
        The path written.

    Raises:
        VideoError: The video cannot be opened.
        ValueError: The output is no picture.
    """
    output = Path(output)
    image = _frame(source, at_ms)
    for number, shape in enumerate(shapes):
        _paint(image, shape, color_of(number))
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"cannot draw to {output}: write a .png or .jpg")
    output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(output), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise ValueError(f"cannot write {output}")
    return output


def _frame(source: str | Path, at_ms: int) -> Image:
    image: Any = None
    with open_video(source) as video:
        try:
            for frame in video.frames():
                image = frame.image
                if frame.timestamp_ms >= at_ms:
                    break
        except DamagedVideo:
            pass
    return image.copy()


def _paint(image: Image, shape: Drawn, color: Any) -> None:
    height, width = image.shape[:2]
    points = np.array(shape.points) * (width, height)
    thick = max(1, width // 400)
    if shape.kind == "zone":
        filled = image.copy()
        cv2.fillPoly(filled, [points.astype(np.int32)], color)
        cv2.addWeighted(filled, 0.25, image, 0.75, 0, image)
    is_zone = shape.kind == "zone"
    cv2.polylines(image, [points.astype(np.int32)], is_zone, color, thick, cv2.LINE_AA)
    if is_zone:
        _write(image, shape.name, points.mean(axis=0), color)
        return
    middle = len(points) // 2
    first, second = points[middle - 1], points[middle]
    center, along = (first + second) / 2, second - first
    right = np.array([-along[1], along[0]]) / max(1e-9, float(np.hypot(*along))) * height / 12
    for name, way in zip(shape.directions, (-right, right), strict=True):
        end = center + way
        start, tip = tuple(map(int, center)), tuple(map(int, end))
        cv2.arrowedLine(image, start, tip, color, thick, cv2.LINE_AA, tipLength=0.25)
        _write(image, name, end + way * 0.4, color)
    _write(image, shape.name, first, color)


def _write(image: Image, text: str, at: Any, color: Any) -> None:
    height, width = image.shape[:2]
    scale = max(0.4, width / 1400)
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = int(min(max(at[0] - w / 2, 0), width - w))
    y = int(min(max(at[1], h + 2), height - 3))
    cv2.rectangle(image, (x - 1, y - h - 2), (x + w + 1, y + 3), color, -1)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
