"""The report of a day: time, memory and size of the page, and its first paint in Chromium.

Makes a lake of cameras with a day of detections each, computes the tables per day, makes the page
with pictures of each camera's video (a clip of some seconds), and opens it.

    python -m benchmarks.report [--cameras 50] [--rows 1000000] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from rekognition_dagster.analytics import load_models
from rekognition_dagster.analytics.daily import compute_stale, find_stale
from rekognition_dagster.analytics.zones import parse_zones
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.report import Scope, build_report, write_report
from rekognition_dagster.videos import Video

DAY = date(2026, 2, 3)
_HOURS = 24
ZONES = """
cameras:
  - camera: "*"
    zones:
      counter: [[0.2, 0.2], [0.5, 0.2], [0.5, 0.5], [0.2, 0.5]]
    lines:
      door: {points: [[0.6, 0.0], [0.6, 1.0]], to_left: in, to_right: out}
"""


def _clip(path: Path) -> None:
    import av

    noise = np.random.default_rng(1).integers(60, 200, (1080, 1920, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for n in range(100):
            image = noise.copy()
            image[400:700, 10 * n : 10 * n + 120] = 30
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _rows(rows: int, seed: int) -> pa.Table:
    """Detections of an hour: people who walk for a minute each, five times a second."""
    dice = np.random.default_rng(seed)
    person = np.arange(rows) // 300
    step = np.arange(rows) % 300 / 300
    begin = dice.uniform(0, 3500, person[-1] + 1)
    left = dice.uniform(0, 0.3, person[-1] + 1)[person] + 0.6 * step
    top = dice.uniform(0.1, 0.5, person[-1] + 1)[person] + 0.1 * np.sin(6 * step)
    times = ((begin[person] + 60 * step) * 1000).astype(np.int64)
    order = np.lexsort((person, times))
    box = pa.StructArray.from_arrays(
        [
            pa.array(values.astype(np.float32)[order])
            for values in (left, top, np.full(rows, 0.06), np.full(rows, 0.3))
        ],
        ["left", "top", "width", "height"],
    )
    return pa.table(
        {"timestamp_ms": times[order], "person_index": person[order], "bounding_box": box}
    )


def _make(lake: Lake, folder: Path, cameras: int, rows: int) -> None:
    schema = TABLES["person_detections"].schema
    _clip(folder / "clip.mp4")
    for camera in range(cameras):
        for hour in range(_HOURS):
            path = folder / f"cam{camera:02}" / str(DAY) / f"{hour:02}0000.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.link(folder / "clip.mp4", path)
            video = Video.from_file(path)
            found = _rows(rows // _HOURS, camera * _HOURS + hour)
            table = pa.table(
                [
                    found[f.name].cast(f.type)
                    if f.name in found.column_names
                    else pa.nulls(len(found), f.type)
                    for f in schema
                ],
                schema=schema,
            ).set_column(
                schema.get_field_index("video"), "video", pa.array([video.uri] * len(found))
            )
            with lake.writer("person_detections", video) as writer:
                writer.write(table.cast(schema))
            facts = {"duration_ms": 3_600_000, "width": 1920, "height": 1080}
            lake.write_video(video, facts)
            job = {"job_id": video.id, "status": "SUCCEEDED", "rows": len(found)}
            lake.write_job(video, "person_tracking", job)


def first_paint_ms(path: Path) -> float | None:
    """When Chromium first paints the page; None without one."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_timeout(500)
        found = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        browser.close()
    return float(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--cameras", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each camera")
    parser.add_argument("--keep", type=Path, help="where the lake is left, and found again")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pattern = f"{folder.absolute()}/{{camera}}/{{date:%Y-%m-%d}}/{{time:%H%M%S}}.mp4"
        lake = Lake(folder / "lake", cameras=Cameras(pattern, {}, "UTC"))
        if not (folder / "lake" / "jobs").exists():
            folder.mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            _make(lake, folder, given.cameras, given.rows)
            print(f"made the lake in {time.monotonic() - began:.0f} s", flush=True)
        began = time.monotonic()
        models, zones = load_models(), parse_zones(ZONES)
        stale = find_stale(lake, models, zones)
        for _ in compute_stale(lake, models, zones, stale):
            pass
        print(f"tables per day in {time.monotonic() - began:.0f} s", flush=True)
        child = os.fork()
        if child == 0:
            began, cpu = time.monotonic(), time.process_time()
            report = build_report(lake, Scope(DAY, DAY))
            path = write_report(report, folder / "report.html")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"report of {len(report.page.cameras)} cameras, {given.rows:,} rows each: "
                f"{time.monotonic() - began:.1f} s, {time.process_time() - cpu:.1f} s of CPU, "
                f"{peak:.0f} MB, {path.stat().st_size / 1e6:.1f} MB",
                flush=True,
            )
            os._exit(0)
        os.waitpid(child, 0)
        paint = first_paint_ms((folder / "report.html").absolute())
        print(f"first paint in Chromium: {paint:.0f} ms" if paint else "no chromium")


if __name__ == "__main__":
    main()
