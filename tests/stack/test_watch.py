"""What the demo and dev print while the pipeline works."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rekognition_dagster.stack.watch import Follower
from rekognition_dagster.state import State, jobs
from rekognition_dagster.state.results import Model, Written, written
from rekognition_dagster.state.videos import Found, Plan, register
from rekognition_dagster.videos import Source, Video

GOOD, BAD = (Video("videos", f"2026-01-31/{n}.mp4", etag="e1") for n in ("good", "bad"))
PLAN = Plan(["person_tracking"])


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(f"sqlite:///{tmp_path / 'state.sqlite'}", "cameras")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_each_step_is_a_line_and_a_failure_has_its_reason(
    state: State, instance: dg.DagsterInstance
) -> None:
    lines: list[str] = []
    with state.write() as connection:
        register(connection, [Found(GOOD, GOOD.partition_key)], 1.0, PLAN)
    follower = Follower(state, instance, lines.append)
    follower.look()
    assert lines == [], "what was there before is no news"
    with state.write() as connection:
        register(connection, [Found(BAD, BAD.partition_key)], 1.0, PLAN)
        works = jobs.reserve(
            connection,
            PLAN.operations,
            [Source("videos")],
            most=2,
            limit=2,
            now=time.time(),
            lease_s=60.0,
        )
        by_key = {w.key: w for w in works}
        good, bad = by_key[GOOD.partition_key], by_key[BAD.partition_key]
        jobs.started(connection, [jobs.Started(good, "j1", "t")], 2.0)
        jobs.refused(connection, bad, "s3://videos/2026-01-31/bad.mp4: no video", 2.0)
        jobs.complete(connection, [jobs.Ending("j1", "SUCCEEDED", 3.0)], 3.0)
        done = Written("person_tracking", GOOD.partition_key, "e1", "j1", 7, "person_detections/x")
        written(connection, [done], [Model("person_paths", "c", ("person_tracking",))], 4.0)
    follower.look()
    follower.look()
    assert lines == [
        "2026-01-31/bad.mp4: discovered",
        "2026-01-31/good.mp4: person_tracking started",
        "2026-01-31/bad.mp4: failed: person_tracking: s3://videos/2026-01-31/bad.mp4: no video",
        "2026-01-31/good.mp4: person_tracking completed",
        "2026-01-31/good.mp4: person_detections written, 7 rows",
    ]
