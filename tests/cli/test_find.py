"""find prints moments; zones checks and draws; refresh computes what a new zone changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from walks import PATTERN, straight, walked, write_walks

from rekognition_dagster.analytics import compute_standard
from rekognition_dagster.cli import main
from rekognition_dagster.lake import Lake

ZONES = """
cameras:
  - camera: north
    zones: {counter: [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]}
    lines: {door: {points: [[0.3, 0.0], [0.3, 1.0]], to_left: in, to_right: out}}
"""
IN = straight((0, 0.1, 0.5), (4, 0.5, 0.5), (20, 0.5, 0.5))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    lake = walked(folder, "Europe/Zurich")
    videos = [
        write_walks(lake, "north/2026-02-03/135955.mp4", [IN]),
        write_walks(lake, "north/2026-02-04/120000.mp4", [IN]),
        write_walks(lake, "south/2026-02-03/140000.mp4", [straight((0, 0.2, 0.2), (9, 0.8, 0.2))]),
    ]
    _add_bicycle(lake, videos[1])
    compute_standard(lake, videos)
    (folder / "zones.yaml").write_text(ZONES)
    run("refresh", "--lake", str(folder / "lake"), "--zones", str(folder / "zones.yaml"))
    return folder


@pytest.fixture
def place(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a lake of two cameras and a file of zones."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _add_bicycle(lake: Lake, video: Any) -> None:
    with lake.writer("label_detections", video) as writer:
        writer.write(
            {"video": video.uri, "timestamp_ms": 1000 * n, "name": "Bicycle"} for n in (5, 6, 30)
        )


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, [*arguments])
    assert result.exit_code == status, result.output
    return result.output


def found(*arguments: str) -> list[tuple[Any, ...]]:
    rows = json.loads(run("find", "--lake", "lake", "--format", "json", *arguments))
    return [(r["camera"], r["from_local"], r["place"], r["person"], r["at"]) for r in rows]


FIRST = ("north", "2026-02-03T13:59:58", "counter", 0, "00:03")
SECOND = ("north", "2026-02-04T12:00:03", "counter", 0, "00:03")


def test_who_was_in_a_zone_when(place: Path) -> None:
    assert found("--zone", "counter") == [FIRST, SECOND]
    assert found("--zone", "counter", "--between", "14:00", "15:00") == [FIRST]
    assert found("--zone", "counter", "--between", "13:00", "13:30") == []
    assert found("--zone", "counter", "--between", "23:00", "12:30") == [SECOND]
    assert found("--zone", "counter", "--on", "wednesday") == [SECOND]
    assert found("--zone", "counter", "--on", "2026-02-03") == [FIRST]
    assert found("--zone", "counter", "--since", "2026-02-04") == [SECOND]


def test_a_table_without_a_place_names_no_type_null(place: Path) -> None:
    assert "null" not in run("find", "--lake", "lake").splitlines()[2]
    assert "null" not in run("query", "--lake", "lake", "SELECT 1 AS a").lower()


def test_who_crossed_a_line_and_who_was_there_at_all(place: Path) -> None:
    crossed = ("north", "2026-02-03T13:59:57", "door in", 0, "00:02")
    assert found("--crossed", "in", "--on", "2026-02-03") == [crossed]
    assert found("--crossed", "in", "--zone", "counter", "--on", "2026-02-03") == [crossed]
    there = found("--on", "2026-02-03")
    assert [row[:2] for row in there] == [
        ("north", "2026-02-03T13:59:55"),
        ("south", "2026-02-03T14:00:00"),
    ]


def test_labels_and_faces_narrow_what_is_found(place: Path) -> None:
    assert found("--zone", "counter", "--label", "bicycle") == [SECOND]
    assert [row[4] for row in found("--label", "Bicycle")] == ["00:05", "00:30"]
    assert found("--zone", "counter", "--with-face") == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--camera", "nroth"], "there is no camera nroth in"),
        (["--zone", "shelf"], "there is no zone shelf in .*; there are counter"),
        (["--zone", "door"], "door is a line, not a zone: --line door"),
        (["--line", "counter"], "counter is a zone, not a line: --zone counter"),
        (["--line", "gate"], "there is no line gate in .*; there are door"),
        (["--on", "soon"], "soon is no day; write 2026-01-31, today, yesterday or tuesday"),
        (["--crossed", "up"], "there is no direction up in .*; there are in"),
        (["--label", "Unknwon"], "there is no label Unknwon in .*; there are Bicycle"),
        (["--zone", "counter", "--label", "Unknwon"], "there is no label Unknwon in"),
    ],
)
def test_what_there_is_not_is_named(place: Path, arguments: list[str], error: str) -> None:
    import re

    status = 2 if "--on" in arguments else 1
    assert re.search(error, run("find", "--lake", "lake", *arguments, status=status))


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_rows_beyond_the_limit_are_announced(place: Path, form: str) -> None:
    arguments = ["find", "--lake", "lake", "--format", form, "--limit"]
    result = CliRunner().invoke(main, [*arguments, "2"])
    assert result.stderr == "the first 2; more with --limit\n"
    assert result.stdout.count("s3://") == 2
    assert "2026-02-04" not in result.stdout  # the first ones
    for limit in ("3", "4"):
        result = CliRunner().invoke(main, [*arguments, limit])
        assert (result.stderr, result.stdout.count("s3://")) == ("", 3)


def test_today_is_that_of_the_camera_s_clock(place: Path) -> None:
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

    today = datetime.now(ZoneInfo("Europe/Zurich")).date()
    lake = Lake(place / "lake")
    for days in (0, 1, 2):
        write_walks(lake, f"north/{today - timedelta(days)}/120000.mp4", [IN])
    assert [row[1] for row in found("--on", "today")] == [f"{today}T12:00:00"]
    assert [row[1] for row in found("--on", "Yesterday", "--camera", "north")] == [
        f"{today - timedelta(1)}T12:00:00"
    ]


def test_people_are_found_where_no_analytics_per_video_are(place: Path) -> None:
    arguments = ("--on", "2026-02-03")
    before = found(*arguments)
    assert len(before) == 2
    for path in (place / "lake" / "person_paths").rglob("*.parquet"):
        if "/date=2026-02-03/" in str(path):
            path.unlink()  # of some videos
            break
    assert found(*arguments) == before
    shutil.rmtree(place / "lake" / "person_paths")
    (place / "lake" / ".tables" / "person_paths.parquet").unlink()
    assert found(*arguments) == before
    assert found("--with-face") == []
    sql = "FROM people_between('*', TIMESTAMP '2026-02-03', TIMESTAMP '2026-02-04')"
    rows = json.loads(run("query", sql, "--lake", "lake", "--format", "json"))
    assert sorted(r["camera"] for r in rows) == ["north", "south"]


def test_a_camera_without_visits_has_none(place: Path) -> None:
    assert found("--camera", "south", "--zone", "counter") == []
    assert found("--camera", "south", "--crossed", "in") == []
    assert found("--camera", "south", "--label", "bicycle") == []


@pytest.mark.parametrize(
    ("times", "count"),
    [
        (("13:59", "24:00"), 1),
        (("00:00", "24:00"), 2),
        (("00:00", "13:30:30"), 1),
        (("14:00:30", "24:00"), 0),
        (("23:00", "00:00"), 0),
    ],
)
def test_a_day_ends_at_24(place: Path, times: tuple[str, str], count: int) -> None:
    assert len(found("--zone", "counter", "--between", *times)) == count


@pytest.mark.parametrize(
    ("times", "error"),
    [
        (("14:00", "14:00"), "14:00 to 14:00 is no time; the whole day is 00:00 24:00"),
        (("24:00", "08:00"), "24:00 is the end of a day"),
        (("14:00", "24:01"), "24:01 is no time of day; write e.g. 14:30"),
        (("2pm", "15:00"), "2pm is no time of day; write e.g. 14:30"),
    ],
)
def test_times_that_are_none_are_refused(place: Path, times: tuple[str, str], error: str) -> None:
    assert error in run("find", "--lake", "lake", "--between", *times, status=2)


@pytest.mark.parametrize("command", ["find", "refresh", "query", "zones"])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("CAMERA_TIMEZONES", "{north", "CAMERA_TIMEZONES: '{north' is no JSON object; write e.g. "),
        ("CAMERA_TIMEZONES", '["UTC"]', "is no JSON object; write e.g. "),
        ("CAMERA_TIMEZONES", '{"north": "Mars"}', "CAMERA_TIMEZONES: 'Mars' is not a time zone"),
        ("TIMEZONE", "Mars", "REKOGNITION_DAGSTER_TIMEZONE: 'Mars' is not a time zone"),
        ("CAMERA_PATTERN", "{cam}/x.mp4", "CAMERA_PATTERN: '{cam}/x.mp4' has an unknown part"),
        ("CAMERA_PATTERN", "{site}/x.mp4", "CAMERA_PATTERN: '{site}/x.mp4' has no {camera}"),
        ("ZONES_SINCE", "soon", "ZONES_SINCE: 'soon' is no day; write e.g. 2026-01-31"),
    ],
)
def test_settings_of_cameras_that_are_wrong_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str, error: str
) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "zones.yaml").write_text(ZONES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"REKOGNITION_DAGSTER_{name}", value)
    arguments = {"query": ["query", "FROM videos"], "zones": ["zones", "check"]}
    text = run(*arguments.get(command, [command]), "--lake", "lake", status=1)
    assert error in text
    assert name in text


def test_refresh_goes_back_as_far_as_the_setting_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "zones.yaml").write_text(ZONES.replace("counter", "desk"))
    monkeypatch.setenv("REKOGNITION_DAGSTER_ZONES_SINCE", "2026-02-04")
    assert "zone_visits: 1 rows of 1 days" in run("refresh", "--lake", "lake")


def test_macros_ask_the_same_in_sql(place: Path) -> None:
    sql = "FROM visits_between('n*', 'counter', TIMESTAMP '2026-02-03', TIMESTAMP '2026-02-04')"
    rows = json.loads(run("query", sql, "--lake", "lake", "--format", "json"))
    assert [(r["video"], r["dwell_s"]) for r in rows] == [
        ("s3://cameras/north/2026-02-03/135955.mp4", 17.0)
    ]
    import duckdb

    path = Lake(place / "lake").save_catalogue(place / "lake.duckdb")
    with duckdb.connect(str(path), read_only=True) as connection:
        assert len(connection.sql(sql).fetchall()) == 1


def test_zones_are_checked_against_the_lake_s_cameras(place: Path) -> None:
    output = run("zones", "check", "--zones", "zones.yaml", "--lake", "lake")
    assert "1 zones, 1 lines" in output
    assert "north: zone counter, line door" in output
    (place / "zones.yaml").write_text(ZONES.replace("north", "nroth"))
    output = run("zones", "check", "--lake", "lake")
    assert "zones.yaml:4: there is no video of the camera nroth; there are north, south" in output
    assert "zones.yaml: it names no camera of the lake" in output
    more = ZONES + "  - {camera: south, zones: {hall: [[0, 0], [1, 0], [1, 1]]}}"
    (place / "zones.yaml").write_text(more.replace("north", "nroth"))
    output = run("zones", "check", "--lake", "lake")
    assert "there is no video of the camera nroth" in output
    assert "it names no camera" not in output
    (place / "zones.yaml").write_text(ZONES.replace("[0.6, 0.4]", "[0.6]"))
    output = run("zones", "check", "--lake", "lake", status=1)
    assert "zones.yaml:4: a point of the zone counter of camera north is [0.6]" in output


@pytest.mark.parametrize("text", ["", "# nothing yet", "cameras:", "settle: 1"])
def test_a_file_without_zones_is_a_warning(place: Path, text: str) -> None:
    (place / "zones.yaml").write_text(text)
    output = run("zones", "check", "--lake", "lake")
    assert "warning: zones.yaml has no zone, no line and no ground plane" in output


def test_zones_are_not_painted_beyond_the_video(place: Path, write_any_clip: Path) -> None:
    arguments = ("zones", "draw", "--camera", "north", "--video", str(write_any_clip))
    output = run(*arguments, "--at", "500", "-o", "out.png", status=1)
    assert "has no frames from 500 s on; it ends at 0." in output
    assert not Path("out.png").exists()


def test_zones_are_painted_on_a_frame(
    place: Path, monkeypatch: pytest.MonkeyPatch, write_any_clip: Path
) -> None:
    import cv2

    before = cv2.VideoCapture(str(write_any_clip)).read()[1]
    run("zones", "draw", "--camera", "north", "--video", str(write_any_clip), "-o", "out.png")
    after = cv2.imread("out.png")
    assert before is not None
    assert after is not None
    assert after.shape == before.shape
    height, width = after.shape[:2]
    inside, outside = (height // 2, width // 2), (height // 20, width - width // 20)
    assert abs(after[inside].astype(int) - before[inside]).max() > 10
    assert abs(after[outside].astype(int) - before[outside]).max() <= 10


@pytest.fixture
def write_any_clip(tmp_path: Path) -> Path:
    from clips import write_clip

    return write_clip(tmp_path / "clip.mp4", first=85, frames=2)


def test_refresh_says_what_it_computed(place: Path) -> None:
    arguments = ("refresh", "--lake", "lake", "--zones", "zones.yaml")
    assert run(*arguments) == "everything is up to date\n"
    (place / "zones.yaml").write_text(ZONES.replace("counter", "desk"))
    output = run(*arguments, "--since", "2026-02-04")
    assert "zone_visits: 1 rows of 1 days" in output
    assert "heat" not in output
    assert Lake("lake").cameras.pattern == PATTERN


def test_refresh_computes_tables_per_video_that_are_missing_or_older(place: Path) -> None:
    import os

    lake = Lake(place / "lake")
    shutil.rmtree(place / "lake" / "person_paths")
    (place / "lake" / "video_summary" / "date=2026-02-04").rename(place / "gone")
    output = run("refresh", "--lake", "lake")
    assert output == "person_paths: 3 rows of 3 videos\nvideo_summary: 1 rows of 1 videos\n"
    assert run("refresh", "--lake", "lake") == "everything is up to date\n"
    sql = "SELECT people FROM video_summary ORDER BY video"
    with lake.connect() as connection:
        assert connection.sql(sql).fetchall() == [(1,), (1,), (1,)]
    # other results, written by one who computes nothing
    write_walks(lake, "north/2026-02-04/120000.mp4", [IN, IN], job_id="again")
    (path,) = (place / "lake" / "person_detections" / "date=2026-02-04").iterdir()
    times = [path.stat().st_mtime_ns + 1_000_000] * 2
    os.utime(path, ns=(times[0], times[1]))
    assert "person_paths" not in run("refresh", "--lake", "lake", "--until", "2026-02-03")
    output = run("refresh", "--lake", "lake")
    for counts in ("activity_by_minute: 1", "person_paths: 2", "video_summary: 1"):
        assert f"{counts} rows of 1 videos" in output
    assert run("refresh", "--lake", "lake") == "everything is up to date\n"
    with lake.connect() as connection:
        assert connection.sql(sql).fetchall() == [(1,), (2,), (1,)]


def test_refresh_leaves_a_compacted_lake_alone(place: Path) -> None:
    from rekognition_dagster.lake.compaction import Day

    lake = Lake(place / "lake")
    for table in ("person_detections", "person_paths", "video_summary", "activity_by_minute"):
        day = Day(lake.storage, f"{table}/date=2026-02-03")
        steps = [day.compact(grace_s=0, quiet_s=0, min_files=1) for _ in range(2)]
        assert steps == ["staged", "published"]
        assert run("refresh", "--lake", "lake") == "everything is up to date\n"


def test_refresh_takes_the_zones_of_this_folder_and_loses_none_without_a_word(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "everything is up to date" in run("refresh", "--lake", "lake")
    (place / "zones.yaml").rename(place / "other.yaml")
    text = run("refresh", "--lake", "lake", status=1)
    assert "The lake has rows of counter, door, which would be removed" in text
    assert "zone_visits: 0 rows" in run("refresh", "--lake", "lake", "--no-zones")
    monkeypatch.setenv("REKOGNITION_DAGSTER_CAMERA_PATTERN", "x/{camera}.mp4")
    text = run("refresh", "--lake", "lake", "--no-zones", status=1)
    assert "fits none of 3 videos, e.g. s3://" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--on", "2026-02-03", "--since", "2026-02-05"), "name --on, or --since and --until"),
        (("--since", "2026-02-05", "--until", "2026-02-03"), "is before --since 2026-02-05"),
    ],
)
def test_days_that_cannot_be_meant_are_refused(
    place: Path, arguments: tuple[str, ...], text: str
) -> None:
    assert text in run("find", "--lake", "lake", *arguments, status=2)
