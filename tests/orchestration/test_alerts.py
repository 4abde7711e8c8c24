"""What nobody looks at is told in time: in checks, and by how old the nightly batch is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from deployment import Deployment

from rekognition_dagster import Settings
from rekognition_dagster.orchestration import alerts
from rekognition_dagster.orchestration.alerts import nightly_freshness

HOUR, DAY = 3600.0, 86_400.0


def evaluated(deployment: Deployment, name: str) -> dg.AssetCheckEvaluation:
    """The check's answer, from a run of the job that the schedule launches."""
    result = deployment.definitions.resolve_job_def(
        deployment.ours.scoped("alerts")
    ).execute_in_process(instance=deployment.instance, raise_on_error=False)
    (found,) = (e for e in result.get_asset_check_evaluations() if e.check_name == name)
    return found


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the checks believe that so much time has passed."""
    now = alerts.time.time
    monkeypatch.setattr(alerts.time, "time", lambda: now() + seconds)


@pytest.mark.parametrize(
    ("passed_days", "passes", "severity"),
    [(2.9, True, None), (3.1, False, "WARN"), (5.1, False, "ERROR")],
)
def test_results_that_nobody_paged_are_told_before_they_expire(
    deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
    passed_days: float,
    passes: bool,
    severity: str | None,
) -> None:
    deployment.complete("a.mp4")
    later(monkeypatch, passed_days * DAY)
    answer = evaluated(deployment, "results_before_they_expire")
    assert answer.passed is passes
    assert answer.metadata["unpaged"].value == 1
    if not passes:
        assert answer.severity.value == severity
        table: Any = answer.metadata["oldest"].value
        (record,) = table.records if hasattr(table, "records") else table
        assert record.data["video"] == f"s3://{deployment.settings.bucket}/a.mp4"
        assert record.data["hours_left"] == round(7 * 24 - passed_days * 24)


def test_results_in_the_lake_worry_nobody(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    partitions = deployment.complete("a.mp4")
    assert deployment.materialize("person_detections", partitions).success
    later(monkeypatch, 6 * DAY)
    answer = evaluated(deployment, "results_before_they_expire")
    assert answer.passed
    assert answer.metadata["unpaged"].value == 0


def test_a_dead_letter_is_told(deployment: Deployment) -> None:
    assert evaluated(deployment, "is_empty").passed
    deployment.queue.client.send_message(QueueUrl=deployment.queue.url, MessageBody="nonsense")
    deployment.tick("completions")
    answer = evaluated(deployment, "is_empty")
    assert not answer.passed
    assert answer.metadata["messages"].value == 1
    assert answer.metadata["queue"].value == deployment.provisioned.dead_letter_url


@pytest.mark.parametrize(
    ("nightly", "hours"),
    [("0 2 * * *", 24), ("0 2 * * 1-5", 72), ("*/30 * * * *", 0.5), ("0 2 1 * *", 31 * 24)],
)
def test_the_nightly_batch_is_late_some_time_after_the_next_should_have_been(
    nightly: str, hours: float
) -> None:
    policy: Any = nightly_freshness(Settings(nightly=nightly, timezone="Europe/Zurich"))
    assert policy.fail_window.to_timedelta() == timedelta(hours=hours + 2)


def test_the_nightly_batch_has_that_policy_and_the_alerts_a_schedule(
    deployment: Deployment,
) -> None:
    batch = deployment.definitions.resolve_asset_graph().get(dg.AssetKey("nightly_batch"))
    assert batch.freshness_policy_or_from_metadata == nightly_freshness(deployment.settings)
    schedule = deployment.definitions.resolve_schedule_def(deployment.ours.scoped("alerts"))
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
