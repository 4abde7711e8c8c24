"""A scripted AWS for measurements: it costs next to nothing, however many videos there are.

S3 lists given keys, Rekognition answers each job with one page of rows, and SQS has each job's
completion a moment after its start, in no order.
"""

from __future__ import annotations

import heapq
import json
import multiprocessing
import random
import threading
import time
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from rekognition_double import RekognitionDouble

_PAGE = 1000
_LONGEST_JOB_S = 5.0
QUEUE = "queue/completions"
"""The path of the queue's URL."""


def etag(key: str) -> str:
    """The entity tag of a key's content."""
    return f"{zlib.crc32(key.encode()):032x}"


class _Queue:
    """Messages that are visible from some time on, as SQS has them."""

    def __init__(self) -> None:
        self._visible: list[tuple[float, int]] = []
        self._bodies: dict[int, str] = {}
        self._lock = threading.Lock()
        self._sent = 0

    def send(self, body: str, delay_s: float) -> None:
        with self._lock:
            self._sent += 1
            self._bodies[self._sent] = body
            heapq.heappush(self._visible, (time.time() + delay_s, self._sent))

    def receive(self, most: int, hidden_s: float) -> list[dict[str, str]]:
        now, taken = time.time(), []
        with self._lock:
            while self._visible and self._visible[0][0] <= now and len(taken) < most:
                _, number = heapq.heappop(self._visible)
                if number in self._bodies:
                    heapq.heappush(self._visible, (now + hidden_s, number))
                    told = {"MessageId": str(number), "ReceiptHandle": str(number)}
                    taken.append({**told, "Body": self._bodies[number]})
        return taken

    def delete(self, handles: Sequence[str]) -> None:
        with self._lock:
            for handle in handles:
                self._bodies.pop(int(handle), None)


class _Aws:
    def __init__(self, keys: Sequence[str], rows: int) -> None:
        self.keys = sorted(keys)
        self.double = RekognitionDouble(rows=rows, page_rows=rows)
        self.queue = _Queue()
        self._dice = random.Random(7)
        self._told = 0
        self._page: bytes | None = None

    def listing(self, after: str) -> bytes:
        start = bisect_right(self.keys, after) if after else 0
        some = self.keys[start : start + _PAGE]
        contents = "".join(
            f"<Contents><Key>{quote(key)}</Key><LastModified>2026-01-31T00:00:00.000Z</LastModified>"
            f'<ETag>"{etag(key)}"</ETag><Size>1000</Size></Contents>'
            for key in some
        )
        more = str(start + _PAGE < len(self.keys)).lower()
        return (
            '<?xml version="1.0"?><ListBucketResult><EncodingType>url</EncodingType>'
            f"<IsTruncated>{more}</IsTruncated>{contents}</ListBucketResult>"
        ).encode()

    def call(self, target: str, request: dict[str, Any]) -> bytes:
        service, operation = target.split(".")
        if service == "RekognitionService":
            if operation.startswith("Get") and self._page is not None:
                return self._page
            answer = json.dumps(self.double.handle(operation, request)).encode()
            if operation.startswith("Get"):
                self._page = answer
            else:
                self._announce(json.loads(answer)["JobId"])
            return answer
        return json.dumps(self._sqs(operation, request)).encode()

    def _announce(self, job_id: str) -> None:
        with self.double.lock:
            known = self._told
            self._told = max(known, int(job_id.rpartition("-")[2]) + 1)
        if self._told > known:
            self.queue.send(self.double.notification(job_id), self._dice.uniform(0, _LONGEST_JOB_S))

    def _sqs(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if operation == "ReceiveMessage":
            taken = self.queue.receive(request["MaxNumberOfMessages"], request["VisibilityTimeout"])
            return {"Messages": taken} if taken else {}
        if operation == "DeleteMessageBatch":
            entries = request["Entries"]
            self.queue.delete([e["ReceiptHandle"] for e in entries])
            return {"Successful": [{"Id": e["Id"]} for e in entries], "Failed": []}
        return {"Attributes": {}}


def _serve(keys: Sequence[str], rows: int, port: Any) -> None:
    aws = _Aws(keys, rows)

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            self._answer(aws.listing(asked.get("start-after", [""])[0]), "application/xml")

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = aws.call(self.headers["X-Amz-Target"], request)
            self._answer(answer, self.headers["Content-Type"])

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    port.send(server.server_port)
    server.serve_forever()


@contextmanager
def scripted(keys: Sequence[str], rows: int) -> Iterator[str]:
    """The endpoint of a scripted AWS, in a process of its own.

    Args:
        keys: Of the objects in whichever bucket is asked for.
        rows: Of each result.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(keys, rows, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()
