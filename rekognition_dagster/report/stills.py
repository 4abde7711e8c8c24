"""The report's pictures: where people were, over a picture without them, and busiest moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from rekognition_dagster.engine.frame import Image
from rekognition_dagster.pictures.cover import cover
from rekognition_dagster.pictures.frames import glance, still
from rekognition_dagster.pictures.overlay import Look, Overlay
from rekognition_dagster.pictures.sheet import spread
from rekognition_dagster.report.facts import Row
from rekognition_dagster.report.page import Picture

if TYPE_CHECKING:
    from rekognition_dagster.pictures.drawing import Filmed
    from rekognition_dagster.pictures.timeline import Blur

_WIDTH = 640
_FRAMES = 9
_ACROSS, _DOWN = 32, 18
"""Cells of the table ``heat``."""
_QUALITY = 80
_ARROWS_ACROSS = 16
_SLOWEST = 0.01
"""Of the picture a second: a slower flow has no arrow."""


def without_people(filmed: Filmed) -> Image | None:
    """Return a picture of what a camera sees, made of frames from which people are cut out.

    The median of the frames, without what is in people's boxes. What is never free of people is
    covered by blocks.

    Args:
        filmed: The video and its rows.

    Returns:
        RGB, 640 pixels wide; None where no frame can be decoded.
    """
    length = filmed.metadata()[0].duration_ms
    found: dict[int, Image] = {}
    for time_ms in spread(0, max(length, 1), _FRAMES):
        frame = glance(filmed.path, time_ms, filmed.video.uri)
        found[frame.timestamp_ms] = small(frame.image)
    frames: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    timeline = filmed.timeline_at(Look(), sorted(found))
    for at, image in sorted(found.items()):
        boxes = timeline.covered(at, "people")
        if frames and image.shape != frames[0].shape:
            continue  # the video's size changes
        height, width = image.shape[:2]
        mask = np.zeros((height, width), bool)
        for left, top, right, bottom in boxes:
            rows = slice(max(0, int(top * height)), int(np.ceil(bottom * height)))
            mask[rows, max(0, int(left * width)) : int(np.ceil(right * width))] = True
        frames.append(image)
        masks.append(mask)
    if not frames:
        return None
    return _median(np.stack(frames), np.stack(masks))


def _median(frames: np.ndarray, masks: np.ndarray) -> Image:
    """The median of frames where they are not masked, of shapes (n, h, w, 3) and (n, h, w)."""
    image: Any = np.median(frames, axis=0).astype(np.uint8)
    some = masks.any(axis=0)
    never = masks.all(axis=0)
    some &= ~never
    hidden = np.broadcast_to(masks[:, some, None], (len(masks), int(some.sum()), 3))
    image[some] = np.ma.median(np.ma.masked_array(frames[:, some], hidden), axis=0).filled(0)
    if never.any():
        stats: Any = cv2.connectedComponentsWithStats(np.asarray(never, np.uint8))[2]
        height, width = image.shape[:2]
        cover(
            image,
            [
                (x / width, y / height, (x + w) / width, (y + h) / height)
                for x, y, w, h, _ in stats[1:]
            ],
        )
    return image


def small(image: Image, width: int = _WIDTH) -> Image:
    """Return a picture in the report's size."""
    height = max(1, round(width * image.shape[0] / image.shape[1]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def heat_map(cells: Sequence[Row], background: Image | None, aspect: float = 16 / 9) -> Image:
    """Paint for how long people were where, and which way they went.

    Args:
        cells: Rows of the table ``heat``, of one camera.
        background: What the camera sees; a grey picture where that is unknown.
        aspect: Width by height, without a background.
    """
    if background is None:
        background = np.full((round(_WIDTH / aspect), _WIDTH, 3), 90, np.uint8)
    grid = np.zeros((_DOWN, _ACROSS), np.float32)
    flow = np.zeros((_DOWN, _ACROSS, 2), np.float32)
    for row in cells:
        at = row["cell_y"], row["cell_x"]
        grid[at] = row["person_seconds"]
        flow[at] = row["flow_x"], row["flow_y"]
    height, width = background.shape[:2]
    share = np.sqrt(grid / max(float(grid.max()), 1e-9))  # or one bench would hide all else
    share = cv2.resize(share, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colors = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = (0.8 * np.minimum(1, 2.5 * share))[..., None]
    grey = background.mean(axis=2, keepdims=True)
    image = (grey * (1 - weight) + colors * weight).astype(np.uint8)
    _paint_flow(image, grid, flow)
    return image


def _paint_flow(image: Image, grid: np.ndarray, flow: np.ndarray) -> None:
    """An arrow for every four cells through which people walk."""
    height, width = image.shape[:2]
    step = _ACROSS // _ARROWS_ACROSS
    busy = 0.05 * grid.max()
    for y in range(0, _DOWN, step):
        for x in range(0, _ACROSS, step):
            part = slice(y, y + step), slice(x, x + step)
            seconds = float(grid[part].sum())
            if seconds <= busy:
                continue
            mean = (flow[part] * grid[part][..., None]).sum(axis=(0, 1)) / seconds
            speed = float(np.hypot(*mean))
            if speed < _SLOWEST:
                continue
            centre = np.array([(x + step / 2) / _ACROSS * width, (y + step / 2) / _DOWN * height])
            way = mean * (width, height)
            way = way / np.hypot(*way) * width / _ARROWS_ACROSS * 0.4
            start, tip = (tuple(map(int, centre + sign * way)) for sign in (-1, 1))
            cv2.arrowedLine(image, start, tip, (255, 255, 255), 1, cv2.LINE_AA, tipLength=0.4)


def moment(filmed: Filmed, time_ms: int, blur: Blur | None) -> Image:
    """Return a still with people's boxes and numbers, and covered by ``blur``."""
    frame = still(filmed.path, time_ms, filmed.video.uri)
    image, at = small(frame.image), frame.timestamp_ms
    look = Look(blur=blur)
    Overlay(filmed.timeline(look, at, at + 1), look).paint(image, at)
    return image


def picture(image: Image) -> Picture:
    """Return a picture as the page has it."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return Picture(encoded.tobytes(), image.shape[1], image.shape[0])
