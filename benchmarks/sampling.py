"""What looking at fewer frames costs and saves: every frame, every n-th, and as needed, in one run.

    python -m benchmarks sampling [VIDEO ...] [--seconds 30] [--rounds 2]

First the quality, on made scenes of 25 and 30 frames a second with known truth; ``auto`` chooses
from pictures that are drawn of them. Then the frames a second of VIDEO, by default the sample with
bicycles, with the embedded detector, alternating.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.tracking.measure import Score, Tracks, score
from benchmarks.tracking.scenes import SCENES, SHARP, WEAK, Eye, Scene, Truth, make
from rekognition_dagster.engine import AUTO, analyze, models, sampling
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.faces import FACE
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.looking import SPAN_MS
from rekognition_dagster.engine.tracking.tracks import PersonTracks

STEPS = (1, 2, 3, 5, 0)  # every n-th frame; 0 is as needed
_ACROSS = 256  # pixels of a drawn picture
_NOISE = 3.0
_QUIET = Scene("quiet yard", 31, people=1)
_NAMES = {0: "auto", 1: "every frame", 2: "every 2nd", 3: "every 3rd", 5: "every 5th"}


def drawn(scene: Scene, truth: Truth) -> Iterator[Frame]:
    """Pictures of a scene: people as grey boxes before a street, and noise."""
    random = np.random.default_rng(scene.seed)
    width, height = _ACROSS, round(_ACROSS * scene.size[1] / scene.size[0])
    street = np.kron(random.uniform(60, 200, (height // 8 + 1, 33)), np.ones((8, 8)))
    coats = random.uniform(10, 60, 10_000)
    for n, stamp in enumerate(truth.times_ms):
        picture = street[:height, :width].copy()
        for who, box in zip(truth.ids[n], truth.boxes[n] * width / scene.size[0], strict=True):
            left, top, right, bottom = np.round(box).astype(int)
            picture[top:bottom, left:right] = coats[who]
        noisy = picture + random.normal(0, _NOISE, picture.shape)
        image = np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        yield Frame.from_image(image, n, stamp)


def looks(step: int, scene: Scene, truth: Truth) -> np.ndarray:
    """Which frames of a scene are looked at, shape (frames,)."""
    if step:
        return np.arange(len(truth.times_ms)) % step == 0
    return np.array([wanted for _, wanted in sampling.as_needed(drawn(scene, truth), SPAN_MS)])


def quality(scene: Scene, eye: Eye) -> list[tuple[float, Score]]:
    """For each of ``STEPS`` the share of frames looked at, and how good the tracks are."""
    truth, found = make(scene, eye)
    known = dict(zip(truth.times_ms, zip(truth.ids, truth.boxes, strict=True), strict=True))
    results = []
    for step in STEPS:
        looked = looks(step, scene, truth)
        rate = scene.fps / step if step else min(scene.fps, sampling.MOVING_FPS)
        people = PersonTracks(eye.scores, rate)
        for n, stamp in enumerate(truth.times_ms):
            frame = Frame(n, stamp, *scene.size, None)
            people.add(found[n] if looked[n] else None, np.zeros(0, FACE), frame)
        tracks: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for records in people.people():
            for stamp in np.unique(records["timestamp_ms"]):
                those = records[records["timestamp_ms"] == stamp]
                boxes = those["box"] * np.array([*scene.size, *scene.size])
                tracks[int(stamp)] = those["index"].astype(int), boxes
        people.close()
        results.append((float(looked.mean()), score(known, _typed(tracks))))
    return results


def _typed(tracks: dict[int, tuple[np.ndarray, np.ndarray]]) -> Tracks:
    return tracks


def speed(video: Path, step: int) -> tuple[float, float]:
    """Frames of the video a second, and milliseconds of processor time for each."""
    with open_video(video) as opened:
        rate = opened.metadata.frame_rate
    count = round(rate * opened.metadata.duration_ms / 1000)
    begin, cpu = time.perf_counter(), time.process_time()
    how = AUTO if step == 0 else None if step == 1 else rate / step
    analyze(video, {"person_tracking": lambda rows: None}, sample_fps=how)
    return count / (time.perf_counter() - begin), (time.process_time() - cpu) / count * 1000


@click.command()
@click.argument("videos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--seconds", default=30.0, help="Of each made scene.")
@click.option("--rounds", default=2, help="Alternations of the speeds.")
@click.option("--only", type=click.Choice(["quality", "speed"]), help="One of the two.")
def main(videos: tuple[Path, ...], seconds: float, rounds: int, only: str | None) -> None:
    """Print the curves: share of frames looked at, HOTA and IDF1; then frames a second."""
    if only != "speed":
        _print_quality(seconds)
    if only != "quality":
        for video in videos or (models.path("bikes.mp4"),):
            _print_speed(video, rounds)


def _print_quality(seconds: float) -> None:
    scenes = [
        replace(scene, fps=30 if scene.size[0] > 1000 else 25, seconds=seconds)
        for scene in (*SCENES, _QUIET)
    ]
    results = []
    for eye in (SHARP, WEAK):
        for scene in scenes:
            curve = quality(scene, eye)
            results.append(curve)
            line = "  ".join(f"{share:.2f} {s.hota:.3f} {s.idf1:.3f}" for share, s in curve)
            click.echo(f"{eye.name}, {scene.name:26} {line}")
    click.echo(f"{'':12} looked at   HOTA          IDF1")
    every = np.array([[(share, s.hota, s.idf1) for share, s in curve] for curve in results])
    for step, (share, hota, idf1) in zip(STEPS, every.mean(axis=0), strict=True):
        less = every[:, STEPS.index(step), 1] - every[:, 0, 1]
        error = less.std() / np.sqrt(len(less))
        click.echo(
            f"{_NAMES[step]:12} {share:6.2f}     {hota:.3f} ({less.mean():+.3f} ± {error:.3f}) "
            f"{idf1:.3f}"
        )


def _print_speed(video: Path, rounds: int) -> None:
    speed(video, 5)  # networks are compiled
    measured = [[speed(video, step) for step in STEPS] for _ in range(rounds)]
    click.echo(
        f"{video.name}: frames/s by the clock and CPU ms a frame, medians; ratio by CPU time"
    )
    whole = statistics.median(turn[0][1] for turn in measured)
    for n, step in enumerate(STEPS):
        rate, cpu = (statistics.median(turn[n][k] for turn in measured) for k in (0, 1))
        click.echo(f"{_NAMES[step]:12} {rate:7.1f}/s {cpu:6.2f} ms  x{whole / cpu:.2f}")


if __name__ == "__main__":
    main()
