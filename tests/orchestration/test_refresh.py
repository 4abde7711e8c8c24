"""What is behind is launched, many videos in a run, and again where a run did not do it."""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
import pytest
from deployment import Deployment
from rekognition_double import ApiFault

from rekognition_dagster.orchestration import batches
from rekognition_dagster.state.batches import analytics_of, end, keys_of

ANALYTICS_MODELS = {"activity_by_minute", "person_paths", "video_summary"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [time.time()]
    monkeypatch.setattr(batches.time, "time", lambda: now[0])
    return now


def asked(deployment: Deployment, sensor: str = "results_refresh") -> dict[str, list[str]]:
    """One tick: the videos that it launches, by operation or model; the run ends at once."""
    requests = deployment.tick(sensor).run_requests
    assert len(requests) <= 1
    launched: dict[str, list[str]] = {}
    with deployment.state.write() as connection:
        for request in requests:
            batch = str(request.run_key)
            for name in ("person_tracking", "face_detection"):
                launched[name] = keys_of(connection, batch, name)
            for name in sorted(ANALYTICS_MODELS):
                launched[name] = analytics_of(connection, batch, name)
            end(connection, batch)
    return {name: keys for name, keys in launched.items() if keys}


def test_one_run_takes_all_that_has_completed_wherever_it_is(deployment: Deployment) -> None:
    partitions = deployment.complete(*(f"{i}.mp4" for i in range(6)))
    deployment.materialize("person_detections", partitions[2:4])
    scattered = [*partitions[:2], *partitions[4:]]
    tick = deployment.tick("results_refresh")
    (request,) = tick.run_requests
    with deployment.state.read() as connection:
        assert keys_of(connection, str(request.run_key), "person_tracking") == scattered
    (run,) = deployment.run_requested("results_refresh")
    assert run.success
    assert deployment.materialized("person_detections") == set(partitions)


def test_analytics_follow_results_that_came_another_way(deployment: Deployment) -> None:
    (partition,) = deployment.complete("a.mp4")
    deployment.materialize("person_detections", [partition])
    expected = {key: [partition] for key in ANALYTICS_MODELS}
    assert asked(deployment, "analytics_refresh") == expected
    deployment.materialize("nightly_batch")
    (run,) = deployment.run_requested("analytics_refresh")
    assert run.success
    assert asked(deployment, "analytics_refresh") == {}


def test_a_batch_is_bounded(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_VIDEOS", 2)
    partitions = deployment.complete("a.mp4", "b.mp4", "c.mp4")
    assert asked(deployment)["person_tracking"] == partitions[:2]
    assert asked(deployment)["person_tracking"] == partitions[2:]
    assert asked(deployment) == {}


def test_a_run_that_fails_is_asked_again_at_growing_intervals_up_to_a_limit(
    deployment: Deployment, clock: list[float]
) -> None:
    deployment.complete("a.mp4")
    begin, launched = clock[0], []
    for minute in (0, 14, 15, 44, 45, 104, 105, 224, 225, 464, 465, 945, 2000, 9999):
        clock[0] = begin + minute * 60
        if "person_tracking" in asked(deployment):
            launched.append(minute)
    assert launched == [0, 15, 45, 105, 225]
    deployment.materialize("nightly_batch")
    assert "person_tracking" in asked(deployment)


def test_a_job_that_failed_is_shown_once_by_the_run_of_its_batch(
    deployment: Deployment, clock: list[float]
) -> None:
    deployment.double.failed.add("bad.mp4")
    good, bad = deployment.complete("a.mp4", "bad.mp4")
    (run,) = deployment.run_requested("results_refresh")
    assert not run.success
    assert deployment.red("person_detections") == {bad}
    assert deployment.failing("person_detections") == {bad}
    assert deployment.materialized("person_detections") == {good}
    clock[0] += 36000
    assert deployment.run_requested("results_refresh") == []


def test_one_run_at_a_time_unless_it_was_killed(deployment: Deployment, clock: list[float]) -> None:
    deployment.complete("a.mp4")
    (request,) = deployment.tick("results_refresh").run_requests
    (again,) = deployment.tick("results_refresh").run_requests
    assert again.run_key == request.run_key, "the tick died before its run was launched"
    deployment.instance.create_run_for_job(
        deployment.definitions.resolve_job_def(deployment.ours.scoped("results")),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.STARTED,
    )
    assert str(request.run_key) in str(deployment.tick("results_refresh").skip_message)
    clock[0] += deployment.settings.stalled_minutes * 60 + 1
    assert asked(deployment) == {"person_tracking": [f"{deployment.settings.bucket}/a.mp4"]}


def test_a_page_that_is_lost_is_asked_again_where_it_was(deployment: Deployment) -> None:
    (partition,) = deployment.complete("a.mp4")
    deployment.double.rows, deployment.double.page_rows = 50, 10
    lost = iter([True] * 8)
    tokens: list[Any] = []

    def lose(request: dict[str, Any]) -> None:
        tokens.append(request.get("NextToken"))
        if request.get("NextToken") == "30" and next(lost, False):
            raise ApiFault("ProvisionedThroughputExceededException")

    deployment.double.on_get = lose
    assert deployment.materialize("person_detections", [partition]).success
    assert list(dict.fromkeys(tokens)) == [None, "10", "20", "30", "40"]
    assert tokens.count(None) == tokens.count("10") == tokens.count("20") == 1
    assert deployment.rows("SELECT count(*) FROM person_detections") == [(50,)]
