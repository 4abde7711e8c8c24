"""Rows read for one camera's day and for one video, before and after compaction.

Makes a lake of person detections (a file per video, as the pipeline writes it), asks DuckDB,
compacts the lake, and asks the same again. Rows read are those of the row groups that date and
statistics do not rule out; DuckDB's own count, from its profile, stands beside.

    python -m benchmarks.lake [--rows 2000000] [--cameras 20] [--days 10] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.lake.compaction import due_days
from rekognition_dagster.videos import Video

PERSONS = TABLES["person_detections"]
ROWS_PER_VIDEO = 10_000  # seventeen minutes with two people in view, at five looks a second
ROUNDS = 3


def _videos(rows: int, cameras: int, days: int) -> Iterator[Video]:
    per_camera_day = max(rows // (cameras * days * ROWS_PER_VIDEO), 1)
    for day in range(days):
        for camera in range(cameras):
            for number in range(per_camera_day):
                key = f"camera-{camera:03}/2026-01-{day + 1:02}/{number:05}.mp4"
                yield Video("cameras", key, etag="e")


def _rows(video: Video, dice: np.random.Generator) -> pa.Table:
    """Two people who walk through the picture; every fifth row has a face."""
    n = ROWS_PER_VIDEO
    left = np.cumsum(dice.normal(0, 0.002, n)) % 1
    box = [left, 0.3 + 0.01 * dice.random(n), np.full(n, 0.1), np.full(n, 0.4)]
    columns = {
        "video": pa.repeat(pa.scalar(video.uri), n),
        "job_id": pa.repeat(pa.scalar(f"{video.id:0<64}"[:64]), n),
        "timestamp_ms": pa.array(np.arange(n) // 2 * 200),
        "person_index": pa.array(np.arange(n) % 2),
        "bounding_box": pa.StructArray.from_arrays(
            [pa.array(b.astype(np.float32)) for b in box],
            fields=list(PERSONS.schema.field("bounding_box").type),
        ),
        "confidence": pa.array((60 + 40 * dice.random(n)).astype(np.float32)),
        "interpolated": pa.array(dice.random(n) < 0.2),
    }
    columns["face"] = _faces(PERSONS.schema.field("face").type, n, dice)
    return pa.Table.from_pydict(columns, schema=PERSONS.schema)


def _faces(face: pa.StructType, n: int, dice: np.random.Generator) -> pa.StructArray:
    def numbers(kind: pa.StructType) -> pa.StructArray:
        arrays = [pa.array(dice.random(n).astype(np.float32)) for _ in kind]
        return pa.StructArray.from_arrays(arrays, fields=list(kind))

    arrays = {f.name: pa.nulls(n, f.type) for f in face}
    for name in ("bounding_box", "pose", "quality"):
        arrays[name] = numbers(face.field(name).type)
    arrays["confidence"] = pa.array((99 + dice.random(n)).astype(np.float32))
    return pa.StructArray.from_arrays(
        list(arrays.values()), fields=list(face), mask=pa.array(np.arange(n) % 5 != 0)
    )


def _make(lake: Lake, videos: list[Video]) -> None:
    def write(numbered: tuple[int, Video]) -> None:
        number, video = numbered
        with lake.writer(PERSONS.name, video) as writer:
            writer.write(_rows(video, np.random.default_rng(number)))

    with ThreadPoolExecutor(8) as pool:  # they wait for the disk
        for done, _ in enumerate(pool.map(write, enumerate(videos)), 1):
            if done % 1000 == 0:
                print(f"  {done:,} of {len(videos):,} videos", flush=True)


def _files(lake: Lake) -> list[Path]:
    return [Path(lake.url) / f for f in lake.storage.files(PERSONS.name) if f.endswith(".parquet")]


def _touched(files: list[Path], first: str, last: str, day: str) -> tuple[int, int]:
    """Row groups, and their rows, that the date and the statistics of ``video`` leave."""
    groups = rows = 0
    for path in files:
        if f"/date={day}/" not in str(path):
            continue
        metadata = pq.read_metadata(path)
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            told = group.column(0).statistics
            if told.min <= last and told.max >= first:
                groups, rows = groups + 1, rows + group.num_rows
    return groups, rows


def _scans(plan: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Row groups read, and how many there were, of each scan in DuckDB's profile."""
    if "row_groups_scanned" in plan:
        yield plan["row_groups_scanned"], plan["total_row_groups_to_scan"]
    for child in [*plan.get("operator", []), *plan.get("children", [])]:
        yield from _scans(child)


