"""What is behind is launched, many videos in a run, and again where a run did not do it."""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
import pytest
from deployment import Deployment
from rekognition_double import ApiFault

from rekognition_dagster.orchestration import refresh
from rekognition_dagster.orchestration.names import LAUNCHED_TAG

ANALYTICS = {"activity_by_minute", "person_paths", "video_summary"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [time.time()]
    monkeypatch.setattr(refresh.time, "time", lambda: now[0])
    return now


def asked(deployment: Deployment, sensor: str = "results_refresh") -> dict[str, list[str]]:
    """One tick: the videos that it launches, by asset."""
    result = deployment.tick(sensor)
    requests = result.run_requests or [] if isinstance(result, dg.SensorResult) else []
    assert len(requests) <= 1
    return {
        op: config["config"]["videos"]
        for r in requests
        for op, config in r.run_config["ops"].items()
    }


def test_one_run_takes_all_that_has_completed_wherever_it_is(deployment: Deployment) -> None:
    partitions = deployment.complete(*(f"{i}.mp4" for i in range(6)))
    deployment.materialize("person_detections", partitions[2:4])
    scattered = [*partitions[:2], *partitions[4:]]
    assert asked(deployment) == {"person_detections": scattered}
    deployment.cursors.clear()
    (run,) = deployment.run_requested("results_refresh")
    assert run.success
    assert deployment.materialized("person_detections") == set(partitions)


def test_analytics_follow_results_that_came_another_way(deployment: Deployment) -> None:
    (partition,) = deployment.complete("a.mp4")
    deployment.materialize("person_detections", [partition])
    assert asked(deployment, "analytics_refresh") == {key: [partition] for key in ANALYTICS}
    deployment.cursors.clear()
    (run,) = deployment.run_requested("analytics_refresh")
    assert run.success
    deployment.cursors.clear()
    assert asked(deployment, "analytics_refresh") == {}


def test_a_batch_is_bounded(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "MOST_VIDEOS", 2)
    partitions = deployment.complete("a.mp4", "b.mp4", "c.mp4")
    assert asked(deployment)["person_detections"] == partitions[:2]
    assert asked(deployment)["person_detections"] == partitions[2:]
    assert asked(deployment) == {}


def test_a_run_that_fails_is_asked_again_at_growing_intervals_up_to_a_limit(
    deployment: Deployment, clock: list[float]
) -> None:
    deployment.complete("a.mp4")
    begin, launched = clock[0], []
    for minute in (0, 14, 15, 44, 45, 104, 105, 224, 225, 464, 465, 945, 2000, 9999):
        clock[0] = begin + minute * 60
        if "person_detections" in asked(deployment):
            launched.append(minute)
    assert launched == [0, 15, 45, 105, 225]
    deployment.materialize("nightly_batch")
    assert "person_detections" in asked(deployment)


def test_a_job_that_failed_is_told_once_by_a_run_of_its_own(
    deployment: Deployment, clock: list[float]
) -> None:
    deployment.double.failed.add("bad.mp4")
    good, bad = deployment.complete("a.mp4", "bad.mp4")
    runs = deployment.run_requested("results_refresh")
    assert [(r.success, r.dagster_run.tags["dagster/partition"]) for r in runs] == [
        (True, good),
        (False, bad),
    ]
    clock[0] += 36000
    assert deployment.run_requested("results_refresh") == []


def test_one_refresh_at_a_time_unless_it_was_killed(
    deployment: Deployment, clock: list[float]
) -> None:
    deployment.complete("a.mp4")
    run = deployment.instance.create_run_for_job(
        deployment.definitions.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset([dg.AssetKey("person_detections")]),
        run_config={"ops": {"person_detections": {"config": {"videos": []}}}},
        tags={LAUNCHED_TAG: "results_refresh"},
        status=dg.DagsterRunStatus.STARTED,
    )
    skipped = deployment.tick("results_refresh")
    assert isinstance(skipped, dg.SkipReason)
    assert run.run_id in str(skipped.skip_message)
    clock[0] += deployment.settings.stalled_minutes * 60 + 1
    assert "person_detections" in asked(deployment)


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
