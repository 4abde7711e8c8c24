"""What the service survives: crashes, outages beside it, and being stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from service.serving import HERE, ended, until


@pytest.fixture
def quick(make_service):
    """A service whose leases run out soon."""
    return lambda **more: make_service(lease_s=1.0, **more)


def test_a_worker_that_crashes_is_replaced_and_its_job_taken_up_again(cloud, quick, tmp_path):
    service = quick()
    rekognition = service.client()
    video = cloud.video(rows=600, crash_once=str(tmp_path / "crashed"))
    job_id = rekognition.start_person_tracking(Video=video, NotificationChannel=cloud.channel)[
        "JobId"
    ]
    assert ended(rekognition, "person_tracking", job_id)["JobStatus"] == "SUCCEEDED"
    assert (tmp_path / "crashed").exists()
    assert "worker died" in service.logged()
    (message,) = until(cloud.completions)
    assert message["JobId"] == job_id
    assert not list(Path(service.store, "scratch").iterdir())


def test_a_video_that_crashes_every_worker_fails_and_the_next_job_runs(cloud, quick):
    service = quick(attempts=2)
    rekognition = service.client()
    video = cloud.video(crash=True)
    poisoned = rekognition.start_face_detection(Video=video)["JobId"]
    good = rekognition.start_face_detection(Video=cloud.video())["JobId"]
    assert ended(rekognition, "face_detection", good)["JobStatus"] == "SUCCEEDED"
    page = ended(rekognition, "face_detection", poisoned)
    assert page["JobStatus"] == "FAILED"
    assert video["S3Object"]["Name"] in page["StatusMessage"]
    assert "2 times" in page["StatusMessage"]


def test_a_service_that_is_killed_goes_on_where_it_was(cloud, quick):
    service = quick()
    rekognition = service.client()
    jobs = [
        rekognition.start_face_detection(
            Video=cloud.video(seconds=0.7), NotificationChannel=cloud.channel
        )["JobId"]
        for _ in range(3)
    ]
    until(lambda: "job taken up" in service.logged())
    service.stop(signal.SIGKILL)
    service.start()
    rekognition = service.client()
    for job_id in jobs:
        assert ended(rekognition, "face_detection", job_id)["JobStatus"] == "SUCCEEDED"
    found: list[str] = []
    until(lambda: found.extend(m["JobId"] for m in cloud.completions()) or set(found) >= set(jobs))


def test_killing_any_process_at_any_moment_loses_no_job(cloud, quick):
    service = quick(workers=2, attempts=50, jobs_in_flight=50)
    chance = random.Random(7)
    started, found = [], []
    for _ in range(4):
        rekognition = service.client()
        for _ in range(3):
            started.append(
                rekognition.start_face_detection(
                    Video=cloud.video(seconds=0.2, rows=1200), NotificationChannel=cloud.channel
                )["JobId"]
            )
        time.sleep(chance.random() * 0.6)
        victims = [service.process.pid, *service.children()]
        victim = chance.choice(victims)
        if victim == service.process.pid:
            service.stop(signal.SIGKILL)
            service.start()
        else:
            os.kill(victim, signal.SIGKILL)
    rekognition = service.client()
    for job_id in started:
        page = ended(rekognition, "face_detection", job_id, 120)
        assert (page["JobStatus"], len(page["Faces"])) == ("SUCCEEDED", 1000)
    until(lambda: found.extend(cloud.completions()) or {m["JobId"] for m in found} == set(started))
    assert {m["Status"] for m in found} == {"SUCCEEDED"}


def test_an_outage_of_sns_delays_announcements_and_loses_none(cloud, make_service, http_stub):
    down = http_stub(503)
    service = make_service(environment={"AWS_ENDPOINT_URL_SNS": down})
    rekognition = service.client()
    job_id = rekognition.start_face_detection(
        Video=cloud.video(), NotificationChannel=cloud.channel
    )["JobId"]
    ended(rekognition, "face_detection", job_id)
    until(lambda: "announcement failed" in service.logged())
    assert cloud.completions() == []
    service.stop()
    del service.environment["AWS_ENDPOINT_URL_SNS"]
    service.start()
    (message,) = until(cloud.completions)
    assert message["JobId"] == job_id


def test_sigterm_lets_the_job_under_way_finish_and_keeps_the_others(cloud, make_service):
    service = make_service(drain_s=30.0)
    rekognition = service.client()
    jobs = [
        rekognition.start_face_detection(Video=cloud.video(seconds=2.5))["JobId"] for _ in range(2)
    ]
    until(lambda: "job taken up" in service.logged())
    assert service.stop() == 0
    assert service.logged().count("job SUCCEEDED") == 1
    rekognition = service.start().client()
    for job_id in jobs:
        assert ended(rekognition, "face_detection", job_id)["JobStatus"] == "SUCCEEDED"
    assert service.logged().count("job taken up") == 2


def test_a_job_that_does_not_finish_in_time_is_given_back(cloud, make_service, tmp_path):
    service = make_service(drain_s=0.2)
    log = tmp_path / "runs"
    job_id = service.client().start_face_detection(
        Video=cloud.video(seconds=15.0, rows=5000, log=str(log))
    )["JobId"]
    until(log.exists)
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 10
    assert "job given back" in service.logged()
    assert not list(Path(service.store, "results").glob("*/*"))
    again = service.start().client().get_face_detection(JobId=job_id)
    assert again["JobStatus"] == "IN_PROGRESS"


def test_a_fault_of_the_analysis_fails_the_job_without_its_traceback(cloud, make_service):
    service = make_service(attempts=2)
    rekognition = service.client()
    job_id = rekognition.start_face_detection(Video=cloud.video(bug="secret detail"))["JobId"]
    page = ended(rekognition, "face_detection", job_id)
    assert page["JobStatus"] == "FAILED"
    assert "ZeroDivisionError" in page["StatusMessage"]
    assert "secret detail" not in page["StatusMessage"]
    assert "secret detail" in service.logged()
    assert service.logged().count("job taken up") == 2


def test_a_message_for_a_caller_has_no_path_of_the_server(cloud, rekognition):
    video = cloud.video(error="cannot be read at {path}")
    job_id = rekognition.start_face_detection(Video=video)["JobId"]
    text = ended(rekognition, "face_detection", job_id)["StatusMessage"]
    assert "cannot be read at" in text
    assert "store/scratch" not in text


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"", "empty"), (b"plain text", "supported format"), (b"\x1aE\xdf\xa3" + b"0" * 20, ".mp4")],
)
def test_an_object_that_is_no_supported_video_fails_its_job(cloud, rekognition, body, said):
    key = f"odd-{time.monotonic_ns()}.mp4"
    cloud.s3.put_object(Bucket="footage", Key=key, Body=body)
    video = {"S3Object": {"Bucket": "footage", "Name": key}}
    job_id = rekognition.start_person_tracking(Video=video)["JobId"]
    page = ended(rekognition, "person_tracking", job_id)
    assert page["JobStatus"] == "FAILED"
    assert key in page["StatusMessage"]
    assert said in page["StatusMessage"]


def test_a_video_that_lasts_too_long_fails_its_job(cloud, rekognition):
    video = cloud.video(duration_ms=6 * 3600 * 1000 + 1)
    job_id = rekognition.start_person_tracking(Video=video)["JobId"]
    page = ended(rekognition, "person_tracking", job_id)
    assert page["JobStatus"] == "FAILED"
    assert "hours" in page["StatusMessage"]


def test_every_log_line_of_a_job_has_its_id(cloud, service):
    job_id = service.client().start_face_detection(Video=cloud.video())["JobId"]
    ended(service.client(), "face_detection", job_id)
    lines = [json.loads(line) for line in service.logged().splitlines() if job_id in line]
    events = [line["event"] for line in lines if line.get("job_id") == job_id]
    assert events[:2] == ["job accepted", "job taken up"]
    assert "job SUCCEEDED" in events


def test_health_readiness_and_metrics_tell_of_the_service(cloud, service):
    import urllib.request

    def page(path):
        with urllib.request.urlopen(service.url + path) as answer:
            return answer.read().decode()

    assert json.loads(page("/health")) == {"status": "ok"}
    until(lambda: service.status("/ready") == 200)
    state = json.loads(page("/ready"))
    assert (state["status"], state["workers"]) == ("ok", 1)
    # Other tests share this service, and some of their jobs FAILED.
    assert all("FAILED in the last hour" in alert for alert in state["alerts"])
    text = page("/metrics")
    for name in (
        'rekognition_jobs{status="IN_PROGRESS"}',
        "rekognition_queue_age_seconds",
        "rekognition_notifications_pending",
        "rekognition_notification_age_seconds",
        'rekognition_jobs_ended_total{status="FAILED"}',
        "rekognition_frames_analysed_total",
        "rekognition_workers 1.0",
    ):
        assert name in text


def test_it_is_ready_once_a_worker_has_loaded_what_analyzes(make_service, tmp_path):
    loaded = tmp_path / "loaded"
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        f"while not pathlib.Path({str(loaded)!r}).exists():\n    time.sleep(0.05)\n"
        "from scripted_engine import analyze\n"
    )
    paths = os.pathsep.join((str(tmp_path), str(HERE), *sys.path))
    service = make_service(analyzer="slow:analyze", environment={"PYTHONPATH": paths})
    until(service.children)
    assert service.status("/health") == 200
    assert service.status("/ready") == 503
    loaded.touch()
    until(lambda: service.status("/ready") == 200)


def test_results_may_lie_in_s3(cloud, make_service):
    service = make_service(results="s3://footage/results")
    rekognition = service.client()
    job_id = rekognition.start_person_tracking(Video=cloud.video(rows=1500))["JobId"]
    page = ended(rekognition, "person_tracking", job_id)
    assert len(page["Persons"]) == 1000, page.get("StatusMessage")
    rest = rekognition.get_person_tracking(JobId=job_id, NextToken=page["NextToken"])
    assert len(rest["Persons"]) == 500
