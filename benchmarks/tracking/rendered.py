"""Made scenes with known truth as pictures, for a real detector to look at.

People are cut out of a real video in which it is known who is where, and walk the ways of
:mod:`.scenes` over real backgrounds, behind and before each other and behind posts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from benchmarks.tracking.measure import Tracks
from benchmarks.tracking.scenes import (
    Scene,
    Truth,
    Walk,
    in_picture,
    posts_of,
    sway_of,
    walks_of,
)
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.frame import Frame

_STRIDE = 0.1  # body heights that one walks from one cut-out to the next
_RUN = 12  # cut-outs in a row that make a walk
_FOREGROUND = 36  # grey levels away from the background
_NOISE = 2.5  # grey levels
_ALONE = 0.03  # of a person's box that another may share


@dataclass(frozen=True)
class Cut:
    """A person cut out of a picture: pixels, and how much each is theirs, 0 to 1."""

    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Stock:
    """What scenes are put together from: people as runs of cut-outs, and empty places."""

    people: list[list[Cut]]
    places: dict[str, np.ndarray]


RENDERED = (
    Scene("yard", 41, fps=10, seconds=40, people=7, height=0.19),
    Scene("yard 25 fps", 42, fps=25, seconds=16, people=8, height=0.19, posts=3),
    Scene("passage", 43, fps=12.5, seconds=30, people=6, height=0.32, posts=3, size=(1280, 720)),
    Scene("crowd", 44, fps=15, seconds=20, people=14, height=0.24, groups=0.5),
)
"""What constants may be chosen on."""

RENDERED_HELD_OUT = (
    Scene("errands 8 fps", 61, errands=True, fps=8, seconds=45, people=7, height=0.2, posts=3),
    Scene("errands 30 fps", 62, errands=True, fps=30, seconds=14, people=9, height=0.25),
    Scene("swaying", 63, errands=True, fps=20, seconds=20, people=7, height=0.22, shake=0.015),
    Scene("street", 64, fps=25, seconds=16, people=16, height=0.26, size=(960, 540), groups=0.4),
)
"""What nothing was chosen on."""


def stock(video: Path, truth: Tracks, more_places: dict[str, np.ndarray]) -> Stock:
    """Cut people out of a video from a camera that stands still."""
    frames = []
    with open_video(video) as opened:
        for frame in opened.frames():
            frames.append(frame.image)
    empty = np.median(frames[:: max(1, len(frames) // 60)], axis=0).astype(np.uint8)
    runs: dict[int, list[tuple[int, Cut]]] = {}
    for number, (image, (ids, boxes)) in enumerate(zip(frames, truth.values(), strict=True)):
        for k, identity in enumerate(ids.tolist()):
            others = np.delete(boxes, k, axis=0)
            cut = _cut(image, empty, boxes[k]) if _is_alone(boxes[k], others) else None
            if cut is not None:
                runs.setdefault(identity, []).append((number, cut))
    people = [run for found in runs.values() for run in _runs(found)]
    return Stock(people, {video.name: empty, **more_places})


def _is_alone(box: np.ndarray, others: np.ndarray) -> bool:
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    return bool((shared <= _ALONE * (box[2:] - box[:2]).prod()).all())


def _cut(image: np.ndarray, empty: np.ndarray, box: np.ndarray) -> Cut | None:
    height, width = image.shape[:2]
    left, top, right, bottom = (box + np.array([-6, -6, 6, 6])).astype(int)
    if left < 0 or top < 0 or right > width or bottom > height:
        return None
    crop, behind = image[top:bottom, left:right], empty[top:bottom, left:right]
    differs = np.abs(crop.astype(int) - behind).max(axis=2) > _FOREGROUND
    mask = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h, area = stats[largest]
    if h < 0.9 * (box[3] - box[1]) or area < 0.35 * w * h or w > 0.7 * h:
        return None
    alone = (parts == largest).astype(np.float32)
    soft = cv2.GaussianBlur(alone, (3, 3), 0)
    return Cut(crop[y : y + h, x : x + w].copy(), soft[y : y + h, x : x + w])


def _runs(found: list[tuple[int, Cut]]) -> Iterator[list[Cut]]:
    """At most one run of each person: the longest."""
    runs = [[found[0]]]
    for before, this in pairwise(found):
        if this[0] - before[0] > 2:
            runs.append([])
        runs[-1].append(this)
    longest = max(runs, key=len)
    if len(longest) >= _RUN:
        yield [cut for _, cut in longest]


def render(scene: Scene, stock: Stock) -> tuple[Truth, Iterator[Frame]]:
    """The truth, and the pictures one after another."""
    random = np.random.default_rng(scene.seed)
    walks, posts = walks_of(scene, random), posts_of(scene, random)
    order = random.permutation(len(stock.people))
    who = [stock.people[order[i % len(order)]] for i in range(len(walks))]
    sway = sway_of(scene)
    truth = Truth()
    drawn: list[list[tuple[np.ndarray, Cut | None, bool]]] = []
    for n in range(int(scene.seconds * scene.fps)):
        time = n / scene.fps
        present = []
        things: list[tuple[np.ndarray, Cut | None, bool]] = [
            (p + sway[n], None, False) for p in posts
        ]
        for i, walk in enumerate(walks):
            if walk.begin <= time <= walk.end:
                cut = _at(who[i], walk, time)
                box = _shaped(walk.at(time), cut, scene) + sway[n]
                present.append((i, box))
                things.append((box, cut, _goes_left(walk, time)))
        boxes, ids = in_picture(present, scene)
        truth.times_ms.append(round(time * 1000))
        truth.ids.append(ids)
        truth.boxes.append(boxes)
        drawn.append(sorted(things, key=lambda thing: thing[0][3]))
    return truth, _pictures(scene, stock, drawn, sway, truth.times_ms)


def _at(cuts: list[Cut], walk: Walk, time: float) -> Cut:
    """The cut-out for how far somebody has walked, there and back again through the run."""
    until = walk.times <= time
    feet = np.concatenate([walk.feet[until], [_foot(walk, time)]])
    ratio = walk.scene.size[0] / walk.scene.size[1]
    steps = np.hypot(np.diff(feet[:, 0]) * ratio, np.diff(feet[:, 1]) * 1.8)
    at = int(steps.sum() / (walk.scene.height * _STRIDE)) % max(2 * len(cuts) - 2, 1)
    return cuts[at if at < len(cuts) else 2 * len(cuts) - 2 - at]


def _foot(walk: Walk, time: float) -> np.ndarray:
    return np.array([np.interp(time, walk.times, axis) for axis in walk.feet.T])


def _goes_left(walk: Walk, time: float) -> bool:
    return bool(_foot(walk, time + 0.5)[0] < _foot(walk, time - 0.5)[0])


def _shaped(box: np.ndarray, cut: Cut, scene: Scene) -> np.ndarray:
    """The box with the cut-out's own ratio of sides."""
    tall, wide = cut.mask.shape
    half = (box[3] - box[1]) * wide / tall * scene.size[1] / scene.size[0] / 2
    middle = (box[0] + box[2]) / 2
    return np.array([middle - half, box[1], middle + half, box[3]])


