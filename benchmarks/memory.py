"""Memory while a long video is analysed, beside a short one: the curves should lie on each other.

    python -m benchmarks memory [VIDEO] [--minutes 1 --minutes 60] [--sample-fps 1]

The videos are VIDEO joined to itself again and again, packets as they are; each is analysed in a
process of its own, from the file to the last row, and all of it is decoded.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import click

from rekognition_dagster.engine import analyze, models, read_metadata

_TENTHS = 10


def joined(video: Path, target: Path, minutes: float) -> Path:
    """``video`` over and over until it lasts so long, without encoding anything anew."""
    length_s = read_metadata(video).duration_ms / 1000
    with av.open(str(target), "w") as out:
        stream = None
        for turn in range(max(1, round(minutes * 60 / length_s))):
            with av.open(str(video)) as source:
                given = source.streams.video[0]
                stream = stream or out.add_stream_from_template(given)
                assert given.time_base is not None
                shift = round(
                    Fraction(turn) * Fraction(length_s).limit_denominator(1000) / given.time_base
                )
                for packet in source.demux(given):
                    if packet.dts is None:
                        continue
                    packet.dts += shift
                    packet.pts = packet.dts if packet.pts is None else packet.pts + shift
                    packet.stream = stream
                    out.mux(packet)
    return target


def resident_mb() -> float:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(video: Path, sample_fps: str | None, detector: str | None) -> None:
    """Analyse a video in this process, and print its curve."""
    curve: list[float] = []
    rows = 0

    def count(batch: list) -> None:
        nonlocal rows
        rows += len(batch)

    def note(fraction: float) -> None:
        while len(curve) <= fraction * _TENTHS:
            curve.append(resident_mb())

    begin = time.perf_counter()
    rate = sample_fps if sample_fps in (None, "auto") else float(sample_fps)
    known = analyze(
        video,
        {"person_tracking": count},
        detector=detector,
        sample_fps=rate,  # pyright: ignore[reportArgumentType]
        progress=note,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(
        f"{known.duration_ms / 60_000:6.1f} min {rows:8} rows {time.perf_counter() - begin:6.0f} s "
        f"peak {peak:5.0f} MB; at each tenth {' '.join(f'{mb:.0f}' for mb in curve)}"
    )


@click.command()
@click.argument("video", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--minutes", multiple=True, default=(1.0, 60.0), type=float, help="Of each video.")
@click.option("--sample-fps", default="1", show_default=True, help="As for analyze; 0 is all.")
@click.option("--detector", default=None, help="As for analyze.")
@click.option("--one", is_flag=True, hidden=True)
def main(
    video: Path | None,
    minutes: tuple[float, ...],
    sample_fps: str,
    detector: str | None,
    one: bool,
) -> None:
    """Print a line for each length; without VIDEO of the sample with bicycles."""
    video = video or models.path("bikes.mp4")
    if one:
        measure(video, None if sample_fps == "0" else sample_fps, detector)
        return
    for length in minutes:
        with tempfile.TemporaryDirectory() as folder:
            long = joined(video, Path(folder) / "long.mkv", length)
            command = [sys.executable, "-m", "benchmarks", "memory", str(long), "--one"]
            command += ["--sample-fps", sample_fps]
            command += ["--detector", detector] if detector else []
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
