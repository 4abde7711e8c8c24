"""Faults around the service: each delays its jobs, and ends none."""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from service.serving import Service, ended, refused, until

from rekognition_dagster.service.health import Health


def start(cloud, service: Service, count: int, **script) -> list[str]:
    rekognition = service.client()
    return [
        rekognition.start_face_detection(
            Video=cloud.video(**script), NotificationChannel=cloud.channel
        )["JobId"]
        for _ in range(count)
    ]


def all_succeed(service: Service, jobs: list[str], seconds: float = 90.0) -> None:
    rekognition = service.client()
    for job_id in jobs:
        page = ended(rekognition, "face_detection", job_id, seconds)
        assert page["JobStatus"] == "SUCCEEDED", page["StatusMessage"]


def not_ready(service: Service, part: str) -> str:
    """What ``/ready`` says once it names a part."""

    def status():
        page = service.page("/ready")
        return page.json["status"] if page.status == 503 and part in page.json["status"] else None

    return until(status)


def test_an_s3_that_answers_503_delays_jobs_and_is_named_and_nothing_is_claimed(
    cloud, make_service, proxy
):
    service = make_service(environment={"AWS_ENDPOINT_URL_S3": proxy.url}, workers=2)
    until(lambda: service.status("/ready") == 200)
    proxy.outage = {"s3 GET": "refused"}
    jobs: list[str] = []
    with contextlib.suppress(ClientError):  # a Start is refused once a worker has noticed it
        for _ in range(6):
            jobs += start(cloud, service, 1)
    assert jobs
    assert "from S3" in not_ready(service, "s3")
    assert 'rekognition_fault{part="s3"} 1.0' in service.page("/metrics").body.decode()
    time.sleep(1.0)
    taken = service.logged().count("job taken up")
    assert taken <= 4, "at most what was under way when it was noticed, and once more"
    code, _message, status = refused(
        service.client().start_face_detection, Video=cloud.video("later.mp4")
    )
    assert (code, status) == ("InternalServerError", 500)
    proxy.outage = {}
    all_succeed(service, jobs)
    until(lambda: service.status("/ready") == 200)
    assert "job FAILED" not in service.logged()


def test_an_s3_that_hangs_holds_a_start_for_less_than_ten_seconds(cloud, make_service, proxy):
    service = make_service(environment={"AWS_ENDPOINT_URL_S3": proxy.url}, workers=0)
    video = cloud.video()
    proxy.outage = {"s3": "hang"}
    waits, rekognition = [], service.client()
    for _ in range(3):
        began = time.monotonic()
        code, _, status = refused(rekognition.start_face_detection, Video=video)
        waits.append(time.monotonic() - began)
        assert (code, status) == ("InternalServerError", 500)
    assert waits[0] < 10
    assert max(waits[1:]) < 2, "that S3 hangs is found out once"
    assert "S3 does not respond" in not_ready(service, "s3")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.call(mount, stderr=subprocess.DEVNULL):
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_delays_jobs_and_is_named_and_nothing_is_claimed(
    cloud, make_service, small_disk
):
    service = make_service(scratch=str(small_disk), min_free_bytes=1)
    until(lambda: service.status("/ready") == 200)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert "where videos are analysed" in not_ready(service, "disk")
    jobs = start(cloud, service, 3)
    time.sleep(1.0)
    assert "job taken up" not in service.logged()
    filler.unlink()
    all_succeed(service, jobs)


def test_a_place_for_videos_that_disappears_delays_jobs(cloud, make_service):
    service = make_service()
    until(lambda: service.status("/ready") == 200)
    scratch = Path(service.store, "scratch")
    while not scratch.is_file():  # the service makes the folder anew
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(IsADirectoryError):
            scratch.write_text("")
    not_ready(service, "disk")
    jobs = start(cloud, service, 2)
    scratch.unlink()
    all_succeed(service, jobs)


def test_a_full_disk_of_the_store_is_one_line_and_an_answer(cloud, make_service, small_disk):
    service = make_service(store=str(small_disk / "store"), workers=0)
    video = cloud.video()
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(free - free % 4096))
    answers = [refused(service.client().start_face_detection, Video=video) for _ in range(3)]
    for code, message, status in answers:
        assert (code, status) == ("InternalServerError", 500)
        assert message.startswith("The service's database did not work; try again. Logged under ")
    logged = service.logged()
    assert "database or disk is full" in logged
    assert "Traceback" not in logged
    assert logged.count("database not available") == 3
    (small_disk / "filler").unlink()
    until(lambda: service.status("/ready") == 200)
    service.client().start_face_detection(Video=video)


