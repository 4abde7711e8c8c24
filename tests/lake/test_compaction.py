"""A day's small files become few: no reader sees a row twice or misses one, whatever happens."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake import Lake, Storage, TableWriter
from rekognition_dagster.lake.compaction import Day, due_days
from rekognition_dagster.lake.lock import locked
from rekognition_dagster.lake.tables import TABLES
from rekognition_dagster.videos import Video

DAY = "date=2026-01-31"
PERSONS = f"person_detections/{DAY}"
ALL = "SELECT video, job_id, timestamp_ms, date::VARCHAR FROM person_detections ORDER BY ALL"
AT_ONCE: dict[str, Any] = {"grace_s": 0, "quiet_s": 0, "min_files": 2}


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return Lake(tmp_path / "lake")
    return Lake(f"s3://{request.getfixturevalue('bucket')}/lake")


def video(number: int) -> Video:
    # Keys whose order is not that of the files' names.
    return Video("cameras", f"camera-{number % 3}/2026-01-31/{(7 * number) % 100}.mp4", etag="e")


VIDEOS = [video(i) for i in range(5)]


def write_rows(lake: Lake, one: Video, job: str = "a", rows: int = 3) -> None:
    with lake.writer("person_detections", one) as writer:
        writer.write(
            {"video": one.uri, "job_id": job, "timestamp_ms": i, "person_index": 0}
            for i in range(rows)
        )


def write(lake: Lake, one: Video, job: str = "a", rows: int = 3) -> None:
    write_rows(lake, one, job, rows)
    lake.write_video(one, {"codec": "h264"})
    for operation in ("person_tracking", "face_detection"):
        lake.write_job(one, operation, {"job_id": job, "status": "SUCCEEDED", "rows": rows})


def first(videos: list[Video]) -> dict[Video, tuple[str, int]]:
    """Which job each video's rows are of, and how many, as :func:`write` does it by default."""
    return dict.fromkeys(videos, ("a", 3))


def expected(jobs: dict[Video, tuple[str, int]]) -> list[tuple[Any, ...]]:
    rows = [(v.uri, j, i, "2026-01-31") for v, (j, n) in jobs.items() for i in range(n)]
    return sorted(rows)


def seen(lake: Lake) -> list[tuple[Any, ...]]:
    with lake.connect() as connection:
        return connection.sql(ALL).fetchall()


def seen_plainly(lake: Lake) -> list[tuple[Any, ...]]:
    """What somebody sees who knows nothing of compaction."""
    files = [f for f in lake.storage.files("person_detections") if f.endswith(".parquet")]
    tables = []
    for path in files:
        with lake.storage.filesystem.open_input_file(lake.storage.full(path)) as file:
            tables.append(pq.ParquetFile(file).read(["video", "job_id", "timestamp_ms"]))
    rows = pa.concat_tables(tables).to_pylist()
    return sorted((*row.values(), "2026-01-31") for row in rows)


def days(lake: Lake) -> list[Day]:
    return [Day(lake.storage, f"{t}/{DAY}") for t in ("person_detections", "videos", "jobs")]


def compact(lake: Lake, **chosen: Any) -> list[str]:
    return [day.compact(**{**AT_ONCE, **chosen}) for day in days(lake)]


def unlocked(lake: Lake) -> list[str]:
    return [f for f in lake.storage.files() if not f.endswith(".lock")]


# -- what becomes of a day ------------------------------------------------------------------------


def test_many_small_files_become_one_and_every_reader_sees_the_same(lake: Lake) -> None:
    jobs = first(VIDEOS)
    for one in VIDEOS:
        write(lake, one)
    small = [f for f in lake.storage.files() if f.startswith(PERSONS)]
    assert compact(lake) == ["staged"] * 3
    assert [f for f in lake.storage.files() if f.startswith(PERSONS)] == small
    assert seen(lake) == seen_plainly(lake) == expected(jobs)
    assert ".compaction" in lake.scan("person_detections")
    assert compact(lake) == ["published"] * 3
    (merged,) = [f for f in lake.storage.files() if f.startswith(PERSONS)]
    assert merged.startswith(f"{PERSONS}/compacted.")
    assert ".compaction" not in lake.scan("person_detections")
    assert seen(lake) == seen_plainly(lake) == expected(jobs)
    assert compact(lake) == ["nothing"] * 3
    assert [f for f in unlocked(lake) if f.startswith(".compaction")] == [
        f".compaction/{t}/{DAY}.json" for t in ("jobs", "person_detections", "videos")
    ]


