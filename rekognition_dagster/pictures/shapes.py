"""Zones and lines on a frame, with who is in a zone now and who crossed a line so far.

The counts are those of the tables ``zone_visits`` and ``line_crossings``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import supervision as sv

from rekognition_dagster.analytics.zones import Shape, Zones
from rekognition_dagster.engine.frame import Image
from rekognition_dagster.pictures.frames import ends_before, still
from rekognition_dagster.pictures.style import Style, color_of

if TYPE_CHECKING:
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.videos import Video

_FILLED = 0.25


@dataclass(frozen=True)
class Counts:
    """When people entered and left zones and crossed lines, sorted.

    Args:
        entered: Milliseconds, by zone.
        left: Milliseconds, by zone.
        crossed: Milliseconds, by line and direction.
    """

    entered: Mapping[str, Sequence[int]] = field(default_factory=dict)
    left: Mapping[str, Sequence[int]] = field(default_factory=dict)
    crossed: Mapping[tuple[str, str], Sequence[int]] = field(default_factory=dict)

    def inside(self, zone: str, time_ms: int) -> int:
        """Return how many are in a zone."""
        entered = bisect_right(self.entered.get(zone, ()), time_ms)
        return entered - bisect_left(self.left.get(zone, ()), time_ms)

    def crossings(self, line: str, direction: str, time_ms: int) -> int:
        """Return how many crossed a line until then."""
        return bisect_right(self.crossed.get((line, direction), ()), time_ms)


def counts_of(lake: Lake, video: Video, zones: Zones) -> Counts | None:
    """Compute the counts of a video and zones, as the tables of the lake would have them.

    Returns:
        None where the lake has no people of the video, or no time of its recording.

    Raises:
        LakeError: The lake cannot be read.
    """
    from rekognition_dagster.analytics.daily import movement_of

    entered: dict[str, list[int]] = defaultdict(list)
    left: dict[str, list[int]] = defaultdict(list)
    crossed: dict[tuple[str, str], list[int]] = defaultdict(list)
    visits, crossings = movement_of(lake, video, zones, ["zone_visits", "line_crossings"])
    if visits is None or crossings is None:
        return None
    for row in visits.select(["zone", "entered_ms", "left_ms"]).to_pylist():
        entered[row["zone"]].append(row["entered_ms"])
        left[row["zone"]].append(row["left_ms"])
    for row in crossings.select(["line", "direction", "crossed_ms"]).to_pylist():
        crossed[row["line"], row["direction"]].append(row["crossed_ms"])
    for times in (*entered.values(), *left.values(), *crossed.values()):
        times.sort()
    return Counts(entered, left, crossed)


def draw_zones(source: str | Path, shapes: Sequence[Shape], output: Path, at_ms: int) -> Path:
    """Paint shapes on the first frame at or after a time, else on the last.

    Args:
        source: The video.
        shapes: Zones and lines, in ratios of the picture.
        output: A ``.png`` or ``.jpg``.
        at_ms: Milliseconds since the start of the video.

    Returns:
        The path written.

    Raises:
        VideoError: The video cannot be opened, or ends before.
        ValueError: The output is no picture.
    """
    from rekognition_dagster.engine.decode import open_video
    from rekognition_dagster.pictures.encoding import write_picture

    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"cannot draw to {output}: write a .png or .jpg")
    with open_video(source) as video:
        duration_ms = video.metadata.duration_ms
    if duration_ms is not None and at_ms > 0 and at_ms >= duration_ms:
        raise ends_before(str(source), at_ms, duration_ms)
    frame = still(source, at_ms)
    image = frame.image.copy()
    paint_shapes(image, shapes, fill=_FILLED)
    return write_picture(image, output)


def paint_shapes(
    image: Image,
    shapes: Sequence[Shape],
    counts: Counts | None = None,
    time_ms: int = 0,
    *,
    fill: float = 0.0,
) -> None:
    """Paint zones and lines on an RGB picture, in place.

    Args:
        image: The picture, shape (height, width, 3).
        shapes: In ratios of it.
        counts: What is written beside them; nothing by default.
        time_ms: The time of the counts.
        fill: Opacity of zones, 0 to 1.
    """
    style = Style.of(image)
    for number, shape in enumerate(shapes):
        color = color_of(number)
        points = (np.array(shape.points) * image.shape[1::-1]).round().astype(int)
        if shape.kind == "zone":
            if fill:
                image[:] = sv.draw_filled_polygon(image, points, color, opacity=fill)
            sv.draw_polygon(image, points, color, thickness=style.line)
            count = f": {counts.inside(shape.name, time_ms)}" if counts else ""
            style.write(image, f"{shape.name}{count}", points.mean(axis=0), color)
        else:
            _paint_line(image, shape, points, color, style, counts, time_ms)


def _paint_line(
    image: Image,
    shape: Shape,
    points: np.ndarray,
    color: sv.Color,
    style: Style,
    counts: Counts | None,
    time_ms: int,
) -> None:
    for first, second in pairwise(points):
        sv.draw_line(image, sv.Point(*first), sv.Point(*second), color, thickness=style.line)
    middle = len(points) // 2
    first, second = points[middle - 1], points[middle]
    center, along = (first + second) / 2, second - first
    length = max(1e-9, float(np.hypot(*along)))
    right = np.array([-along[1], along[0]]) / length * image.shape[0] / 12
    for name, way in zip(shape.directions, (-right, right), strict=True):
        start, tip = (tuple(map(int, p)) for p in (center, center + way))
        cv2.arrowedLine(image, start, tip, color.as_bgr(), style.line, cv2.LINE_AA, tipLength=0.25)
        count = f": {counts.crossings(shape.name, name, time_ms)}" if counts else ""
        style.write(image, f"{name}{count}", center + way * 1.4, color)
    style.write(image, shape.name, first, color)
