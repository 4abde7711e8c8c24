"""``query``: SQL over a lake, for people and for machines."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from command_line import Command

from rekognition_dagster.lake import Lake
from rekognition_dagster.videos import Video


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with one video and one job."""
    lake = Lake(tmp_path / "lake")
    video = Video("videos", "gate/2026-01-31.mp4", etag="e1")
    lake.write_video(video, {"codec": "h264", "duration_ms": 4000, "frame_rate": 25.0})
    lake.write_job(video, "person_tracking", {"job_id": "j1", "status": "SUCCEEDED", "rows": 3})
    return lake


def test_a_table_is_for_people(command: Command, lake: Lake) -> None:
    result = command("query", "SELECT video, status FROM jobs", "--lake", lake.url)
    assert result.exit_code == 0
    assert "s3://videos/gate/2026-01-31.mp4" in result.stdout
    assert "│" in result.stdout


def test_csv_has_a_header_and_lists_as_json(command: Command, lake: Lake) -> None:
    sql = "SELECT status, [1, 2] AS list, {'a': 'x,y'} AS struct, NULL AS nothing FROM jobs"
    result = command("query", sql, "--lake", lake.url, "--format", "csv")
    [row] = csv.DictReader(io.StringIO(result.stdout))
    assert row["status"] == "SUCCEEDED"
    assert json.loads(row["list"]) == [1, 2]
    assert json.loads(row["struct"]) == {"a": "x,y"}
    assert row["nothing"] == ""


def test_json_is_one_array_of_objects(command: Command, lake: Lake) -> None:
    sql = (
        "SELECT date, rows, 1.5::DECIMAL(4, 2) AS price,"
        " TIMESTAMPTZ '2026-01-31 01:00:00+01' AS at, NULL AS nothing, {'a': [1.5]} AS struct"
        " FROM jobs"
    )
    result = command("query", sql, "--lake", lake.url, "--format", "json")
    assert json.loads(result.stdout) == [
        {
            "date": "2026-01-31",
            "rows": 3,
            "price": 1.5,
            "at": "2026-01-31T00:00:00Z",
            "nothing": None,
            "struct": {"a": [1.5]},
        }
    ]


def test_json_of_no_rows_is_an_empty_array(command: Command, lake: Lake) -> None:
    result = command("query", "FROM person_detections", "--lake", lake.url, "--format", "json")
    assert json.loads(result.stdout) == []


def test_columns_of_the_same_name_do_not_hide_each_other(command: Command, lake: Lake) -> None:
    result = command("query", "SELECT 1 AS n, 2 AS n", "--lake", lake.url, "--format", "json")
    assert json.loads(result.stdout) == [{"n": 1, "n_2": 2}]


def test_an_answer_longer_than_a_batch_is_whole(command: Command, lake: Lake) -> None:
    result = command("query", "FROM range(2500)", "--lake", lake.url, "--format", "csv")
    assert result.stdout.splitlines() == ["range", *map(str, range(2500))]


def test_the_lake_comes_from_the_environment(
    command: Command, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKOGNITION_DAGSTER_LAKE", lake.url)
    assert command("query", "FROM jobs", "--format", "csv").stdout.count("\n") == 2


def test_a_lake_in_the_current_folder_is_found(command: Command, lake: Lake) -> None:
    assert command("query", "FROM jobs").exit_code == 0


def test_without_a_lake_the_remedy_is_told(command: Command) -> None:
    result = command("query", "SELECT 1")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: which lake?")
    assert "--lake" in result.stderr


def test_a_lake_that_is_not_there_is_named(command: Command) -> None:
    result = command("query", "SELECT 1", "--lake", "nowhere")
    assert result.exit_code == 1
    assert "nowhere" in result.stderr


def test_the_home_in_the_place_of_its_lake_is_told(command: Command, lake: Lake) -> None:
    result = command("query", "SELECT 1", "--lake", Path(lake.url).parent)
    assert result.exit_code == 1
    assert lake.url in result.stderr


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("FROM peoples", "person_detections"),
        ("SELECT nothing FROM jobs", "nothing"),
        ("SELEKT 1", "syntax error"),
        ("SELECT 1; SELEKT 2", "syntax error"),
    ],
)
def test_wrong_sql_is_told_as_duckdb_tells_it(
    command: Command, lake: Lake, sql: str, told: str
) -> None:
    for form in ("table", "json"):
        result = command("query", sql, "--lake", lake.url, "--format", form)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert told in result.stderr


def test_each_of_several_statements_is_shown(command: Command, lake: Lake) -> None:
    result = command("query", "SELECT 1 AS a; SELECT 2 AS b", "--lake", lake.url, "--format", "csv")
    assert result.stdout == "a\n1\nb\n2\n"
    table = command("query", "SELECT 1 AS first; SELECT 2 AS second", "--lake", lake.url)
    assert "first" in table.stdout
    assert "second" in table.stdout


def test_csv_has_booleans_as_duckdb_writes_them(command: Command, lake: Lake) -> None:
    result = command("query", "SELECT true AS yes", "--lake", lake.url, "--format", "csv")
    assert result.stdout == "yes\ntrue\n"


def test_no_column_of_a_piped_table_is_cut(command: Command, lake: Lake) -> None:
    columns = ", ".join(f"'{'x' * 30}' AS column_{i}" for i in range(20))
    heading = command("query", f"SELECT {columns}", "--lake", lake.url).stdout.splitlines()[1]
    assert all(f" column_{i} " in heading for i in range(20))


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("keep", [slice(None, 300), slice(0, 4)])
def test_a_damaged_file_is_named_and_the_others_are_shown(
    command: Command, lake: Lake, caplog: pytest.LogCaptureFixture, form: str, keep: slice
) -> None:
    other = Video("videos", "door/2026-01-31.mp4", etag="e2")
    lake.write_video(other, {"codec": "av1"})
    path = Path(lake.url) / lake.path("videos", other)
    content = path.read_bytes()
    # Cut off; or whole but for its first page, which is found out after the view is made.
    path.write_bytes(content[keep] + (b"" if keep.stop == 300 else bytes(300) + content[304:]))
    result = command("query", "SELECT codec FROM videos", "--lake", lake.url, "--format", form)
    assert result.exit_code == 0
    assert "h264" in result.stdout
    assert "av1" not in result.stdout
    assert f"{path} is left out" in caplog.text
