"""Files appear whole, sorted and always the same, or not at all."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake import Lake, Storage, TableWriter
from rekognition_dagster.lake.tables import TABLES
from rekognition_dagster.videos import Video

VIDEO = Video("cameras", "lobby/2026/01/31/it's 8.mp4")
PERSONS = TABLES["person_detections"]


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"video": VIDEO.uri, "job_id": "j", "timestamp_ms": i // 3 * 40, "person_index": i % 3}
        for i in range(count)
    ]


def write(lake: Lake, parts: list[list[dict[str, Any]]], row_group_rows: int = 100) -> bytes:
    path = lake.path("person_detections", VIDEO)
    with TableWriter(
        lake.storage, path, PERSONS.schema, PERSONS.sort_columns, row_group_rows=row_group_rows
    ) as writer:
        for part in parts:
            writer.write(part)
    with lake.storage.filesystem.open_input_file(lake.storage.full(path)) as file:
        return file.read()


def pieces(all_rows: list[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    return [all_rows[i : i + size] for i in range(0, len(all_rows), size)]


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return Lake(tmp_path / "lake")
    bucket = request.getfixturevalue("bucket")
    return Lake(f"s3://{bucket}/some/lake")


def test_the_same_rows_give_the_same_bytes_however_they_come(lake: Lake) -> None:
    everything = rows(1234)
    expected = write(lake, [everything])
    assert write(lake, pieces(everything, 7)) == expected
    assert write(lake, pieces(everything, 500)) == expected
    shuffled = random.Random(4).sample(everything, len(everything))
    assert write(lake, pieces(shuffled, 50)) == expected


def test_rows_are_sorted_and_row_groups_have_statistics(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    write(lake, pieces(rows(1000), 64))
    file = pq.ParquetFile(tmp_path / lake.path("person_detections", VIDEO))
    table = file.read(["timestamp_ms", "person_index"])
    keys = [tuple(r.values()) for r in table.to_pylist()]
    assert keys == sorted(keys)
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    assert [g.num_rows for g in groups] == [100] * 10
    assert {g.column(0).compression for g in groups} == {"ZSTD"}
    times = groups[3].column(2).statistics
    assert (times.min, times.max) == (300 // 3 * 40, 399 // 3 * 40)


def test_no_rows_are_a_file_too(lake: Lake) -> None:
    write(lake, [])
    assert lake.connect().sql("SELECT count(*) FROM person_detections").fetchall() == [(0,)]
    assert lake.storage.exists(lake.path("person_detections", VIDEO))


def test_an_exception_leaves_what_was_there(lake: Lake) -> None:
    before = write(lake, [rows(10)])

    def interrupted() -> None:
        with lake.writer("person_detections", VIDEO) as writer:
            writer.write(rows(5))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    path = lake.path("person_detections", VIDEO)
    assert lake.storage.files() == [path]
    with lake.storage.filesystem.open_input_file(lake.storage.full(path)) as file:
        assert file.read() == before


def test_a_killed_writer_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import os, signal
from rekognition_dagster.lake import Lake
from rekognition_dagster.videos import Video
lake = Lake({str(tmp_path)!r})
with lake.writer("person_detections", Video("b", "k.mp4")) as writer:
    writer.write([{{"timestamp_ms": 1}}] * 300_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert Lake(tmp_path).storage.files() == []


def test_a_full_disk_is_told_with_its_remedy_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    before = write(lake, [rows(10)])

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LakeError, match=r"lobby|it-s-8.*No space left.*free some space"):
        write(lake, [rows(20)])
    monkeypatch.undo()
    path = lake.path("person_detections", VIDEO)
    assert lake.storage.files() == [path]
    assert (tmp_path / path).read_bytes() == before


def test_a_missing_bucket_is_told(bucket: str, aws: boto3.Session) -> None:
    with pytest.raises(LakeError, match="no-such-bucket-here"):
        write(Lake("s3://no-such-bucket-here/lake"), [rows(1)])


def test_another_kind_of_address_is_refused() -> None:
    with pytest.raises(LakeError, match="neither a folder nor s3"):
        Storage.at("gs://bucket")
