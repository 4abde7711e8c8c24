"""More connections than the service has room for: strangers lose theirs, callers do not."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from service.serving import ENV, Service

from rekognition_dagster.service.listener import Listener, listen

GET = b'{"JobId": "x"}'
HALF = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"


class Caller:
    """A caller whose connection stays open."""

    def __init__(self, service: Service):
        self._host = urlsplit(service.url).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=60)
        self._connection.connect()
        self.local_port = self._connection.sock.getsockname()[1]

    def call(self) -> int:
        headers = {"X-Amz-Target": "RekognitionService.GetPersonTracking"}
        signed = AWSRequest("POST", f"http://{self._host}/", data=GET, headers=headers)
        keys = Credentials(ENV["AWS_ACCESS_KEY_ID"], ENV["AWS_SECRET_ACCESS_KEY"])
        SigV4Auth(keys, "rekognition", "us-east-1").add_auth(signed)
        self._connection.request("POST", "/", GET, dict(signed.headers.items()))
        answer = self._connection.getresponse()
        assert b"ResourceNotFoundException" in answer.read()
        assert self._connection.sock.getsockname()[1] == self.local_port, "a new connection"
        return answer.status


@contextlib.contextmanager
def soft_limit(number: int) -> Iterator[None]:
    """What is started meanwhile may open so many files, unless it raises that itself."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def strangers(service: Service, number: int) -> Iterator[list[socket.socket]]:
    """Connections that begin a request and never end it."""
    host, port = urlsplit(service.url).netloc.split(":")
    address = host, int(port)
    with contextlib.ExitStack() as stack:
        found = []
        for i in range(number):
            one = socket.create_connection(address, timeout=30)
            found.append(stack.enter_context(one))
            with contextlib.suppress(OSError):
                one.sendall(HALF if i % 2 else b"P")
        yield found


def test_a_caller_is_served_beside_more_half_open_connections_than_files_it_could_open(
    make_service,
):
    with soft_limit(200):
        service = make_service(workers=0)
    with strangers(service, 400):
        assert Caller(service).call() == 400
    assert "too many connections" not in service.logged()


def test_strangers_above_the_limit_lose_their_connections_and_callers_keep_theirs(make_service):
    service = make_service(workers=0, connections_at_once=64)
    caller = Caller(service)
    caller.call()
    with strangers(service, 300) as opened:
        caller.call()
        Caller(service).call()
        assert sum(_is_open(one) for one in opened) <= 64
    assert "too many connections" in service.logged()
    caller.call()


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listen("127.0.0.1", 0, 10) as listener:
        yield listener


def test_connections_count_from_their_first_packet_and_the_oldest_go(listener):
    with contextlib.ExitStack() as stack:

        def connect() -> tuple[socket.socket, socket.socket]:
            here = stack.enter_context(socket.create_connection(listener.getsockname()))
            return here, stack.enter_context(listener.accept()[0])

        ours = [connect() for _ in range(3)]
        for _, there in ours:
            listener.trust(there.fileno())
        others = [connect() for _ in range(20)]
        assert all(_is_open(here) for here, _ in ours)
        still = [_is_open(here) for here, _ in others]
        assert still == [False] * 13 + [True] * 7
        # What is closed makes room, and no descriptor is mistaken for another.
        for here, there in others:
            here.close()
            there.close()
        again = [connect() for _ in range(7)]
        assert all(_is_open(here) for here, _ in again)
        for _, there in again:
            listener.trust(there.fileno())
        late, _ = connect()
        assert not _is_open(late), "all connections are callers'"
        assert all(_is_open(here) for here, _ in (*ours, *again))


def test_asyncio_takes_its_connections_for_tcp_and_delays_no_answer(listener):
    with socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        assert connection.proto == socket.IPPROTO_TCP, "asyncio sets TCP_NODELAY for these alone"
        connection.close()
