"""Rows a second from a Get endpoint into Parquet: ours beside boto3 with pandas, on the same pages.

An endpoint in a process of its own answers from canned pages of 1,000 persons with faces; each way
pages the same job to its end, in turn, and the median of CPU and wall time counts.

    python -m benchmarks.paging [--rows 200000] [--rounds 3] [--memory-rows 5000000]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import PERSON_TRACKING
from rekognition_dagster.videos import Video

PAGE = 1000
VIDEO = Video("videos", "2026/01/31/street.mp4")
PEOPLE = 5


def _page(seed: int) -> list[dict[str, Any]]:
    dice = random.Random(seed)

    def ratio() -> float:
        return round(dice.random(), 8)

    def box() -> dict[str, float]:
        return {"Width": ratio(), "Height": ratio(), "Left": ratio(), "Top": ratio()}

    def face() -> dict[str, Any]:
        names = ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")
        return {
            "BoundingBox": box(),
            "Landmarks": [{"Type": n, "X": ratio(), "Y": ratio()} for n in names],
            "Pose": {"Roll": 10 * ratio(), "Yaw": 10 * ratio(), "Pitch": 10 * ratio()},
            "Quality": {"Brightness": 100 * ratio(), "Sharpness": 100 * ratio()},
            "Confidence": 99 + ratio(),
        }

    return [
        {"Person": {"Index": i % PEOPLE, "BoundingBox": box(), "Face": face()}} for i in range(PAGE)
    ]


def _serve(rows: int, port: Any) -> None:
    """Answer each page from one canned body, with its own timestamps put in."""
    canned = [json.dumps(r)[1:] for r in _page(7)]

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            start = int(request.get("NextToken") or 0)
            persons = ",".join(
                f'{{"Timestamp":{(start + i) // PEOPLE * 40},{row}' for i, row in enumerate(canned)
            )
            more = f'"NextToken":"{start + PAGE}",' if start + PAGE < rows else ""
            body = f'{{"JobStatus":"SUCCEEDED",{more}"Persons":[{persons}]}}'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    port.send(server.server_address[1])
    server.serve_forever()


def _ours(client: Any, folder: Path) -> int:
    api, lake = RekognitionVideo(client), Lake(folder)
    with lake.writer(PERSON_TRACKING.table, VIDEO) as writer:
        for page in api.pages(PERSON_TRACKING, VIDEO, "job"):
            writer.write(PERSON_TRACKING.to_lake(page.rows, video=VIDEO.uri, job_id="job"))
    return writer.rows


def _pandas(client: Any, folder: Path) -> int:
    """What one writes without this project: every page's rows in a list, a frame, a file."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    request: dict[str, Any] = {"JobId": "job", "MaxResults": PAGE, "SortBy": "TIMESTAMP"}
    while True:
        response = client.get_person_tracking(**request)
        for one in response["Persons"]:
            person = one["Person"]
            rows.append(
                {
                    "video": VIDEO.uri,
                    "job_id": "job",
                    "timestamp_ms": one["Timestamp"],
                    "person_index": person["Index"],
                    "bounding_box": person["BoundingBox"],
                    "face": person.get("Face"),
                }
            )
        if not response.get("NextToken"):
            break
        request["NextToken"] = response["NextToken"]
    pd.DataFrame(rows).to_parquet(folder / "persons.parquet", compression="zstd")
    return len(rows)


def _measure(way: Callable[[Any, Path], int], url: str, results: Any) -> None:
    client = boto3.client(
        "rekognition",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="benchmark",
        aws_secret_access_key="benchmark",
    )
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        rows = way(client, Path(folder))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.send((rows / wall, rows / cpu, peak))


def _in_process(way: Callable[[Any, Path], int], url: str) -> tuple[float, float, float]:
    """Rows a second of wall time and of CPU, and peak MiB, in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(way, url, theirs))
    process.start()
    while not ours.poll(0.2):
        if not process.is_alive():
            raise SystemExit(f"{way.__name__} died with exit code {process.exitcode}")
    found = ours.recv()
    process.join()
    return found


class _Endpoint:
    def __init__(self, rows: int):
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(rows, theirs), daemon=True)
        self._process.start()
        self.url = f"http://127.0.0.1:{ours.recv()}"

    def __enter__(self) -> str:
        return self.url

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-rows", type=int, default=0, help="also page so many, for memory")
    chosen = parser.parse_args()
    ways = {"rekognition-dagster": _ours, "boto3 + pandas": _pandas}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    with _Endpoint(chosen.rows) as url:
        for _ in range(chosen.rounds):
            for name, way in ways.items():
                found[name].append(_in_process(way, url))
    print(f"{chosen.rows:,} rows with faces, {PAGE} a page, median of {chosen.rounds}")
    print(f"{'':22}{'rows/s CPU':>12}{'rows/s wall':>13}{'peak MiB':>10}")
    medians = {n: [statistics.median(f) for f in zip(*fs, strict=True)] for n, fs in found.items()}
    for name, (wall, cpu, peak) in medians.items():
        print(f"{name:22}{cpu:12,.0f}{wall:13,.0f}{peak:10,.0f}")
    ratio = medians["rekognition-dagster"][1] / medians["boto3 + pandas"][1]
    print(f"ratio of CPU: {ratio:.1f}")
    if chosen.memory_rows:
        with _Endpoint(chosen.memory_rows) as url:
            _, cpu, peak = _in_process(_ours, url)
        print(f"{chosen.memory_rows:,} rows: {cpu:,.0f} rows/s CPU, peak {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
