"""The job store: what each transaction promises, with a clock of its own."""

from __future__ import annotations

import itertools
import math
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from service.serving import until
from sqlalchemy import event

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.operations import LABEL_DETECTION
from rekognition_dagster.service import owners
from rekognition_dagster.service.metrics import alerts_of
from rekognition_dagster.service.notifications import Publisher
from rekognition_dagster.service.owners import is_dead_here, owner_name, owner_prefix
from rekognition_dagster.service.requests import request_hash
from rekognition_dagster.service.results import Results
from rekognition_dagster.service.server import remove_expired
from rekognition_dagster.service.store import (
    FAILED,
    IN_PROGRESS,
    SUCCEEDED,
    JobStore,
    TooManyJobsError,
)

HERE = Path(__file__).parent
TOPIC = "arn:aws:sns:us-east-1:123456789012:t"
REQUEST = {"Video": {"S3Object": {"Bucket": "footage", "Name": "clip.mp4"}}}
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


def add(store: JobStore, limit: int = 20, topic: str | None = TOPIC, account: str = "a") -> str:
    channel = {"NotificationChannel": {"SNSTopicArn": topic, "RoleArn": "r"}} if topic else {}
    return store.add(
        "person_tracking",
        {**REQUEST, **channel},
        account=account,
        token=None,
        request_hash="",
        limit=limit,
    )[0]


def claim(store: JobStore, owner: str):
    job = store.claim(owner, 10.0)
    assert job is not None
    return job


def test_a_job_is_one_workers_until_its_lease_runs_out(store, clock):
    add(store)
    first = claim(store, "one")
    assert store.claim("two", 10.0) is None
    clock.now += 9
    assert store.heartbeat(first, "one", 10.0)
    clock.now += 9
    assert store.claim("two", 10.0) is None
    clock.now += 2
    assert store.claim("two", 10.0) is None, "an interruption is followed by a back-off"
    clock.now += 1
    second = claim(store, "two")
    assert (second.claims, second.attempts, second.interruptions) == (2, 0, 1)
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
    assert store.claim("one", 10.0) is None
    clock.now += 1
    claim(store, "one")
    assert not store.complete(first, "one", **DONE)


def test_jobs_are_taken_up_in_the_order_they_came(store, clock):
    jobs = []
    for _ in range(3):
        jobs.append(add(store))
        clock.now += 1
    assert [claim(store, "w").job_id for _ in range(3)] == jobs


def test_a_job_that_was_called_off_is_due_at_once_and_counts_nothing(store):
    add(store)
    job = claim(store, "one")
    store.release(job, "one")
    job = claim(store, "one")
    assert (job.claims, job.attempts, job.interruptions) == (2, 0, 0)


def test_a_job_that_something_around_it_stops_is_tried_later_and_later_and_counts_nothing(
    store, clock
):
    job_id = add(store)
    pauses = []
    for _ in range(6):
        job = claim(store, "one")
        store.interrupt(job, "one", "S3 did not serve the service")
        pauses.append(0)
        while store.claim("one", 10.0) is None:
            clock.now += 1
            pauses[-1] += 1
        held = store.job(job_id)
        assert held is not None
        store.release(held, "one")
    assert pauses == [1, 2, 4, 8, 16, 32]
    assert claim(store, "one").attempts == 0


def test_a_job_is_given_up_once_something_around_it_was_at_fault_for_its_whole_life(store, clock):
    job_id = add(store)
    clock.now += 99
    store.interrupt(claim(store, "one"), "one", "S3 did not serve the service")
    clock.now += 2
    assert store.job(job_id).status == IN_PROGRESS
    store.interrupt(claim(store, "one"), "one", "S3 did not serve the service")
    job = store.job(job_id)
    assert job.status == FAILED
    assert "within 100 s, because S3 did not serve the service." in job.status_message
    assert [n.job_id for n in store.due_notifications(30)] == [job_id]


