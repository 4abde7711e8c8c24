"""The worker processes of a service, and what it cannot do without."""

from __future__ import annotations

import os
import resource
import signal
import threading

import pytest
from service.serving import ended, until

from rekognition_dagster.service import server
from rekognition_dagster.service.crew import Crew
from rekognition_dagster.service.health import Health
from rekognition_dagster.service.settings import Settings
from rekognition_dagster.service.store import JobStore


def test_a_service_that_cannot_start_a_process_goes_on_once_it_can(cloud, make_service):
    service = make_service()
    until(lambda: service.status("/ready") == 200)
    pid = service.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))  # it can open nothing more
    for worker in service.children():
        os.kill(worker, signal.SIGKILL)
    until(lambda: service.logged().count("worker not started") >= 2)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    rekognition = service.client()
    job_id = rekognition.start_face_detection(Video=cloud.video())["JobId"]
    assert ended(rekognition, "face_detection", job_id)["JobStatus"] == "SUCCEEDED"


def test_workers_that_die_at_once_are_started_less_and_less_often(tmp_path):
    """A library that ends the process when it is loaded: nothing is reported, nothing works."""
    (tmp_path / "deadly.py").write_text("import os\nos._exit(3)\n")
    settings = Settings.of(
        store=str(tmp_path / "store"), analyzer="deadly:analyze", workers=1, anonymous=True
    )
    store, stop = JobStore(settings.database_url), threading.Event()
    crew = Crew(settings, store, Health({}), stop)
    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join((str(tmp_path), path))
    thread = threading.Thread(target=crew.keep_up)
    try:
        thread.start()
        until(lambda: crew._failed_starts >= 3, 60)
        assert crew._start_delay_s == 4.0
    finally:
        os.environ["PYTHONPATH"] = path
        stop.set()
        thread.join()
        crew.drain()
        store.close()


@pytest.mark.parametrize("part", ["publisher", "upkeep"])
def test_a_service_ends_when_a_part_ends_that_it_cannot_do_without(tmp_path, monkeypatch, part):
    def fail(*_):
        raise MemoryError("no thread is left to a part")

    where = {"publisher": (server.Publisher, "run"), "upkeep": (server, "_upkeep")}[part]
    monkeypatch.setattr(*where, fail)
    settings = Settings.of(store=str(tmp_path), port=0, workers=0, anonymous=True)
    with pytest.raises(RuntimeError, match="cannot go on") as caught:
        server.serve_until_told(settings)
    assert isinstance(caught.value.__cause__, MemoryError)
