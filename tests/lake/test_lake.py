"""Views over tables that are there, partly there, and not there."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pytest

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.videos import Video

VIDEO = Video("cameras", "2026-01-31/a.mp4", etag="e", size=7)
OTHER = Video("cameras", "b.mp4", last_modified=datetime(2025, 5, 6, tzinfo=timezone.utc))


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return Lake(tmp_path / "lake")
    return Lake(f"s3://{request.getfixturevalue('bucket')}/lake")


def test_an_empty_lake_has_every_table_with_its_columns(lake: Lake) -> None:
    with lake.connect() as connection:
        for table in TABLES.values():
            found = connection.sql(f"SELECT * FROM {table.name}")
            assert found.columns == [*table.schema.names, "date"]
            assert found.fetchall() == []


def test_a_view_sees_every_file_and_its_date(lake: Lake) -> None:
    for video in (VIDEO, OTHER):
        with lake.writer("person_detections", video) as writer:
            writer.write([{"video": video.uri, "timestamp_ms": 1}])
    with lake.connect() as connection:
        found = connection.sql("SELECT video, date::VARCHAR FROM person_detections ORDER BY ALL")
        assert found.fetchall() == [(VIDEO.uri, "2026-01-31"), (OTHER.uri, "2025-05-06")]


def test_a_connection_can_be_confined_to_some_videos(lake: Lake) -> None:
    for video in (VIDEO, OTHER):
        lake.write_video(video, {"codec": "h264"})
        lake.write_job(video, "face_detection", {"job_id": "j", "status": "SUCCEEDED"})
    with lake.connect(["videos", "jobs", "face_detections"], [VIDEO]) as connection:
        assert connection.sql("SELECT video FROM videos").fetchall() == [(VIDEO.uri,)]
        assert connection.sql("SELECT video FROM jobs").fetchall() == [(VIDEO.uri,)]
        assert connection.sql("SELECT * FROM face_detections").fetchall() == []


def test_a_job_is_read_back(lake: Lake) -> None:
    assert lake.read_job(VIDEO, "face_detection") is None
    lake.write_job(VIDEO, "face_detection", {"job_id": "j", "status": "FAILED", "rows": 0})
    lake.write_job(VIDEO, "person_tracking", {"job_id": "k", "status": "SUCCEEDED"})
    job = lake.read_job(VIDEO, "face_detection")
    assert job is not None
    assert (job["job_id"], job["status"], job["version"], job["video"]) == (
        "j",
        "FAILED",
        "e",
        VIDEO.uri,
    )


def test_the_catalogue_is_a_duckdb_file_for_any_client(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.write_video(VIDEO, {"codec": "h264"})
    path = lake.save_catalogue(tmp_path / "lake.duckdb")
    lake.write_video(OTHER, {"codec": "h264"})
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM videos").fetchall() == [(2,)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "lake.duckdb"]


def test_a_catalogue_over_s3_is_refused_with_a_remedy(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="rekognition-dagster query"):
        Lake(f"s3://{bucket}/lake").save_catalogue(tmp_path / "lake.duckdb")


def test_an_unknown_table_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="person_detections"):
        Lake(tmp_path).writer("persons", VIDEO)


def test_what_a_user_keeps_in_the_catalogue_survives_its_refresh(tmp_path: Path) -> None:
    import duckdb

    lake, catalogue = Lake(tmp_path / "lake"), tmp_path / "lake.duckdb"
    video = Video("videos", "gate.mp4", etag="e1")
    lake.write_job(video, "person_tracking", {"job_id": "j1", "status": "SUCCEEDED"})
    lake.save_catalogue(catalogue)
    with duckdb.connect(str(catalogue)) as mine:
        mine.execute("CREATE TABLE cameras AS SELECT 'gate' AS camera")
    lake.save_catalogue(catalogue)
    with duckdb.connect(str(catalogue)) as again:
        assert again.sql("SELECT camera, job_id FROM cameras, jobs").fetchall() == [("gate", "j1")]


@pytest.mark.parametrize("reads", [True, False])
def test_the_catalogue_is_refreshed_beside_readers_and_left_alone_beside_a_writer(
    tmp_path: Path, reads: bool
) -> None:
    import duckdb

    lake, catalogue = Lake(tmp_path / "lake"), tmp_path / "lake.duckdb"
    lake.save_catalogue(catalogue)
    with duckdb.connect(str(catalogue)) as mine:
        mine.execute("CREATE TABLE cameras AS SELECT 'gate' AS camera")
    code = (
        "import duckdb, sys\n"
        f"held = duckdb.connect({str(catalogue)!r}, read_only={reads})\n"
        f"if not {reads}: held.execute('CREATE TABLE doors AS SELECT 1 AS door')\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    (tmp_path / "lake" / "counts" / "date=2026-01-31").mkdir(parents=True)
    counts = tmp_path / "lake" / "counts" / "date=2026-01-31" / "a.parquet"
    duckdb.execute(f"COPY (SELECT 'a' AS video) TO '{counts}'")
    lake.save_catalogue(catalogue)
    holder.communicate("")
    with duckdb.connect(str(catalogue)) as again:
        tables = again.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
        views = again.execute("SELECT view_name FROM duckdb_views()").fetchall()
    assert tables == ([("cameras",)] if reads else [("cameras",), ("doors",)])
    assert (("counts",) in views) is reads
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "lake.duckdb"]
