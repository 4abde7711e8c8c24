"""Endpoints that take a connection and never reply: each tick ends in time and loses nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from deployment import Deployment

from rekognition_dagster.errors import ConfigurationError, LakeError
from rekognition_dagster.orchestration import resources
from rekognition_dagster.state import Phase

IN_TIME_S = 45.0
"""Dagster ends a tick after 60 seconds."""


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that never replies."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    held: list[socket.socket] = []

    def hold() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=hold, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for one in held:
        one.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of a tick are given up after a second, so that a test does not take a minute."""
    monkeypatch.setattr(resources, "TICK_READ_S", 1.0)


@pytest.mark.usefixtures("hurried")
def test_a_service_that_hangs(
    deployment: Deployment, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.discover(*(f"{i}.mp4" for i in range(30)))
    began = time.monotonic()
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL_REKOGNITION", silent)
        deployment.tick("job_dispatch")
    assert time.monotonic() - began < IN_TIME_S
    assert set(deployment.phases().values()) == {Phase.WAITING}
    assert deployment.dispatch() == 20


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("sensor", ["video_discovery", "completions"])
def test_a_bucket_or_a_queue_that_hangs_is_named(
    deployment: Deployment, silent: str, monkeypatch: pytest.MonkeyPatch, sensor: str
) -> None:
    service = {"video_discovery": "S3", "completions": "SQS"}[sensor]
    monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", silent)
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"cannot (list|read)"):
        deployment.tick(sensor)
    assert time.monotonic() - began < IN_TIME_S


def test_a_lake_that_hangs_starts_nothing_and_gives_back_what_was_reserved(
    deployment: Deployment, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.discover("a.mp4", "b.mp4", "c.mp4")
    sound = deployment.settings.lake
    deployment.set(lake="s3://lake/tables")
    began = time.monotonic()
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL_S3", silent)
        with pytest.raises(LakeError, match="cannot read s3://lake/tables"):
            deployment.tick("job_dispatch")
    assert time.monotonic() - began < IN_TIME_S
    assert deployment.double.jobs == {}
    deployment.set(lake=sound)
    assert deployment.dispatch() == 3
