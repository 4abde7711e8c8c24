"""Tables per day over a lake of many camera-hours, and `find` over one camera's day.

Makes a lake of camera-hours (36,000 detections each: two people at five a second), computes all
tables per day with two zones and a line, compacts the lake if asked, and finds who was in a zone on
one camera's day.

    python -m benchmarks.answers [--hours 100] [--cameras 10] [--compact] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from rekognition_dagster.analytics import compute_standard, load_models
from rekognition_dagster.analytics.daily import compute_stale, find_stale, recordings_of
from rekognition_dagster.analytics.zones import parse_zones
from rekognition_dagster.answers import write_answer
from rekognition_dagster.finding import Moments, find_sql
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.lake.compaction import due_days
from rekognition_dagster.videos import Video

PATTERN = "{camera}/{date:%Y-%m-%d}/{time:%H%M%S}.mp4"
ZONES = """
cameras:
  - camera: "*"
    zones:
      counter: [[0.2, 0.2], [0.5, 0.2], [0.5, 0.5], [0.2, 0.5]]
      shelf: [[0.6, 0.2], [0.9, 0.2], [0.9, 0.5], [0.6, 0.5]]
    lines:
      middle: [[0.5, 0], [0.5, 1]]
"""
SCHEMA = TABLES["person_detections"].schema
PEOPLE, STEPS = 360, 100
"""In an hour, each for twenty seconds."""


def _hour(video: Video, dice: np.random.Generator) -> pa.Table:
    """People who walk straight on, each at a time of their own."""
    step = np.arange(STEPS)
    start = dice.integers(0, 3600 * 5 - STEPS, PEOPLE)[:, None]
    angle, speed = dice.uniform(0, 2 * np.pi, (PEOPLE, 1)), dice.uniform(0.002, 0.012, (PEOPLE, 1))
    moved = speed * (step - STEPS / 2)
    x = dice.uniform(0.1, 0.9, (PEOPLE, 1)) + np.cos(angle) * moved
    y = dice.uniform(0.3, 0.9, (PEOPLE, 1)) + np.sin(angle) * moved
    shaken = dice.normal(0, 0.001, (2, PEOPLE, STEPS))
    columns = [((start + step) * 200), x + shaken[0], y + shaken[1]]
    at, x, y = (c.ravel() for c in columns)
    index = np.repeat(np.arange(PEOPLE), STEPS)
    order = np.lexsort((index, at))
    at, x, y, index = at[order], x[order], y[order], index[order]
    box = [x - 0.05, y - 0.3, np.full(len(x), 0.1), np.full(len(x), 0.3)]
    names = ["left", "top", "width", "height"]
    known = {
        "video": pa.repeat(pa.scalar(video.uri), len(x)),
        "job_id": pa.repeat(pa.scalar(video.id), len(x)),
        "timestamp_ms": pa.array(at),
        "person_index": pa.array(index),
        "bounding_box": pa.StructArray.from_arrays(
            [pa.array(b.astype(np.float32)) for b in box], names=names
        ),
        "interpolated": pa.array(dice.random(len(x)) < 0.1),
    }
    columns = {f.name: known.get(f.name, pa.nulls(len(x), f.type)) for f in SCHEMA}
    return pa.table(columns, schema=SCHEMA)


def _make(lake: Lake, cameras: int, hours: int) -> list[Video]:
    dice, videos = np.random.default_rng(1), list[Video]()
    for number in range(hours):
        camera, hour = number % cameras, number // cameras
        key = f"camera-{camera:03}/2026-01-{1 + hour // 24:02}/{hour % 24:02}0000.mp4"
        video = Video("cameras", key, etag="e")
        rows = _hour(video, dice)
        with lake.writer("person_detections", video) as writer:
            writer.write(rows)
        facts = {"duration_ms": 3_600_000, "width": 1920, "height": 1080, "frame_rate": 5.0}
        lake.write_video(video, facts)
        job = {"job_id": video.id, "status": "SUCCEEDED", "rows": rows.num_rows}
        lake.write_job(video, "person_tracking", job)
        videos.append(video)
    return videos


class _Watch:
    """Wall time and CPU time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self._used()

    @staticmethod
    def _used() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def __str__(self) -> str:
        wall, cpu = time.perf_counter() - self._wall, self._used() - self._cpu
        return f"{wall:7.2f} s, {cpu:7.2f} s of CPU"


def _find(lake: Lake) -> None:
    day = date(2026, 1, 1)
    what = Moments(camera="camera-000", since=day, until=day, zone="counter")
    with lake.connect() as connection:
        sql = find_sql(lake, connection, what)
        write_answer(connection, sql, "csv", io.StringIO())


def main() -> None:
    """Make the lake, or take the one that is there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hours", type=int, default=100)
    parser.add_argument("--cameras", type=int, default=10)
    parser.add_argument("--compact", action="store_true")
    parser.add_argument("--keep", help="make the lake here and leave it; else a temporary folder")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(chosen.keep or stack.enter_context(tempfile.TemporaryDirectory()))
        lake = Lake(folder / "lake", cameras=Cameras(PATTERN, {}, "Europe/Zurich"))
        if not (folder / "lake").exists():
            watch = _Watch()
            _make(lake, chosen.cameras, chosen.hours)
            print(f"{'made the lake':<34}{watch}", flush=True)
        print(f"load {os.getloadavg()[0]:.1f}", flush=True)
        zones, models = parse_zones(ZONES), load_models()
        watch = _Watch()
        recordings = recordings_of(lake)
        rows = sum(r.rows for r in recordings)
        stale = find_stale(lake, models, zones, recordings=recordings, every=True)
        written = sum(c.rows for c in compute_stale(lake, models, zones, stale))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{f'per-day tables of {rows:,} rows':<34}{watch}, {memory:.0f} MB, {written:,} rows")
        watch = _Watch()
        stale = find_stale(lake, models, zones)
        print(f"{f'nothing is behind ({len(stale.units)})':<34}{watch}", flush=True)
        if chosen.compact:
            compute_standard(lake, [r.video for r in recordings])
            for _ in range(2):
                for day in due_days(lake.storage, lake.tables(), 2):
                    day.compact(grace_s=0, quiet_s=0, min_files=2)
        for _ in range(3):
            watch = _Watch()
            _find(Lake(lake.url))
            print(f"{'find, one camera, one day':<34}{watch}", flush=True)


if __name__ == "__main__":
    main()
