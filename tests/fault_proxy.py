"""An HTTP proxy that spoils what goes through it, as a seed says.

Each request is passed on, slowly, twice, or not at all; or it is passed on and its answer is lost,
so that the caller cannot know. What happens to the n-th call of an operation depends on the seed,
on the operation and on n alone.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FAULTS = {"slow": 0.06, "refused": 0.06, "lost": 0.05, "cut": 0.03, "twice": 0.06}
"""Each fault's share of the calls.

``slow``: passed on after up to ``slow_s`` seconds. ``refused``: answered with an error of the
service, and not passed on. ``lost``: passed on, and the connection closed without an answer.
``cut``: passed on, and the connection closed in the middle of the answer. ``twice``: passed on
twice; the second answer counts.
"""
_FRAMING = ("content-length", "transfer-encoding")
_ERRORS = {
    "rekognition": [
        (500, "InternalServerError"),
        (400, "ThrottlingException"),
        (400, "ProvisionedThroughputExceededException"),
        (400, "LimitExceededException"),
        (503, ""),
    ],
    "sqs": [(500, "InternalFailure"), (400, "ThrottlingException"), (503, "")],
    "sns": [(500, "InternalFailure"), (400, "Throttling"), (503, "")],
    "s3": [(500, "InternalError"), (503, "SlowDown"), (503, "")],
}


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class FaultProxy:
    """A proxy on loopback; a context manager.

    Args:
        upstream: The URL behind it. Nothing needs to listen there yet, or all the time.
        seed: What decides.
        shares: Faults and their shares of the calls.
        slow_s: Seconds that a slow call waits at most.
        outage: The fault of every call of a service (``s3``) or operation (``s3 GET``), whatever
            the shares; also ``hang``: no answer until the proxy ends.
    """

    upstream: str
    seed: int
    shares: dict[str, float] = field(default_factory=lambda: dict(FAULTS))
    slow_s: float = 1.0
    outage: dict[str, str] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def fate(self, call: str) -> tuple[str, random.Random]:
        """What happens to this call of an operation (e.g. ``sqs ReceiveMessage``), and the dice for
        how."""
        with self._lock:
            self.calls[call] += 1
            dice = random.Random(f"{self.seed} {call} {self.calls[call]}")
            outage = self.outage.get(call) or self.outage.get(call.split(maxsplit=1)[0])
            if outage is not None:
                return outage, dice
            throw = dice.random()
            for fault, share in self.shares.items():
                throw -= share
                if throw < 0:
                    self.faults[f"{call.split(maxsplit=1)[0]} {fault}"] += 1
                    return fault, dice
        return "passed", dice

    def forward(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> _Answer:
        """The upstream's answer.

        Raises:
            OSError, http.client.HTTPException: It gives none.
        """
        where = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return _Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self._body()
            call = _call(self.command, self.headers, self.path, body)
            fault, dice = proxy.fate(call)
            if fault == "hang":
                proxy.ended.wait()
                return self._hang_up()
            if fault == "slow":
                time.sleep(dice.uniform(0, proxy.slow_s))
            if fault == "refused":
                return self._answer(_refusal(call.split()[0], dice))
            try:
                # The caller's own headers, Host among them: its signature is over these.
                headers = [(n, v) for n, v in self.headers.items() if n.lower() not in _FRAMING]
                headers.append(("Content-Length", str(len(body))))
                request = (self.command, self.path, headers, body)
                if fault == "twice":
                    proxy.forward(*request)
                answer = proxy.forward(*request)
            except (OSError, http.client.HTTPException):
                return self._hang_up()  # nobody there: what a caller sees of a dead service
            if fault == "lost":
                return self._hang_up()
            return self._answer(answer, cut=fault == "cut")

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass

        def _answer(self, answer: _Answer, *, cut: bool = False) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            told = [v for n, v in answer.headers if n.lower() == "content-length"]
            has_body = self.command != "HEAD"
            length = str(len(answer.body)) if has_body or not told else told[0]
            self.send_header("Content-Length", length)
            self.end_headers()
            if has_body:
                self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
            if cut:
                self._hang_up()

        def _hang_up(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):  # the caller was the first to go
                self.connection.shutdown(socket.SHUT_RDWR)

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the caller was killed
                super().handle()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    return Handler


def _call(method: str, headers: Message, path: str, body: bytes) -> str:
    """Service and operation, e.g. ``s3 GET``, ``sqs ReceiveMessage``."""
    scope = re.search(r"/([a-z0-9]+)/aws4_request", headers.get("Authorization", ""))
    service = scope[1] if scope else "s3"
    if target := headers.get("X-Amz-Target"):
        return f"{service} {target.rpartition('.')[2]}"
    if service == "s3":
        return f"s3 {'LIST' if 'list-type' in path else method}"
    return f"{service} {parse_qs(body.decode()).get('Action', [method])[0]}"


def _refusal(service: str, dice: random.Random) -> _Answer:
    """An error as the service, or a load balancer before it (which gives no code), would say it."""
    status, code = dice.choice(_ERRORS[service])
    if not code:
        return _Answer(status, [("Content-Type", "text/html")], b"<h1>Try again</h1>")
    if service in ("s3", "sns"):
        body = f"<Error><Code>{code}</Code><Message>seeded</Message></Error>"
        if service == "sns":
            body = f"<ErrorResponse>{body}<RequestId>0</RequestId></ErrorResponse>"
        return _Answer(status, [("Content-Type", "text/xml")], body.encode())
    body = json.dumps({"__type": code, "message": "seeded"})
    return _Answer(status, [("Content-Type", "application/x-amz-json-1.1")], body.encode())
