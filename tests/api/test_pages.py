"""Rows taken from the wire by Arrow are the rows that botocore would have parsed."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from rekognition_double import METADATA, RekognitionDouble, face_rows, person_rows

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.operations import FACE_DETECTION, PERSON_TRACKING, Operation
from rekognition_dagster.videos import Video

VIDEO = Video("videos", "a.mp4")


@pytest.mark.parametrize(
    ("operation", "rows"), [(PERSON_TRACKING, person_rows(50)), (FACE_DETECTION, face_rows(50))]
)
def test_arrow_reads_what_botocore_reads(
    rekognition: RekognitionDouble, operation: Operation, rows: list[dict[str, Any]]
) -> None:
    rekognition.rows = 50
    plain = boto3.client("rekognition")
    api = RekognitionVideo(boto3.client("rekognition"))
    job = api.start(operation, VIDEO)
    parsed = getattr(plain, operation.get_method)(JobId=job.job_id)
    assert parsed[operation.results] == rows
    page = api.page(operation, VIDEO, job.job_id)
    expected = operation.to_lake(parsed[operation.results], video="v", job_id="j")
    assert operation.to_lake(page.rows, video="v", job_id="j") == expected


@pytest.mark.parametrize(
    "answer",
    [
        {"JobStatus": "SUCCEEDED"},
        {"JobStatus": "SUCCEEDED", "Persons": []},
        {"JobStatus": "SUCCEEDED", "Persons": None, "NextToken": None},
        {"JobStatus": "SUCCEEDED", "Persons": [], "Weather": {"Kind": "fine"}},
    ],
)
def test_a_page_without_rows_is_an_empty_page(
    rekognition: RekognitionDouble, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(rekognition, "_get", lambda *_: {**answer, "VideoMetadata": METADATA})
    page = RekognitionVideo(boto3.client("rekognition")).page(PERSON_TRACKING, VIDEO, "j")
    assert (len(page.rows), page.next_token, page.metadata["width"]) == (0, None, 640)


def test_a_member_of_another_type_is_left_to_botocore(
    rekognition: RekognitionDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [{"Timestamp": 40.0, "Person": {"Index": 1}}]
    answer = {"JobStatus": "SUCCEEDED", "Persons": odd}
    monkeypatch.setattr(rekognition, "_get", lambda *_: answer)
    page = RekognitionVideo(boto3.client("rekognition")).page(PERSON_TRACKING, VIDEO, "j")
    table = PERSON_TRACKING.to_lake(page.rows, video="v", job_id="j")
    assert table.column("timestamp_ms").to_pylist() == [40]
