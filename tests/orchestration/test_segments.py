"""Segment detection through the pipeline: what is asked for, what the rows are, what is checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from deployment import Deployment

from rekognition_dagster import Lake, Video
from rekognition_dagster.operations import SEGMENT_DETECTION
from rekognition_dagster.orchestration.highlights import examine


def test_a_videos_segments_are_asked_for_paged_and_checked(deployment: Deployment) -> None:
    deployment.set(operations=["segment_detection"])
    deployment.double.page_rows = 4
    partitions = deployment.discover("a.mp4")
    assert deployment.dispatch() == 1
    (job,) = deployment.double.jobs.values()
    assert job["API"] == "StartSegmentDetection"
    assert job["SegmentTypes"] == ["TECHNICAL_CUE", "SHOT"]
    deployment.notify()
    deployment.tick("completions")
    run = deployment.materialize("segment_detections", partitions)
    assert run.success
    assert deployment.materialized("segment_detections") == set(partitions)
    assert deployment.rows(
        "SELECT count(*), max(shot_index), max(end_frame_number), any_value(cue_type)"
        " FROM segment_detections WHERE type = 'SHOT'"
    ) == [(10, 9, 249, None)]
    assert deployment.rows("SELECT width, frame_rate, duration_ms FROM videos") == [
        (640, 25.0, 600_000)
    ], "GetSegmentDetection has VideoMetadata as a list"
    assert {e.check_name: e.passed for e in run.get_asset_check_evaluations()} == {
        "no_duplicates": True,
        "timestamps_in_duration": True,
        "has_segments": True,
        "has_results": True,
    }


def shot(start_ms: int, kind: str = "SHOT") -> dict[str, object]:
    return {"type": kind, "start_timestamp_ms": start_ms, "end_timestamp_ms": start_ms + 40}


@pytest.mark.parametrize(
    ("rows", "broken"),
    [
        ([shot(0), shot(80)], {}),
        ([shot(0), shot(0, "TECHNICAL_CUE")], {}),
        ([shot(0), shot(0)], {"no_duplicates": 1}),
        ([shot(0), shot(90_000)], {"timestamps_in_duration": 1}),
        ([], {"has_segments": 1}),
    ],
)
def test_what_must_hold_of_segments_is_asked_of_their_own_times(
    tmp_path: Path, rows: list[dict[str, object]], broken: dict[str, int]
) -> None:
    lake, video = Lake(tmp_path), Video("b", "a.mp4")
    lake.write_video(video, {"duration_ms": 60_000})
    with lake.writer("segment_detections", video) as writer:
        writer.write({"video": video.uri, **row} for row in rows)
    assert examine(lake, SEGMENT_DETECTION, [video])[video.partition_key].checks == broken
