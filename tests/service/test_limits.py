"""What one job may take: frames, pixels, time, memory; and a worker that hangs."""

from __future__ import annotations

import time

import pytest
from service.serving import ended, until


def end_of(cloud, service, **script) -> dict:
    rekognition = service.client()
    job_id = rekognition.start_face_detection(Video=cloud.video(**script))["JobId"]
    page = ended(rekognition, "face_detection", job_id)
    # The worker that is there afterwards works.
    after = rekognition.start_face_detection(Video=cloud.video())["JobId"]
    assert ended(rekognition, "face_detection", after)["JobStatus"] == "SUCCEEDED"
    return page


@pytest.mark.parametrize(
    ("settings", "script", "said"),
    [
        ({"max_frames": 5}, {"rows": 3000, "seconds": 1}, "more than 5 frames"),
        ({"max_pixels": 1000}, {"pixels": 1001}, "1001 pixels"),
        ({"max_job_s": 0.5}, {"seconds": 60}, "2 times, the last time because it took longer"),
        ({"max_memory_bytes": 600 << 20}, {"memory": 1000}, "needed more than 0.6 GiB of memory"),
    ],
    ids=["frames", "pixels", "time", "memory"],
)
def test_a_job_that_exceeds_a_limit_fails_and_says_which(
    cloud, make_service, settings, script, said
):
    page = end_of(cloud, make_service(attempts=2, **settings), **script)
    assert page["JobStatus"] == "FAILED"
    assert said in page["StatusMessage"]
    assert "s3://footage/" in page["StatusMessage"]


@pytest.mark.parametrize("hang", ["interpreter", "decoder"])
def test_a_worker_that_hangs_is_killed_and_that_counts_as_an_attempt(cloud, make_service, hang):
    service = make_service(attempts=1, lease_s=5.0, stall_s=2.0)
    began = time.monotonic()
    page = end_of(cloud, service, hang=hang)
    assert page["JobStatus"] == "FAILED"
    assert "made no progress" in page["StatusMessage"]
    assert time.monotonic() - began < 40
    assert "lease lost" not in service.logged()


def test_a_worker_that_is_killed_from_outside_costs_its_job_no_attempt(cloud, make_service):
    import os
    import signal

    service = make_service(attempts=1)
    rekognition = service.client()
    job_id = rekognition.start_face_detection(Video=cloud.video(seconds=2))["JobId"]
    for number in range(2):
        until(lambda n=number: service.logged().count("job taken up") > n)
        (worker,) = service.children()
        os.kill(worker, signal.SIGKILL)
    assert ended(rekognition, "face_detection", job_id)["JobStatus"] == "SUCCEEDED"
