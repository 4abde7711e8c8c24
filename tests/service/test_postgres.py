"""Several hosts, one store: the same promises on a real PostgreSQL, started for the test."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from service.serving import ended, refused, until

pytestmark = pytest.mark.xdist_group("postgres")


def _program(name: str) -> str | None:
    found = shutil.which(name)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(versions[-1]) if versions else None)


@pytest.fixture(scope="module")
def postgres():
    """The URL of a cluster of this module's own."""
    initdb, server = _program("initdb"), _program("postgres")
    if not initdb or not server:
        pytest.skip("PostgreSQL is not installed here: no initdb")
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'psycopg[binary]'")
    account = None
    if getpass.getuser() == "root" or os.getuid() == 0:  # PostgreSQL refuses to run as root
        account = next((u for u in ("postgres", "nobody") if _exists(u)), None)
        if account is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user here")
    folder = Path(tempfile.mkdtemp(prefix="rekognition-postgres-"))
    if account:
        shutil.chown(folder, account)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    common = {"user": account, "cwd": folder, "stdout": subprocess.DEVNULL}
    made = subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", "service", "--no-sync", "-E", "UTF8"],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        **common,
    )
    if made.returncode:
        pytest.skip(f"initdb does not work here: {made.stderr[-200:]}")
    process = subprocess.Popen(
        [server, "-D", data, "-k", folder, "-p", str(port), "-h", "127.0.0.1", "-F"],
        stderr=subprocess.DEVNULL,
        **common,
    )
    url = f"postgresql+psycopg://service@127.0.0.1:{port}/postgres"

    def answers():
        import psycopg

        try:
            psycopg.connect(url.replace("+psycopg", ""), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True

    until(answers, 30)
    yield url
    process.send_signal(signal.SIGINT)
    process.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def test_two_hosts_share_jobs_limits_tokens_and_pages(cloud, make_service, postgres, tmp_path):
    store = f"{postgres}?results={tmp_path / 'results'}"
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


def test_a_job_that_is_not_of_this_store_is_not_found(make_service, postgres, tmp_path):
    service = make_service(store=f"{postgres}?results={tmp_path / 'results'}", workers=0)
    code, _, _ = refused(service.client().get_person_tracking, JobId="f" * 64)
    assert code == "ResourceNotFoundException"
