"""Tracks through a moving camera: the street through a window that stands, sways, shakes or pans.

Each with the camera's motion taken out, as the engine does, and without.

    python -m benchmarks camera [--detector SPEC]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click
import cv2
import numpy as np

from benchmarks.tracking.__main__ import (
    STREET,
    STREET_TRUTH,
    Clip,
    people_in,
    person_tracks,
    read_truth,
    score_line,
)
from benchmarks.tracking.measure import Tracks, score
from rekognition_dagster.engine import open_detector
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import Detector
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.tracking.motion import STILL, CameraMotion, Similarity, small_grey

_WINDOW = (640, 480)
_ROOM = (128, 96)  # by which the street is wider and higher than the window
_VISIBLE = 0.4  # of a person's box, or nobody need find them
_FPS = 10.0

CAMERAS: dict[str, Callable[[float, np.random.Generator], tuple[float, float]]] = {
    "still": lambda t, random: (64, 48),
    "sway": lambda t, random: (64 + 15 * np.sin(1.57 * t), 48 + 7.5 * np.sin(2.1 * t)),
    "shake": lambda t, random: tuple(np.array([64, 48]) + random.normal(0, 5.3, 2)),
    "pan": lambda t, random: (64 + 64 * np.sin(2 * t), 48 + 20 * np.sin(1.26 * t)),
}
"""Where the window's corner is after so many seconds, in pixels of the street."""


class Seen(NamedTuple):
    """A sequence as a detector sees it, and what takes each picture to steady coordinates."""

    clip: Clip
    motion: list[Similarity]
    motion_ms: float


def see(camera: str, detector: Detector) -> Seen:
    """Look at the street through a window."""
    random, corners, pictures = np.random.default_rng(7), [], []

    def frames() -> Iterator[Frame]:
        with open_video(STREET) as opened:
            for frame in opened.frames():
                corner = CAMERAS[camera](frame.index / _FPS, random)
                corners.append(np.clip(corner, 0, _ROOM))
                shift = np.array([[1, 0, -corners[-1][0]], [0, 1, -corners[-1][1]]], np.float32)
                image = cv2.warpAffine(frame.image, shift, _WINDOW)
                seen = Frame.from_image(np.asarray(image, np.uint8), 0, frame.timestamp_ms)
                pictures.append(small_grey(seen))
                yield seen

    seen = list(people_in(frames(), detector))
    follower, motion, begin = CameraMotion(), [], time.process_time()
    for grey, (_, found) in zip(pictures, seen, strict=True):
        motion.append(follower.update(grey, found.xyxy / np.tile(_WINDOW, 2), _WINDOW[0]))
    spent = (time.process_time() - begin) / len(seen) * 1000
    truth = dict(zip((t for t, _ in seen), _through(corners), strict=True))
    return Seen(Clip(camera, truth, seen, detector.scores, _FPS, _WINDOW), motion, spent)


def _through(corners: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The street's truth as the window shows it."""
    truth: Tracks = read_truth(STREET_TRUTH, len(corners))
    for (ids, boxes), corner in zip(truth.values(), corners, strict=True):
        there = boxes - np.tile(corner, 2)
        shown = np.clip(there, 0, np.tile(_WINDOW, 2))
        part = np.prod(shown[:, 2:] - shown[:, :2], axis=1)
        visible = part > _VISIBLE * np.prod(there[:, 2:] - there[:, :2], axis=1)
        yield ids[visible], shown[visible]


@click.command()
@click.option("--detector", "spec", help="As for analyze; embedded by default.")
def main(spec: str | None) -> None:
    """Print a line for each camera, without and with its motion taken out."""
    if not STREET.exists():
        raise click.ClickException(f"no {STREET.name} in {STREET.parent}")
    detector = open_detector(spec)
    click.echo(f"{'':22}  HOTA  DetA  AssA  IDF1   MOTA switches identities / true")
    for camera in CAMERAS:
        clip, motion, spent = see(camera, detector)
        for name, moves in (("as it is", [STILL] * len(motion)), ("taken out", motion)):
            found = score(clip.truth, person_tracks(clip, moves))
            click.echo(f"{camera:10} {name:11} {score_line([found])}")
        click.echo(f"{'':10} {spent:.2f} ms CPU a frame for the motion")


if __name__ == "__main__":
    main()
