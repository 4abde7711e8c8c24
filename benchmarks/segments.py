"""Shot boundaries on an ensemble of made videos with known cuts: precision, recall, exactness.

    python -m benchmarks segments [VIDEO ...] [--seeds 40] [--first-seed 0]

Each made video joins crops of real ones at random points: cut hard, also between two crops of one
scene, dissolved, faded through black. The crops pan, zoom and tremble; flashes, changes of exposure
and noise come on top, and all of it is encoded as H.264 and decoded again. Without VIDEO the
samples are the material; their own cuts are known.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import click
import cv2
import numpy as np
import numpy.typing as npt

from rekognition_dagster.engine import analyze, models

_RATE = 25
_SIZE = 320, 240
_CUTS_OF_SAMPLES = {"bikes.mp4": (30, 76, 137, 187, 242)}
_SLACK = 2  # frames by which a gradual boundary may be beyond its transition

Images = npt.NDArray[np.uint8]


class Joint(NamedTuple):
    """A true boundary: its kind, and the frames between which it may be put."""

    kind: str
    first: int
    last: int


@dataclass(frozen=True)
class Made:
    """A made video: RGB frames and its true boundaries."""

    frames: list[Images]
    joints: list[Joint]


def scenes_of(path: Path) -> list[list[Images]]:
    """Read a video as its scenes, in frames of at most 480 pixels across."""
    cuts = _CUTS_OF_SAMPLES.get(path.name, ())
    scenes: list[list[Images]] = [[]]
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in cuts:
                scenes.append([])
            width = min(480, frame.width)
            height = round(frame.height * width / frame.width)
            image = frame.to_ndarray(format="rgb24", width=width, height=height)
            scenes[-1].append(image)
            if number > 800:
                break
    return [scene for scene in scenes if len(scene) >= 8]


def make(scenes: Sequence[list[Images]], seed: int) -> Made:
    """Make one video."""
    dice = np.random.default_rng(seed)
    frames: list[Images] = []
    joints: list[Joint] = []
    scene = scenes[0]
    for number in range(int(dice.integers(5, 9))):
        kind = str(
            dice.choice(["cut", "alike", "dissolve", "fade", "dip"], p=[0.4, 0.2, 0.2, 0.1, 0.1])
        )
        if not number or kind != "alike":
            scene = scenes[int(dice.integers(len(scenes)))]
        shot = _shot(scene, dice, int(dice.integers(20, 70)), zoomed=kind == "alike")
        _join(frames, shot, kind if number else "first", joints, dice)
    noise = float(dice.choice([0, 3, 8]))
    if noise:
        frames = [_clipped(f + dice.normal(0, noise, f.shape)) for f in frames]
    return Made(frames, joints)


def _shot(
    scene: list[Images], dice: np.random.Generator, length: int, *, zoomed: bool
) -> list[Images]:
    height, width = scene[0].shape[:2]
    share = float(dice.uniform(0.35, 0.6) if zoomed else dice.uniform(0.5, 1.0))
    place = dice.uniform(0, 1 - share, 2)
    drift = dice.uniform(-0.008, 0.008, 2) * dice.integers(0, 2)
    zoom = 1 + float(dice.uniform(-0.006, 0.006)) * int(dice.integers(0, 2))
    tremble = float(dice.choice([0, 0, 0.004]))
    first, step = int(dice.integers(len(scene))), int(dice.choice([-1, 1]))
    gain, mirror = float(dice.uniform(0.6, 1.15)), bool(dice.integers(2))
    exposure = float(dice.choice([0, 0, 0.004]))
    flash = int(dice.integers(5, length - 5)) if dice.random() < 0.25 else -9
    shot = []
    for n in range(length):
        index = abs((first + step * n) % (2 * len(scene) - 1) - (len(scene) - 1))
        at = place + drift * n + dice.normal(0, tremble, 2)
        side = min(1.0, share * zoom**n)
        left, top = np.clip(at, 0, 1 - side) * (width, height)
        box = scene[index][
            int(top) : int(top) + max(8, int(side * height)),
            int(left) : int(left) + max(8, int(side * width)),
        ]
        image = cv2.resize(box, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
        image *= gain * (1 + exposure * n)
        if flash <= n < flash + 2:
            image = image * 0.5 + 150
        shot.append(_clipped(image[:, ::-1] if mirror else image))
    return shot


def _join(
    frames: list[Images],
    shot: list[Images],
    kind: str,
    joints: list[Joint],
    dice: np.random.Generator,
) -> None:
    if kind == "dissolve":
        length = int(dice.integers(10, 36))
        length = min(length, len(shot) - 5, len(frames) - 5)
        begin = len(frames) - length
        for n in range(length):
            share = (n + 1) / (length + 1)
            frames[begin + n] = _clipped(frames[begin + n] * (1 - share) + shot[n] * share)
        joints.append(Joint(kind, begin, begin + length))
        frames += shot[length:]
        return
    if kind in ("fade", "dip"):
        length = int(dice.integers(6, 13)) if kind == "fade" else 0
        black = int(dice.integers(1, 9))
        begin = len(frames) - length
        for n in range(length):
            frames[begin + n] = _clipped(frames[begin + n] * (1 - (n + 1) / (length + 1)))
            shot[n] = _clipped(shot[n] * ((n + 1) / (length + 1)))
        frames += [np.zeros_like(shot[0])] * black
        joints.append(Joint(kind, begin, len(frames) + length))
    elif kind != "first":
        joints.append(Joint(kind, len(frames), len(frames)))
    frames += shot


def _clipped(image: npt.NDArray) -> Images:
    return np.clip(image, 0, 255).astype(np.uint8)


def write(made: Made, path: Path, crf: int) -> None:
    """Encode a made video."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=_RATE, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = *_SIZE, "yuv420p"
        for number, image in enumerate(made.frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def found_in(path: Path) -> list[int]:
    """Return the first frame of each shot but the first, as the engine finds them."""
    rows: list[dict[str, Any]] = []
    analyze(path, {"segment_detection": rows.extend})
    shots = sorted(r["start_frame_number"] for r in rows if r["type"] == "SHOT")
    return shots[1:]


@dataclass
class Tally:
    """What was found of what there is."""

    there: Counter[str]
    found: Counter[str]
    exact: Counter[str]
    wrong: int = 0

    def count(self, joints: Sequence[Joint], found: Sequence[int]) -> list[int]:
        """Count one video; return what was found and is none."""
        left = list(found)
        for joint in joints:
            self.there[joint.kind] += 1
            slack = _SLACK if joint.last > joint.first else 1
            near = [f for f in left if joint.first - slack <= f <= joint.last + slack]
            if near:
                self.found[joint.kind] += 1
                self.exact[joint.kind] += near[0] == joint.first
                left.remove(near[0])
        self.wrong += len(left)
        return left

    def lines(self) -> Iterator[str]:
        """Print what was counted."""
        for kind, number in sorted(self.there.items()):
            text = (
                f"{kind:10s} {self.found[kind]:4d} of {number:4d} ({self.found[kind] / number:.3f})"
            )
            is_hard = kind in ("cut", "alike")
            yield f"{text}, on the frame {self.exact[kind]}" if is_hard else text
        right = self.found.total()
        recall, precision = (right / max(1, n) for n in (self.there.total(), right + self.wrong))
        yield f"recall {recall:.3f}, precision {precision:.3f}"


@click.command()
@click.argument("videos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", default=40, show_default=True)
@click.option("--first-seed", default=0, show_default=True)
@click.option("--each", is_flag=True, help="Print what is missed and what is wrong.")
def main(videos: tuple[Path, ...], seeds: int, first_seed: int, each: bool) -> None:
    """Measure shot boundaries."""
    paths = videos or [models.path(name) for name in ("bikes.mp4", "carphone_pristine.mp4")]
    scenes = [scene for path in paths for scene in scenes_of(Path(path))]
    tally = Tally(Counter(), Counter(), Counter())
    seconds, frames = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first_seed, first_seed + seeds):
            made = make(scenes, seed)
            path = Path(folder) / "made.mp4"
            write(made, path, crf=(20, 28, 35)[seed % 3])
            began = time.process_time()
            found = found_in(path)
            seconds += time.process_time() - began
            frames += len(made.frames)
            wrong = tally.count(made.joints, found)
            if each:
                print(seed, "joints", made.joints, "found", found, "wrong", wrong, flush=True)
    print("\n".join(tally.lines()))
    print(f"{frames} frames, {1000 * seconds / frames:.2f} ms of CPU a frame with decoding")


if __name__ == "__main__":
    main()
