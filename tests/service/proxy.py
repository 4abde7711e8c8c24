"""AWS on loopback as a service sees it on a bad day: a proxy whose requests fail by a rule."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import urllib3

SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>'
)
Rule = Callable[[str, str], "int | float | None"]
"""By method and path: a status (int) to answer, seconds (float) to hang, or None to pass on."""


class Proxy:
    """Passes requests on to ``target``, except for those that :attr:`rule` has an answer for.

    Args:
        target: The URL of the real thing.
    """

    def __init__(self, target: str) -> None:
        self.rule: Rule = lambda method, path: None
        self.seen: list[tuple[str, str]] = []
        self._ended = threading.Event()
        pool = urllib3.PoolManager(maxsize=20, retries=False)
        proxy = self

        class Passes(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self._body()
                proxy.seen.append((self.command, self.path))
                verdict = proxy.rule(self.command, self.path)
                if isinstance(verdict, float):
                    proxy._ended.wait(verdict)
                    self.close_connection = True
                    return
                if verdict is not None:
                    self._send(verdict, {}, SLOW_DOWN)
                    return
                answer = pool.request(
                    self.command,
                    target + self.path,
                    body=body,
                    headers={k: v for k, v in self.headers.items() if k != "Transfer-Encoding"},
                    preload_content=True,
                    decode_content=False,
                )
                self._send(answer.status, dict(answer.headers.items()), answer.data)

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

            def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                hop = ("connection", "transfer-encoding", "date", "server")
                length = str(len(body))
                for name, value in headers.items():
                    if name.lower() == "content-length" and self.command == "HEAD":
                        length = value
                    elif name.lower() not in (*hop, "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

            def log_request(self, code: Any = "-", size: Any = "-") -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a service that was killed leaves connections behind

        self._server = Server(("127.0.0.1", 0), Passes)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it, and what hangs in it."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, *methods: str, status: int = 503, within: str = "") -> None:
        """Answer requests by these methods, or all, whose path has ``within``, with a status."""
        self.rule = lambda method, path: (
            status if within in path and (not methods or method in methods) else None
        )

    def hang(self, seconds: float, *methods: str) -> None:
        """Leave requests by these methods, or all, without an answer."""
        self.rule = lambda method, path: seconds if not methods or method in methods else None

    def work(self) -> None:
        """Pass everything on again."""
        self.rule = lambda method, path: None
