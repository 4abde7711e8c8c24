"""A day of three cameras, scripted, of which every number is known."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from made_videos import make_video
from walks import compute, straight, walked, write_walks

from rekognition_dagster.lake import Lake
from rekognition_dagster.videos import Video

DAY = date(2026, 2, 3)
ODD = '<b>counter</b> & "co" |`'
ZONES = f"""
cameras:
  - camera: north
    zones:
      {ODD!r}: [[0.4, 0.0], [0.7, 0.0], [0.7, 1.0], [0.4, 1.0]]
    lines:
      door: {{points: [[0.3, 0.0], [0.3, 1.0]], to_left: in, to_right: out}}
"""


def there_and_back(start: float) -> list[tuple[float, float, float]]:
    """Through the door to the counter, 20 s there, and out again."""
    return straight(
        (start, 0.1, 0.8), (start + 4, 0.5, 0.8), (start + 24, 0.5, 0.8), (start + 28, 0.1, 0.8)
    )


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two days before, and the day: north at 9 and 14, south at 14; a file that failed."""
    lake = walked(tmp_path_factory.mktemp("day"))
    write_walks(lake, "north/2026-02-01/090000.mp4", [there_and_back(0)])
    write_walks(lake, "west/2026-02-01/090000.mp4", [there_and_back(0)])
    write_walks(lake, "north/2026-02-03/090000.mp4", [there_and_back(5)])
    write_walks(lake, "north/2026-02-03/140000.mp4", [there_and_back(5 * n) for n in range(4)])
    write_walks(
        lake,
        "south/2026-02-03/140000.mp4",
        [straight((0, 0.1, 0.5), (50, 0.9, 0.5))],
        warning="12 % of it is lost",
    )
    failed = Video("cameras", "south/2026-02-03/150000.mp4", etag="e")
    lake.write_video(failed, {"duration_ms": 60_000})
    lake.write_job(
        failed,
        "person_tracking",
        {"job_id": "j", "status": "FAILED", "status_message": "<script>alert(1)</script>"},
    )
    labels = Video("cameras", "north/2026-02-03/140000.mp4", etag="e")
    with lake.writer("label_detections", labels) as writer:
        writer.write(
            {"video": labels.uri, "timestamp_ms": 500 * n, "name": name}
            for n in range(20)
            for name in ("Person", "Bicycle")[: 1 + n // 10]
        )
    compute(lake, ZONES)
    return lake


@pytest.fixture
def filmed_day(day: Lake, aws, tmp_path: Path) -> Lake:
    """The same; the bucket has north's video of 14 h, and no other."""
    client = aws.client("s3")
    client.create_bucket(Bucket="cameras")
    path = make_video(tmp_path / "north.mp4", frames=300)
    client.upload_file(str(path), "cameras", "north/2026-02-03/140000.mp4")
    return day