def test_a_job_that_the_video_made_fail_three_times_is_failed_and_announced(store, clock):
    job_id = add(store)
    for number, pause in enumerate((1, 2, 0), 1):
        job = claim(store, "w")
        status = store.count_attempt(job, "w", "it took longer than 2 hours", 3)
        assert status == (IN_PROGRESS if number < 3 else FAILED)
        clock.now += pause
    job = store.job(job_id)
    assert job is not None
    assert job.status == FAILED
    assert job.status_message.startswith("s3://footage/clip.mp4: the analysis failed 3 times")
    assert "because it took longer than 2 hours" in job.status_message
    assert [n.job_id for n in store.due_notifications(30)] == [job_id]


def test_lost_leases_never_fail_a_job(store, clock):
    job_id = add(store)
    for _ in range(40):
        store.claim("w", 1.0)
        clock.now += 2
    job = store.job(job_id)
    assert (job.status, job.attempts) == (IN_PROGRESS, 0)
    assert 5 <= job.interruptions <= 7, "each loss is followed by a longer pause"


def test_a_crash_counts_also_when_the_lease_has_just_expired_but_not_for_another_claim(
    store, clock
):
    job_id = add(store)
    first = claim(store, "one")
    clock.now += 11
    assert store.claim("two", 10.0) is None
    assert store.count_crash(job_id, first.claims, "one", "it hung", 3) == IN_PROGRESS
    clock.now += 10
    second = claim(store, "two")
    assert second.attempts == 1
    assert store.count_crash(job_id, first.claims, "one", "it hung", 3) is None
    assert store.heartbeat(second, "two", 10.0)


def test_no_more_jobs_are_in_progress_than_the_limit(store):
    add(store, limit=1)
    with pytest.raises(TooManyJobsError):
        add(store, limit=1)
    job = claim(store, "w")
    store.fail(job, "w", "no")
    add(store, limit=1)


def test_the_limit_is_each_accounts_own(store):
    for account in ("a", "b"):
        add(store, limit=2, account=account)
        add(store, limit=2, account=account)
        with pytest.raises(TooManyJobsError):
            add(store, limit=2, account=account)


def test_accounts_are_served_in_turn_however_many_jobs_one_has(store, clock):
    for account, jobs in (("a", 6), ("b", 2), ("c", 1)):
        for _ in range(jobs):
            add(store, account=account)
            clock.now += 1
    assert "".join(claim(store, "w").account for _ in range(9)) == "abcabaaaa"
    add(store, account="a")
    add(store, account="c")
    assert claim(store, "w").account == "c", "who was served least recently is next"


def test_an_account_whose_workers_were_lost_holds_up_no_other(store, clock):
    for _ in range(5):
        add(store, account="a")
    for _ in range(5):
        claim(store, "lost")
    add(store, account="b")
    store.complete(claim(store, "w"), "w", **DONE)
    clock.now += 60
    add(store, account="b")
    assert store.claim("w", 10.0) is None, "it finds a lease that has expired"
    assert claim(store, "w").account == "b"


