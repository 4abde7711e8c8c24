"""Discovery of a large bucket: what a key costs, how long a tick takes, and what stays in memory.

A scripted S3 endpoint in a process of its own lists the keys, in pages of 1,000; the sensor ticks
as by the daemon. Then once more over the same keys, with nothing new; then the reports are made.

    python -m benchmarks.discovery [--keys 100000] [--per-group 250]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import dagster as dg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from deployment import Deployment

from rekognition_dagster import Settings

_PAGE = 1000


def _key(number: int, per_group: int) -> str:
    group, video = divmod(number, per_group)
    return f"camera-{group:05}/2026-01-31/{video:05}.mp4"


def _serve(keys: int, per_group: int, port: Any) -> None:
    names = sorted(_key(i, per_group) for i in range(keys))
    places = {name: i for i, name in enumerate(names)}

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query).get("start-after", [""])[0]
            start = places[asked] + 1 if asked else 0
            some = names[start : start + _PAGE]
            contents = "".join(
                f"<Contents><Key>{key}</Key><LastModified>2026-01-31T00:00:00.000Z</LastModified>"
                f'<ETag>"{zlib.crc32(key.encode()):032x}"</ETag><Size>1000</Size></Contents>'
                for key in some
            )
            more = str(start + _PAGE < keys).lower()
            body = (
                '<?xml version="1.0"?><ListBucketResult>'
                f"<IsTruncated>{more}</IsTruncated>{contents}</ListBucketResult>"
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    port.send(server.server_port)
    server.serve_forever()


def _pass(deployment: Deployment) -> tuple[int, float, float]:
    """A whole listing: ticks, CPU seconds, and the longest tick with its events written."""
    ticks, longest = 0, 0.0
    begin = time.process_time()
    while True:
        started = time.monotonic()
        deployment.tick("video_discovery")
        ticks, longest = ticks + 1, max(longest, time.monotonic() - started)
        if '"after": ""' in (deployment.cursors.get("video_discovery") or ""):
            return ticks, time.process_time() - begin, longest


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--per-group", type=int, default=250)
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(
        target=_serve, args=(arguments.keys, arguments.per_group, theirs), daemon=True
    )
    server.start()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ours.recv()}",
    }
    settings = Settings(bucket="archive", partition_by="{camera}/{date}")
    with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
        for name in ("all new", "nothing new"):
            # A deployment of its own each time: nothing is kept in the process between passes.
            deployment = Deployment(settings, instance, cast(Any, None), cast(Any, None))
            ticks, cpu, longest = _pass(deployment)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{name:12} {arguments.keys} keys, {ticks} ticks, longest {longest:.1f} s, "
                f"{cpu / arguments.keys * 1e6:.0f} us CPU a key, peak {peak:.0f} MB",
                flush=True,
            )
        began, ticks = time.monotonic(), 0
        while "0 reports" not in str(deployment.tick("reports").skip_message):
            ticks += 1
        print(
            f"{len(deployment.partitions())} partitions of {arguments.per_group} videos reported "
            f"in {ticks} ticks, {time.monotonic() - began:.0f} s"
        )
    server.terminate()


if __name__ == "__main__":
    main()
