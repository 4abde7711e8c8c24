"""A sheet: stills side by side, each with a line of text below it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from rekognition_dagster.engine.frame import Image

TILE_WIDTH = 480
_CAPTION = 24  # pixels
_TALLEST = 2 * TILE_WIDTH
_MARGIN = 6


def tile_of(image: Image) -> Image:
    """Return a picture in the size of a still."""
    height = min(_TALLEST, max(1, round(TILE_WIDTH * image.shape[0] / image.shape[1])))
    small = cv2.resize(image, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def captioned(tile: Image, text: str) -> Image:
    """Return a still with a line of text below it; what is too long ends in an ellipsis."""
    strip = Pillow.new("RGB", (tile.shape[1], _CAPTION), "black")
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(14)
    text = " ".join(text.split())
    room = tile.shape[1] - 2 * _MARGIN
    if pen.textlength(text, font) > room:
        while text and pen.textlength(f"{text}…", font) > room:
            text = text[:-1]
        text = f"{text}…"
    pen.text((_MARGIN, 3), text, "white", font)
    return np.vstack([tile, np.asarray(strip)])


def sheet_of(tiles: Iterable[Image], columns: int = 4) -> Image:
    """Return stills side by side, each row as high as its highest; black where there is none."""
    ready = list(tiles) or [np.zeros((64, TILE_WIDTH, 3), np.uint8)]
    columns = min(columns, len(ready))
    rows = [_row(ready[n : n + columns], columns) for n in range(0, len(ready), columns)]
    return np.vstack(rows)


def _row(tiles: list[Image], columns: int) -> Image:
    height = max(tile.shape[0] for tile in tiles)
    row = np.zeros((height, TILE_WIDTH * columns, 3), np.uint8)
    for n, tile in enumerate(tiles):
        row[: tile.shape[0], n * TILE_WIDTH : (n + 1) * TILE_WIDTH] = tile
    return row


def spread(from_ms: int, until_ms: int, count: int) -> Iterator[int]:
    """Yield times that divide a span evenly."""
    length = until_ms - from_ms
    count = max(1, min(count, math.ceil(length)))
    yield from (round(from_ms + length * (n + 0.5) / count) for n in range(count))
