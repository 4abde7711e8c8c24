"""A report says what SQL says, and what is missing; whatever names hold is text."""

from __future__ import annotations

import csv
import io
import re
import resource
import signal
from datetime import date, datetime
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from report.conftest import DAY, ODD
from walks import compute, rows, straight, walked, write_walks

from rekognition_dagster.cli import main
from rekognition_dagster.errors import ConfigurationError, OutputError
from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.report import Scope, build_report, write_report
from rekognition_dagster.report.build import heat_pictures
from rekognition_dagster.report.facts import dwell_bins, recorded_days
from rekognition_dagster.videos import Video


def tables_of(html: str) -> dict[str, list[list[str]]]:
    """The page's CSV files, by name."""
    found = re.findall(r'download="([^"]+)"\s+href="data:text/csv;charset=utf-8,([^"]*)"', html)
    return {name: list(csv.reader(io.StringIO(unquote(data)))) for name, data in found}


def in_sql(lake: Lake, sql: str) -> list[list[str]]:
    return [["" if v is None else str(v) for v in row] for row in rows(lake, sql)]


def test_the_numbers_are_those_of_sql(day: Lake) -> None:
    report = build_report(day, Scope(DAY, DAY, labels=True), pictures=False)
    tables = tables_of(report.html)
    assert tables["people-a-day.csv"][1:]
    for line, sql in zip(
        (line[:2] for line in tables["people-a-day.csv"][1:]),
        in_sql(day, "SELECT day, sum(people)::INT FROM activity_by_day GROUP BY 1 ORDER BY 1"),
        strict=True,
    ):
        assert line == sql
    assert tables["cameras-by-hour.csv"] == [
        ["camera", "hour", "people"],
        ["north", "9", "1"],
        ["north", "14", "4"],
        ["south", "14", "1"],
    ]
    assert tables["north-crossings-by-hour-of-the-day.csv"][1:] == in_sql(
        day,
        "SELECT camera, line, direction, hour(crossed_local), count(*) FROM line_crossings "
        f"WHERE date = '{DAY}' GROUP BY ALL ORDER BY ALL",
    )
    assert tables["labels.csv"][1:] == [["Person", "10", "1"], ["Bicycle", "5", "1"]]
    total = report.page.totals
    assert (total["people"], total["cameras"], total["crossings"]) == (6, 2, 10)
    assert total["busiest"]["video"] == "s3://cameras/north/2026-02-03/140000.mp4"
    assert (total["busiest"]["people"], total["busiest"]["timestamp_ms"]) == (4, 15_000)
    stays = {(row["visits"], row["people"]) for row in report.page.facts.stays}
    assert stays == {(5, 5)}
    assert [row["bin"] for row in report.page.facts.dwell] == [2]
    assert dwell_bins()[2] == "10 s-30 s"


def test_what_is_missing_is_said(day: Lake) -> None:
    facts = build_report(day, Scope(DAY, DAY, faces=True), pictures=False).page.facts
    assert [(r["camera"], r["video"][-10:], r["reason"]) for r in facts.missing] == [
        ("south", "140000.mp4", "12 % of it is lost"),
        ("south", "150000.mp4", "failed: <script>alert(1)</script>"),
    ]
    assert facts.silent == ["west"]
    assert any("face_detection has not been run" in note for note in facts.notes)


