"""One HTTP connection: what comes too slowly is not waited for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
import uvicorn

from rekognition_dagster.service import connection


async def _answer(scope, receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body"})


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        _answer, http=connection.BoundedHttp, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_come_ends_the_connection(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
        caller.sendall(sent)
        assert caller.recv(100) == b""


def test_a_head_that_comes_byte_by_byte_ends_the_connection(port):
    began = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as caller,
        contextlib.suppress(ConnectionError),
    ):
        while time.monotonic() < began + 20:
            caller.sendall(b"P")
            time.sleep(0.05)
    assert time.monotonic() < began + 10


def test_a_connection_between_two_requests_stays(port):
    head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
        for _ in range(2):
            caller.sendall(head)
            assert caller.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(0.8)
