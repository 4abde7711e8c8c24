"""Views over tables that are there, partly there, and not there."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake import TABLES, Lake, cameras
from rekognition_dagster.lake.compaction import due_days
from rekognition_dagster.lake.views import LakeConnection
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
            derived = list(cameras.COLUMNS) if table.name == "videos" else []
            columns = [*table.schema.names, "date"]
            assert found.columns[: len(columns)] == columns
            assert sorted(found.columns[len(columns) :]) == sorted(derived)
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
    with lake.writer("counts", VIDEO, schema=pa.schema([("video", pa.string())])) as writer:
        writer.write([{"video": VIDEO.uri}])
    lake.save_catalogue(catalogue)
    holder.communicate("")
    with duckdb.connect(str(catalogue)) as again:
        tables = again.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
        views = again.execute("SELECT view_name FROM duckdb_views()").fetchall()
    assert tables == ([("cameras",)] if reads else [("cameras",), ("doors",)])
    assert (("counts",) in views) is reads
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "lake.duckdb"]


# -- what is not the lake's -----------------------------------------------------------------------

FOLDER = "person_detections/date=2026-01-31"
NOT_OURS = [
    "tmp/date=2026-01-31/part-0123456789abcdef.parquet",
    "person_detections_copy/date=2026-01-31/a-0123456789abcdef.parquet",
    "_delta_log/00000.json",
    f"{FOLDER}/export.parquet",
    f"{FOLDER}/compacted.mine.parquet",
    f"{FOLDER}/spark/a-0123456789abcdef.parquet",
    "person_detections/a-0123456789abcdef.parquet",
    "person_detections/date=backup/a-0123456789abcdef.parquet",
]


def put(lake: Lake, path: str, **columns: list[Any]) -> None:
    """Write a foreign Parquet file, or a text file under its name."""
    content = io.BytesIO()
    pq.write_table(pa.table(columns or {"mine": [1]}), content)
    lake.storage.write(path, content.getvalue() if path.endswith(".parquet") else b"{}")


def persons(lake: Lake, videos: list[Video]) -> None:
    for video in videos:
        with lake.writer("person_detections", video) as writer:
            writer.write([{"video": video.uri, "timestamp_ms": 1}])


def videos_in(lake: Lake, table: str = "person_detections") -> list[str]:
    with lake.connect() as connection:
        return [v for (v,) in connection.sql(f"SELECT video FROM {table} ORDER BY 1").fetchall()]


MANY = [Video("cameras", f"2026-01-31/{i:02}.mp4") for i in range(10)]


def test_files_that_are_not_the_lakes_are_named_once(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    persons(lake, MANY[:2])
    put(lake, f"{FOLDER}/bad.parquet")
    put(lake, "person_detections/empty.parquet")
    put(lake, f"{FOLDER}/.hidden.parquet")

    def warnings() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.name.startswith("rekognition_dagster")]

    with lake.connect() as connection:
        connection.sql("SELECT 1")
        assert warnings() == []
    assert len(videos_in(lake)) == 2
    assert len(videos_in(lake)) == 2
    (message,) = warnings()
    assert message == (
        f"{lake.url}/person_detections: date=2026-01-31/bad.parquet, empty.parquet: not written by "
        "this package, left out. Move such files elsewhere"
    )


def test_folders_and_files_that_are_not_the_lakes_are_neither_read_nor_touched(lake: Lake) -> None:
    persons(lake, MANY)
    for path in NOT_OURS:
        put(lake, path)
    before = {p: lake.storage.look(p) for p in NOT_OURS}
    expected = [v.uri for v in MANY]
    assert lake.tables() == list(TABLES)
    assert videos_in(lake) == expected
    due = due_days(lake.storage, [*lake.tables()], 2)
    assert [d.folder for d in due] == [FOLDER]
    for outcome in ("staged", "published"):
        assert due[0].compact(grace_s=0, quiet_s=0, min_files=2) == outcome
        assert due[0].damaged == {}
        assert videos_in(lake) == expected
    assert {p: lake.storage.look(p) for p in NOT_OURS} == before
    for video in MANY:
        lake.forget(video)
    assert videos_in(lake) == []
    assert {p: lake.storage.look(p) for p in NOT_OURS} == before


def test_the_catalogue_reads_the_lakes_files_only(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    persons(lake, MANY)
    for path in NOT_OURS:
        put(lake, path)
    path = lake.save_catalogue(tmp_path / "lake.duckdb")
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM person_detections").fetchall() == [(10,)]
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal")
        assert sorted(v for (v,) in views.fetchall()) == sorted(TABLES)


def test_a_table_of_a_model_is_known_once_it_was_written(lake: Lake) -> None:
    schema = pa.schema([("video", pa.string()), ("visits", pa.int32()), ("date", pa.string())])
    with lake.writer("door_visits", VIDEO, schema=schema) as writer:
        writer.write([{"video": VIDEO.uri, "visits": 2, "date": "?"}])
    again = Lake(lake.url)
    assert again.tables()[-1] == "door_visits"
    with again.connect() as connection:
        found = connection.sql("SELECT video, visits, date::VARCHAR FROM door_visits")
        assert found.fetchall() == [(VIDEO.uri, 2, "2026-01-31")]
    with again.connect(videos=[OTHER]) as connection:
        found = connection.sql("FROM door_visits")
        assert (found.columns, found.fetchall()) == (["video", "visits", "date"], [])
    with pytest.raises(LakeError, match="cannot be called"):
        again.writer("a/b", VIDEO, schema=schema)


# -- damaged files --------------------------------------------------------------------------------


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def no_parquet(content: bytes) -> bytes:
    return b"no Parquet"


def empty(content: bytes) -> bytes:
    return b""


def broken_page(content: bytes) -> bytes:
    return content[:4] + bytes(200) + content[204:]


def of_another(content: bytes) -> bytes:
    other = io.BytesIO()
    pq.write_table(pa.table({"video": [7], "timestamp_ms": ["x"]}), other)
    return other.getvalue()


def damage_one(lake: Lake, how: Callable[[bytes], bytes]) -> str:
    persons(lake, MANY)
    path = lake.path("person_detections", MANY[3])
    content = lake.storage.read(path)
    assert content is not None
    lake.storage.write(path, how(content))
    return path


REST = [v.uri for i, v in enumerate(MANY) if i != 3]


@pytest.mark.parametrize("how", [cut_off, no_parquet, empty, of_another])
def test_a_damaged_file_is_named_and_left_out(
    lake: Lake, how: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = damage_one(lake, how)
    assert videos_in(lake) == REST
    assert f"{lake.storage.uri(path)} is left out" in caplog.text
    assert "Delete it, then" in caplog.text
    with lake.connect(["person_detections"], MANY[:5]) as connection:
        assert len(connection.sql("FROM person_detections").fetchall()) == 4


@pytest.mark.parametrize("how", [cut_off, no_parquet, empty, of_another, broken_page])
def test_a_compaction_merges_all_but_the_damaged_file_and_names_it(
    lake: Lake, how: Callable[[bytes], bytes]
) -> None:
    path = damage_one(lake, how)
    damaged = lake.storage.look(path)
    (day,) = due_days(lake.storage, lake.tables(), 2)
    for outcome in ("staged", "published"):
        assert day.compact(grace_s=0, quiet_s=0, min_files=2) == outcome
        assert list(day.damaged) == [path]
        if how is not broken_page:
            assert videos_in(lake) == REST
    assert lake.storage.look(path) == damaged
    persons(lake, [MANY[3]])
    assert videos_in(lake) == [v.uri for v in MANY]


def test_the_catalogue_leaves_out_a_damaged_file_until_it_is_replaced(tmp_path: Path) -> None:
    lake, path = Lake(tmp_path / "lake"), tmp_path / "lake.duckdb"
    damage_one(lake, cut_off)
    for videos, count in (([], 9), ([OTHER], 10), ([MANY[3]], 11)):
        persons(lake, videos)
        lake.save_catalogue(path)
        with duckdb.connect(str(path), read_only=True) as connection:
            found = connection.sql("SELECT count(*) FROM person_detections").fetchall()
        assert found == [(count,)]


# -- when views are made --------------------------------------------------------------------------


def views_of(connection: LakeConnection) -> list[str]:
    query = "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1"
    return [v for (v,) in connection._connection.execute(query).fetchall()]


def test_a_view_is_made_when_a_statement_names_its_table(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    persons(lake, MANY)
    with lake.connect() as connection:
        assert connection.sql("SELECT 1").fetchall() == [(1,)]
        assert views_of(connection) == []
        assert connection.cursor().execute("SELECT count(*) FROM JOBS").fetchall() == [(0,)]
        assert views_of(connection) == ["jobs"]
        assert connection.table("videos").fetchall() == []
        [statement] = connection.extract_statements("SELECT count(*) FROM person_detections")
        assert connection.execute(statement).fetchall() == [(10,)]
        assert views_of(connection) == ["jobs", "person_detections", "videos"]
        assert len(connection.sql("SHOW TABLES").fetchall()) == len(TABLES)


def test_the_catalogue_is_written_when_its_views_change_only(tmp_path: Path) -> None:
    lake, path = Lake(tmp_path / "lake"), tmp_path / "lake.duckdb"

    def is_written(*, again: bool = False) -> bool:
        before = path.stat().st_ino
        lake.save_catalogue(path, again=again)
        return path.stat().st_ino != before

    def count() -> int:
        with duckdb.connect(str(path), read_only=True) as connection:
            [(found,)] = connection.sql("SELECT count(*) FROM person_detections").fetchall()
        return found

    persons(lake, MANY[:4])
    lake.save_catalogue(path)
    persons(lake, MANY[4:9])
    assert not is_written()
    assert count() == 9
    assert is_written(again=True)
    day = due_days(lake.storage, ["person_detections"], 2)[0]
    for outcome in ("staged", "published"):
        assert day.compact(grace_s=0, quiet_s=0, min_files=2) == outcome
        assert count() == 9  # before it is written again
        assert is_written()
        assert count() == 9
    persons(lake, MANY[9:])
    assert is_written()  # small files beside large ones
    persons(lake, [OTHER])
    assert not is_written()
    assert count() == 11


def test_a_file_that_comes_while_its_day_is_staged_is_in_the_catalogue(tmp_path: Path) -> None:
    lake, path = Lake(tmp_path / "lake"), tmp_path / "lake.duckdb"
    persons(lake, MANY[:8])
    day = due_days(lake.storage, ["person_detections"], 2)[0]
    assert day.compact(grace_s=0, quiet_s=0, min_files=2) == "staged"
    for late in MANY[8:]:
        persons(lake, [late])
        lake.save_catalogue(path)
    with duckdb.connect(str(path), read_only=True) as connection:
        query = "SELECT count(*) FROM person_detections"
        assert connection.sql(query).fetchall() == [(10,)]
        assert day.compact(grace_s=0, quiet_s=0, min_files=2) == "published"
        assert connection.sql(query).fetchall() == [(10,)]


# -- columns --------------------------------------------------------------------------------------


def without(type_: pa.DataType, name: str) -> pa.DataType:
    """A type without the struct members of a name, at any depth."""
    if pa.types.is_struct(type_):
        return pa.struct([f.with_type(without(f.type, name)) for f in type_ if f.name != name])
    if pa.types.is_list(type_):
        return pa.list_(without(type_.value_type, name))
    return type_


def test_files_of_an_earlier_release_have_every_column(lake: Lake) -> None:
    """A file that lacks a column, or a member of a struct, has null there."""
    now = TABLES["face_detections"].schema
    face = without(now.field("face").type, "eye_direction")
    old = pa.schema([now.field("video"), now.field("timestamp_ms"), pa.field("face", face)])
    with lake.writer("face_detections", VIDEO, schema=old) as writer:
        writer.write([{"video": VIDEO.uri, "timestamp_ms": 2, "face": {"confidence": 99.0}}])
    query = "SELECT face.confidence, face.eye_direction.yaw, job_id FROM face_detections"
    with lake.connect() as connection:
        assert connection.sql("FROM face_detections").columns == [*now.names, "date"]
        assert connection.sql(query).fetchall() == [(99.0, None, None)]
    with lake.writer("face_detections", OTHER) as writer:
        writer.write([{"video": OTHER.uri, "job_id": "j", "face": {"confidence": 98.0}}])
    with lake.connect() as connection:
        assert sorted(connection.sql(query).fetchall()) == [(98.0, None, "j"), (99.0, None, None)]


def test_struct_members_that_older_files_lack_survive_a_compaction(lake: Lake) -> None:
    schema = TABLES["face_detections"].schema
    face = schema.get_field_index("face")
    old = schema.set(face, pa.field("face", without(schema.field("face").type, "yaw")))
    for video in MANY:
        with lake.writer(
            "face_detections", video, schema=old if video is MANY[0] else None
        ) as writer:
            pose = {"roll": 1.0} if video is MANY[0] else {"roll": 1.0, "yaw": 2.0}
            writer.write([{"video": video.uri, "face": {"pose": pose}}])
    (day,) = due_days(lake.storage, ["face_detections"], 2)
    for _ in range(2):
        day.compact(grace_s=0, quiet_s=0, min_files=2)
    with lake.connect() as connection:
        found = connection.sql("SELECT face.pose.roll, face.pose.yaw FROM face_detections")
        assert sorted(found.fetchall(), key=str) == [(1.0, 2.0)] * 9 + [(1.0, None)]


# -- paths are not patterns -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", ["we[i]rd", "what?", "a*", "date=2020-01-01", "env=prod/date=x", "it's", "%41"]
)
def test_a_root_with_special_characters_reads_its_own_files_only(
    tmp_path: Path, folder: str
) -> None:
    for beside in ("weird", "wei", "whatX", "ab", "A"):
        persons(Lake(tmp_path / beside), [OTHER])
    lake = Lake(tmp_path / folder / "lake?" / "k=v")
    persons(lake, MANY[:2])
    query = "SELECT video, date::VARCHAR FROM person_detections ORDER BY 1"
    expected = [(v.uri, "2026-01-31") for v in MANY[:2]]
    with lake.connect() as connection:
        found = connection.sql("FROM person_detections")
        assert found.columns == [*TABLES["person_detections"].schema.names, "date"]
        assert connection.sql(query).fetchall() == expected
    with lake.connect(videos=MANY[:1]) as connection:
        assert connection.sql(query).fetchall() == expected[:1]
    path = lake.save_catalogue(tmp_path / "lake.duckdb")
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.sql(query).fetchall() == expected


def test_a_date_reads_its_folder_only(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "date=2020-01-01")
    persons(lake, [*MANY, OTHER])
    with lake.connect() as connection:
        plan = connection.sql(
            "EXPLAIN ANALYZE SELECT video FROM person_detections WHERE date = DATE '2025-05-06'"
        ).fetchall()
    assert "Scanning Files: 1/11" in plan[0][1]