def _pictures(scene: Scene, stock: Stock, drawn: list, sway: np.ndarray, times: list[int]):
    random = np.random.default_rng(scene.seed)
    place = cv2.resize(stock.places[scene.clip], scene.size, interpolation=cv2.INTER_AREA)
    grain = random.normal(0, _NOISE, (scene.size[1] + 64, scene.size[0] + 64, 1))
    grain = np.round(grain).astype(np.int16)
    bark = cv2.resize(stock.places["vtest.avi"][60:120, 330:460], (64, 256))
    for n, things in enumerate(drawn):
        move = np.array([[1, 0, sway[n, 0] * scene.size[0]], [0, 1, sway[n, 1] * scene.size[1]]])
        image = cv2.warpAffine(place, move, scene.size, borderMode=cv2.BORDER_REFLECT)
        for box, cut, mirrored in things:
            picture, mask = (cut.image, cut.mask) if cut else (bark, np.ones(bark.shape[:2]))
            if mirrored:
                picture, mask = picture[:, ::-1], mask[:, ::-1]
            _paste(image, picture, mask, box * np.tile(scene.size, 2))
        x, y = random.integers(0, 64, 2)
        noisy = image + grain[y : y + scene.size[1], x : x + scene.size[0]]
        rgb = np.clip(noisy, 0, 255).astype(np.uint8)
        yield Frame.from_image(rgb, n, times[n])


def _paste(image: np.ndarray, picture: np.ndarray, mask: np.ndarray, box: np.ndarray) -> None:
    left, top, right, bottom = np.round(box).astype(int)
    size = (max(right - left, 1), max(bottom - top, 1))
    picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_LINEAR)
    alpha = cv2.resize(np.ascontiguousarray(mask, np.float32), size)[..., None]
    height, width = image.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + size[0], width), min(top + size[1], height)
    if x0 >= x1 or y0 >= y1:
        return
    inner = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    under = image[y0:y1, x0:x1]
    image[y0:y1, x0:x1] = under + alpha[inner] * (picture[inner].astype(np.float32) - under)
