"""Made scenes with known truth: people walk, cross, hide, leave and return.

A scene is made in two steps. First the world: who is where at each time. Then what a detector
would see of it: hidden people are missed, half hidden ones get low scores and cropped boxes, boxes
tremble, clutter is taken for people now and then. Nothing here knows of the tracker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale


@dataclass(frozen=True)
class Eye:
    """A detector's habits.

    Args:
        name: For the table.
        scores: Its scale.
        mean: Usual score of a person in full view.
        spread: Standard deviation of the score, person to person and moment to moment.
        jitter: Standard deviation of a box's sides, in ratios of its size.
        blind: Ratio of people in full view that it misses, in stretches.
        clutter: False boxes in a frame.
    """

    name: str
    scores: ScoreScale
    mean: float
    spread: float
    jitter: float
    blind: float
    clutter: float


SHARP = Eye("sharp", ScoreScale(0.1, 0.3), 0.65, 0.12, 0.025, 0.03, 0.1)
WEAK = Eye("weak", ScoreScale(0.05, 0.35), 0.6, 0.28, 0.05, 0.10, 0.6)
SHY = Eye("shy", ScoreScale(0.01, 0.06), 0.13, 0.05, 0.04, 0.06, 0.4)
BOLD = Eye("bold", ScoreScale(0.5, 0.8), 0.9, 0.08, 0.045, 0.12, 0.8)


@dataclass(frozen=True)
class Scene:
    """What there is to see.

    Args:
        name: For the table.
        seed: Makes it the same each time.
        fps: Frames in a second.
        seconds: Length.
        size: Width and height in pixels.
        people: How many are in the picture at a time, about.
        posts: Things that hide people.
        height: A person's height in the middle of the picture, in ratios of the picture's.
        groups: Ratio of people who walk with somebody.
        pauses: How often somebody stops, in a minute.
        errands: People stop, go, turn sharply and run, instead of strolling along smooth ways.
        shake: Deviation of the camera's swaying, in ratios of the picture's width.
        clip: Where it is rendered, the stored video whose place is the background.
        sits: People come in, sit at desks for most of a minute, and are seldom surely seen there.
        statues: Things that a detector takes for people in every other frame, never surely.
    """

    name: str
    seed: int
    fps: float = 10.0
    seconds: float = 60.0
    size: tuple[int, int] = (768, 576)
    people: float = 6.0
    posts: int = 2
    height: float = 0.16
    groups: float = 0.3
    pauses: float = 2.0
    errands: bool = False
    shake: float = 0.0
    clip: str = "vtest.avi"
    sits: bool = False
    statues: int = 0


SCENES = (
    Scene("yard 10 fps", 1),
    Scene("yard 25 fps", 2, fps=25, seconds=40),
    Scene("yard 5 fps", 3, fps=5),
    Scene("crowd", 4, people=14, fps=12.5, seconds=40, groups=0.5),
    Scene("posts", 5, posts=6),
    Scene("hall, large people", 6, size=(1280, 720), height=0.5, people=4, fps=30, seconds=40),
    Scene("street, small people", 7, size=(1920, 1080), height=0.06, people=10, fps=15, seconds=40),
    Scene("waiting room", 8, pauses=12, people=5),
)
"""What constants may be chosen on."""

HELD_OUT = (
    Scene("errands 8 fps", 21, errands=True, fps=8, people=7),
    Scene("errands 30 fps", 22, errands=True, fps=30, seconds=30, size=(1280, 720), people=8),
    Scene("errands 4 fps", 23, errands=True, fps=4, people=5),
    Scene("swaying camera", 24, errands=True, fps=25, seconds=30, shake=0.02),
    Scene("dense crowd", 25, people=24, fps=25, seconds=24, groups=0.5, height=0.2),
    Scene("plaza, small people", 26, errands=True, size=(1920, 1080), people=16, height=0.07),
    Scene("corridor", 27, errands=True, fps=15, people=5, height=0.4, posts=4, seconds=40),
)
"""What nothing was chosen on: another motion, other cameras, other detectors."""

OFFICES = (
    Scene("office", 31, size=(1280, 720), people=4, height=0.3, seconds=90, sits=True, statues=3),
    Scene("library", 32, people=6, fps=12.5, height=0.25, seconds=90, sits=True, statues=2),
)
"""Of people who sit: what constants may be chosen on, and what nothing was chosen on."""


@dataclass
class Truth:
    """Who is where: for each frame its time, the people's numbers and their boxes."""

    times_ms: list[int] = field(default_factory=list)
    ids: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)