def test_rows_lie_by_video_and_time_so_that_one_camera_is_in_few_row_groups(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    for one in VIDEOS:
        write_rows(lake, one, rows=40)
    for _ in range(2):
        days(lake)[0].compact(**AT_ONCE, part_rows=100)
    parts = sorted((tmp_path / PERSONS).glob("compacted.*"))
    tables = [pq.read_table(p) for p in parts]
    assert [t.num_rows for t in tables] == [120, 80]  # ended by the video that reached 100
    keys = [(r["video"], r["timestamp_ms"]) for t in tables for r in t.to_pylist()]
    assert keys == sorted(keys)
    statistics = pq.ParquetFile(parts[0]).metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == (keys[0][0], keys[119][0])


def test_whether_a_videos_rows_are_there_is_answered_at_each_step(lake: Lake) -> None:
    empty, unknown = video(20), video(21)
    for one in VIDEOS:
        write(lake, one)
    write(lake, empty, rows=0)
    for outcome in ("staged", "published", "nothing"):
        assert compact(lake) == [outcome] * 3
        assert lake.has("person_detections", VIDEOS[0])
        assert lake.has("person_detections", empty)
        assert not lake.has("person_detections", unknown)
        assert lake.read_job(unknown, "face_detection") is None
        job = lake.read_job(VIDEOS[0], "face_detection")
        assert job is not None
        assert (job["operation"], job["video"], job["rows"]) == (
            "face_detection",
            VIDEOS[0].uri,
            3,
        )
        with lake.connect(videos=[VIDEOS[1], empty, unknown]) as connection:
            count = "SELECT video, count(*) FROM {} GROUP BY video ORDER BY video"
            assert connection.sql(count.format("person_detections")).fetchall() == [
                (VIDEOS[1].uri, 3)
            ]
            assert connection.sql(count.format("jobs")).fetchall() == sorted(
                (v.uri, 2) for v in (VIDEOS[1], empty)
            )
            columns = [*TABLES["person_detections"].schema.names, "date"]
            assert connection.sql("FROM person_detections").columns == columns


def test_a_day_is_left_alone_while_it_is_fresh_or_has_few_files(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for one in VIDEOS:
        write(lake, one)
    before = lake.storage.files()
    assert compact(lake, min_files=11) == ["nothing"] * 3
    assert lake.storage.files() == before
    assert compact(lake, quiet_s=60) == ["nothing"] * 3
    assert [f for f in lake.storage.files() if f.endswith(".parquet")] == before


def test_what_was_merged_stays_for_the_grace(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for one in VIDEOS:
        write(lake, one)
    assert compact(lake) == ["staged"] * 3
    assert compact(lake, grace_s=60) == ["waits"] * 3
    assert compact(lake) == ["published"] * 3
    staged = [f for f in lake.storage.files(".compaction") if f.endswith(".parquet")]
    assert compact(lake, grace_s=60) == ["nothing"] * 3
    assert set(staged) <= set(lake.storage.files(".compaction"))


# -- written again --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lake", "steps", "rows"),
    [*itertools.product(["folder"], [1, 2, 3], [0, 5]), ("s3", 2, 5)],
    indirect=["lake"],
)
def test_a_video_that_is_written_again_replaces_its_rows(lake: Lake, steps: int, rows: int) -> None:
    jobs = first(VIDEOS)
    for one in VIDEOS:
        write(lake, one)
    for _ in range(steps):
        compact(lake)
    for one in (VIDEOS[0], VIDEOS[-1]):
        write(lake, one, "b", rows)
        jobs[one] = ("b", rows)
        assert seen(lake) == seen_plainly(lake) == expected(jobs)
        assert lake.has("person_detections", one)
        job = lake.read_job(one, "person_tracking")
        assert job is not None
        assert job["job_id"] == "b"
    write(lake, VIDEOS[0], "c", 2)
    jobs[VIDEOS[0]] = ("c", 2)
    while "published" in compact(lake) + compact(lake):
        pass
    assert seen(lake) == seen_plainly(lake) == expected(jobs)
    assert seen(lake) == sorted(seen(lake))


def test_a_late_video_lies_beside_and_is_merged_another_time(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    jobs = first(VIDEOS)
    for one in VIDEOS:
        write(lake, one)
    compact(lake)
    compact(lake)
    late = [video(10), video(11)]
    for one in late:
        write(lake, one)
        jobs[one] = ("a", 3)
    assert lake.storage.exists(lake.path("person_detections", late[0]))
    assert seen(lake) == seen_plainly(lake) == expected(jobs)
    assert compact(lake) == ["staged"] * 3
    assert seen(lake) == seen_plainly(lake) == expected(jobs)
    assert compact(lake) == ["published"] * 3
    assert seen(lake) == seen_plainly(lake) == expected(jobs)
    assert len(lake.storage.files("person_detections")) == 1


def test_a_video_can_be_removed_from_a_merged_file(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for one in VIDEOS:
        write(lake, one)
    for _ in range(2):
        compact(lake)
    lake.remove(lake.path("person_detections", VIDEOS[2]), VIDEOS[2])
    assert not lake.has("person_detections", VIDEOS[2])
    assert seen(lake) == expected({v: ("a", 3) for v in VIDEOS if v != VIDEOS[2]})
    write(lake, VIDEOS[2], "b")
    assert lake.has("person_detections", VIDEOS[2])


def test_files_of_an_earlier_release_lack_columns_and_are_merged(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = pa.schema(list(TABLES["person_detections"].schema)[:4])
    for one, schema in zip(VIDEOS, itertools.cycle([old, None])):
        with lake.writer("person_detections", one, schema=schema) as writer:
            writer.write([{"video": one.uri, "timestamp_ms": 1}])
    for outcome in ("staged", "published"):
        assert days(lake)[0].compact(**AT_ONCE) == outcome
        with lake.connect() as connection:
            found = connection.sql("SELECT * FROM person_detections")
            assert found.columns == [*TABLES["person_detections"].schema.names, "date"]
            assert len(found.fetchall()) == len(VIDEOS)


# -- beside others --------------------------------------------------------------------------------


def test_a_query_that_runs_is_not_disturbed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for one in VIDEOS:
        write_rows(lake, one, rows=30_000)
    for outcome in ("staged", "published"):
        with lake.connect() as connection:
            connection.execute("SET threads = 1")
            answer = connection.execute("SELECT video FROM person_detections")
            count = len(answer.fetchmany(1000))
            assert days(lake)[0].compact(**AT_ONCE) == outcome
            assert count + len(answer.fetchall()) == 30_000 * len(VIDEOS)


def test_readers_writers_and_two_compactions_at_once(tmp_path: Path) -> None:
    lake, rows = Lake(tmp_path), 20
    for one in VIDEOS:
        write_rows(lake, one, "job-0", rows)
    began = time.monotonic()
    wrong: list[Any] = []
    outcomes: list[str] = []
    reads = [0]
    count = """SELECT count(*), sum(versions), min(n), max(n) FROM (
        SELECT count(DISTINCT job_id) AS versions, count(*) AS n
        FROM person_detections GROUP BY video)"""

    def read() -> None:
        try:
            with lake.connect(["person_detections"]) as connection:
                (found,) = connection.sql(count).fetchall()
        except duckdb.Error:
            return  # a file was replaced within the query: it is told, and asked again
        reads[0] += 1
        if found != (len(VIDEOS), len(VIDEOS), rows, rows):
            wrong.append(found)

    numbers = itertools.count(1)

    def rewrite() -> None:
        number = next(numbers)
        write_rows(lake, VIDEOS[number % len(VIDEOS)], f"job-{number}", rows)
        time.sleep(0.02 if number % 4 else 1)

    def merge() -> None:
        outcomes.append(days(lake)[0].compact(grace_s=0.4, quiet_s=0, min_files=2))
        time.sleep(0.05)

    def again(what: Callable[[], None]) -> None:
        while (elapsed := time.monotonic() - began) < 3 or not (
            {"staged", "published"} <= set(outcomes) and reads[0]
        ):
            assert elapsed < 100, outcomes
            try:
                what()
            except Exception as error:
                wrong.append(error)
                raise

    threads = [threading.Thread(target=again, args=(w,)) for w in (read, rewrite, merge, merge)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert {"staged", "published"} <= set(outcomes)
    assert reads[0]
    while compact(lake)[0] in ("staged", "published", "changed"):
        pass
    assert seen(lake) == seen_plainly(lake)


class Killed(BaseException):
    """What happens to a process at any line."""


def test_killed_at_any_step_nothing_is_lost_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = VIDEOS[:3]
    jobs = first(videos)
    steps = {n: getattr(Storage, n) for n in ("publish", "copy", "delete")}
    for fatal in range(1, 100):
        lake = Lake(tmp_path / str(fatal))
        for one in videos:
            write_rows(lake, one)
        day, left = days(lake)[0], itertools.count(1)

        def step(name: str, left: Any = left, fatal: int = fatal) -> Callable[..., Any]:
            def run(*arguments: Any) -> Any:
                if next(left) == fatal:
                    raise Killed
                return steps[name](*arguments)

            return run

        with monkeypatch.context() as patched:
            for name in steps:
                patched.setattr(Storage, name, step(name))
            try:
                for _ in range(3):
                    day.compact(**AT_ONCE, part_rows=6)
                alive = True
            except Killed:
                alive = False
        assert seen(lake) == expected(jobs)
        write_rows(lake, VIDEOS[1], "b", 4)
        assert seen(lake) == expected({**jobs, VIDEOS[1]: ("b", 4)})
        for _ in range(4):
            day.compact(**AT_ONCE)
        assert seen(lake) == seen_plainly(lake) == expected({**jobs, VIDEOS[1]: ("b", 4)})
        assert not [
            f for f in day.small_files() if f.path != lake.path("person_detections", VIDEOS[1])
        ]
        if alive:
            assert fatal > 12
            return
    pytest.fail("it takes no end of steps")


def test_a_writer_that_was_overtaken_by_a_compaction_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    jobs = first(VIDEOS)
    for one in VIDEOS:
        write_rows(lake, one)
    publish = Storage.publish

    def slow(storage: Storage, file: Any, path: str) -> None:
        monkeypatch.undo()  # the day was not compacted when the writer looked; now it is
        for _ in range(2):
            days(lake)[0].compact(**AT_ONCE)
        publish(storage, file, path)

    monkeypatch.setattr(Storage, "publish", slow)
    with lake.writer("person_detections", VIDEOS[3]) as writer:
        writer.write([{"video": VIDEOS[3].uri, "job_id": "b", "timestamp_ms": 0}])
    jobs[VIDEOS[3]] = ("b", 1)
    assert seen(lake) == seen_plainly(lake) == expected(jobs)
    assert len(lake.storage.files("person_detections")) == 1


# -- which days, and one at a time ----------------------------------------------------------------


def test_days_are_due_for_small_files_and_for_what_was_begun(lake: Lake) -> None:
    tables = ["person_detections", "videos", "jobs"]
    assert due_days(lake.storage, tables, 2) == []
    for one in VIDEOS[:4]:
        write(lake, one)
    (jobs,) = due_days(lake.storage, tables, 8)
    assert jobs.folder == f"jobs/{DAY}"
    assert jobs.compact(**AT_ONCE) == "staged"
    assert [d.folder for d in due_days(lake.storage, tables, 99)] == [jobs.folder]
    assert jobs.compact(**AT_ONCE) == "published"
    assert jobs.compact(**AT_ONCE) == "nothing"
    assert due_days(lake.storage, tables, 8) == []


def test_a_lock_is_held_by_one_at_a_time(lake: Lake) -> None:
    inside, most, began = [0], [0], threading.Barrier(3)

    def work() -> None:
        began.wait()
        for _ in range(3):
            with locked(lake.storage, "here/a.lock") as keep:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.01)
                keep()
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_on_s3_a_lock_that_a_killed_process_left_is_ignored_after_its_lease(bucket: str) -> None:
    storage = Storage.at(f"s3://{bucket}/lake")
    storage.write("a.lock/left", b"")
    with (
        pytest.raises(LakeError, match=r"another process holds s3://.*/a\.lock\. Run this again"),
        locked(storage, "a.lock", wait_s=0),
    ):
        pass
    time.sleep(1.1)  # S3 tells times in seconds
    with locked(storage, "a.lock", lease_s=0.5, wait_s=5) as keep:
        (claim,) = storage.files("a.lock")
        storage.delete(claim)
        time.sleep(0.2)
        with pytest.raises(LakeError, match="was taken by another"):
            keep()
    assert storage.files("a.lock") == []


def test_the_writer_alone_needs_no_compaction(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    with TableWriter(storage, "a/b.parquet", pa.schema([("x", pa.int64())])) as writer:
        writer.write([{"x": 1}])
    assert storage.files() == ["a/b.parquet"]
