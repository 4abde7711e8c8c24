"""What a statement, and the catalogue, wait for where a lake has many small files.

Makes a lake with a file per video and table, and times `rekognition-dagster query` of a statement
that reads no table and of one that reads a table, and the update of the catalogue after a run.

    python -m benchmarks.queries [--files 20000] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rekognition_dagster.lake import Lake
from rekognition_dagster.videos import Video

_TABLES = ("person_detections", "videos")
_VIDEOS_A_DAY = 500
_ROUNDS = 3


def _make(lake: Lake, files: int) -> None:
    """Write one file a table, and its bytes under the names of all other videos."""
    first = Video("cameras", "2026-01-01/0.mp4", etag="e")
    lake.write_video(first, {"codec": "h264"})
    with lake.writer("person_detections", first) as writer:
        writer.write([{"video": first.uri, "timestamp_ms": 40 * i} for i in range(25)])
    contents = {t: lake.storage.read(lake.path(t, first)) or b"" for t in _TABLES}
    for number in range(1, files // len(_TABLES)):
        day = time.strftime("%Y-%m-%d", time.gmtime(1767225600 + 86400 * (number // _VIDEOS_A_DAY)))
        video = Video("cameras", f"{day}/{number}.mp4", etag="e")
        for table, content in contents.items():
            path = Path(lake.storage.full(lake.path(table, video)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _ask(lake: Lake, sql: str) -> None:
    main = "from rekognition_dagster.cli import main; main()"
    command = [sys.executable, "-c", main, "query", sql, "--lake", lake.url]
    subprocess.run(command, check=True, capture_output=True)


def _seconds(what: Callable[[], object]) -> float:
    """The best of some rounds: what other programs take is not this one's."""
    times: list[float] = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        what()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Make the lake, or take the one that is there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--keep", help="make the lake here and leave it; else a temporary folder")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(chosen.keep or stack.enter_context(tempfile.TemporaryDirectory()))
        lake = Lake(folder / "lake")
        if not (folder / "lake").exists():
            _make(lake, chosen.files)
        print(f"{len(lake.storage.files()):,} files")
        empty = Lake(folder / "empty")
        empty.write_video(Video("cameras", "0.mp4"), {})
        started = _seconds(lambda: _ask(empty, "SELECT 1"))
        print(f"  {'SELECT 1, a lake of one file':<42}{started:6.2f} s", flush=True)
        for sql in ("SELECT 1", "SELECT count(*) FROM videos"):
            print(f"  {sql:<42}{_seconds(lambda sql=sql: _ask(lake, sql)):6.2f} s", flush=True)
        catalogue = folder / "lake.duckdb"
        print(f"  {'first catalogue':<42}{_first(lake, catalogue):6.2f} s", flush=True)
        after_a_run = _seconds(lambda: lake.save_catalogue(catalogue))
        print(f"  {'catalogue after a run':<42}{after_a_run:6.2f} s")


def _first(lake: Lake, catalogue: Path) -> float:
    catalogue.unlink(missing_ok=True)
    began = time.perf_counter()
    lake.save_catalogue(catalogue)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