def make(scene: Scene, eye: Eye) -> tuple[Truth, list[sv.Detections]]:
    """The truth, and what the detector sees of it frame by frame."""
    random = np.random.default_rng(scene.seed)
    walks = walks_of(scene, random)
    posts = posts_of(scene, random)
    sway = sway_of(scene)
    moods = {i: _Mood(random, eye, scene.fps) for i in range(len(walks))}
    clutter = random.uniform(0, 1, (6, 4))
    statues = random.uniform(0.2, 0.8, (scene.statues, 4))
    truth, seen = Truth(), []
    for n in range(int(scene.seconds * scene.fps)):
        time = n / scene.fps
        present = [(i, w.at(time)) for i, w in enumerate(walks) if w.begin <= time <= w.end]
        boxes, ids = in_picture([(i, box + sway[n]) for i, box in present], scene)
        truth.times_ms.append(round(time * 1000))
        truth.ids.append(ids)
        truth.boxes.append(boxes)
        sitting = {i for i, _ in present if walks[i].sits_at(time)}
        things = clutter, statues
        seen.append(_look(boxes, ids, sitting, posts + sway[n], moods, things, scene, eye, random))
    return truth, seen


@dataclass
class Walk:
    """One person's way through the picture, in ratios of it."""

    begin: float
    times: np.ndarray
    feet: np.ndarray
    stature: float
    girth: float
    scene: Scene
    sits: tuple[float, float] = (0.0, 0.0)

    @property
    def end(self) -> float:
        """When they are gone, in seconds."""
        return float(self.times[-1])

    def at(self, time: float) -> np.ndarray:
        """Their box at a time: left, top, right, bottom."""
        width, height = self.scene.size
        x = np.interp(time, self.times, self.feet[:, 0])
        y = np.interp(time, self.times, self.feet[:, 1])
        tall = height_at(y, self.scene) * self.stature
        stride = 1 + 0.12 * np.sin(time * 2 * np.pi * 1.8)
        wide = tall * self.girth * stride * height / width
        low = y - 0.35 * tall if self.sits_at(time) else y  # legs are behind a desk
        return np.array([x - wide / 2, y - tall, x + wide / 2, low])

    def sits_at(self, time: float) -> bool:
        """Whether they sit at a time."""
        return self.sits[0] <= time < self.sits[1]


def height_at(y: float, scene: Scene) -> float:
    """A person's height in ratios of the picture's: nearer people, lower in it, are taller."""
    return scene.height * (0.45 + 1.1 * float(np.clip(y, 0, 1.2)))


def sway_of(scene: Scene) -> np.ndarray:
    """By how much the picture is displaced in each frame, as (x, y, x, y) in ratios."""
    random = np.random.default_rng(scene.seed + 1000)
    count = int(scene.seconds * scene.fps)
    keep = float(np.exp(-1 / (0.6 * scene.fps)))
    sway, place = np.zeros((count, 2)), np.zeros(2)
    for n in range(count):
        place = keep * place + np.sqrt(1 - keep**2) * random.normal(0, scene.shake, 2)
        sway[n] = place
    smooth = np.array([0.25, 0.5, 0.25])
    sway = np.stack([np.convolve(axis, smooth, "same") for axis in sway.T], axis=1)
    return np.tile(sway, 2)


def walks_of(scene: Scene, random: np.random.Generator) -> list[Walk]:
    """Everybody who comes by."""
    walks: list[Walk] = []
    mean_stay = 14.0
    rate = scene.people / mean_stay
    time = -mean_stay
    while time < scene.seconds:
        time += random.exponential(1 / rate)
        walk = (_errand if scene.errands else _stroll)(scene, random, time)
        walks.append(walk)
        if random.random() < scene.groups:
            beside = walk.feet + random.normal(0, [0.03, 0.012])
            late = walk.begin + random.normal(0, 0.2)
            times = walk.times - walk.times[0] + late
            companion = (random.normal(1, 0.06), 0.38 + random.normal(0, 0.03), scene)
            walks.append(Walk(late, times, beside, *companion))
    return walks


