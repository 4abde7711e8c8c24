"""What the automation did not see, or a run did not finish, is launched all the same."""

from __future__ import annotations

import dagster as dg
import pytest
from deployment import Deployment

from rekognition_dagster.orchestration import catch_up


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(catch_up.time, "time", lambda: now[0])
    return now


def asked(deployment: Deployment) -> list[str]:
    result = deployment.tick("catch_up")
    requests = result.run_requests or [] if isinstance(result, dg.SensorResult) else []
    return [key.to_user_string() for r in requests for key in r.asset_selection or []]


def completed(deployment: Deployment, *keys: str) -> list[str]:
    partitions = deployment.discover(*keys)
    deployment.dispatch()
    deployment.notify()
    deployment.tick("completions")
    return partitions


def test_results_that_nobody_launched_are_launched(
    deployment: Deployment, clock: list[float]
) -> None:
    (partition,) = completed(deployment, "a.mp4")
    assert asked(deployment) == [], "the automation has the first word"
    clock[0] += 14 * 60
    assert asked(deployment) == []
    clock[0] += 2 * 60
    assert asked(deployment) == ["person_detections"]
    deployment.materialize("person_detections", [partition])
    asked(deployment)
    clock[0] += 16 * 60
    assert asked(deployment) == ["activity_by_minute", "person_paths", "video_summary"]


def test_a_run_that_fails_is_asked_again_at_growing_intervals_up_to_a_limit(
    deployment: Deployment, clock: list[float]
) -> None:
    completed(deployment, "a.mp4")
    launched: list[int] = []
    for minute in (0, 14, 15, 44, 45, 104, 105, 224, 225, 464, 465, 945, 2000, 9999):
        clock[0] = 1_000_000.0 + minute * 60
        if asked(deployment):
            launched.append(minute)
    assert launched == [15, 45, 105, 225, 465]


def test_a_job_that_failed_is_not(deployment: Deployment, clock: list[float]) -> None:
    deployment.double.failed.add("bad.mp4")
    completed(deployment, "bad.mp4")
    asked(deployment)
    clock[0] += 3600
    assert asked(deployment) == []


def test_what_a_run_works_on_right_now_is_not(deployment: Deployment, clock: list[float]) -> None:
    (partition,) = completed(deployment, "a.mp4")
    asked(deployment)
    clock[0] += 3600
    job = deployment.definitions.resolve_implicit_global_asset_job_def()
    run = deployment.instance.create_run_for_job(
        job,
        asset_selection=frozenset([dg.AssetKey("person_detections")]),
        tags={"dagster/partition": partition},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert asked(deployment) == []
    deployment.instance.report_run_failed(run)
    clock[0] += 3600
    assert asked(deployment) == ["person_detections"]
