"""The camera and the time of recording come from the key, else the container, else the object."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.videos import Video

PATTERN = "{camera}/{date:%Y-%m-%d}/{time:%H%M%S}.mp4"


def written(
    tmp_path: Path,
    cameras: Cameras,
    keys: list[str],
    uploaded: datetime | None = None,
    **facts: Any,
) -> Lake:
    lake = Lake(tmp_path / "lake", cameras=cameras)
    for key in keys:
        video = Video("cameras", key, etag="e", last_modified=uploaded)
        lake.write_video(video, {"duration_ms": 60_000, **facts})
    return lake


def recorded(lake: Lake) -> list[tuple[Any, ...]]:
    with lake.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(
            "SELECT camera, epoch(recorded_at), recorded_at_source FROM videos ORDER BY video"
        ).fetchall()


UPLOADED = datetime(2026, 2, 1, 12, 1, tzinfo=timezone.utc)
CREATED = datetime(2026, 2, 1, 11, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("key", "facts", "expected"),
    [
        (
            "north/2026-01-31/143000.mp4",
            {"container_created_at": CREATED},
            ("north", datetime(2026, 1, 31, 13, 30), "key"),
        ),
        (
            "lobby.mp4",
            {"container_created_at": CREATED},
            (None, datetime(2026, 2, 1, 11, 0), "container"),
        ),
        ("lobby.mp4", {}, (None, datetime(2026, 2, 1, 12, 0), "modified")),
        ("north/2026-02-31/143000.mp4", {}, ("north", datetime(2026, 2, 1, 12, 0), "modified")),
    ],
)
def test_the_best_source_counts(
    tmp_path: Path, key: str, facts: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    cameras = Cameras(PATTERN, {"north": "Europe/Zurich"})
    lake = written(tmp_path, cameras, [key], UPLOADED, **facts)
    camera, at, source = expected
    assert recorded(lake) == [(camera, at.replace(tzinfo=timezone.utc).timestamp(), source)]


def test_nothing_is_known_of_a_video_without_any_time(tmp_path: Path) -> None:
    assert recorded(written(tmp_path, Cameras(), ["a.mp4"])) == [(None, None, None)]


@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("Europe/Zurich", datetime(2026, 3, 29, 2)),
        ("Europe/Zurich", datetime(2026, 10, 25, 3)),
        ("America/New_York", datetime(2026, 3, 8, 2)),
        ("America/New_York", datetime(2026, 11, 1, 2)),
        ("Australia/Lord_Howe", datetime(2026, 4, 5, 2)),
        ("Asia/Kathmandu", datetime(2026, 1, 31, 2)),
    ],
)
def test_local_times_around_a_change_of_the_clock_are_python_s(
    tmp_path: Path, zone: str, around: datetime
) -> None:
    times = [around + timedelta(minutes=7 * n) for n in range(-40, 40)]
    keys = [f"north/{t:%Y-%m-%d}/{t:%H%M%S}.mp4" for t in times]
    lake = written(tmp_path, Cameras(PATTERN, {"nor*": zone}), keys)
    # fold=0: of a time twice the first, a skipped one as if the clock had not been put forward
    expected = [t.replace(tzinfo=ZoneInfo(zone)).timestamp() for t in times]
    assert [at for _, at, _ in recorded(lake)] == expected


def test_of_a_time_that_a_clock_shows_twice_the_upload_decides(tmp_path: Path) -> None:
    key = "north/2026-10-25/023000.mp4"
    second = datetime(2026, 10, 25, 1, 30, tzinfo=timezone.utc)
    cameras = Cameras(PATTERN, {}, "Europe/Zurich")
    for minutes, expected in ((2, second), (-50, second - timedelta(hours=1))):
        lake = written(tmp_path, cameras, [key], second + timedelta(minutes=minutes))
        assert recorded(lake) == [("north", expected.timestamp(), "key")]


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("{camera}-{at:%s}.mp4", "north-1769869800.mp4"),
        ("{camera}-{at:%s}.mp4", "north-1769869800.MP4"),
        ("{camera}-{at:%Y%m%dT%H%M%S%z}.mp4", "north-20260131T143000Z.mp4"),
        ("{camera}-{at:%Y%m%dT%H%M%S%z}.mp4", "north-20260131T153000+0100.mp4"),
        ("{camera}-{at:%y%m%d-%H%M}.mp4", "north-260131-1430.mp4"),
        ("{year}/{month}/{day}/{hour}/{camera}-{minute}.mp4", "2026/01/31/14/north-30.mp4"),
    ],
)
def test_times_have_many_forms(tmp_path: Path, pattern: str, key: str) -> None:
    assert recorded(written(tmp_path, Cameras(pattern), [key])) == [("north", 1769869800.0, "key")]


def test_a_changed_pattern_counts_for_all_videos_at_once_and_for_every_reader(
    tmp_path: Path,
) -> None:
    key = "north/2026-01-31/143000.mp4"
    lake = written(tmp_path, Cameras(PATTERN), [key])
    assert recorded(Lake(lake.url)) == [("north", 1769869800.0, "key")]
    changed = Lake(lake.url, cameras=Cameras("{camera}/{date}", {}, "Europe/Zurich"))
    assert recorded(changed) == [("north", None, None)]
    changed.store_cameras()
    assert recorded(Lake(lake.url)) == [("north", None, None)]


def test_a_stored_pattern_that_is_wrong_is_named_and_replaced(tmp_path: Path) -> None:
    from rekognition_dagster.errors import LakeError

    lake = written(tmp_path, Cameras(PATTERN), ["north/2026-01-31/143000.mp4"])
    lake.storage.write(".tables/cameras.json", b'["{cam}/{date}", [], "UTC"]')
    with pytest.raises(LakeError, match=r"cameras.json: .* unknown part {cam}.* Set REKOGNITION"):
        recorded(Lake(lake.url))
    Lake(lake.url, cameras=Cameras(PATTERN)).store_cameras()
    assert recorded(Lake(lake.url)) == [("north", 1769869800.0, "key")]


def test_files_from_before_have_no_container_s_time(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lake = written(tmp_path, Cameras(), ["a.mp4"])
    path = Path(lake.url) / lake.path("videos", Video("cameras", "a.mp4"))
    table: pa.Table = pq.read_table(path)
    pq.write_table(table.drop_columns(["container_created_at"]), path)
    assert recorded(lake) == [(None, None, None)]


def test_settings_of_cameras_come_from_the_environment() -> None:
    from rekognition_dagster.errors import ConfigurationError

    assert Cameras.from_env({}) is None
    prefix = "REKOGNITION_DAGSTER_CAMERA_"
    found = Cameras.from_env({f"{prefix}PATTERN": PATTERN, f"{prefix}TIMEZONES": '{"a": "UTC"}'})
    assert found == Cameras(PATTERN, {"a": "UTC"})
    for wrong in ({f"{prefix}PATTERN": "x"}, {f"{prefix}TIMEZONES": '{"a": "Mars"}'}):
        with pytest.raises(ConfigurationError, match="CAMERA_"):
            Cameras.from_env(wrong)