def _stroll(scene: Scene, random: np.random.Generator, begin: float) -> Walk:
    side = random.integers(4)
    along = random.uniform(0.35, 1.0)
    entries = [(-0.06, along), (1.06, along), (random.uniform(0.1, 0.9), 1.3)]
    entries.append((random.uniform(0.2, 0.8), 0.3))
    points = [np.array(entries[side])]
    for _ in range(random.integers(1, 4)):
        points.append(np.array([random.uniform(0.1, 0.9), random.uniform(0.35, 1.0)]))
    leave = (side + random.integers(1, 4)) % 4
    x, y = entries[leave]
    points.append(np.array([x, y + (random.normal(0, 0.05) if leave < 2 else 0)]))
    times, feet, sits = [begin], [points[0]], (0.0, 0.0)
    pace = random.uniform(0.6, 1.1)  # body heights in a second
    ratio = scene.size[0] / scene.size[1]
    for start, goal in pairwise(points):
        if scene.sits and len(times) > 1 and sits[1] == 0:
            sits = (times[-1], times[-1] + random.uniform(20, 50))
            times.append(sits[1])
            feet.append(feet[-1])
        steps = 12
        bend = random.normal(0, 0.04, 2)
        for k in range(1, steps + 1):
            u = k / steps
            place = start + (goal - start) * u + bend * np.sin(np.pi * u)
            moved = np.hypot((place - feet[-1])[0] * ratio, (place - feet[-1])[1] * 1.8)
            speed = pace * height_at(float(place[1]), scene) * random.uniform(0.9, 1.1)
            times.append(times[-1] + max(moved / speed, 1e-3))
            feet.append(place)
            if random.random() < scene.pauses / 60 * (times[-1] - times[-2]):
                times.append(times[-1] + random.uniform(2, 8))
                feet.append(place + random.normal(0, 0.004, 2))
    stature, girth = random.normal(1, 0.06), 0.38 + random.normal(0, 0.03)
    return Walk(begin, np.array(times), np.array(feet), stature, girth, scene, sits)


def _errand(scene: Scene, random: np.random.Generator, begin: float) -> Walk:
    """Straight on at one's own pace, with stops, starts and sharp turns."""
    step = 0.1
    ratio = scene.size[0] / scene.size[1]
    left = random.random() < 0.5
    place = np.array([-0.06 if left else 1.06, random.uniform(0.4, 1.0)])
    heading = random.normal(0, 0.3) + (0 if left else np.pi)
    pace = random.uniform(0.4, 1.0) if random.random() < 0.85 else random.uniform(1.2, 1.7)
    speed, walking = pace, True
    times, feet = [begin], [place]
    while times[-1] < begin + 45:
        if random.random() < step * (0.12 if walking else 0.35):
            walking = not walking
        if walking and random.random() < step * 0.25:
            heading += random.choice([-1, 1]) * random.uniform(0.7, 2.1)
        speed += 0.4 * ((pace if walking else 0.0) - speed)
        forward = speed * step * height_at(float(place[1]), scene)
        place = place + forward * np.array([np.cos(heading) / ratio, 0.55 * np.sin(heading)])
        if place[1] < 0.32:
            heading, place = -heading, np.array([place[0], 0.32])
        times.append(times[-1] + step)
        feet.append(place)
        if not -0.08 < place[0] < 1.08 or place[1] > 1.35:
            break
    stature, girth = random.normal(1, 0.06), 0.38 + random.normal(0, 0.03)
    return Walk(begin, np.array(times), np.array(feet), stature, girth, scene)


