"""The whole pipeline, nothing replaced: queue, service, engine, and Dagster's real daemon.

One video with people and one that is none go in together; what must hold then is asked one by one.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from clips import write_bad, write_clip
from rich.console import Console

from rekognition_dagster.api import MessageQueue
from rekognition_dagster.operations import FACE_DETECTION, PERSON_TRACKING
from rekognition_dagster.stack import LocalStack, dagster_home
from rekognition_dagster.stack.demo import Outcome, analyse, print_findings
from rekognition_dagster.videos import Video

OPERATIONS = (PERSON_TRACKING, FACE_DETECTION)
ANALYTICS = ("person_paths", "video_summary", "activity_by_minute")


@dataclass(frozen=True)
class Pipeline:
    """A running stack, and what came of its two videos."""

    stack: LocalStack
    sources: list[tuple[Path, str]]
    outcome: Outcome
    told: list[str]
    good: Video
    bad: Video

    def rows(self, sql: str) -> list[tuple]:
        with self.stack.lake.connect() as connection:
            return connection.execute(sql).fetchall()

    def files(self) -> dict[str, bytes]:
        lake = Path(self.stack.lake.url)
        return {str(p.relative_to(lake)): p.read_bytes() for p in lake.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("e2e")
    street = write_clip(folder / "street 2026-01-31.mp4", frames=20)
    noise = write_bad(folder / "noise 2026-01-31.mp4", "noise")
    sources = [(street, street.name), (noise, noise.name)]
    told: list[str] = []
    with LocalStack(folder / "home") as stack:
        outcome = analyse(stack, sources, Console(file=io.StringIO()), told.append)
        good, bad = outcome.stages
        yield Pipeline(stack, sources, outcome, told, good, bad)
    assert _of_home(folder / "home") == [], "the stack left processes behind"


def _of_home(home: Path) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(home).encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_people_and_faces_are_rows_that_name_the_video(pipeline: Pipeline) -> None:
    for table in ("person_detections", "video_summary", "person_paths"):
        [(video, day)] = pipeline.rows(f"SELECT DISTINCT video, date::VARCHAR FROM {table}")
        assert (video, day) == (pipeline.good.uri, "2026-01-31")
    [(people, detections, empty)] = pipeline.rows(
        "SELECT count(DISTINCT person_index), count(*),"
        " count(*) FILTER (timestamp_ms IS NULL OR bounding_box.width IS NULL)"
        " FROM person_detections"
    )
    assert people >= 1
    assert detections > 10
    assert empty == 0
    [(summed,)] = pipeline.rows("SELECT sum(detections) FROM person_paths")
    assert summed == detections


def test_each_job_is_on_record(pipeline: Pipeline) -> None:
    jobs = pipeline.rows("SELECT video, operation, status, backend FROM jobs ORDER BY ALL")
    assert jobs == [
        (video.uri, operation, status, backend)
        for video, status, backend in (
            (pipeline.bad, "FAILED", "engine:default"),
            (pipeline.good, "SUCCEEDED", "engine:default"),
        )
        for operation in ("face_detection", "person_tracking")
    ]


def test_every_partition_of_the_good_video_is_materialized(pipeline: Pipeline) -> None:
    keys = [f"{o.name}_{kind}" for o in OPERATIONS for kind in ("job", "completion")]
    keys += [*(o.table for o in OPERATIONS), *ANALYTICS]
    with dagster_home.instance(pipeline.stack.dagster_home) as instance:
        end = time.monotonic() + 60.0  # the sensor reports comes after what it reports
        missing = keys
        while missing and time.monotonic() < end:
            missing = [
                key
                for key in keys
                if pipeline.good.partition_key
                not in instance.get_materialized_partitions(dg.AssetKey(key))
            ]
            time.sleep(0.5)
    assert missing == []


def test_the_bad_video_failed_alone_and_says_why(pipeline: Pipeline) -> None:
    assert not pipeline.outcome.stages[pipeline.good].failures
    told = " ".join(pipeline.outcome.failures)
    assert pipeline.bad.uri in told
    with dagster_home.instance(pipeline.stack.dagster_home) as instance:
        for operation in OPERATIONS:
            done = instance.get_materialized_partitions(dg.AssetKey(operation.table))
            assert pipeline.bad.partition_key not in done
        failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert failed, "a batch with a bad video must not be green"


def test_no_message_stays_in_a_queue(pipeline: Pipeline) -> None:
    sqs = pipeline.stack.session().client("sqs")
    url = pipeline.stack.environment()["REKOGNITION_DAGSTER_QUEUE_URL"]
    dead_letters = MessageQueue(sqs, url).dead_letter_url()
    assert dead_letters is not None

    def messages(queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return sum(int(count) for count in found.values())

    end = time.monotonic() + 60.0  # a message goes on the tick after the one that reported it
    while messages(url) and time.monotonic() < end:
        time.sleep(0.5)
    assert messages(url) == 0
    assert messages(dead_letters) == 0


def test_the_catalogue_opens_in_any_duckdb(pipeline: Pipeline) -> None:
    with duckdb.connect(str(pipeline.stack.catalogue), read_only=True) as connection:
        [(people,)] = connection.execute("SELECT people FROM video_summary").fetchall()
    assert people >= 1


def test_no_unfinished_file_is_left(pipeline: Pipeline) -> None:
    finished = (".parquet", ".days.lock", ".tables/cameras.json")
    assert [n for n in pipeline.files() if not n.endswith(finished)] == []


def test_a_second_pass_finds_nothing_to_do_and_changes_no_byte(pipeline: Pipeline) -> None:
    before = pipeline.files()
    again = analyse(pipeline.stack, pipeline.sources, Console(file=io.StringIO()))
    assert again.total_s is None
    assert [v.uri for v in again.stages] == [v.uri for v in pipeline.outcome.stages]
    assert pipeline.files() == before


def test_the_findings_name_people_places_and_times(pipeline: Pipeline) -> None:
    out = io.StringIO()
    print_findings(pipeline.stack, pipeline.outcome, Console(file=out, width=200))
    text = out.getvalue()
    for word in (
        pipeline.good.key.rpartition("/")[2],
        "Who stayed longest?",
        "from the last upload to the last Parquet file",
        str(pipeline.stack.catalogue),
        str(pipeline.stack.dagster_home),
        "Dagster's UI: ",
        f"failed: {pipeline.bad.uri}",
    ):
        assert word in text
    steps = [line for line in pipeline.told if "street" in line]
    order = ("put ", "discovered", "started", "completed", "detections written", "paths written")
    found = [next(i for i, line in enumerate(steps) if word in line) for word in order]
    assert found == sorted(found)
    assert os.environ.get("DAGSTER_HOME") != str(pipeline.stack.dagster_home)