def _ask(lake: Lake, question: str) -> tuple[int, float, float, str]:
    """The answer, wall and CPU seconds (medians), and what DuckDB's profile says of its scans."""
    walls, cpus, found = [], [], 0
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        with lake.connect([PERSONS.name]) as connection:
            found = connection.sql(question).fetchall()[0][0]
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    with (
        lake.connect([PERSONS.name]) as connection,
        tempfile.NamedTemporaryFile(suffix=".json") as profile,
    ):
        connection.execute("PRAGMA enable_profiling = 'json'")
        connection.execute(f"PRAGMA profiling_output = '{profile.name}'")
        connection.execute(question).fetchall()
        connection.execute("PRAGMA disable_profiling")
        told = json.loads(Path(profile.name).read_text())
    read, there = (sum(column) for column in zip(*_scans(told), strict=True))
    size = told["io"]["total_bytes_read"] / 1e6
    profiled = f"{read} of {there} row groups, {size:.1f} MB"
    return found, statistics.median(walls), statistics.median(cpus), profiled


def _report(lake: Lake, when: str, videos: list[Video], present: int) -> None:
    files = _files(lake)
    size = sum(f.stat().st_size for f in files)
    print(f"{when}: {len(files):,} files, {size / 1e6:,.0f} MB")
    one = videos[len(videos) // 2]
    camera, day = one.key.split("/")[:2]
    prefix = f"s3://{one.bucket}/{camera}/"
    asked = {
        "one camera-day": (f"video LIKE '{prefix}%'", prefix, prefix[:-1] + "0"),
        "one video": (f"video = '{one.uri}'", one.uri, one.uri),
    }
    for name, (condition, first, last) in asked.items():
        where = f"date = DATE '{day}' AND {condition}"
        question = f"SELECT count(bounding_box.left) FROM {PERSONS.name} WHERE {where}"
        found, wall, cpu, profiled = _ask(lake, question)
        groups, rows = _touched(files, first, last, day)
        print(
            f"  {name:15}{found:>9,} rows wanted, {rows:>9,} read in {groups:,} row groups:"
            f" {rows / present:.2%} of {present:,} rows (DuckDB: {profiled});"
            f" {wall * 1000:,.0f} ms wall, {cpu * 1000:,.0f} ms CPU",
            flush=True,
        )


def _timed(what: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - wall, time.process_time() - cpu


def _compact(lake: Lake) -> None:
    for _ in range(3):
        for day in due_days(lake.storage, [PERSONS.name], 2):
            day.compact(grace_s=0, quiet_s=0, min_files=2)


def main() -> None:
    """Make, ask, compact, ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--cameras", type=int, default=20)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--keep", help="make the lake here and leave it; else a temporary folder")
    chosen = parser.parse_args()
    videos = list(_videos(chosen.rows, chosen.cameras, chosen.days))
    present = len(videos) * ROWS_PER_VIDEO
    with contextlib.ExitStack() as stack:
        folder = chosen.keep or stack.enter_context(tempfile.TemporaryDirectory())
        free = shutil.disk_usage(Path(folder).parent).free
        if free < (need := present * 120):
            raise SystemExit(
                f"{folder} has {free / 1e9:.0f} GB free; {need / 1e9:.0f} GB are asked"
            )
        lake = Lake(folder)
        wall, cpu = _timed(lambda: _make(lake, videos))
        print(f"{present:,} rows of {len(videos):,} videos in {wall:,.0f} s ({cpu:,.0f} s CPU)")
        _report(lake, "before", videos, present)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, cpu = _timed(lambda: _compact(lake))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"compacted in {wall:,.0f} s ({cpu:,.0f} s CPU, {present / cpu:,.0f} rows/s CPU), "
            f"peak {peak / 1024:,.0f} MiB ({before / 1024:,.0f} before)"
        )
        _report(lake, "after", videos, present)


if __name__ == "__main__":
    main()