def test_a_disk_that_fills_during_an_analysis_delays_its_job(cloud, make_service, tmp_path):
    service = make_service()
    log = tmp_path / "runs"
    (job_id,) = start(cloud, service, 1, errno=errno.ENOSPC, log=str(log))
    until(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
    page = service.client().get_face_detection(JobId=job_id)
    assert page["JobStatus"] == "IN_PROGRESS"


def test_less_free_space_than_is_to_be_kept_is_a_fault(make_service):
    service = make_service(min_free_bytes=1 << 62)
    assert "MiB are free" in not_ready(service, "disk")


def test_results_that_s3_does_not_take_at_first_are_not_analysed_again(
    cloud, make_service, proxy, tmp_path
):
    service = make_service(
        environment={"AWS_ENDPOINT_URL_S3": proxy.url}, results="s3://footage/results"
    )
    log = tmp_path / "runs"
    proxy.outage = {"s3 PUT": "refused", "s3 POST": "refused"}
    jobs = start(cloud, service, 1, log=str(log), rows=1500)
    until(lambda: "results are not published yet" in service.logged(), 120)
    proxy.outage = {}
    all_succeed(service, jobs)
    assert len(log.read_text().splitlines()) == 1


def test_a_database_error_at_the_end_of_a_job_costs_nothing(cloud, make_service, tmp_path):
    service = make_service()
    log = tmp_path / "runs"
    with sqlite3.connect(Path(service.store, "jobs.sqlite"), timeout=30) as database:
        database.execute(
            "CREATE TRIGGER broken BEFORE UPDATE OF status ON jobs "
            "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        )
        database.commit()
        jobs = start(cloud, service, 1, log=str(log))
        until(lambda: "the job's end is not recorded yet" in service.logged())
        database.execute("DROP TRIGGER broken")
    all_succeed(service, jobs)
    assert len(log.read_text().splitlines()) == 1
    (message,) = until(cloud.completions)
    assert message["JobId"] == jobs[0]


def test_restarts_of_services_in_turn_fail_no_job(cloud, make_service):
    services = [make_service(lease_s=1.0, attempts=1) for _ in range(2)]
    jobs = start(cloud, services[0], 2, seconds=1.5)
    for turn in range(4):
        service = services[turn % 2]
        taken = service.logged().count("job taken up")
        until(lambda s=service, n=taken: s.logged().count("job taken up") > n or n, 20)
        service.stop(signal.SIGKILL)
        service.start()
    all_succeed(services[0], jobs)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_part_is_probed_less_and_less_often_until_it_is_good_again():
    clock, faulty, probed = Clock(), [True], []

    def probe(trouble):
        probed.append(clock.now)
        if faulty[0]:
            raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    health = Health({"disk": probe}, clock=clock)
    while clock.now < 200:
        health.probe("disk")
        clock.now += 1
    (trouble,) = health.troubles()
    assert (trouble.part, trouble.reason) == ("disk", "No space left on device")
    pauses = [b - a for a, b in itertools.pairwise(probed)]
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert max(pauses) == 30
    faulty[0] = False
    clock.now += 30
    health.probe("disk")
    assert health.is_good


def test_what_many_jobs_report_is_one_fault():
    clock = Clock()
    health = Health({"s3": lambda trouble: None}, clock=clock)
    for _ in range(100):
        health.failed("s3", "SlowDown")
    health.probe("s3")
    assert not health.is_good, "it is not asked again at once"
    clock.now += 1.1
    health.probe("s3")
    assert health.is_good


def test_a_probe_that_hangs_is_a_fault():
    import threading

    clock, let_go = Clock(), threading.Event()
    health = Health({"database": lambda trouble: let_go.wait(30)}, clock=clock)  # type: ignore[dict-item]
    thread = threading.Thread(target=health.probe, args=("database",))
    thread.start()
    until(lambda: clock.now or setattr(clock, "now", 11.0) or health.troubles())
    assert health.troubles()[0].reason == "no answer for 11 s"
    let_go.set()
    thread.join()
    assert health.is_good
