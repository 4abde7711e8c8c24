"""A scripted Rekognition endpoint over HTTP: jobs end at once, results are canned pages.

For tests of the plugin alone; the real service has tests of its own. It keeps AWS's promises about
tokens, and fails as it is told to.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PERSON = {"Index": 0, "BoundingBox": {"Left": 0.1, "Top": 0.2, "Width": 0.1, "Height": 0.3}}
METADATA = {
    "Codec": "h264",
    "DurationMillis": 600_000,
    "Format": "QuickTime / MOV",
    "FrameRate": 25.0,
    "FrameHeight": 360,
    "FrameWidth": 640,
}


def person_rows(count: int) -> list[dict[str, Any]]:
    """Rows of two people who stand still, 25 times a second."""
    return [{"Timestamp": i // 2 * 40, "Person": {**PERSON, "Index": i % 2}} for i in range(count)]


def face_rows(count: int) -> list[dict[str, Any]]:
    """Rows of one face, 25 times a second."""
    face = {"BoundingBox": PERSON["BoundingBox"], "Confidence": 99.0}
    return [{"Timestamp": i * 40, "Face": face} for i in range(count)]


def segment_rows(count: int) -> list[dict[str, Any]]:
    """Rows of shots that follow each other, a second each."""
    return [
        {
            "Type": "SHOT",
            "StartTimestampMillis": 1000 * i,
            "EndTimestampMillis": 1000 * i + 960,
            "StartTimecodeSMPTE": f"00:00:{i % 60:02}:00",
            "StartFrameNumber": 25 * i,
            "EndFrameNumber": 25 * i + 24,
            "ShotSegment": {"Index": i, "Confidence": 99.0},
        }
        for i in range(count)
    ]


def label_rows(count: int) -> list[dict[str, Any]]:
    """Rows of one label without instances."""
    label = {"Name": "Person", "Confidence": 90.0, "Instances": [], "Parents": []}
    return [{"Timestamp": i * 40, "Label": label} for i in range(count)]


RESULTS = {
    "GetPersonTracking": (person_rows, "Persons"),
    "GetFaceDetection": (face_rows, "Faces"),
    "GetLabelDetection": (label_rows, "Labels"),
    "GetSegmentDetection": (segment_rows, "Segments"),
}


class ApiFault(Exception):
    """An error of the API, as a response."""

    def __init__(self, code: str, status: int = 400):
        super().__init__(code)
        self.code, self.status = code, status


@dataclass
class RekognitionDouble:
    """The endpoint's state; tests read and bend it.

    Args:
        rows: Rows of every result.
        page_rows: Rows in a page at most.
        on_start: Called with each Start request; may raise :class:`ApiFault`.
        on_started: Called after a job was started; may raise anything, which breaks the connection.
        on_get: Called with each Get request; may raise :class:`ApiFault`, or anything, which
            breaks the connection.
        failed: Keys of videos whose jobs end as FAILED.
        warnings: What was lost of a video, by key.
    """

    rows: int = 10
    page_rows: int = 1000
    on_start: Callable[[dict[str, Any]], None] = lambda request: None
    on_started: Callable[[dict[str, Any]], None] = lambda request: None
    on_get: Callable[[dict[str, Any]], None] = lambda request: None
    failed: set[str] = field(default_factory=set)
    warnings: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[tuple[str, str], str] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one call."""
        with self.lock:
            self.calls[operation] += 1
        if operation.startswith("Start"):
            self.on_start(request)
            answer = self._start(operation, request)
            self.on_started(request)
            return answer
        self.on_get(request)
        return self._get(operation, request)

    def _start(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            same = (operation, request["ClientRequestToken"])
            if same not in self.tokens:
                self.tokens[same] = f"job-{len(self.jobs)}"
                self.jobs[self.tokens[same]] = {"API": operation, **request}
            return {"JobId": self.tokens[same]}

    def _get(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        job = self.jobs.get(request["JobId"])
        if job is None:
            raise ApiFault("ResourceNotFoundException")
        if job["Video"]["S3Object"]["Name"] in self.failed:
            return {"JobStatus": "FAILED", "StatusMessage": "the video has no frames"}
        make, member = RESULTS[operation]
        warning = self.warnings.get(job["Video"]["S3Object"]["Name"])
        rows = make(self.rows)
        start = int(request.get("NextToken") or 0)
        end = start + min(self.page_rows, request.get("MaxResults", 1000))
        more = {"NextToken": str(end)} if end < len(rows) else {}
        return {
            "JobStatus": "SUCCEEDED",
            "VideoMetadata": [METADATA] if member == "Segments" else METADATA,
            member: rows[start:end],
            **({"StatusMessage": warning} if warning else {}),
            **more,
        }

    def notification(self, job_id: str) -> str:
        """The completion message of a job, as SNS would carry it."""
        job = self.jobs[job_id]
        where = job["Video"]["S3Object"]
        return json.dumps(
            {
                "JobId": job_id,
                "Status": "FAILED" if where["Name"] in self.failed else "SUCCEEDED",
                "API": job["API"],
                "JobTag": job.get("JobTag"),
                "Timestamp": int(time.time() * 1000),
                "Video": {"S3ObjectName": where["Name"], "S3Bucket": where["Bucket"]},
            }
        )


def serve(double: RekognitionDouble) -> ThreadingHTTPServer:
    """Serve ``double`` on a free port of the loopback, in threads of their own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's next word

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers["X-Amz-Target"].split(".")[1]
            try:
                status, answer = 200, double.handle(operation, json.loads(body))
            except ApiFault as fault:
                status = fault.status
                answer = {"__type": fault.code, "message": "as the script says"}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
