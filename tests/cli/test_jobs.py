"""``jobs``: a store's jobs listed, shown, cancelled, queued again and purged."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_line import Command, assert_told

from rekognition_dagster.cli import main
from rekognition_dagster.service.store import FAILED, IN_PROGRESS, JobStore

TOPIC = "arn:aws:sns:us-east-1:123456789012:t"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """The store of ``service``, whose clock is the test's, also for the command."""
    (tmp_path / "service").mkdir()
    store = JobStore(f"sqlite:///{tmp_path}/service/jobs.sqlite", clock=clock)
    monkeypatch.setattr(JobStore, "_now", lambda *_: clock.now)
    yield store
    store.close()


def add(store: JobStore, name: str = "clip.mp4", account: str = "a", token: str | None = None):
    request = {
        "Video": {"S3Object": {"Bucket": "footage", "Name": name}},
        "NotificationChannel": {"SNSTopicArn": TOPIC, "RoleArn": "r"},
    }
    return store.add(
        "person_tracking", request, account=account, token=token, request_hash="h", limit=99
    )[0]


def end(store: JobStore, *, fail: bool = False) -> str:
    job = store.claim("w", 60.0)
    assert job is not None
    if fail:
        store.fail(job, "w", "it is broken")
    else:
        store.complete(job, "w", metadata={}, results=job.job_id, orders={"TIMESTAMP": 3})
    return job.job_id