def test_a_claim_reads_no_job_but_the_one_it_takes(store, clock):
    for account in "abc":
        for _ in range(4):
            add(store, account=account)
    claim(store, "w")
    plans = []

    def explain(connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT"):
            explained = connection.connection.cursor().execute(
                f"EXPLAIN QUERY PLAN {statement}", parameters
            )
            plans.extend(row[3] for row in explained.fetchall())

    event.listen(store._engine, "before_cursor_execute", explain)
    claim(store, "w")
    of_jobs = [plan for plan in plans if "jobs" in plan]
    assert len(of_jobs) >= 3
    assert [plan for plan in of_jobs if not plan.startswith("SEARCH jobs USING")] == []
    assert [plan for plan in of_jobs if "account=? AND status=? AND available_at<?" in plan]
    # The accounts are put in order, their jobs are not.
    assert sum("TEMP B-TREE" in plan for plan in plans) <= 1


def test_ended_jobs_are_counted_for_ever(store, clock):
    for end in (lambda j: store.complete(j, "w", **DONE), lambda j: store.fail(j, "w", "no")):
        add(store, topic=None)
        end(claim(store, "w"))
    add(store, topic=None)
    store.complete(claim(store, "w"), "w", **DONE)
    clock.now += 1000
    for job in store.expired():
        store.forget(job.job_id)
    assert store.ended() == {SUCCEEDED: 2, FAILED: 1}


def test_an_announcement_is_tried_again_later_and_later_and_given_up_in_the_end(store, clock):
    add(store)
    store.complete(claim(store, "w"), "w", **DONE)
    tried: list[float] = []

    def refuse(_):
        tried.append(clock.now)
        raise ConnectionError

    publisher = Publisher(store, refuse, life_s=50.0, clock=clock)
    for _ in range(200):
        publisher.publish_due()
        publisher.wait()
        clock.now += 1
    pauses = [b - a for a, b in itertools.pairwise(tried)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert store.waiting().notifications == 0
    assert tried[-1] - tried[0] < 70


def test_a_topic_that_hangs_delays_no_other(store):
    topics = [f"arn:aws:sns:us-east-1:123456789012:t{i % 2}" for i in range(60)]
    for topic in topics:
        add(store, 100, topic)
        store.complete(claim(store, "w"), "w", **DONE)
    let_go, sent = threading.Event(), []

    def publish(notification):
        if notification.topic_arn.endswith("t0"):
            let_go.wait(60)
            raise ConnectionError
        sent.append(notification.job_id)

    publisher, stop = Publisher(store, publish, life_s=50.0, poll_s=0.01), threading.Event()
    thread = threading.Thread(target=publisher.run, args=(stop,))
    thread.start()
    try:
        until(lambda: len(sent) == 30, 30)
        assert store.waiting().notifications >= 30
    finally:
        let_go.set()
        stop.set()
        thread.join()


def test_failed_jobs_and_late_announcements_are_reasons_to_alert(store, clock):
    add(store, topic=None)
    store.complete(claim(store, "w"), "w", **DONE)
    clock.now += 301
    assert alerts_of(store) == []
    for _ in range(2):
        add(store)
        store.fail(claim(store, "w"), "w", "no")
    assert alerts_of(store) == ["2 jobs FAILED in the last hour"]
    clock.now += 360
    assert alerts_of(store) == [
        "2 jobs FAILED in the last hour",
        "2 completions are not announced, the oldest for 6 min",
    ]
    for notification in store.due_notifications(30):
        store.announced(notification)
    clock.now += 3600
    assert alerts_of(store) == []


def test_an_announcement_whose_publisher_died_is_made_by_another(store, clock):
    add(store)
    store.complete(claim(store, "w"), "w", **DONE)
    assert len(store.due_notifications(30)) == 1
    assert store.due_notifications(30) == []
    clock.now += 30
    assert len(store.due_notifications(30)) == 1


def test_an_expired_job_is_gone_and_one_in_progress_never_is(store, clock):
    done, running = add(store, topic=None), add(store)
    clock.now += 60
    store.complete(claim(store, "w"), "w", **DONE)
    clock.now += 99
    assert store.job(done) is not None, "a job lives from its end on, not from its start"
    clock.now += 2
    assert store.job(done) is None
    assert store.job(running) is not None
    assert [j.job_id for j in store.expired()] == [done]
    store.forget(done)
    assert store.expired() == []


def test_a_token_lives_as_long_as_its_job(store, clock):
    def start():
        return store.add(
            "person_tracking", REQUEST, account="a", token="t", request_hash="h", limit=9
        )

    job_id, _ = start()
    clock.now += 200
    assert start() == (job_id, False), "it is in progress"
    store.complete(claim(store, "w"), "w", **DONE)
    clock.now += 99
    assert start() == (job_id, False)
    clock.now += 2
    assert start()[1]


def test_what_is_not_announced_yet_is_not_removed(store, clock):
    add(store)
    store.complete(claim(store, "w"), "w", **DONE)
    clock.now += 101
    assert store.expired() == []
    (due,) = store.due_notifications(30)
    store.announced(due)
    assert [j.job_id for j in store.expired()] == [due.job_id]


def test_one_folder_that_cannot_be_removed_stops_no_other(store, clock, tmp_path, monkeypatch):
    jobs = sorted(add(store, 1000, topic=None) for _ in range(250))
    for _ in jobs:
        store.complete(claim(store, "w"), "w", **DONE)
    clock.now += 101
    results = Results(str(tmp_path / "results"))
    for job_id in jobs:
        results.storage.write(f"{job_id}/1/timestamp.parquet", b"")
    # A file that lies where a folder should: permissions do not stop root.
    stuck = tmp_path / "results" / jobs[7] / "1" / "timestamp.parquet"
    stuck.unlink()
    stuck.mkdir()
    delete = results.storage.delete

    def refuse(self, path):
        if jobs[7] in path:
            raise PermissionError(path)
        delete(path)

    (stuck / "x").write_text("")
    monkeypatch.setattr(type(results.storage), "delete", refuse)
    remove_expired(store, results, threading.Event())
    assert [j.job_id for j in store.expired()] == [jobs[7]]
    assert [p.name for p in (tmp_path / "results").iterdir()] == [jobs[7]]


def test_a_store_of_version_1_is_brought_to_this_one(tmp_path, clock):
    path = tmp_path / "jobs.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((HERE / "store_v1.sql").read_text())
    store = JobStore(f"sqlite:///{path}", clock=clock, job_life_s=100.0)
    assert store.secret == b"\x01" * 32
    running, done = store.job("r" * 64), store.job("d" * 64)
    assert running is not None
    assert done is not None
    assert done.completed_at is not None
    assert (running.status, running.attempts, running.expires_at) == (IN_PROGRESS, 0, math.inf)
    assert done.expires_at == done.completed_at + 100.0
    hashed = request_hash(LABEL_DETECTION, done.request)
    assert store.job_of_token("a", "label_detection", "t", hashed) == "d" * 64
    clock.now += 100
    assert claim(store, "w").job_id == "r" * 64
    store.close()
    JobStore(f"sqlite:///{path}", clock=clock).close()  # a second time changes nothing


def test_a_job_that_is_claimed_while_its_store_is_upgraded_stays_claimed(tmp_path, clock):
    path = tmp_path / "jobs.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((HERE / "store_v1.sql").read_text())
        connection.execute("UPDATE jobs SET lease_owner = 'o', available_at = 1, lease_until = 2")
        connection.execute(f"UPDATE jobs SET lease_until = {clock.now + 50}")
    store = JobStore(f"sqlite:///{path}", clock=clock)
    assert store.claim("w", 10.0) is None
    clock.now += 49
    assert store.waiting().jobs == 0
    clock.now += 2
    assert store.claim("w", 10.0) is None
    job = store.job("r" * 64)
    assert job is not None
    assert job.interruptions == 1
    add(store, limit=2)
    assert store.ended() == {SUCCEEDED: 0, FAILED: 0}
    store.close()


def test_a_store_of_a_later_version_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    JobStore(url).close()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as connection:
        connection.execute("UPDATE facts SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(ConfigurationError, match="version 99"):
        JobStore(url)


def test_names_of_owners_are_unique_and_only_an_owner_known_to_be_dead_is_dead(monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert is_dead_here(f"{owner_prefix(process.pid)}x")
    assert not is_dead_here(owner_name())
    assert not is_dead_here(f"elsewhere:{process.pid}:x")
    assert not is_dead_here(f"{owner_prefix(os.getppid())}x")
    assert owner_name() != owner_name()
    # Another machine, or a container on it, whose host has the same name.
    ours = f"{owner_prefix(process.pid)}x"
    monkeypatch.setattr(owners, "_place", lambda: "another-boot:4026531836")
    assert not is_dead_here(ours)


def test_a_store_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot open the job store"):
        JobStore(f"sqlite:///{tmp_path}/file/jobs.sqlite")
