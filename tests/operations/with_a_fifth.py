"""Adds an operation to the table and reports what the package makes of it, as JSON.

Run in a process of its own: the table is extended before anything reads it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

_NAME = "rekognition_dagster.operations"
_SPEC = importlib.util.spec_from_file_location(_NAME, ROOT / "rekognition_dagster/operations.py")
assert _SPEC is not None
assert _SPEC.loader is not None
operations: Any = importlib.util.module_from_spec(_SPEC)
sys.modules[_NAME] = operations
_SPEC.loader.exec_module(operations)

FIFTH = operations.Operation(
    name="text_detection",
    api="TextDetection",
    results="TextDetections",
    table="text_detections",
    row="a text at a time",
    finds="text, with a made-up detector",
    columns=(
        operations.Column("timestamp_ms", ("Timestamp",), pa.int64(), "When."),
        operations.Column("text", ("TextDetection", "DetectedText"), pa.string(), "What."),
        operations.Column(
            "confidence", ("TextDetection", "Confidence"), pa.float32(), "How surely."
        ),
    ),
    identity=("text",),
    request_members=("Filters",),
    expected=("has_text", "Text is found."),
)
operations.OPERATIONS[FIFTH.name] = FIFTH


def service(folder: str) -> dict[str, Any]:
    """What the service makes of it: its calls, a job, and a page of results."""
    from rekognition_dagster.service.health import Health
    from rekognition_dagster.service.jobs import Jobs
    from rekognition_dagster.service.protocol import response_body
    from rekognition_dagster.service.results import Results
    from rekognition_dagster.service.settings import Settings
    from rekognition_dagster.service.store import JobStore
    from rekognition_dagster.service.writing import ResultsWriter

    settings = Settings.of(store=folder)
    store = JobStore(settings.database_url, job_life_s=60)
    jobs = Jobs(store, Results(f"{folder}/results"), settings, Health({}))
    video = {"Video": {"S3Object": {"Bucket": "videos", "Name": "a.mp4"}}}
    job_id, _ = store.add(FIFTH.name, video, account="a", token="t", request_hash="h", limit=9)
    job = store.job(job_id)
    assert job is not None
    with ResultsWriter(jobs.results, "x", FIFTH, job) as writer:
        writer.write([{"timestamp_ms": n, "text": "EXIT", "confidence": 90.0} for n in range(3)])
    rows = jobs.results.page(FIFTH, "x", "TIMESTAMP", 0, 2)
    store.close()
    return {
        "calls": sorted(jobs.calls),
        "orders": writer.orders,
        "page": json.loads(response_body(FIFTH.get_api, {}, (FIFTH.results, rows))),
    }


def dagster() -> dict[str, Any]:
    """Its assets and their checks."""
    from rekognition_dagster import Settings, build_definitions

    graph = build_definitions(Settings(operations=["text-detection"])).resolve_asset_graph()
    return {
        "assets": sorted(k.to_user_string() for k in graph.get_all_asset_keys()),
        "checks": sorted(
            k.name for k in graph.asset_check_keys if k.asset_key.path[-1] == FIFTH.table
        ),
    }


def lake(folder: str) -> list[str]:
    """The columns of its table."""
    from rekognition_dagster import Lake

    with Lake(folder).connect() as connection:
        return [row[0] for row in connection.execute("DESCRIBE text_detections").fetchall()]


def main() -> None:
    """Print the report."""
    from click.testing import CliRunner
    from documents import operations_table

    from rekognition_dagster.api.notifications import parse_completion
    from rekognition_dagster.cli import main as command_line

    completion = {
        "JobId": "j",
        "Status": "SUCCEEDED",
        "API": "StartTextDetection",
        "Video": {"S3Bucket": "videos", "S3ObjectName": "a.mp4"},
    }
    runner = CliRunner()
    with tempfile.TemporaryDirectory() as folder:
        analyze = ["analyze", "no-such.mp4", "--operation", "text-detection", "--output", folder]
        report = {
            "help": runner.invoke(command_line, ["analyze", "--help"]).output,
            "analyze": runner.invoke(command_line, analyze).output,
            "completion": parse_completion(json.dumps(completion)).operation.name,
            "columns": lake(folder),
            "docs": [operations_table(page) for page in ("engine.md", "service.md")],
            **service(folder),
            **dagster(),
        }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    assert dataclasses.is_dataclass(FIFTH)
    main()
