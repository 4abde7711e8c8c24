"""What nobody looks at is told in time: in checks, and by how old the nightly batch is."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import boto3
import dagster as dg
import pytest
from deployment import Deployment
from pydantic import ValidationError

from rekognition_dagster import Settings, build_checks
from rekognition_dagster.orchestration import alerts
from rekognition_dagster.orchestration.alerts import nightly_freshness
from rekognition_dagster.orchestration.settings import Alerts

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


# -- sent -----------------------------------------------------------------------------------------


@pytest.fixture
def alerted(deployment: Deployment) -> Deployment:
    """The deployment, with alerts to a topic that its own queue of dead letters has."""
    name = deployment.settings.name.rpartition("-")[2]
    topic = boto3.client("sns").create_topic(Name=f"alerts-{name}")["TopicArn"]
    queue = deployment.provisioned.dead_letter_url
    attributes = boto3.client("sqs").get_queue_attributes(
        QueueUrl=queue, AttributeNames=["QueueArn"]
    )
    arn = attributes["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    deployment.set(alerts=Alerts(sns_topic_arn=topic, ui_url="https://dagster.example.org/"))
    return deployment


def sent(deployment: Deployment) -> list[tuple[str, str]]:
    """Subjects and texts on the topic."""
    queue = deployment.provisioned.dead_letter_url
    answer = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    bodies = [json.loads(m["Body"]) for m in answer.get("Messages", [])]
    return [(b["Subject"], b["Message"]) for b in bodies if "Subject" in b]


def tell(deployment: Deployment, run: Any) -> None:
    """Have the sensor of alerts learn of a failed run, as the daemon does."""
    sensor: Any = deployment.definitions.resolve_sensor_def(deployment.ours.scoped("alerts_to_sns"))
    record: Any = deployment.instance.get_run_by_id(run.run_id)
    kind = dg.DagsterEventType.RUN_FAILURE
    (event,) = deployment.instance.all_logs(run.run_id, of_type=kind)
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor.name,
        dagster_event=event.get_dagster_event(),
        dagster_instance=deployment.instance,
        dagster_run=record,
    )
    sensor(context.for_run_failure())


def test_a_failed_run_is_sent_with_its_reason_and_the_command_that_helps(
    alerted: Deployment,
) -> None:
    alerted.double.failed = {"a.mp4"}
    alerted.complete("a.mp4")
    (run,) = alerted.run_requested("results_refresh")
    assert not run.success
    tell(alerted, run)
    ((subject, text),) = sent(alerted)
    assert subject == f"{alerted.settings.name}: results failed"
    assert "the video has no frames" in text
    assert "rekognition-dagster status --failed" in text
    assert text.endswith(f"https://dagster.example.org/runs/{run.run_id}")


def test_a_check_that_fails_with_severity_error_fails_its_run_and_is_sent(
    alerted: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerted.complete("a.mp4")
    later(monkeypatch, 5.1 * DAY)
    job = alerted.definitions.resolve_job_def(alerted.ours.scoped("alerts"))
    run = job.execute_in_process(instance=alerted.instance, raise_on_error=False)
    assert not run.success
    tell(alerted, run)
    ((subject, text),) = sent(alerted)
    assert subject == f"{alerted.settings.name}: alerts failed"
    assert "person_tracking_completion, results_before_they_expire: 1 completed jobs" in text
    assert "rekognition-dagster status" in text


def test_alerts_concern_the_deployments_own_runs(alerted: Deployment) -> None:
    sensor: Any = alerted.definitions.resolve_sensor_def(alerted.ours.scoped("alerts_to_sns"))
    watched = {job.name for job in sensor._monitored_jobs}
    schedules: Any = alerted.definitions.schedules
    scheduled = {s.job_name for s in schedules}
    jobs = {j.name for j in alerted.definitions.jobs or []}
    assert watched == jobs | scheduled


@pytest.mark.parametrize(
    ("alerts", "sensor"),
    [
        ({"email_to": ["a@example.org"], "secret": "x"}, "rekognition_dagster_alerts_by_email"),
        ({"slack_channel": "#video", "secret": "x"}, "rekognition_dagster_alerts_to_slack"),
    ],
)
def test_email_and_slack_are_dagsters_own_sensors(alerts: dict[str, Any], sensor: str) -> None:
    built = build_checks(Settings(bucket="cameras", alerts=Alerts(**alerts)))
    (made,) = built.sensors or []
    assert made.name == sensor


@pytest.mark.parametrize(
    ("alerts", "text"),
    [
        ({}, "name sns_topic_arn, email_to or slack_channel"),
        ({"slack_channel": "#video"}, "secret is missing"),
        ({"slack_channel": "#v", "email_to": ["a@b.org"], "secret": "x"}, "a secret each"),
        ({"sns_topic_arn": "video-alerts"}, "sns_topic_arn"),
    ],
)
def test_alerts_that_cannot_arrive_are_refused(alerts: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Settings(alerts=alerts)  # pyright: ignore[reportArgumentType]
