"""Frames a second of the whole engine beside the bare network, alternating in one run.

    python -m benchmarks engine [VIDEO] [--detector SPEC] [--rounds 3] [--peer]

The bare rate is the network alone on noise, as many requests in flight as OpenVINO wants: nothing
that decodes, tracks or writes can be faster. Where the detector's network computes in eight bits,
the same network in floating point stands beside it. ``--peer`` adds ``ultralytics track`` on the
same weights, where Ultralytics is installed (``make ultralytics`` does that, in .venv/ultralytics):

    .venv/ultralytics/bin/python -m benchmarks engine VIDEO --peer \\
        --detector openvino:yolo11n_int8_openvino_model
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import click
import numpy as np

from rekognition_dagster.engine import analyze, models, open_detector
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors.efficientdet import EfficientDet
from rekognition_dagster.engine.frame import Frame


@dataclass(frozen=True)
class Rate:
    """Frames a second, by the clock, and milliseconds of processor time a frame, over all cores:
    on a machine that others use too, the second is the one to compare."""

    per_second: float
    cpu_ms: float

    @classmethod
    def of(cls, work: Callable[[], int]) -> Rate:
        """Do the work, which tells its number of frames."""
        begin, cpu = time.perf_counter(), time.process_time()
        count = work()
        spent = time.process_time() - cpu
        return cls(count / (time.perf_counter() - begin), spent / count * 1000)

    def mean(self, other: Rate) -> Rate:
        """Between this and another."""
        return Rate((self.per_second + other.per_second) / 2, (self.cpu_ms + other.cpu_ms) / 2)

    def __str__(self) -> str:
        return f"{self.per_second:.1f}/s ({self.cpu_ms:.1f} ms)"


def bare(detector: Any, frame: Frame, seconds: float) -> int:
    """Inferences of the detector's network in some seconds, on one picture again and again."""
    network = detector.network_for(frame)
    picture = np.random.default_rng(0).integers(
        0, 255, (network.height, network.width, 3), np.uint8
    )

    def fill(_: Any, target: Any) -> None:
        target[:] = picture

    begin, count = time.perf_counter(), 0
    for _ in network.run(repeat(frame), fill):
        count += 1
        if time.perf_counter() - begin > seconds:
            break
    return count


def whole(video: Path, spec: str | None, frames: int) -> int:
    """People of the whole video, from opening the file to the last row."""
    rows = [0]
    analyze(video, {"person_tracking": lambda batch: rows.append(len(batch))}, detector=spec)
    return frames


def frames_of(video: Path) -> int:
    """How many frames the video has."""
    with open_video(video) as opened:
        return sum(1 for _ in opened.frames())


def peer(video: Path, weights: str) -> Callable[[], int]:
    """A run of ``ultralytics track`` with ByteTrack on the same weights, to its last result."""
    from ultralytics import YOLO  # pyright: ignore
    from ultralytics.utils import LOGGER  # pyright: ignore

    LOGGER.setLevel("ERROR")
    model = YOLO(weights, task="detect")

    def run() -> int:
        results = model.track(str(video), tracker="bytetrack.yaml", stream=True, verbose=False)
        return sum(1 for _ in results)

    return run


def told(of: str, ours: list[Rate], others: list[Rate]) -> str:
    """How many times another's rate ours is, in the median of the rounds."""
    pairs = list(zip(ours, others, strict=True))
    clock = statistics.median(a.per_second / b.per_second for a, b in pairs)
    cpu = statistics.median(b.cpu_ms / a.cpu_ms for a, b in pairs)
    return f"engine/{of}, median: {clock:.2f} by the clock, {cpu:.2f} by processor time"


@click.command()
@click.argument("video", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--detector", default=None, help="As for analyze.")
@click.option("--rounds", default=3, help="Alternations.")
@click.option("--seconds", default=5.0, help="Of each bare run.")
@click.option("--peer", "with_peer", is_flag=True, help="Also ultralytics track.")
def main(video: Path, detector: str | None, rounds: int, seconds: float, with_peer: bool) -> None:
    """Print each round's rates and their ratio; without VIDEO on the sample with bicycles."""
    video = video or models.path("bikes.mp4")
    opened = open_detector(detector)
    with open_video(video) as source:
        frame = next(iter(source.frames()))
    kind, _, weights = (detector or "").partition(":")
    if with_peer and kind not in ("openvino", "onnx", "ultralytics"):
        raise click.BadParameter(
            "name weights that Ultralytics opens, too", param_hint="--detector"
        )
    run_peer = peer(video, weights) if with_peer else None
    count = frames_of(video)
    floats = opened.in_floats() if isinstance(opened, EfficientDet) else None
    bare_rates, float_rates, engine_rates, peer_rates = [], [], [], []
    for number in range(rounds):
        before = Rate.of(lambda: bare(opened, frame, seconds))
        engine_rates.append(Rate.of(lambda: whole(video, detector, count)))
        after = Rate.of(lambda: bare(opened, frame, seconds))
        bare_rates.append(before.mean(after))
        line = f"round {number + 1}: bare {before} and {after}, engine {engine_rates[-1]}"
        if floats is not None:
            float_rates.append(Rate.of(lambda: bare(floats, frame, seconds)))
            line += f", bare in floats {float_rates[-1]}"
        if run_peer is not None:
            peer_rates.append(Rate.of(run_peer))
            line += f", ultralytics {peer_rates[-1]}"
        click.echo(line)
    click.echo(told("bare", engine_rates, bare_rates))
    if floats is not None:
        click.echo(told("bare in floats", engine_rates, float_rates))
    if run_peer is not None:
        click.echo(told("ultralytics", engine_rates, peer_rates))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(f"peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
