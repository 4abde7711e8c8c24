"""What must never happen: a lost video, a second start, half a file, a red one that stops all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from deployment import Deployment, killed, put_videos
from rekognition_double import RESULTS, ApiFault

from rekognition_dagster.api import MessageQueue, inbox
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration import completions, discovery, dispatch
from rekognition_dagster.orchestration.resources import VideoBucketResource
from rekognition_dagster.state.tables import EARLY
from rekognition_dagster.state.videos import Found, register
from rekognition_dagster.videos import Video

DAY_2 = datetime(1970, 1, 2, tzinfo=timezone.utc)


def completed(deployment: Deployment) -> list[dg.EventLogRecord]:
    deployment.tick("reports")
    key = dg.AssetKey(["person_tracking_completion"])
    return list(deployment.instance.fetch_materializations(key, limit=100).records)


def started(deployment: Deployment, *keys: str) -> list[str]:
    partitions = deployment.discover(*keys)
    deployment.dispatch()
    return partitions


# -- I1: a completion leaves the queue only after it is durable -----------------------------------


@pytest.mark.usefixtures("impatient")
def test_a_tick_that_dies_after_receiving_loses_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    (partition,) = started(deployment, "a.mp4")
    deployment.notify()
    with killed(monkeypatch, completions, "complete"):
        deployment.tick("completions")
    assert completed(deployment) == []
    deployment.tick("completions")
    assert deployment.materialized("person_tracking_completion") == {partition}


@pytest.mark.usefixtures("impatient")
def test_a_tick_that_dies_before_it_deletes_changes_nothing_twice(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(deployment, "a.mp4")
    deployment.notify()
    with killed(monkeypatch, MessageQueue, "delete"):
        deployment.tick("completions")
    assert (len(completed(deployment)), deployment.queued()) == (1, 1)
    deployment.tick("completions")
    assert (len(completed(deployment)), deployment.queued()) == (1, 0)


def test_of_two_jobs_of_a_video_the_latest_counts_in_whichever_order_they_end(
    deployment: Deployment,
) -> None:
    started(deployment, "a.mp4")
    put_videos(str(deployment.settings.bucket), "a.mp4", body=b"changed")
    started(deployment)
    deployment.notify("job-1", "job-0")
    deployment.tick("completions")
    (event,) = completed(deployment)
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["job_id"].value == "job-1"
    assert deployment.queued() == 0


def test_ten_copies_of_a_message_are_one_completion_and_one_result(deployment: Deployment) -> None:
    (partition,) = started(deployment, "a.mp4")
    for _ in range(10):
        deployment.notify()
    deployment.tick("completions")
    deployment.notify()
    deployment.tick("completions")
    deployment.tick("completions")
    assert len(completed(deployment)) == 1
    assert deployment.queued() == 0
    deployment.materialize("person_detections", [partition])
    assert deployment.rows("SELECT count(*) FROM person_detections") == [(10,)]


def test_raw_delivery_is_read_too(deployment: Deployment) -> None:
    (partition,) = started(deployment, "a.mp4")
    deployment.queue.client.send_message(
        QueueUrl=deployment.queue.url, MessageBody=deployment.double.notification("job-0")
    )
    deployment.tick("completions")
    assert deployment.materialized("person_tracking_completion") == {partition}


# -- I4: a completion that never arrives ----------------------------------------------------------


def test_a_completion_that_never_came_is_found_and_a_healthy_job_is_not_polled(
    deployment: Deployment,
) -> None:
    (partition,) = started(deployment, "a.mp4")
    assert deployment.tick("reconciliation").skip_message
    assert deployment.double.calls["GetPersonTracking"] == 0
    deployment.set(overdue_minutes=1e-6)
    deployment.tick("reconciliation")
    assert deployment.materialized("person_tracking_completion") == {partition}
    assert deployment.materialize("person_detections", [partition]).success


def test_a_job_that_has_ended_is_never_asked_about_again(deployment: Deployment) -> None:
    deployment.set(overdue_minutes=1e-6)
    started(deployment, "a.mp4")
    deployment.notify()
    deployment.tick("completions")
    assert deployment.tick("reconciliation").skip_message
    assert deployment.double.calls["GetPersonTracking"] == 0
    assert len(completed(deployment)) == 1


def test_an_overdue_job_that_still_runs_is_not_asked_again_at_once(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment.double, "_get", lambda *_: {"JobStatus": "IN_PROGRESS"})
    deployment.set(overdue_minutes=1e-6)
    started(deployment, "a.mp4")
    (stand,) = deployment.stands().values()
    assert stand.job is not None
    clock = stand.job["started_at"] + 100
    monkeypatch.setattr("rekognition_dagster.orchestration.reconciliation.time.time", lambda: clock)
    for _ in range(3):
        deployment.tick("reconciliation")
    assert deployment.double.calls["GetPersonTracking"] == 1
    clock += 101
    deployment.tick("reconciliation")
    assert deployment.double.calls["GetPersonTracking"] == 2


# -- I5: poisoned messages ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not json", "no JSON"),
        ("[1]", "no JSON object"),
        ("{}", "no Status"),
        ('{"Message": "also not json"}', "no JSON"),
        ('{"Status": "DONE", "API": "StartPersonTracking"}', "neither SUCCEEDED nor FAILED"),
        ('{"Status": "FAILED", "API": "StartTextDetection"}', "unknown operation"),
        ('{"Status": "FAILED", "API": "StartPersonTracking", "JobId": "j"}', "no Video"),
    ],
)
def test_a_malformed_message_goes_to_the_dead_letters_and_the_others_through(
    deployment: Deployment, body: str, reason: str
) -> None:
    (partition,) = started(deployment, "a.mp4")
    sqs = deployment.queue.client
    sqs.send_message(QueueUrl=deployment.queue.url, MessageBody=body)
    deployment.notify()
    deployment.tick("completions")
    deployment.tick("completions")
    assert deployment.materialized("person_tracking_completion") == {partition}
    assert deployment.queued() == 0
    (buried,) = sqs.receive_message(
        QueueUrl=deployment.provisioned.dead_letter_url, MessageAttributeNames=["All"]
    )["Messages"]
    assert buried["Body"] == body
    assert reason in buried["MessageAttributes"]["Reason"]["StringValue"]


def test_a_message_of_another_deployment_is_left_alone(deployment: Deployment) -> None:
    started(deployment, "a.mp4")
    message = {**json.loads(deployment.double.notification("job-0")), "JobTag": "somebody-else"}
    deployment.queue.client.send_message(
        QueueUrl=deployment.queue.url, MessageBody=json.dumps(message)
    )
    with pytest.raises(ConfigurationError, match="'somebody-else'"):
        deployment.tick("completions")
    assert completed(deployment) == []
    assert deployment.queued() == 1


def test_messages_of_another_deployment_hold_up_none_of_ours(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "AT_ONCE", 1)  # each message is a batch of its own
    started(deployment, *(f"{i}.mp4" for i in range(4)))
    message = {**json.loads(deployment.double.notification("job-0")), "JobTag": "somebody-else"}
    for job in range(4):
        deployment.queue.client.send_message(
            QueueUrl=deployment.queue.url, MessageBody=json.dumps({**message, "JobId": f"x{job}"})
        )
        deployment.notify(f"job-{job}")
    with pytest.raises(ConfigurationError, match="4 of 'somebody-else'"):
        deployment.tick("completions")
    assert len(completed(deployment)) == 4
    assert deployment.queued() == 4, "the other deployment's messages stay"
    with deployment.state.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(EARLY)) == 0


# -- I2, I3: starts -------------------------------------------------------------------------------


def test_a_run_that_dies_between_start_and_event_starts_the_same_job(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    (partition,) = deployment.discover("a.mp4")

    def die(*args: object, **kwargs: object) -> None:
        raise SystemError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(dispatch.job_state, "started", die)
        assert not deployment.materialize("person_tracking_job", [partition]).success
    assert len(deployment.double.jobs) == 1
    deployment.notify()  # the job ends before the state ever heard of it
    deployment.tick("completions")
    monkeypatch.setattr(dispatch, "LEASE_S", -1.0)
    clock = time.time() + 200
    monkeypatch.setattr(dispatch.time, "time", lambda: clock)
    deployment.dispatch()
    assert len(deployment.double.jobs) == 1
    assert deployment.materialize("person_detections", [partition]).success
    free = deployment.evaluate("job_dispatch")
    assert free.skip_message == "No video waits"


def test_never_more_jobs_in_flight_than_the_quota(deployment: Deployment) -> None:
    deployment.set(max_jobs_in_flight=3)
    deployment.discover(*(f"{i}.mp4" for i in range(8)))
    deployment.dispatch()
    assert len(deployment.double.jobs) == 3
    assert deployment.dispatch() == 0
    deployment.notify("job-1")
    deployment.tick("completions")
    deployment.dispatch()
    assert len(deployment.double.jobs) == 4
    # By hand, too: what has no slot is delayed, not failed.
    order = deployment.partitions()
    assert deployment.materialize("person_tracking_job", order).success
    assert len(deployment.double.jobs) == 4


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("LimitExceededException", 400),
        ("ProvisionedThroughputExceededException", 400),
        ("ThrottlingException", 500),
        ("InternalServerError", 500),
    ],
)
def test_a_start_refused_for_load_is_delayed_and_not_failed(
    deployment: Deployment, code: str, status: int
) -> None:
    refusals = iter([True, False])

    def refuse(request: dict[str, object]) -> None:
        if next(refusals, False):
            raise ApiFault(code, status)

    deployment.double.on_start = refuse
    (partition,) = deployment.discover("a.mp4")
    assert deployment.dispatch() == 0
    assert deployment.materialized("person_tracking_job") == set()
    assert deployment.instance.get_runs() == []
    assert deployment.dispatch() == 1
    assert deployment.materialized("person_tracking_job") == {partition}


@pytest.mark.parametrize("code", ["InvalidS3ObjectException", "AccessDeniedException"])
def test_a_refused_start_fails_its_partition_and_no_other_and_waits_for_the_night(
    deployment: Deployment, code: str
) -> None:
    def refuse(request: dict[str, dict[str, dict[str, str]]]) -> None:
        if request["Video"]["S3Object"]["Name"] == "b.mp4":
            raise ApiFault(code)

    deployment.double.on_start = refuse
    partitions = deployment.discover("a.mp4", "b.mp4", "c.mp4")
    deployment.dispatch()
    assert deployment.materialized("person_tracking_job") == {partitions[0], partitions[2]}
    (run,) = deployment.run_requested("results_refresh")
    assert not run.success
    assert deployment.red("person_detections") == {partitions[1]}
    assert deployment.run_requested("results_refresh") == []
    asked = deployment.double.calls["StartPersonTracking"]
    assert deployment.tick("job_dispatch").skip_message
    assert deployment.double.calls["StartPersonTracking"] == asked, "not again and again"
    deployment.double.on_start = lambda request: None
    deployment.materialize("nightly_batch")
    assert deployment.dispatch() == 1
    assert deployment.materialized("person_tracking_job") == set(partitions)


def test_nightly_starts_wait_for_the_night(deployment: Deployment) -> None:
    deployment.set(start="nightly")
    deployment.discover("a.mp4")
    assert deployment.dispatch() == 0
    deployment.materialize("nightly_batch")
    assert deployment.dispatch() == 1


def test_a_start_that_is_always_refused_is_asked_in_so_many_nights(deployment: Deployment) -> None:
    def refuse(request: dict[str, object]) -> None:
        raise ApiFault("InvalidS3ObjectException")

    deployment.double.on_start = refuse
    deployment.discover("a.mp4")
    asked = []
    for _ in range(5):
        before = deployment.double.calls["StartPersonTracking"]
        deployment.dispatch()
        asked.append(deployment.double.calls["StartPersonTracking"] > before)
        deployment.materialize("nightly_batch")
    assert asked == [True, True, True, False, False]


def test_slots_are_shared_fairly_between_operations(deployment: Deployment) -> None:
    deployment.set(operations=["person_tracking", "face_detection"], max_jobs_in_flight=5)
    deployment.discover("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    deployment.dispatch()
    assert deployment.double.calls == {"StartPersonTracking": 3, "StartFaceDetection": 2}


# -- I7, I8: results ------------------------------------------------------------------------------


def files(deployment: Deployment) -> dict[str, bytes]:
    root = Path(deployment.settings.lake)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_second_run_of_a_finished_partition_changes_no_byte(deployment: Deployment) -> None:
    (partition,) = started(deployment, "a.mp4")
    deployment.double.rows = 2500
    deployment.notify()
    deployment.tick("completions")
    deployment.materialize("person_detections", [partition])
    before = files(deployment)
    assert len(before) == 3
    assert deployment.materialize("person_detections", [partition]).success
    assert files(deployment) == before
    # Not even where it has to be written anew, in pages of another size.
    for path in before:
        (Path(deployment.settings.lake) / path).unlink()
    deployment.double.page_rows = 77
    assert deployment.materialize("person_detections", [partition]).success
    assert files(deployment) == before


def test_a_paging_run_that_is_killed_leaves_no_file_and_the_next_completes(
    deployment: Deployment,
) -> None:
    (partition,) = started(deployment, "a.mp4")
    deployment.double.rows, deployment.double.page_rows = 3000, 100
    deployment.notify()
    deployment.tick("completions")
    code = f"""
