"""An entry in the table of operations is all that an operation needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rekognition_dagster.engine.looking import FOUND_HERE
from rekognition_dagster.operations import OPERATIONS


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    script = Path(__file__).with_name("with_a_fifth.py")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout)


def test_the_command_line_offers_it(report: dict[str, Any]) -> None:
    assert "|text_detection" in report["help"].replace("\n", "").replace(" ", "")
    assert "there is no such file" in report["analyze"]


def test_the_service_routes_its_calls_and_pages_its_results(report: dict[str, Any]) -> None:
    assert {"StartTextDetection", "GetTextDetection"} < set(report["calls"])
    assert len(report["calls"]) == 2 * (len(OPERATIONS) + 1)
    assert report["orders"] == {"TIMESTAMP": 3}
    text = {"DetectedText": "EXIT", "Confidence": 90.0}
    assert report["page"]["TextDetections"] == [
        {"Timestamp": n, "TextDetection": text} for n in range(2)
    ]


def test_the_pipeline_has_its_assets_checks_and_completions(report: dict[str, Any]) -> None:
    assert {
        "text_detection_job",
        "text_detection_completion",
        "text_detections",
    } < set(report["assets"])
    assert report["checks"] == [
        "has_results",
        "has_text",
        "no_duplicates",
        "timestamps_in_duration",
    ]
    assert report["completion"] == "text_detection"


def test_the_lake_has_its_table(report: dict[str, Any]) -> None:
    assert report["columns"] == ["video", "job_id", "timestamp_ms", "text", "confidence", "date"]


def test_the_documentation_has_to_have_its_row(report: dict[str, Any]) -> None:
    engine, service = report["docs"]
    assert "| `text_detection` | text, with a made-up detector | `text_detections` |" in engine
    assert (
        "| `StartTextDetection`, `GetTextDetection` | `TextDetections`: a text at a time |"
        in service
    )


def test_the_engine_serves_every_operation_of_the_table() -> None:
    assert set(OPERATIONS) == FOUND_HERE