def posts_of(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Boxes in ratios with the line of their foot: they hide what stands farther away."""
    posts = []
    for _ in range(scene.posts):
        x, y = random.uniform(0.15, 0.85), random.uniform(0.55, 0.95)
        tall = height_at(y, scene) * random.uniform(0.9, 1.6)
        wide = tall * random.uniform(0.15, 0.7) * scene.size[1] / scene.size[0]
        posts.append([x - wide / 2, y - tall, x + wide / 2, y])
    return np.array(posts).reshape(-1, 4)


def in_picture(
    present: list[tuple[int, np.ndarray]], scene: Scene
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in pixels, and numbers, of those who are at least half in the picture."""
    kept, ids = [], []
    for i, box in present:
        inside = np.clip(box, 0, 1)
        area = (box[2] - box[0]) * (box[3] - box[1])
        part = (inside[2] - inside[0]) * (inside[3] - inside[1]) / area
        if part > 0.5:
            kept.append(inside * np.array([*scene.size, *scene.size]))
            ids.append(i)
    return np.array(kept).reshape(-1, 4), np.array(ids, int)


class _Mood:
    """How well one person is seen from moment to moment: scores wander, and so do boxes."""

    def __init__(self, random: np.random.Generator, eye: Eye, fps: float) -> None:
        self._random, self._eye = random, eye
        self._keep = float(np.exp(-1 / (0.4 * fps)))
        self._base = random.normal(eye.mean, eye.spread / 2)
        self._score, self._shift = random.normal(0, 1), random.normal(0, 1, 4)
        self._blind_keep = float(np.exp(-1 / (0.5 * fps)))
        self._blind = False

    def step(self) -> tuple[float, np.ndarray, bool]:
        keep, fresh = self._keep, np.sqrt(1 - self._keep**2)
        self._score = keep * self._score + fresh * self._random.normal()
        self._shift = 0.5 * self._shift + np.sqrt(0.75) * self._random.normal(0, 1, 4)
        if self._random.random() > self._blind_keep:
            self._blind = self._random.random() < self._eye.blind
        return self._base + self._score * self._eye.spread * 0.8, self._shift, self._blind


def _look(
    boxes: np.ndarray,
    ids: np.ndarray,
    sitting: set[int],
    posts: np.ndarray,
    moods: dict[int, _Mood],
    things: tuple[np.ndarray, np.ndarray],
    scene: Scene,
    eye: Eye,
    random: np.random.Generator,
) -> sv.Detections:
    size = np.array([*scene.size, *scene.size])
    hiding = np.concatenate([boxes, posts * size])
    found, scores = [], []
    for k, whole in enumerate(boxes):
        box = whole
        score, shift, blind = moods[int(ids[k])].step()
        if int(ids[k]) in sitting:
            score = eye.scores.noise + 0.45 * (score - eye.scores.noise)
            shift = 0.3 * shift
        nearer = hiding[(hiding[:, 3] > box[3] + 0.5)]
        visible, part = _visible(box, nearer)
        if blind or visible < 0.25 or random.random() < 0.02:
            continue
        if visible < 0.7:
            score *= 0.35 + 0.9 * visible
            if random.random() < 0.5:
                box = part  # the detector frames what it sees
        extent = np.array([box[2] - box[0], box[3] - box[1]] * 2)
        found.append(box + shift * eye.jitter * extent)
        scores.append(score)
    clutter, statues = things
    noise, sure = eye.scores.noise, eye.scores.sure
    for place in statues[random.random(len(statues)) < 0.5] if len(statues) else ():
        found.append(_thing(place, place[:2], scene) * size)
        scores.append(noise + (sure - noise) * random.uniform(0.4, 1.15))
    for _ in range(random.poisson(eye.clutter)):
        place = clutter[random.integers(len(clutter))]
        if random.random() < 0.4:
            place = random.uniform(0, 1, 4)
        at = place[:2] + random.normal(0, 0.004, 2)
        found.append(_thing(place, at, scene) * size)
        scores.append(eye.scores.noise + abs(random.normal(0, 0.12)))
    confidence = np.clip(np.array(scores, np.float32), 0, 0.99)
    keep = confidence > eye.scores.noise
    xyxy = np.clip(np.array(found, np.float32).reshape(-1, 4), 0, size)
    return sv.Detections(
        xyxy=xyxy[keep].astype(np.float32),
        confidence=confidence[keep],
        class_id=np.zeros(int(keep.sum()), int),
    )


def _thing(shape: np.ndarray, foot: np.ndarray, scene: Scene) -> np.ndarray:
    tall = height_at(shape[1], scene) * (0.6 + 0.8 * shape[2])
    wide = tall * (0.25 + 0.3 * shape[3]) * scene.size[1] / scene.size[0]
    x, y = foot
    return np.array([x - wide / 2, y - tall, x + wide / 2, y])


def _visible(box: np.ndarray, nearer: np.ndarray) -> tuple[float, np.ndarray]:
    """How much of the box is not hidden, and the frame around that, on a grid of 10x10."""
    x = np.linspace(box[0], box[2], 11)[:-1] + (box[2] - box[0]) / 20
    y = np.linspace(box[1], box[3], 11)[:-1] + (box[3] - box[1]) / 20
    free = np.ones((10, 10), bool)
    for other in nearer:
        free &= ~(
            ((y > other[1]) & (y < other[3]))[:, None] & ((x > other[0]) & (x < other[2]))[None]
        )
    if not free.any():
        return 0.0, box
    rows, columns = np.flatnonzero(free.any(axis=1)), np.flatnonzero(free.any(axis=0))
    step = np.array([box[2] - box[0], box[3] - box[1]]) / 10
    low = box[:2] + step * [columns[0], rows[0]]
    high = box[:2] + step * [columns[-1] + 1, rows[-1] + 1]
    return float(free.mean()), np.concatenate([low, high])
