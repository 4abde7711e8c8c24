"""Sequences of the ensemble: pictures, perturbed, and what a detector finds in them.

Detections are kept in the user's cache folder, so a change of the tracker is judged without a
network. Nothing here knows of the tracker.
"""

from __future__ import annotations

import gzip
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.tracking.measure import Tracks
from rekognition_dagster.engine import sampling
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import Detector, ScoreScale
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.looking import SPAN_MS
from rekognition_dagster.engine.tracking.motion import small_grey

Image = np.ndarray
View = Callable[[float, np.random.Generator], np.ndarray]
"""The matrix (2, 3) that takes places of the scene to the picture, after so many seconds."""

_WINDOW = (640, 480)
_ROOM = (128, 96)  # by which the street is wider and higher than the window
_VISIBLE = 0.4  # of a person's box, or nobody need find them
_VERSION = 1  # of what is kept; a new one detects anew


@dataclass(frozen=True)
class Observed:
    """A sequence with its truth, and what a detector finds in it.

    ``seen`` is like ``Clip.seen``, with None where nobody looked; ``greys`` are the small pictures
    that tell the camera's motion; ``needed`` are the frames that ``--sample-fps auto`` looks at.
    """

    truth: Tracks
    seen: list
    greys: list[np.ndarray] | None
    needed: np.ndarray
    scores: ScoreScale
    fps: float
    size: tuple[int, int]


@dataclass(frozen=True)
class Perturbation:
    """What is done to pictures.

    Args:
        view: Where the camera looks; as it is if None.
        size: Of the picture in pixels; as it is if None.
        change: Of the pixels.
    """

    view: View | None = None
    size: tuple[int, int] | None = None
    change: Callable[[Iterator[Image]], Iterator[Image]] = iter


def _window(corner: Callable[[float, np.random.Generator], tuple[float, float]]) -> View:
    def view(time: float, random: np.random.Generator) -> np.ndarray:
        x, y = np.clip(corner(time, random), 0, _ROOM)
        return np.array([[1, 0, -x], [0, 1, -y]], float)

    return view


def _zoom(time: float, random: np.random.Generator) -> np.ndarray:
    """Into the picture by a third and out again, in eight seconds."""
    scale = 1.17 - 0.17 * np.cos(0.785 * time)
    centre = np.array([384.0, 288.0])
    return np.column_stack([scale * np.eye(2), np.array(_WINDOW) / 2 - scale * centre])


def _dark(images: Iterator[Image]) -> Iterator[Image]:
    random = np.random.default_rng(5)
    for image in images:
        noisy = 0.35 * image + random.normal(0, 6, image.shape[:2])[..., None]
        yield np.clip(noisy, 0, 255).astype(np.uint8)


def _encoded(images: Iterator[Image]) -> Iterator[Image]:
    """As H.264 of low quality gives them back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoded.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", 10, options={"crf": "30"})
            for n, image in enumerate(images):
                if n == 0:
                    stream.height, stream.width = image.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            container.mux(stream.encode())
        with open_video(path) as opened:
            yield from (frame.image for frame in opened.frames())


PERTURBATIONS = {
    "plain": Perturbation(),
    "mirror": Perturbation(lambda t, random: np.array([[-1.0, 0, 767], [0, 1, 0]])),
    "half size": Perturbation(lambda t, random: np.array([[0.5, 0, 0], [0, 0.5, 0]]), (384, 288)),
    "crop": Perturbation(_window(lambda t, random: (64, 48)), _WINDOW),
    "re-encode": Perturbation(change=_encoded),
    "dark, noisy": Perturbation(change=_dark),
    "sway": Perturbation(
        _window(lambda t, random: (64 + 15 * np.sin(1.57 * t), 48 + 7.5 * np.sin(2.1 * t))), _WINDOW
    ),
    "shake": Perturbation(
        _window(lambda t, random: tuple(np.array([64, 48]) + random.normal(0, 5.3, 2))), _WINDOW
    ),
    "pan": Perturbation(
        _window(lambda t, random: (64 + 64 * np.sin(2 * t), 48 + 20 * np.sin(1.26 * t))), _WINDOW
    ),
    "zoom": Perturbation(_zoom, _WINDOW),
}
"""Of the sample street, 768x576."""


def observe(
    frames: Iterator[Frame],
    truth: Tracks,
    fps: float,
    detector: Detector,
    perturbation: Perturbation,
    people_in: Callable,
) -> Observed:
    """Look at a perturbed sequence; ``truth`` has a value for each frame."""
    random, views, greys, needed, size = np.random.default_rng(7), [], [], [], [0, 0]

    def viewed() -> Iterator[Image]:
        for frame in frames:
            image = frame.image
            if perturbation.view is not None:
                views.append(perturbation.view(frame.index / fps, random))
                shape = perturbation.size or (frame.width, frame.height)
                how = cv2.INTER_AREA if views[-1][1, 1] < 1 else cv2.INTER_LINEAR
                image = np.asarray(cv2.warpAffine(image, views[-1], shape, flags=how), np.uint8)
            yield image

    def pictures() -> Iterator[Frame]:
        changed = perturbation.change(viewed())
        made = (Frame.from_image(p, n, round(1000 * n / fps)) for n, p in enumerate(changed))
        for frame, is_needed in sampling.as_needed(made, SPAN_MS):
            size[:] = frame.width, frame.height
            greys.append(small_grey(frame))
            needed.append(is_needed)
            yield frame

    seen = list(people_in(pictures(), detector))
    known = list(truth.values())[: len(seen)]
    if views:
        known = [_through(*each, view, size) for each, view in zip(known, views, strict=True)]
    timed = dict(zip((time for time, _ in seen), known, strict=True))
    return Observed(timed, seen, greys, np.array(needed), detector.scores, fps, (size[0], size[1]))


def _through(
    ids: np.ndarray, boxes: np.ndarray, view: np.ndarray, size: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The truth of a frame as the picture shows it."""
    corners = boxes.reshape(-1, 2, 2) @ view[:, :2].T + view[:, 2]
    there = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    shown = np.clip(there, 0, np.tile(size, 2))
    part = np.prod(shown[:, 2:] - shown[:, :2], axis=1)
    visible = part > _VISIBLE * np.prod(there[:, 2:] - there[:, :2], axis=1)
    return ids[visible], shown[visible]


def kept(name: str, look: Callable[[], Observed] | None) -> Observed | None:
    """Return what is in the cache by this name, else what ``look`` finds, if it is given."""
    path = folder() / f"{name}.{_VERSION}.pkl.gz"
    if path.exists():
        with gzip.open(path) as file:
            return pickle.load(file)
    if look is None:
        return None
    observed = look()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with gzip.open(partial, "wb", compresslevel=1) as file:
        pickle.dump(observed, file)
    partial.replace(path)
    return observed


def folder() -> Path:
    """Where observations are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rekognition-dagster" / "ensemble"