def rows(command: Command, *arguments: object) -> list[dict]:
    done = command("jobs", "list", "--store", "service", "--format", "json", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_jobs_are_listed_by_state_account_operation_and_age(store, clock, command):
    old = add(store, "old.mp4")
    end(store)
    clock.now += 7200
    failed = add(store, "bad.mp4")
    end(store, fail=True)
    running = add(store, "long.mp4", account="b")
    assert store.claim("w", 60.0)
    queued = add(store, "next.mp4")
    assert {r["job_id"]: r["status"] for r in rows(command)} == {
        old: "SUCCEEDED",
        failed: "FAILED",
        running: "RUNNING",
        queued: "QUEUED",
    }
    for arguments, found in (
        (("--status", "FAILED"), [failed]),
        (("--status", "queued", "--status", "running"), [running, queued]),
        (("--account", "b"), [running]),
        (("--operation", "face_detection"), []),
        (("--older-than", "1h"), [old]),
        (("--newer-than", "1h", "--account", "a"), [failed, queued]),
    ):
        assert sorted(r["job_id"] for r in rows(command, *arguments)) == sorted(found)
    done = command("jobs", "list", "--store", "service", "--limit", "1", "--format", "csv")
    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 1
    assert "more than 1 jobs" in done.stderr
    table = command("jobs", "list", "--store", "service").stdout
    assert "s3://footage/bad.mp4" in table
    assert "it is broken" in table


def test_one_job_is_shown_by_the_first_digits_of_its_id(store, command):
    job_id = add(store)
    end(store, fail=True)
    shown = command("jobs", "show", job_id[:10], "--store", "service")
    for text in (job_id, "FAILED", "it is broken", TOPIC, '"Bucket": "footage"'):
        assert text in shown.stdout
    facts = json.loads(
        command("jobs", "show", job_id, "--store", "service", "--format", "json").stdout
    )
    assert facts["video"] == "s3://footage/clip.mp4"
    other = "0" if job_id[0] != "0" else "1"
    assert_told(command("jobs", "show", other * 64, "--store", "service"), "no job has")
    for _ in range(20):
        add(store)
    first = min(rows(command), key=lambda r: r["job_id"])["job_id"][0]
    many = [r for r in rows(command) if r["job_id"][0] == first]
    if len(many) > 1:
        assert_told(command("jobs", "show", first, "--store", "service"), "several jobs have")


def test_a_cancelled_job_is_failed_and_announced_and_its_worker_holds_it_no_more(store, command):
    job_id = add(store)
    held = store.claim("w", 60.0)
    assert held is not None
    done = command("jobs", "cancel", job_id[:8], "--store", "service", "--yes")
    assert done.stdout == "1 job cancelled\n"
    job = store.job(job_id)
    assert job is not None
    assert (job.status, job.completed_at is not None) == (FAILED, True)
    assert "operator cancelled" in (job.status_message or "")
    assert not store.heartbeat(held, "w", 60.0)
    assert not store.complete(held, "w", metadata={}, results="x", orders={})
    (notification,) = store.due_notifications(30)
    assert json.loads(notification.message)["Status"] == "FAILED"
    assert_told(command("jobs", "cancel", job_id, "--store", "service", "--yes"), "is FAILED")


def test_a_failed_job_is_queued_again_with_all_its_attempts_and_its_token(store, clock, command):
    job_id = add(store, token="t")
    for _ in range(3):
        job = store.claim("w", 60.0)
        assert job is not None
        store.count_attempt(job, "w", "it crashed", 3)
        clock.now += 10
    (old,) = store.due_notifications(30)
    add(store, "other.mp4")
    done = command("jobs", "requeue", "--status", "failed", "--store", "service")
    assert done.stdout == "1 job queued again\n"
    job = store.job(job_id)
    assert job is not None
    assert (job.status, job.attempts, job.status_message) == (IN_PROGRESS, 0, None)
    assert add(store, token="t") == job_id
    clock.now += 6 * 86400
    ended = [end(store), end(store)]
    assert job_id in ended
    store.announced(old)  # of a publisher that was at the failure all the while
    messages = [json.loads(n.message) for n in store.due_notifications(30)]
    assert [m["Status"] for m in messages if m["JobId"] == job_id] == ["SUCCEEDED"]
    assert_told(command("jobs", "requeue", job_id, "--store", "service"), "is SUCCEEDED", "FAILED")


def test_purged_jobs_are_gone_at_once_and_left_to_the_service_to_remove(store, clock, command):
    done = add(store)
    end(store)
    running = add(store)
    (notification,) = store.due_notifications(30)
    arguments = ("jobs", "purge", "--older-than", "0s", "--store", "service")
    refused = CliRunner().invoke(main, list(arguments), input="n\n")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "purge 1 job?" in refused.stderr
    assert "nothing was done" in refused.stderr
    nobody = CliRunner().invoke(main, list(arguments), input="")
    assert "pass --yes" in nobody.stderr
    assert store.job(done) is not None
    purged = CliRunner().invoke(main, list(arguments), input="y\n")
    assert purged.stdout == "1 job purged\n"
    assert store.job(done) is None
    assert store.job(running) is not None
    assert store.expired() == [], "its end is not announced yet"
    store.announced(notification)
    assert [j.job_id for j in store.expired()] == [done]
    assert_told(command("jobs", "requeue", done, "--store", "service"), "no job has")


def test_mistakes_are_one_line(store, command, tmp_path):
    assert_told(command("jobs", "list", "--store", "nowhere"), "there is no job store in nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert_told(command("jobs", "cancel", "--store", "service"), "name JOB_IDs", status=2)
    assert_told(
        command("jobs", "purge", "ab", "--status", "failed", "--store", "service"),
        "select jobs by --status, --operation, --account, --older-than or --newer-than. See",
        status=2,
    )
    assert_told(command("jobs", "list", "--older-than", "soon"), "no age", status=2)
    ages = ("--older-than", "2d", "--newer-than", "1d")
    assert_told(command("jobs", "list", "--store", "service", *ages), "no job is both", status=2)
    assert_told(command("jobs", "show", "xyz", "--store", "service"), "0-9a-f", status=2)


def test_states_that_a_command_is_not_for_and_an_empty_store_are_refused(store, command):
    wrong = command("jobs", "cancel", "--status", "succeeded", "--store", "service")
    assert wrong.exit_code == 2
    assert "this is for jobs that are QUEUED or RUNNING, not SUCCEEDED" in wrong.output
    assert "--store is empty" in command("jobs", "list", "--store", "").output
