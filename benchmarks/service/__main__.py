"""Measures the service as its callers meet it: signed requests over loopback, one server process.

``python -m benchmarks.service [--quick]`` prints one line a figure, with what is asked of it;
``--strangers`` only what unsigned requests do to a signed one, in less than a minute. S3 is
a server on loopback that answers at once; no job is worked on. The load comes from another process
than the service, on the same machine, so that the figures are a lower bound.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from rekognition_dagster.lake.writer import TableWriter
from rekognition_dagster.operations import PERSON_TRACKING
from rekognition_dagster.service.results import Results, path_of
from rekognition_dagster.service.settings import Settings
from rekognition_dagster.service.store import JobStore
from rekognition_dagster.service.tokens import next_token
from rekognition_dagster.service.writing import ROW_GROUP_ROWS, TIMESTAMP

KEYS = ("AKIDBENCHMARK", "secret")
_S3 = """
async def app(scope, receive, send):
    headers = [(b"content-length", b"1000"), (b"etag", b'"0"')]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})

import uvicorn, socket
listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
config = uvicorn.Config(app, lifespan="off", log_level="error", access_log=False)
uvicorn.Server(config).run([listener])
"""

_STRANGERS = """
import socket, sys, time
netloc, per_s, bodies = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
host, port = netloc.split(":")
target = "X-Amz-Target: RekognitionService.GetPersonTracking"
head = f"POST / HTTP/1.1\\r\\nHost: {netloc}\\r\\n{target}"
half = f"{head}\\r\\nContent-Length: 1000\\r\\n\\r\\n{{".encode()
value = "AWS4-HMAC-SHA256 " + "Credential=" * 2700
long = f"{head}\\r\\nContent-Length: 0\\r\\nAuthorization: {value}\\r\\n\\r\\n".encode()

def connect(text):
    one = socket.create_connection((host, int(port)), timeout=20)
    one.sendall(text)
    return one

held = [connect(half) for _ in range(bodies)]
print("ready", flush=True)
while True:
    if per_s:
        with connect(long) as one:
            one.recv(1000)
    for i, one in enumerate(held):  # the service ends those that take 20 s, and others come
        one.setblocking(False)
        try:
            if one.recv(1000) == b"":
                held[i] = connect(half)
        except BlockingIOError:
            pass
    time.sleep(1 / (per_s or 10))
"""


@dataclass(frozen=True)
class Latencies:
    """Seconds that requests took, sorted."""

    seconds: list[float]

    def ms(self, percent: float) -> float:
        """A percentile in milliseconds."""
        return (
            1000 * self.seconds[min(len(self.seconds) - 1, int(len(self.seconds) * percent / 100))]
        )

    def __str__(self) -> str:
        return f"p50 {self.ms(50):.1f} ms, p95 {self.ms(95):.1f} ms, p99 {self.ms(99):.1f} ms"


class Strangers:
    """Unsigned requests, from a process of their own as in life: it has no part in the figures.

    Args:
        url: The service's.
        headers_per_s: Requests a second with an Authorization header of 30 KB.
        bodies: Connections at once that send half of a request's body and no more.
    """

    def __init__(self, url: str, headers_per_s: float = 0.0, bodies: int = 0):
        command = ["-c", _STRANGERS, urlsplit(url).netloc, str(headers_per_s), str(bodies)]
        self._process = process(command)

    def __enter__(self) -> None:
        self._process.__enter__()  # whose first line says that all are there

    def __exit__(self, *error: object) -> None:
        self._process.__exit__(None, None, None)


class Caller:
    """One client: a connection of its own that stays open, and its signatures."""

    def __init__(self, url: str):
        self._host = urlsplit(url).netloc
        self._url = f"{url}/"
        self._signer = SigV4Auth(Credentials(*KEYS), "rekognition", "us-east-1")
        self._connection = http.client.HTTPConnection(self._host, timeout=60)

    def call(self, operation: str, request: dict) -> dict:
        """The answer's JSON; anything but success ends the benchmark."""
        body = json.dumps(request).encode()
        headers = {"X-Amz-Target": f"RekognitionService.{operation}"}
        signed = AWSRequest("POST", self._url, data=body, headers=headers)
        self._signer.add_auth(signed)
        self._connection.request("POST", "/", body, dict(signed.headers.items()))
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{operation} answered {answer.status}: {content[:300]!r}")
        # Parsing a page of 1,000 rows would load the machine more than serving it does.
        return json.loads(content) if len(content) < 10_000 else {}


