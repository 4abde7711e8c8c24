"""Drawing a lake table on its video's frames, to see with one's own eyes what the rows say."""

from __future__ import annotations

import colorsys
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa

from rekognition_dagster.engine.decode import DamagedVideo, open_video
from rekognition_dagster.engine.frame import Frame, Image

_WHITE = (255, 255, 255)
_TILE_WIDTH = 480
_TRAIL_MS = 3000


def draw(
    source: str | Path,
    rows: pa.Table | Iterable[Mapping[str, Any]],
    output: str | Path,
    *,
    tiles: int = 12,
    columns: int = 3,
) -> Path:
    """Draw boxes, numbers, paths, faces and labels.

    Args:
        source: The video.
        rows: One of the lake's tables, or rows of it: people, faces or labels.
        output: ``.png`` for a sheet of frames, ``.mp4`` for the whole video.
        tiles: Frames on the sheet, evenly spread over the video; those with rows near by.
        columns: Frames side by side.

    Returns:
        The path written.

    Raises:
        VideoError: The video cannot be opened.
        ValueError: The output's suffix is neither of the two.
    """
    output = Path(output)
    listed: list[Mapping[str, Any]] = (
        rows.to_pylist() if isinstance(rows, pa.Table) else list(rows)  # pyright: ignore
    )
    at: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in listed:
        at[row["timestamp_ms"]].append(row)
    if output.suffix == ".mp4":
        _write_video(source, at, output)
    elif output.suffix == ".png":
        _write_sheet(source, at, output, tiles, columns)
    else:
        raise ValueError(f"cannot draw to {output}: write a .png or .mp4")
    return output


def _painted(
    source: str | Path, at: Mapping[int, list[Mapping[str, Any]]]
) -> Iterator[tuple[Frame, Image]]:
    trails: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
    with open_video(source) as video:
        try:
            for frame in video.frames():
                image = frame.image.copy()
                for row in at.get(frame.timestamp_ms, ()):
                    _paint_row(image, row, trails)
                yield frame, image
        except DamagedVideo:
            return


def _paint_row(
    image: Image, row: Mapping[str, Any], trails: dict[int, list[tuple[int, float, float]]]
) -> None:
    if row.get("person_index") is not None:
        index, box = row["person_index"], row["bounding_box"]
        color = color_of(index)
        trail = trails[index]
        trail.append(
            (row["timestamp_ms"], box["left"] + box["width"] / 2, box["top"] + box["height"])
        )
        while trail[0][0] < row["timestamp_ms"] - _TRAIL_MS:
            trail.pop(0)
        size = np.array([image.shape[1], image.shape[0]])
        points = np.array([(x, y) for _, x, y in trail]) * size
        cv2.polylines(image, [points.astype(np.int32)], False, color, 1, cv2.LINE_AA)
        _paint_box(image, box, color, str(index))
    for instance in row.get("instances") or ():
        _paint_box(image, instance["bounding_box"], color_of(hash(row["name"])), row["name"])
    if face := row.get("face"):
        _paint_face(image, face)


def _paint_box(image: Image, box: Mapping[str, float], color: Any, text: str = "") -> None:
    height, width = image.shape[:2]
    left, top = round(box["left"] * width), round(box["top"] * height)
    right = round((box["left"] + box["width"]) * width)
    bottom = round((box["top"] + box["height"]) * height)
    cv2.rectangle(image, (left, top), (right, bottom), color, 1)
    if text:
        scale = max(0.35, width / 1600)
        (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        cv2.rectangle(image, (left, top), (left + w + 4, top + h + 4), color, -1)
        corner = (left + 2, top + h + 2)
        cv2.putText(image, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, _WHITE, 1, cv2.LINE_AA)


def _paint_face(image: Image, face: Mapping[str, Any]) -> None:
    height, width = image.shape[:2]
    _paint_box(image, face["bounding_box"], _WHITE)
    for mark in face.get("landmarks") or ():
        centre = (round(mark["x"] * width), round(mark["y"] * height))
        cv2.circle(image, centre, max(1, width // 400), (255, 255, 0), -1)


def color_of(index: int) -> tuple[int, int, int]:
    """RGB, far apart for neighbouring numbers."""
    hue = (index * 0.618034) % 1  # the golden ratio never comes back near where it was
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.75)
    return round(red * 255), round(green * 255), round(blue * 255)


def _write_sheet(
    source: str | Path,
    at: Mapping[int, list[Mapping[str, Any]]],
    output: Path,
    tiles: int,
    columns: int,
) -> None:
    with open_video(source) as video:
        length = max(video.metadata.duration_ms, max(at, default=0) + 1)
    due = _near(sorted(at), [length * (i + 0.5) / tiles for i in range(tiles)], length / tiles)
    shown: list[Image] = []
    for frame, image in _painted(source, at):
        if len(shown) < tiles and frame.timestamp_ms >= due[len(shown)]:
            height = round(_TILE_WIDTH * image.shape[0] / image.shape[1])
            tile = np.asarray(cv2.resize(image, (_TILE_WIDTH, height)), np.uint8)
            text = f"{frame.timestamp_ms / 1000:.2f} s"
            corner = (6, height - 8)
            cv2.putText(tile, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, _WHITE, 1, cv2.LINE_AA)
            shown.append(tile)
    while len(shown) % columns or not shown:
        shown.append(np.zeros_like(shown[0]) if shown else np.zeros((64, 64, 3), np.uint8))
    grid = [np.hstack(shown[i : i + columns]) for i in range(0, len(shown), columns)]
    cv2.imwrite(str(output), cv2.cvtColor(np.vstack(grid), cv2.COLOR_RGB2BGR))


def _near(times: list[int], due: list[float], apart: float) -> list[float]:
    """Return the times nearest to those that are due, where there are any within half a step."""
    found: list[float] = []
    for time in due:
        place = bisect(times, time)
        nearest = min(times[max(0, place - 1) : place + 1], key=lambda t: abs(t - time), default=-1)
        found.append(nearest if nearest >= 0 and abs(nearest - time) <= apart / 2 else time)
    return found


def _write_video(
    source: str | Path, at: Mapping[int, list[Mapping[str, Any]]], output: Path
) -> None:
    with av.open(str(output), "w") as container:
        stream: Any = None
        for frame, image in _painted(source, at):
            height, width = (n // 2 * 2 for n in image.shape[:2])  # H.264 wants even sides
            if stream is None:
                stream = container.add_stream("libx264", rate=1000)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base = Fraction(1, 1000)
            crop = np.ascontiguousarray(image[: stream.height, : stream.width])
            picture = av.VideoFrame.from_ndarray(crop, format="rgb24")
            picture.pts, picture.time_base = frame.timestamp_ms, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode())
