"""Several hosts, one store: the same promises on a real PostgreSQL, started for the test."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy
from postgresql import Cluster
from service.serving import HERE, ended, refused, until

from rekognition_dagster.service.store import JobStore, TooManyJobsError

psycopg = pytest.importorskip("psycopg", reason="no PostgreSQL driver")


@pytest.fixture
def store(postgres: Cluster, unique: str, tmp_path) -> str:
    """A job store in a database of this test's own."""
    url = postgres.create(unique).replace("postgresql:", "postgresql+psycopg:")
    return f"{url}?results={tmp_path / 'results'}"


def test_two_hosts_share_jobs_limits_tokens_and_pages(cloud, make_service, store):
    first, second = (make_service(store=store, jobs_in_flight=15, lease_s=2.0) for _ in range(2))
    one, two = first.client(), second.client()
    arguments = {"Video": cloud.video(rows=1500), "ClientRequestToken": f"t{time.monotonic_ns()}"}
    with ThreadPoolExecutor(12) as pool:
        calls = [(one, two)[i % 2].start_person_tracking for i in range(12)]
        starts = list(pool.map(lambda call: call(**arguments), calls))
    (job_id,) = {s["JobId"] for s in starts}
    ended(one, "person_tracking", job_id)
    page = one.get_person_tracking(JobId=job_id)
    rest = two.get_person_tracking(JobId=job_id, NextToken=page["NextToken"])
    assert [len(page["Persons"]), len(rest["Persons"])] == [1000, 500]

    video = cloud.video(seconds=0.4)
    with ThreadPoolExecutor(20) as pool:

        def start(i: int) -> str:
            try:
                answer = (one, two)[i % 2].start_face_detection(
                    Video=video, NotificationChannel=cloud.channel
                )
            except one.exceptions.LimitExceededException:
                return ""
            except two.exceptions.LimitExceededException:
                return ""
            return answer["JobId"]

        accepted = [job for job in pool.map(start, range(24)) if job]
    assert len(accepted) == 15
    first.stop(signal.SIGKILL)  # what its worker was at is taken up by the other host's
    for job in accepted:
        assert ended(two, "face_detection", job, 90)["JobStatus"] == "SUCCEEDED"
    announced: list[str] = []
    until(
        lambda: (
            announced.extend(m["JobId"] for m in cloud.completions())
            or set(announced) >= set(accepted)
        ),
        120,
    )


def test_each_account_has_its_limit_and_its_turn_whichever_host_asks(postgres, unique):
    url = postgres.create(unique).replace("postgresql:", "postgresql+psycopg:")
    stores = [JobStore(url) for _ in range(2)]

    def add(number: int) -> bool:
        try:
            stores[number % 2].add(
                "person_tracking",
                {"Video": {"S3Object": {"Bucket": "footage", "Name": "clip.mp4"}}},
                account="ab"[number // 2 % 2],
                token=None,
                request_hash="",
                limit=6,
            )
        except TooManyJobsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(40))) == 12
    claimed = [stores[i % 2].claim("w", 30.0) for i in range(12)]
    assert [job.account for job in claimed if job] == ["a", "b"] * 6
    with ThreadPoolExecutor(8) as pool:
        for job in claimed:
            assert job
            stores[0].release(job, "w")
        again = list(pool.map(lambda i: stores[i % 2].claim("w", 30.0), range(12)))
    assert len({job.job_id for job in again if job}) == 12, "no claim waits for another"
    for store in stores:
        store.close()


def test_a_host_whose_clock_is_ahead_claims_nothing_that_another_works_on(
    postgres, unique, monkeypatch
):
    url = postgres.create(unique).replace("postgresql:", "postgresql+psycopg:")
    video = {"Video": {"S3Object": {"Bucket": "footage", "Name": "clip.mp4"}}}
    stores = [JobStore(url) for _ in range(2)]
    stores[0].add("person_tracking", video, account="a", token=None, request_hash="", limit=9)
    job = stores[0].claim("one", 30.0)
    assert job is not None
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    assert stores[1].claim("two", 30.0) is None
    assert stores[1].waiting().jobs == 0
    assert stores[0].complete(job, "one", metadata={}, results="j/1", orders={"TIMESTAMP": 1})
    ended_job = stores[1].job(job.job_id)
    assert ended_job is not None
    assert ended_job.completed_at == pytest.approx(now(), abs=60)
    for store in stores:
        store.close()


def test_a_store_of_version_1_is_brought_to_this_one(postgres, unique):
    url = postgres.create(unique).replace("postgresql:", "postgresql+psycopg:")
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        for statement in (HERE / "store_v1.sql").read_text().split(";\n"):
            if not statement.strip().startswith(("BEGIN", "COMMIT")) and statement.strip():
                connection.exec_driver_sql(re.sub(r"\bDOUBLE\b", "DOUBLE PRECISION", statement))
    store = JobStore(url)
    job = store.job("r" * 64)
    assert job is not None
    assert (job.status, job.attempts, job.interruptions) == ("IN_PROGRESS", 0, 0)
    claimed = store.claim("one", 30.0)
    assert claimed is not None
    assert claimed.claims == 1
    store.close()
    engine.dispose()


@contextmanager
def unavailable(postgres: Cluster, database: str) -> Iterator[None]:
    """A time in which a database ends all connections and takes none."""

    def allow(word: str) -> None:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS {word}'.encode())

    allow("false")
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,)
        )
    yield
    allow("true")


def test_a_database_that_goes_away_delays_jobs_and_is_named(
    cloud, make_service, store, postgres, unique, tmp_path
):
    service, log = make_service(store=store, workers=2), tmp_path / "runs"
    rekognition = service.client()
    jobs = [
        rekognition.start_face_detection(Video=cloud.video(seconds=0.5, log=str(log)))["JobId"]
        for _ in range(6)
    ]
    until(lambda: "job taken up" in service.logged())
    with unavailable(postgres, unique):
        until(lambda: service.status("/ready") == 503)
        assert "database" in service.page("/ready").json["status"]
        assert service.status("/metrics") == 200
    for job_id in jobs:
        assert ended(rekognition, "face_detection", job_id, 90)["JobStatus"] == "SUCCEEDED"
    until(lambda: service.status("/ready") == 200)
    assert len(log.read_text().splitlines()) == 6, "what was analysed is not analysed again"


def test_a_store_that_cannot_be_reached_is_told_without_its_password(tmp_path):
    from rekognition_dagster.errors import ConfigurationError
    from rekognition_dagster.service import serve

    store = f"postgresql+psycopg://u:topsecret@127.0.0.1:1/db?results={tmp_path}"
    with pytest.raises(ConfigurationError, match="job store") as caught:
        serve(port=0, store=store)
    assert "topsecret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="place for results"):
        serve(port=0, store="postgresql://u@127.0.0.1:1/db")


def test_a_job_that_is_not_of_this_store_is_not_found(make_service, store):
    service = make_service(store=store, workers=0)
    code, _, _ = refused(service.client().get_person_tracking, JobId="f" * 64)
    assert code == "ResourceNotFoundException"
