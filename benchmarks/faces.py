"""Faces: how small and how tilted they may be, and what finding and describing them costs.

The faces are one man's, twelve moments of a sample video, shrunk and turned, on grey pictures of
640x480 with four each. A face is found if a box overlaps its own by two fifths.

    python -m benchmarks faces [--seconds 4]
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
import cv2
import numpy as np
import supervision as sv

from rekognition_dagster.engine import models
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import Detector
from rekognition_dagster.engine.faces.detailed import face_detector
from rekognition_dagster.engine.frame import Frame, Image

_TALL = 67  # pixels of his face in the video
_HEIGHTS = (8, 10, 12, 14, 16, 20, 24, 32, 48)
_TILTS = (0, 15, 30, 45, 60, 90)
_TILTED_HEIGHT = 40
_PLACES = ((60, 40), (360, 40), (60, 260), (360, 260))
_OVERLAP = 0.4


def moments() -> list[Image]:
    """Read twelve pictures of the man, a third of a second apart."""
    with open_video(models.path("carphone_pristine.mp4")) as opened:
        return [frame.image for frame in opened.frames(3)]


def scene(pictures: Sequence[Image], tall: int, degrees: int) -> Frame:
    """Place four pictures, turned, their faces so many pixels tall, on a grey one."""
    canvas = np.full((480, 640, 3), 128, np.uint8)
    for image, (x, y) in zip(pictures, _PLACES, strict=True):
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
        turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        scale = tall / _TALL
        small = cv2.resize(turned, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
    return Frame.from_image(canvas)


def places(pictures: Sequence[Image], boxes: np.ndarray, tall: int, degrees: int) -> np.ndarray:
    """Return where the faces of a scene are: upright boxes around the turned ones' middles."""
    scale, found = tall / _TALL, []
    for image, box, corner in zip(pictures, boxes, _PLACES, strict=True):
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
        middle = turn @ [*(box[:2] + box[2:]) / 2, 1]
        half = (box[2:] - box[:2]) / 2
        half = half[::-1] if degrees == 90 else half
        found.append(np.concatenate([middle - half, middle + half]) * scale + np.tile(corner, 2))
    return np.array(found)


def recall(detector: Detector, pictures: list[Image], tall: int, degrees: int) -> float:
    """Return which part of the faces is found."""
    alone = list(detector.detect(Frame.from_image(image) for image in pictures))
    boxes = np.array([found.xyxy[np.argmax(np.asarray(found.confidence))] for found in alone])
    hits = 0
    for start in range(0, len(pictures), 4):
        some = slice(start, start + 4)
        (found,) = detector.detect([scene(pictures[some], tall, degrees)])
        truth = places(pictures[some], boxes[some], tall, degrees)
        hits += int((sv.box_iou_batch(truth, found.xyxy) >= _OVERLAP).any(axis=1).sum())
    return hits / len(pictures)


def cost(detector: Detector, frames: list[Frame], seconds: float) -> float:
    """Return CPU milliseconds a frame, all threads together."""
    list(detector.detect(frames))
    rounds, begin, started = 0, time.process_time(), time.monotonic()
    while time.monotonic() - started < seconds:
        list(detector.detect(frames))
        rounds += 1
    return (time.process_time() - begin) / rounds / len(frames) * 1000


@click.command()
@click.option("--seconds", default=4.0, show_default=True, help="Of each measurement of cost.")
def main(seconds: float) -> None:
    """Print recall by height and by tilt, then the costs."""
    pictures, detector = moments(), face_detector(False)
    for tall in _HEIGHTS:
        click.echo(f"{tall:3} px tall   found {recall(detector, pictures, tall, 0):.2f}")
    for degrees in _TILTS:
        found = recall(detector, pictures, _TILTED_HEIGHT, degrees)
        click.echo(f"{_TILTED_HEIGHT} px tall, tilted {degrees:2} degrees   found {found:.2f}")
    frames = [scene(pictures[i : i + 4], _TALL, 0) for i in (0, 4, 8)]
    lean = cost(detector, frames, seconds)
    full = cost(face_detector(True), frames, seconds)
    click.echo(f"640x480: detection {lean:.1f} ms CPU a frame")
    each = (full - lean) / len(_PLACES)
    click.echo(
        f"every attribute {each:.1f} ms CPU a face, {each / lean:.2f} x detection in a frame"
    )


if __name__ == "__main__":
    main()
