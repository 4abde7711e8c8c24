"""Several hosts, one store: the same promises on a real PostgreSQL, started for the test."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from postgresql import Cluster
from service.serving import ended, refused, until


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


def test_a_store_that_cannot_be_reached_is_told_without_its_password(tmp_path):
    from rekognition_dagster.errors import ConfigurationError
    from rekognition_dagster.service import serve

    pytest.importorskip("psycopg")
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