@contextmanager
def process(code: list[str], **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process and the first line it prints, its URL; ended when the block is left."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | environment
    started = subprocess.Popen(
        [sys.executable, *code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=env,
    )
    assert started.stdout is not None
    try:
        yield started, started.stdout.readline().strip()
    finally:
        started.terminate()
        started.wait()


def rss_mib(process: subprocess.Popen[str]) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_s(process: subprocess.Popen[str]) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_request(number: int) -> dict:
    """A Start that is like no other."""
    video = {"S3Object": {"Bucket": "footage", "Name": f"clip-{number}.mp4"}}
    return {"Video": video, "ClientRequestToken": f"token-{number}-{time.monotonic_ns()}"}


def at_rate(url: str, per_s: float, seconds: float) -> Latencies:
    """Starts at a fixed rate; each one's time counts from when it was due."""
    local = threading.local()
    began = time.monotonic() + 0.5

    def one(number: int) -> float:
        if not hasattr(local, "caller"):
            local.caller = Caller(url)
        due = began + number / per_s
        time.sleep(max(0.0, due - time.monotonic()))
        local.caller.call("StartPersonTracking", start_request(number))
        return time.monotonic() - due

    with ThreadPoolExecutor(50) as pool:
        return Latencies(sorted(pool.map(one, range(int(per_s * seconds)))))


def together(
    url: str, clients: int, seconds: float, ask: Callable[[Caller, int], object]
) -> tuple[float, Latencies]:
    """Requests per second, and their times, of clients that each ask again when answered."""
    end = time.monotonic() + seconds

    def one(client: int) -> list[float]:
        caller, took, number = Caller(url), [], client
        while (began := time.monotonic()) < end:
            ask(caller, number)
            took.append(time.monotonic() - began)
            number += clients
        return took

    with ThreadPoolExecutor(clients) as pool:
        took = sorted(t for times in pool.map(one, range(clients)) for t in times)
    return len(took) / seconds, Latencies(took)


def large_job(settings: Settings, rows: int) -> str:
    """A SUCCEEDED person job with a face in every row; its JobId."""
    store, operation = JobStore(settings.database_url), PERSON_TRACKING
    request = start_request(0)
    job_id, _ = store.add(
        operation.name, request, account="default", token=None, request_hash="", limit=10**9
    )
    job = store.claim("benchmark", 3600)
    assert job is not None
    assert job.job_id == job_id
    landmarks = ["eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight"]
    batch = [
        {
            "video": job.video,
            "job_id": job_id,
            "person_index": i % 7,
            "bounding_box": {"left": i / 9e5, "top": 0.2, "width": 0.3, "height": 0.41},
            "confidence": 60 + i % 40,
            "face": {
                "bounding_box": {"left": i / 8e5, "top": 0.2, "width": 0.05, "height": 0.1},
                "confidence": 99.1,
                "landmarks": [{"type": t, "x": i / 7e5, "y": 0.3} for t in landmarks],
                "pose": {"roll": 1.5, "yaw": i / 100, "pitch": 3.2},
                "quality": {"brightness": 50.3, "sharpness": i / 80},
            },
        }
        for i in range(min(rows, 70_000))
    ]
    table = pa.Table.from_pylist(batch, schema=operation.schema)
    path = path_of(f"{job_id}/1", TIMESTAMP)
    storage = Results(settings.results_url).storage
    with TableWriter(
        storage, path, operation.schema, operation.sort_columns, row_group_rows=ROW_GROUP_ROWS
    ) as writer:
        while writer.rows < rows:
            part = table.slice(0, rows - writer.rows)
            times = [(writer.rows + i) // 7 * 40 for i in range(part.num_rows)]
            at = part.schema.get_field_index("timestamp_ms")
            writer.write(part.set_column(at, "timestamp_ms", pa.array(times, pa.int64())))
    store.complete(job, "benchmark", metadata={}, results=f"{job_id}/1", orders={TIMESTAMP: rows})
    store.close()
    return job_id


def page_tokens(settings: Settings, job_id: str, rows: int) -> list[str]:
    """The token of every page."""
    store = JobStore(settings.database_url)
    tokens = [next_token(store.secret, job_id, TIMESTAMP, o) for o in range(0, rows, 1000)]
    store.close()
    return tokens


def in_turns(
    one: Callable[[], object], other: Callable[[], object], times: int
) -> tuple[float, float]:
    """The median times of two calls in milliseconds, taken in turns so that both see the same."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for call, list_ in zip((one, other), took, strict=True):
            began = time.perf_counter()
            call()
            list_.append(time.perf_counter() - began)
    one_s, other_s = (sorted(t)[times // 2] for t in took)
    return 1000 * one_s, 1000 * other_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, a smaller job")
    parser.add_argument(
        "--strangers", action="store_true", help="a signed call beside unsigned ones, no more"
    )
    given = parser.parse_args()
    quick = given.quick or given.strangers
    seconds, rows = (5.0, 100_000) if quick else (20.0, 1_000_000)
    with tempfile.TemporaryDirectory() as folder, process(["-c", _S3]) as (_, s3):
        settings = Settings.of(store=folder)
        began = time.monotonic()
        job_id = large_job(settings, rows)
        print(f"a job of {rows:,} rows with faces written in {time.monotonic() - began:.1f} s")
        options = ["--port", "0", "--workers", "0", "--jobs-in-flight", "10000000"]
        command = ["-m", "rekognition_dagster.service", "--store", folder, *options]
        with process(
            command,
            AWS_ACCESS_KEY_ID=KEYS[0],
            AWS_SECRET_ACCESS_KEY=KEYS[1],
            AWS_ENDPOINT_URL=s3,
            AWS_DEFAULT_REGION="us-east-1",
            AWS_EC2_METADATA_DISABLED="true",
        ) as (service, url):
            if given.strangers:
                beside_strangers(url, service, job_id)
            else:
                _measure(url, service, settings, job_id, rows, seconds)


def beside_strangers(
    url: str, service: subprocess.Popen[str], job_id: str, calls: int = 160
) -> None:
    """Measure a signed Get, 40 a second, alone and beside strangers, in turns."""
    caller, get = Caller(url), {"JobId": job_id, "MaxResults": 1}
    took: dict[str, list[float]] = {}
    used: dict[str, float] = {}

    def measure(what: str) -> None:
        before = cpu_s(service)
        for _ in range(calls // 2):
            began = time.perf_counter()
            caller.call("GetPersonTracking", get)
            took.setdefault(what, []).append(time.perf_counter() - began)
            time.sleep(max(0.0, 0.025 - (time.perf_counter() - began)))
        used[what] = used.get(what, 0.0) + cpu_s(service) - before

    measure("warm")
    for _ in range(2):
        measure("alone")
        with Strangers(url, headers_per_s=8):
            measure("beside 8 requests a second with a header of 30 KB")
        with Strangers(url, bodies=500):
            measure("beside 500 half-sent bodies")
            Caller(url).call("GetPersonTracking", get)  # on a connection of its own
    for what, seconds in took.items():
        goal = "   (p99 is to be 50 ms or less)" if "beside" in what else ""
        cpu = f"{1000 * used[what] / len(seconds):.1f} ms of CPU a call"
        print(f"signed Get {what}: {Latencies(sorted(seconds))}, {cpu}{goal}")


def _measure(
    url: str,
    service: subprocess.Popen[str],
    settings: Settings,
    job_id: str,
    rows: int,
    seconds: float,
) -> None:
    get = {"JobId": job_id}
    tokens = page_tokens(settings, job_id, rows)

    def start(caller: Caller, number: int) -> object:
        return caller.call("StartPersonTracking", start_request(number))

    def page(caller: Caller, number: int) -> object:
        return caller.call("GetPersonTracking", {**get, "NextToken": tokens[number % len(tokens)]})

    def short(caller: Caller, _: int) -> object:
        return caller.call("GetPersonTracking", {**get, "MaxResults": 10})

    def mixed(caller: Caller, number: int) -> object:
        kind = (page, start, start, start, start, short, short, short, short, short)
        return kind[number // 50 % 10](caller, number)

    def say(what: str, clients: int, ask: Callable[[Caller, int], object], goal: str = "") -> None:
        used = cpu_s(service)
        rate, took = together(url, clients, seconds, ask)
        cpu = 1000 * (cpu_s(service) - used) / len(took.seconds)
        print(f"{what}, {clients} clients: {rate:.1f}/s, {took}, {cpu:.1f} ms of CPU each   {goal}")

    at_rate(url, 20, 2)  # connections, clients and caches as they are after a while
    used = cpu_s(service)
    took = at_rate(url, 50, seconds)
    cpu = 1000 * (cpu_s(service) - used) / len(took.seconds)
    print(f"Start at 50/s: {took}, {cpu:.1f} ms of CPU each   (p99 is to be under 50 ms)")
    say("Start", 8, start)
    say("Get, full pages with faces", 2, page, "(30/s or more)")
    caller = Caller(url)
    first, last = in_turns(lambda: page(caller, 0), lambda: page(caller, len(tokens) - 1), 41)
    print(f"first page {first:.1f} ms, last page {last:.1f} ms: {last / first:.2f}   (1.2 or less)")
    say("Get, 10 rows", 50, short)
    say("mixed (5 short Gets, 4 Starts, 1 full page)", 50, mixed)
    say("Get, full pages with faces", 50, page)
    before = rss_mib(service)
    for ask in (mixed, page):
        together(url, 50, seconds, ask)
    after = rss_mib(service)
    print(f"memory of the service: {before:.0f} MiB, {after:.0f} MiB after as much again   (flat)")


if __name__ == "__main__":
    main()
