"""What looking at fewer frames costs and saves: every frame, every n-th, and as needed, in one run.

    python -m benchmarks sampling [VIDEO ...] [--seeds 2] [--detector SPEC] [--rounds 2]

First the quality, on scenes of 25 and 30 frames a second with known truth: made ones, of which
pictures are drawn for ``auto`` to choose from, and rendered ones, which real detectors see. Errors
of a made detector are independent from frame to frame, so that looking more often helps it more
than a real one. Then the frames a second of VIDEO, by default the sample with bicycles, with the
embedded detector, alternating.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import supervision as sv

from benchmarks.tracking.__main__ import STREET, material, people_in, short
from benchmarks.tracking.measure import Score, Tracks, score
from benchmarks.tracking.rendered import RENDERED, RENDERED_HELD_OUT, Stock, render
from benchmarks.tracking.scenes import SCENES, SHARP, WEAK, Eye, Scene, Truth, make
from rekognition_dagster.engine import AUTO, analyze, models, open_detector, sampling
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import Detector, ScoreScale
from rekognition_dagster.engine.faces import FACE
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.looking import SPAN_MS
from rekognition_dagster.engine.tracking.tracks import PersonTracks

STEPS = (1, 2, 3, 5, 0)  # every n-th frame; 0 is as needed
_ACROSS = 256  # pixels of a drawn picture
_NOISE = 3.0
_QUIET = Scene("quiet yard", 31, people=1)
Curve = list[tuple[float, Score]]
"""For each of ``STEPS`` the share of frames looked at, and how good the tracks are."""

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


def looks(step: int, frames: Iterable[Frame], count: int) -> np.ndarray:
    """Which of some frames are looked at, shape (count,)."""
    if step:
        return np.arange(count) % step == 0
    return np.array([wanted for _, wanted in sampling.as_needed(frames, SPAN_MS)])


def curve(
    scene: Scene,
    truth: Truth,
    frames: Callable[[], Iterable[Frame]],
    found: Sequence[sv.Detections],
    scores: ScoreScale,
) -> Curve:
    """For each of ``STEPS`` the share of frames looked at, and how good the tracks are."""
    known = dict(zip(truth.times_ms, zip(truth.ids, truth.boxes, strict=True), strict=True))
    results = []
    for step in STEPS:
        looked = looks(step, frames(), len(found))
        rate = scene.fps / step if step else min(scene.fps, sampling.MOVING_FPS)
        people = PersonTracks(scores, rate)
        for n, stamp in enumerate(truth.times_ms):
            frame = Frame(n, stamp, *scene.size, None)
            people.add(found[n] if looked[n] else None, np.zeros(0, FACE), frame)
        tracks: Tracks = {}
        for records in people.people():
            for stamp in np.unique(records["timestamp_ms"]):
                those = records[records["timestamp_ms"] == stamp]
                boxes = those["box"] * np.array([*scene.size, *scene.size])
                tracks[int(stamp)] = those["index"].astype(int), boxes
        people.close()
        results.append((float(looked.mean()), score(known, tracks)))
    return results


def made_curve(scene: Scene, eye: Eye) -> Curve:
    """Of a made scene as a detector of given habits would see it."""
    truth, found = make(scene, eye)
    return curve(scene, truth, lambda: drawn(scene, truth), found, eye.scores)


def rendered_curve(scene: Scene, cut_out: Stock, detector: Detector) -> Curve:
    """Of a scene of real people, as a real detector sees it."""
    truth, rendered = render(scene, cut_out)
    frames = list(rendered)
    found = [people for _, people in people_in(iter(frames), detector)]
    return curve(scene, truth, lambda: frames, found, detector.scores)


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
@click.option("--seconds", default=20.0, help="Of each scene.")
@click.option("--seeds", default=2, help="Times that each scene is made, with other people.")
@click.option("--detector", "specs", multiple=True, help="Of the rendered scenes; may be repeated.")
@click.option("--rounds", default=2, help="Alternations of the speeds.")
@click.option("--only", type=click.Choice(["made", "rendered", "speed"]), help="One of them.")
def main(
    videos: tuple[Path, ...],
    seconds: float,
    seeds: int,
    specs: tuple[str, ...],
    rounds: int,
    only: str | None,
) -> None:
    """Print the curves: share of frames looked at, HOTA and IDF1; then frames a second."""
    if only in (None, "made"):
        scenes = [_quick(s, seconds, n) for n in range(seeds) for s in (*SCENES, _QUIET)]
        eyes = (SHARP, WEAK)
        _print_curves((f"{e.name}, {s.name}", made_curve(s, e)) for e in eyes for s in scenes)
    if only in (None, "rendered") and not STREET.exists():
        click.echo(f"no {STREET.name} in {STREET.parent}: nothing is rendered", err=True)
    elif only in (None, "rendered"):
        scenes = [
            _quick(s, seconds, n) for n in range(seeds) for s in (*RENDERED, *RENDERED_HELD_OUT)
        ]
        cut_out = material()
        seers = {short(spec): open_detector(spec) for spec in specs or (None,)}
        _print_curves(
            (f"{name}, {s.name}", rendered_curve(s, cut_out, detector))
            for name, detector in seers.items()
            for s in scenes
        )
    if only in (None, "speed"):
        for video in videos or (models.path("bikes.mp4"),):
            _print_speed(video, rounds)


def _quick(scene: Scene, seconds: float, number: int) -> Scene:
    """A scene at 25 or 30 frames a second, with other people for each number."""
    fps = 30 if scene.size[0] > 1000 else 25
    return replace(scene, fps=fps, seconds=seconds, seed=scene.seed + 1000 * number)


def _print_curves(named: Iterable[tuple[str, Curve]]) -> None:
    results = []
    for name, of_scene in named:
        results.append([(share, s.hota, s.idf1) for share, s in of_scene])
        line = "  ".join(f"{share:.2f} {s.hota:.3f} {s.idf1:.3f}" for share, s in of_scene)
        click.echo(f"{name:34} {line}")
    click.echo(f"{'':12} looked at   HOTA          IDF1")
    every = np.array(results)
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
