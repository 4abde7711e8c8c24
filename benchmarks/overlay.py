"""Overlay: what drawing costs beside decoding a 1080p video and encoding it again.

The video is twelve copies of a sample side by side, 1920x1080, with twenty-four people who walk, a
zone and a line. Both sides use one decoder, and x264 with the same settings; they take turns, and
the ratio is the median of those of the rounds. CPU seconds of the whole process count.

    python -m benchmarks overlay [--rounds 5] [--frames 150]
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np

from rekognition_dagster import Lake
from rekognition_dagster.analytics.zones import parse_zones
from rekognition_dagster.engine import models
from rekognition_dagster.pictures.drawing import Filmed, draw
from rekognition_dagster.pictures.encoding import OPTIONS, new_video
from rekognition_dagster.pictures.overlay import Look
from rekognition_dagster.pictures.shapes import counts_of
from rekognition_dagster.videos import Video

_SIZE = 1920, 1080
_PEOPLE = 24
_FPS = 25
_ZONES = """
cameras:
  - camera: '*'
    zones: {square: [[0.2, 0.3], [0.7, 0.3], [0.7, 0.8], [0.2, 0.8]]}
    lines: {door: {points: [[0.5, 0.0], [0.5, 1.0]], to_left: in, to_right: out}}
"""


def write_mosaic(path: Path, frames: int) -> None:
    """Write copies of the sample side by side."""
    with av.open(str(models.path("bikes.mp4"))) as source, av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=_FPS, options=OPTIONS)
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(source.decode(video=0)):
            if number >= frames:
                break
            image = np.tile(frame.to_ndarray(format="rgb24"), (4, 3, 1))
            crop = np.ascontiguousarray(image[: _SIZE[1], : _SIZE[0]])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(crop, format="rgb24")))
        output.mux(stream.encode())


def write_people(lake: Lake, video: Video, frames: int) -> None:
    """Write rows of people who walk to and fro."""
    rows = []
    for frame in range(frames):
        at = frame * 1000 // _FPS
        for person in range(_PEOPLE):
            x = 0.45 + 0.4 * math.sin(at / 4000 + person)
            y = 0.05 + 0.7 * person / _PEOPLE
            box = {"left": x, "top": y, "width": 0.04, "height": 0.15}
            one = {"timestamp_ms": at, "person_index": person, "bounding_box": box}
            rows.append({"video": video.uri, "job_id": "job", **one})
    with lake.writer("person_detections", video) as writer:
        writer.write(rows)
    facts = {"duration_ms": frames * 1000 // _FPS, "frames_analyzed": frames}
    lake.write_video(video, {**facts, "width": _SIZE[0], "height": _SIZE[1]})
    job = {"job_id": "job", "status": "SUCCEEDED", "rows": len(rows)}
    lake.write_job(video, "person_tracking", job)


def transcode(source: Path, output: Path) -> None:
    """Decode and encode, nothing between."""
    with av.open(str(source)) as container, new_video(output, "overlay") as target:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        out = target.add_stream("libx264", rate=1000, options=OPTIONS)
        out.width, out.height, out.pix_fmt = *_SIZE, "yuv420p"
        out.codec_context.time_base = Fraction(1, 1000)
        for frame in container.decode(stream):
            frame.pts, frame.time_base = round((frame.time or 0) * 1000), Fraction(1, 1000)
            frame.pict_type = 0  # the encoder chooses keyframes
            target.mux(out.encode(frame))
        target.mux(out.encode())


def cost(work: Callable[[], object]) -> float:
    """Return CPU seconds, all threads together."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--frames", default=150, show_default=True)
def main(rounds: int, frames: int) -> None:
    """Print CPU milliseconds a frame of both, and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mosaic.mp4"
        write_mosaic(path, frames)
        video, lake, zones = Video.from_file(path), Lake(Path(folder) / "lake"), parse_zones(_ZONES)
        write_people(lake, video, frames)
        look = Look(shapes=zones.shapes, counts=counts_of(lake, video, zones))
        filmed, drawn = Filmed(video, path, lake), Path(folder) / "drawn.mp4"
        draw(filmed, look, drawn, until_ms=500)
        ratios: list[float] = []
        for _ in range(rounds):
            alone = cost(lambda: transcode(path, Path(folder) / "alone.mp4"))
            with_rows = cost(lambda: draw(filmed, look, drawn))
            ratios.append(with_rows / alone)
            click.echo(
                f"decode and encode {alone / frames * 1000:.1f} ms a frame, "
                f"overlay {with_rows / frames * 1000:.1f} ms: {ratios[-1]:.2f} x"
            )
        click.echo(
            f"overlay / decode and encode, median of {rounds}: {statistics.median(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
