"""The job store: what each transaction promises, with a clock of its own."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.service.notifications import publish_due
from rekognition_dagster.service.owners import is_dead_here, owner_name
from rekognition_dagster.service.store import (
    FAILED,
    SUCCEEDED,
    JobStore,
    TooManyJobsError,
)

REQUEST = {
    "Video": {"S3Object": {"Bucket": "footage", "Name": "clip.mp4"}},
    "NotificationChannel": {"SNSTopicArn": "arn:aws:sns:us-east-1:123456789012:t", "RoleArn": "r"},
}
DONE = {"metadata": {}, "results": "j/1", "orders": {"TIMESTAMP": 1}}


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = JobStore(f"sqlite:///{tmp_path}/jobs.sqlite", clock=clock, job_life_s=100.0)
    yield store
    store.close()


def add(store: JobStore, limit: int = 20) -> str:
    return store.add(
        "person_tracking", REQUEST, account="a", token=None, request_hash="", limit=limit
    )[0]


def claim(store: JobStore, owner: str):
    job = store.claim(owner, 10.0, 3)
    assert job is not None
    return job


def test_a_job_is_one_workers_until_its_lease_runs_out(store, clock):
    add(store)
    first = claim(store, "one")
    assert store.claim("two", 10.0, 3) is None
    clock.now += 9
    assert store.heartbeat(first, "one", 10.0)
    clock.now += 9
    assert store.claim("two", 10.0, 3) is None
    clock.now += 2
    second = claim(store, "two")
    assert second.attempts == 2
    assert not store.heartbeat(first, "one", 10.0)
    assert not store.complete(first, "one", **DONE)
    assert store.complete(second, "two", **DONE)
    assert not store.fail(second, "two", "too late")
    job = store.job(first.job_id)
    assert job is not None
    assert job.status == SUCCEEDED


def test_a_worker_that_gets_its_own_job_again_is_another_attempt(store, clock):
    add(store)
    first = claim(store, "one")
    clock.now += 11
    claim(store, "one")
    assert not store.complete(first, "one", **DONE)


def test_jobs_are_taken_up_in_the_order_they_came(store, clock):
    jobs = []
    for _ in range(3):
        jobs.append(add(store))
        clock.now += 1
    assert [claim(store, "w").job_id for _ in range(3)] == jobs


def test_a_job_that_was_called_off_has_lost_no_attempt_and_one_that_failed_has(store, clock):
    add(store)
    job = claim(store, "one")
    store.release(job, "one")
    job = claim(store, "one")
    assert job.attempts == 1
    store.release(job, "one", delay_s=5.0, counts=True)
    assert store.claim("one", 10.0, 3) is None
    clock.now += 5
    assert claim(store, "one").attempts == 2


def test_a_job_that_outlived_its_attempts_fails_and_is_announced(store, clock):
    job_id = add(store)
    for _ in range(3):
        claim(store, "w")
        clock.now += 11
    assert store.claim("w", 10.0, 3) is None
    job = store.job(job_id)
    assert job is not None
    assert job.status == FAILED
    assert "s3://footage/clip.mp4" in job.status_message
    assert [n.job_id for n in store.due_notifications(30)] == [job_id]


def test_no_more_jobs_are_in_progress_than_the_limit(store):
    add(store, limit=1)
    with pytest.raises(TooManyJobsError):
        add(store, limit=1)
    job = claim(store, "w")
    store.fail(job, "w", "no")
    add(store, limit=1)


def test_an_announcement_is_tried_again_later_and_later_and_given_up_in_the_end(store, clock):
    add(store)
    store.complete(claim(store, "w"), "w", **DONE)
    tried: list[float] = []

    def refuse(_):
        tried.append(clock.now)
        raise ConnectionError

    for _ in range(200):
        publish_due(store, refuse, life_s=50.0, now=clock)
        clock.now += 1
    pauses = [b - a for a, b in itertools.pairwise(tried)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert store.waiting().notifications == 0
    assert tried[-1] - tried[0] < 70


def test_an_announcement_whose_publisher_died_is_made_by_another(store, clock):
    add(store)
    store.complete(claim(store, "w"), "w", **DONE)
    assert len(store.due_notifications(30)) == 1
    assert store.due_notifications(30) == []
    clock.now += 30
    assert len(store.due_notifications(30)) == 1


def test_an_expired_job_is_gone_and_one_in_progress_never_is(store, clock):
    done, running = add(store), add(store)
    store.complete(claim(store, "w"), "w", **DONE)
    clock.now += 101
    assert store.job(done) is None
    assert store.job(running) is not None
    assert [j.job_id for j in store.expired()] == [done]
    store.forget(done)
    assert store.expired() == []


def test_only_an_owner_known_to_be_dead_is_dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    place = owner_name().rpartition(":")[0]
    assert is_dead_here(f"{place}:{process.pid}")
    assert not is_dead_here(owner_name())
    assert not is_dead_here(f"elsewhere:{process.pid}")
    assert not is_dead_here(f"{place}:{os.getppid()}")


def test_a_store_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot open the job store"):
        JobStore(f"sqlite:///{tmp_path}/file/jobs.sqlite")