def test_damaged_files_of_the_lake_are_on_the_page(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    for hour in ("09", "10"):
        walk = [straight((0, 0.1, 0.5), (9, 0.9, 0.5))]
        write_walks(lake, f"north/2026-02-03/{hour}0000.mp4", walk)
    compute(lake)
    (path, *_) = lake.storage.files("videos")
    lake.storage.write(path, b"no Parquet")
    report = build_report(lake, Scope(DAY, DAY), pictures=False)
    (row,) = report.page.facts.damaged
    assert row["file"] == lake.storage.uri(path)
    assert row["file"] in report.html
    assert "no Parquet file" in report.html


def test_times_of_files_are_named_where_a_day_is_empty(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    video = Video("cameras", "d/2026-11-24/a.mp4", last_modified=datetime(2026, 11, 26, 9))
    lake.write_video(video, {"duration_ms": 1000})
    when = date(2026, 11, 24)
    notes = " ".join(build_report(lake, Scope(when, when), pictures=False).page.notes)
    assert "there are recordings from 2026-11-26" in notes
    assert "The time of 1 video was taken from the file's last change" in notes
    assert "camera_pattern in the configuration" in notes


def test_videos_without_a_camera_have_a_name_and_one_is_singular(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake", cameras=Cameras(None, {}, "UTC"))
    at = datetime(2026, 2, 3, 9)
    for key in ("a.mp4", "b.mp4"):
        video = Video("cameras", key, etag="e", last_modified=at)
        lake.write_video(video, {"duration_ms": 9000})
        with lake.writer("face_detections", video) as writer:
            writer.write([{"video": video.uri, "timestamp_ms": 0}])
    report = build_report(lake, Scope(DAY, DAY, faces=True), pictures=False)
    assert report.page.facts.faces == [{"camera": "no camera known", "faces": 2, "videos": 2}]
    assert {row["camera"] for row in report.page.facts.missing} == {"no camera known"}
    lone = walked(tmp_path / "lone")
    write_walks(lone, "north/2026-02-03/090000.mp4", [straight((0, 0.1, 0.5), (9, 0.9, 0.5))])
    compute(lone)
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(main, ["report", "--lake", lone.url, "--no-pictures"])
    assert "report.html: 1 person at 1 camera, Tuesday, 03 February 2026" in made.stdout


def test_a_full_disk_is_named_with_the_file(day: Lake, tmp_path: Path) -> None:
    report = build_report(day, Scope(DAY, DAY), pictures=False)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"r.html cannot be written: File too large"):
            write_report(report, tmp_path / "r.html")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_names_are_text_whatever_they_hold(day: Lake) -> None:
    html = build_report(day, Scope(DAY, DAY), pictures=False).html
    assert "<script" not in html
    assert "alert(1)" in html
    assert "<b>counter" not in html
    assert ODD in unescape(html)


def test_several_days_are_one_page(day: Lake) -> None:
    report = build_report(day, Scope(date(2026, 2, 1), DAY, "north"), pictures=False)
    assert [camera.name for camera in report.page.cameras] == ["north"]
    assert report.page.totals["people"] == 6
    assert "01 February 2026 to 03 February 2026" in report.html


@pytest.mark.parametrize("when", [date(2026, 2, 2), date(2030, 1, 1)])
def test_a_day_without_videos_is_a_page_too(day: Lake, when: date) -> None:
    report = build_report(day, Scope(when, when))
    assert report.page.totals["people"] == 0
    assert report.page.cameras == []
    (note,) = report.page.notes
    assert note.endswith("; there are recordings from 2026-02-01 to 2026-02-03.")


def test_a_lake_without_tables_per_day_names_the_command(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    empty = build_report(lake, Scope(DAY, DAY))
    assert empty.page.notes == ["The lake has no videos yet."]
    write_walks(lake, "north/2026-02-03/090000.mp4", [straight((0, 0.1, 0.5), (9, 0.9, 0.5))])
    (note,) = build_report(lake, Scope(DAY, DAY)).page.notes
    assert "run rekognition-dagster refresh" in note
    assert recorded_days(lake) == (DAY, DAY)


def test_an_unknown_camera_is_named_with_those_there_are(day: Lake) -> None:
    with pytest.raises(ConfigurationError, match=r"no camera east in .*; there are north, south"):
        build_report(day, Scope(DAY, DAY, "east"))


def test_ten_thousand_people_are_no_larger_page(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    crowd = [straight((n / 200, 0.5, 0.5), (n / 200 + 1, 0.6, 0.5), fps=2) for n in range(10_000)]
    write_walks(lake, "north/2026-02-03/090000.mp4", crowd)
    compute(lake)
    report = build_report(lake, Scope(DAY, DAY), pictures=False)
    assert report.page.totals["people"] == 10_000
    assert len(report.html) < 100_000


def test_pictures_show_no_people_and_what_is_gone_is_named(filmed_day: Lake) -> None:
    page = build_report(filmed_day, Scope(DAY, DAY)).page
    north, south = page.cameras
    assert north.heat is not None
    assert (north.heat.width, north.heat.height) == (640, 480)
    assert len(north.heat.preview().uri) < 40_000
    assert [m.image is not None for m in north.moments] == [True, False]
    assert south.heat is not None
    assert south.moments[0].image is None
    assert "It lies on no frame of the camera" in south.heat_note
    gone = "No picture of s3://cameras/north/2026-02-03/090000.mp4 and 1 more: there is no such"
    assert any(gone in note or gone.replace(" and 1 more", "") in note for note in page.notes), (
        page.notes
    )


def test_the_command_makes_a_file(day: Lake, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        lake = ["--lake", day.url, "--no-pictures", "--no-refresh"]
        return CliRunner().invoke(main, ["report", *lake, *arguments])

    made = run("--date", "2026-02-03", "-o", "out/day.html")
    assert made.exit_code == 0, made.output
    assert "out/day.html: 6 people at 2 cameras, Tuesday, 03 February 2026" in made.stdout
    assert Path("out/day.html").read_text().startswith("<!doctype html>")
    assert list(Path("out").iterdir()) == [Path("out/day.html")]
    assert run("--date", "2026-02-03", "--from", "2026-02-01").exit_code == 2
    assert (
        "--to 2026-02-01 is before --from"
        in run("--from", "2026-02-03", "--to", "2026-02-01").output
    )
    assert "there are north, south, west" in run("--camera", "nope").output
    assert "/proc/x.html cannot be written" in run("-o", "/proc/x.html").output
    assert "2 cameras, Tuesday, 03 February 2026" in run().stdout


def test_heat_maps_of_a_day_are_those_of_its_busiest_cameras(day: Lake) -> None:
    found = heat_pictures(day, DAY, most=1)
    assert list(found) == ["north"]
    text = found["north"].markdown("a|b")
    assert text.startswith("![a\\|b](data:image/jpeg;base64,")
    assert len(text) < 40_000
    assert heat_pictures(day, date(2030, 1, 1)) == {}


def test_a_video_on_no_day_is_named(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    write_walks(lake, "north/2026-02-03/090000.mp4", [straight((0, 0.1, 0.5), (9, 0.9, 0.5))])
    write_walks(lake, "undated.mp4", [straight((0, 0.1, 0.5), (9, 0.9, 0.5))])
    compute(lake)
    notes = build_report(lake, Scope(DAY, DAY), pictures=False).page.notes
    assert any("1 video has no known time of recording and counts on no day" in n for n in notes)


def test_videos_that_cannot_be_read_are_one_note(
    day: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    page = build_report(day, Scope(DAY, DAY)).page
    (note,) = (n for n in page.notes if n.startswith("No picture"))
    assert "and 2 more: " in note
    assert all(camera.heat for camera in page.cameras)