import dagster as dg, os, sys
from rekognition_dagster import Settings, build_definitions
settings = Settings.model_validate_json({deployment.settings.model_dump_json()!r})
instance = dg.DagsterInstance.from_config({deployment.instance.root_directory!r})
job = build_definitions(settings).resolve_implicit_global_asset_job_def()
job.execute_in_process(asset_selection=[dg.AssetKey("person_detections")],
    partition_key={partition!r}, instance=instance)
"""
    process: list[subprocess.Popen[bytes]] = []

    def kill(request: dict[str, object]) -> None:
        if request.get("NextToken") == "1500":
            process[0].send_signal(signal.SIGKILL)

    deployment.double.on_get = kill
    process.append(subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ)))
    assert process[0].wait(timeout=60) == -signal.SIGKILL
    assert files(deployment) == {}
    deployment.double.on_get = lambda request: None
    assert deployment.materialize("person_detections", [partition]).success
    assert deployment.rows("SELECT count(*) FROM person_detections") == [(3000,)]


def test_what_is_only_late_is_tried_again_and_nothing_is_said_twice(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.set(retry_minutes=1e-9)
    partitions = started(deployment, "a.mp4", "b.mp4")
    deployment.notify()
    deployment.tick("completions")
    get, late = deployment.double._get, iter([True, False])

    def b_is_late(operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if request["JobId"] == "job-1" and next(late, False):
            return {"JobStatus": "IN_PROGRESS"}
        return get(operation, request)

    monkeypatch.setattr(deployment.double, "_get", b_is_late)
    assert [r.success for r in deployment.run_requested("results_refresh")] == [False]
    assert [r.success for r in deployment.run_requested("results_refresh")] == [True]
    deployment.tick("reports")
    said = deployment.instance.fetch_materializations(dg.AssetKey("person_detections"), limit=9)
    assert sorted(str(r.partition_key) for r in said.records) == partitions


def test_results_that_expired_are_asked_for_once_by_themselves_and_then_visible(
    deployment: Deployment,
) -> None:
    started(deployment, "a.mp4")
    for attempt in (1, 2):
        deployment.notify(f"job-{attempt - 1}")
        deployment.tick("completions")
        deployment.tick("completions")
        job = deployment.double.jobs.pop(f"job-{attempt - 1}")
        (run,) = deployment.run_requested("results_refresh")
        assert not run.success
        deployment.double.jobs[f"gone-{attempt}"] = job
        assert deployment.dispatch() == (1 if attempt == 1 else 0)
    assert deployment.run_requested("results_refresh") == []


def test_an_expired_job_is_told_with_its_remedy(deployment: Deployment) -> None:
    (partition,) = started(deployment, "a.mp4")
    deployment.notify()
    deployment.tick("completions")
    deployment.double.jobs["gone"] = deployment.double.jobs.pop("job-0")
    result = deployment.materialize("person_detections", [partition])
    assert not result.success
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    told = str(failure.step_failure_data.error)
    assert "a.mp4" in told
    assert "7 days" in told
    assert "materialize the job asset again" in told
    deployment.materialize("person_tracking_job", [partition])
    assert len(deployment.double.tokens) == 2, "the remedy works: it is a new attempt"


def test_a_video_that_moves_to_another_date_leaves_its_old_file(deployment: Deployment) -> None:
    (partition,) = started(deployment, "a.mp4")
    deployment.notify()
    deployment.tick("completions")
    deployment.materialize("person_detections", [partition])
    (old,) = [p for p in files(deployment) if p.startswith("person_detections")]
    # Its object is written again, on another day.
    video = Video(str(deployment.settings.bucket), "a.mp4", etag="other", last_modified=DAY_2)
    with deployment.state.write() as connection:
        register(connection, [Found(video, partition)], time.time(), deployment.ours.plan)
    deployment.dispatch()
    deployment.notify("job-1")
    deployment.tick("completions")
    assert deployment.materialize("person_detections", [partition]).success
    left = {p.split("/")[0]: p.split("/")[1] for p in files(deployment)}
    assert len(files(deployment)) == len(left) == 3
    assert set(left.values()) == {"date=1970-01-02"}
    assert old.split("/")[1] != "date=1970-01-02"


# -- checks, metadata -----------------------------------------------------------------------------


def test_results_carry_counts_links_and_checks(deployment: Deployment) -> None:
    (partition,) = started(deployment, "a.mp4")
    deployment.notify()
    deployment.tick("completions")
    result = deployment.materialize("person_detections", [partition])
    key = dg.AssetKey(["person_detections"])
    records = deployment.instance.fetch_materializations(key, limit=9).records
    (record,) = records
    event = record.asset_materialization
    assert event is not None
    assert (record.run_id, record.event_log_entry.step_key) == (result.run_id, "person_detections")
    assert event.metadata["dagster/partition_row_count"].value == 10
    assert str(event.metadata["dagster/uri"].value).startswith("file:///")
    evaluations = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert set(evaluations) == {
        "boxes_in_frame",
        "has_people",
        "has_results",
        "no_duplicates",
        "timestamps_in_duration",
    }
    assert all(e.passed for e in evaluations.values())


def test_checks_fail_on_what_cannot_be(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    (partition,) = started(deployment, "a.mp4")
    box = {"Left": 0.9, "Top": 0.2, "Width": 0.3, "Height": 0.3}
    bad = [
        {"Timestamp": 10**9, "Person": {"Index": 0, "BoundingBox": box}},
        {"Timestamp": 10**9, "Person": {"Index": 0, "BoundingBox": box}},
    ]
    monkeypatch.setitem(RESULTS, "GetPersonTracking", (lambda count: bad, "Persons"))
    deployment.notify()
    deployment.tick("completions")
    result = deployment.materialize("person_detections", [partition])
    evaluations = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert evaluations == {
        "boxes_in_frame": False,
        "has_people": True,
        "has_results": True,
        "no_duplicates": False,
        "timestamps_in_duration": False,
    }


def test_an_empty_place_only_warns(deployment: Deployment) -> None:
    (partition,) = started(deployment, "a.mp4")
    deployment.double.rows = 0
    deployment.notify()
    deployment.tick("completions")
    result = deployment.materialize("person_detections", [partition])
    assert result.success
    (warned,) = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert (warned.check_name, warned.severity) == ("has_people", dg.AssetCheckSeverity.WARN)


# -- discovery ------------------------------------------------------------------------------------


def test_discovery_goes_on_inside_a_listing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_client = VideoBucketResource.client

    def client_with_small_pages(bucket: VideoBucketResource) -> Any:
        client = make_client(bucket)
        everything = client.list_objects_v2
        client.list_objects_v2 = lambda **request: everything(**request, MaxKeys=2)
        return client

    monkeypatch.setattr(VideoBucketResource, "client", client_with_small_pages)
    monkeypatch.setattr(discovery, "LIST_S", 0)
    keys = [f"{i}.mp4" for i in range(5)]
    put_videos(str(deployment.settings.bucket), *keys)
    found = []
    for _ in range(3):
        deployment.tick("video_discovery")
        deployment.tick("reports")
        found.append(len(deployment.partitions()))
    assert found == [2, 4, 5]
    (cursor,) = json.loads(deployment.cursors["video_discovery"] or "").values()
    assert cursor["after"] == ""


@pytest.mark.parametrize(
    ("sensor", "setting", "value", "told"),
    [
        ("video_discovery", "bucket", "no-such-bucket-at-all", "s3:ListBucket"),
        ("completions", "queue_url", "http://127.0.0.1:9/1234/none", "provision"),
    ],
)
def test_what_cannot_be_reached_is_told_with_its_remedy(
    deployment: Deployment, sensor: str, setting: str, value: str, told: str
) -> None:
    deployment.set(**{setting: value})
    with pytest.raises(ConfigurationError) as failure:
        deployment.evaluate(sensor)
    assert value in str(failure.value)
    assert told in str(failure.value)


@pytest.mark.parametrize("sensor", ["video_discovery", "completions"])
def test_an_unconfigured_sensor_says_what_to_set(deployment: Deployment, sensor: str) -> None:
    deployment.set(bucket=None, queue_url=None)
    skipped = deployment.evaluate(sensor)
    assert "REKOGNITION_DAGSTER_" in str(skipped.skip_message)
