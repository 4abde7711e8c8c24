"""What Dagster's UI shows of a partition: numbers, first rows, paths, and a query to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import dagster as dg
import pytest
from deployment import Deployment

from rekognition_dagster import Lake, Video
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.orchestration.highlights import clock, draw_paths, examine, markdown_table
from rekognition_dagster.state import log

VIDEO, EMPTY = Video("b", "a.mp4"), Video("b", "empty.mp4")


def box(left: float) -> dict[str, float]:
    return {"left": left, "top": 0.5, "width": 0.1, "height": 0.25}


def person(time: int, index: int, *, interpolated: bool = False, **more: Any) -> dict[str, Any]:
    row = {"timestamp_ms": time, "person_index": index, "bounding_box": box(time / 10_000)}
    return row | {"interpolated": interpolated} | more


FACE = {"bounding_box": box(0.1), "confidence": 99.0}
ROWS: dict[str, list[dict[str, Any]]] = {
    "person_tracking": [
        person(0, 0),
        person(1000, 0, interpolated=True),
        person(1000, 1, face=FACE),
        person(2000, 0),
    ],
    "face_detection": [{"timestamp_ms": t, "face": FACE | {"bounding_box": box(x)}} for t, x in
                       ((0, 0.1), (500, 0.1), (500, 0.2))],
    "label_detection": [
        {"timestamp_ms": 0, "name": "Car", "parents": ["Vehicle"]},
        {"timestamp_ms": 0, "name": "Bus"},
        {"timestamp_ms": 500, "name": "Car"},
    ],
    "segment_detection": [
        {"type": "SHOT", "start_timestamp_ms": 0, "end_timestamp_ms": 3000, "duration_ms": 3000},
        {"type": "TECHNICAL_CUE", "cue_type": "BlackFrames", "start_timestamp_ms": 0,
         "end_timestamp_ms": 400, "duration_ms": 400},
    ],
}  # fmt: skip
HIGHLIGHTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "person_tracking": (
        {
            "people": 2,
            "people_with_a_face": 1,
            "longest_stay_ms": 2000,
            "most_people_at_once": 2,
            "busiest_moment_ms": 1000,
            "share_interpolated": 0.25,
        },
        {"people": 0, "people_with_a_face": 0},
    ),
    "face_detection": (
        {"faces": 3, "most_faces_at_once": 2, "busiest_moment_ms": 500},
        {"faces": 0},
    ),
    "label_detection": ({"labels": 2, "most_often": "Car, Bus"}, {"labels": 0}),
    "segment_detection": (
        {"shots": 1, "longest_shot_ms": 3000, "black_ms": 400},
        {"shots": 0, "black_ms": 0},
    ),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_highlights_say_what_the_rows_of_each_video_say(name: str, tmp_path: Path) -> None:
    lake, operation = Lake(tmp_path), OPERATIONS[name]
    for video, rows in ((VIDEO, ROWS[name]), (EMPTY, [])):
        lake.write_video(video, {"duration_ms": 10_000, "width": 640, "height": 360})
        with lake.writer(operation.table, video) as writer:
            writer.write({"video": video.uri, **row} for row in rows)
    found = examine(lake, operation, [VIDEO, EMPTY])
    full, empty = (found[v.partition_key] for v in (VIDEO, EMPTY))
    assert (dict(full.highlights), dict(empty.highlights)) == HIGHLIGHTS[name]
    assert full.detail["first_rows"].count("\n") == 1 + len(ROWS[name])
    assert empty.detail == {}
    assert ("paths" in full.detail) is (name == "person_tracking")


def test_first_rows_are_readable_and_hold_no_markup_of_strangers() -> None:
    rows = [
        {"name": "<img src=x>|[a](b)", "timestamp_ms": 61_500, "box": box(0.25), "none": None},
        {"name": "x" * 99, "timestamp_ms": 0, "box": None, "none": None},
    ]
    assert markdown_table(["timestamp_ms", "name", "box", "none"], rows) == (
        "| timestamp_ms | name | box |\n| --- | --- | --- |\n"
        "| 1:01.5 | \\<img src=x\\>\\|\\[a\\](b) | 10% × 25% at 25%, 50% |\n"
        f"| 0:00.0 | {'x' * 59}… |  |"
    )
    assert markdown_table(["a"], []) == ""
    assert clock(3_723_400) == "1:02:03.4"


def test_paths_are_drawn_within_the_frame_to_scale() -> None:
    text = draw_paths([[(0.0, 0.0), (0.5, 1.0)], [(0.25, 0.5)]], aspect=0.75)
    svg = drawn(text)
    assert svg.attrib["viewBox"] == "0 0 160 120"
    frame, first, second, ends = (e.attrib["d"] for e in svg)
    assert frame == "M0 0h160v120H0z"
    assert (first, second) == ("M0 0l80 120", "M40 60")
    assert ends == "M80 120h1M40 60h1"


def test_a_drawing_is_small_enough_to_be_shown_at_once_however_many_people_there_are() -> None:
    walk = [(n / 12, (n * 7 % 12) / 12) for n in range(12)]
    text = draw_paths([walk] * 24, aspect=0.5625)
    assert len(text) < 1000
    assert len(drawn(text)) >= 8


def drawn(text: str) -> ElementTree.Element:
    """The image in Markdown."""
    start = "![paths](<data:image/svg+xml,"
    assert text.startswith(start)
    return ElementTree.fromstring(unquote(text[len(start) : -2]))


def latest(deployment: Deployment, key: str) -> dict[str, Any]:
    (record, *_) = deployment.instance.fetch_materializations(dg.AssetKey([key]), limit=1).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def test_reports_show_people_what_was_found(deployment: Deployment) -> None:
    video = deployment.complete("it's.mp4")[0]
    for sensor in ("results_refresh", "analytics_refresh"):
        deployment.run_requested(sensor)
    deployment.tick("reports")
    shown = latest(deployment, "person_detections")
    assert (shown["people"], shown["longest_stay"]) == (2, "0:00.1")
    assert "it''s.mp4'" in shown["query"]
    assert shown["first_rows"].startswith("| timestamp_ms | person_index |")
    assert shown["paths"].startswith("![paths](<data:image/svg+xml")
    assert shown["dagster/partition_row_count"] == 10
    assert latest(deployment, "person_paths")["first_rows"].count("\n") == 3
    columns = {
        c.name: c for c in latest(deployment, "person_paths")["dagster/column_schema"].columns
    }
    assert columns["dwell_ms"].type == "int64"
    assert columns["dwell_ms"].description == "From the first time to the last."
    assert latest(deployment, "video")["size"] == "5 bytes"
    assert not {"token", "job_id"} & set(shown)
    assert "token" not in latest(deployment, "person_tracking_job")
    # Reported again, as to a new instance, it has the numbers still.
    with deployment.state.write() as connection:
        log.report_all(connection, deployment.settings.operations, [])
    deployment.tick("reports")
    again = latest(deployment, "person_detections")
    assert (again["people"], again["longest_stay"]) == (2, "0:00.1")
    assert "paths" not in again
    assert deployment.partitions() == [video]


def test_a_partition_of_several_videos_names_them_and_what_each_has(deployment: Deployment) -> None:
    deployment.set(partition_by="{camera}/{date}")
    deployment.complete(*(f"lobby/2026-01-31/{i}.mp4" for i in range(12)))
    deployment.run_requested("results_refresh")
    deployment.tick("reports")
    shown = latest(deployment, "person_detections")
    assert (shown["videos"], shown["dagster/partition_row_count"]) == (12, 120)
    lines = shown["by_video"].splitlines()
    assert lines[0].startswith("| video | rows | people |")
    assert len(lines) == 2 + 10 + 2
    assert lines[-1] == "and 2 more"


def test_runs_say_in_their_tags_what_they_are_for(deployment: Deployment) -> None:
    deployment.complete("lobby/2026-01-30/a.mp4", "lobby/2026-02-01/b.mp4")
    (request,) = deployment.tick("results_refresh").run_requests
    ours = {k: v for k, v in request.tags.items() if k.startswith("rekognition/")}
    assert ours.pop("rekognition/batch") == request.run_key
    assert ours == {
        "rekognition/deployment": deployment.settings.name,
        "rekognition/operations": "person_tracking",
        "rekognition/videos": "2",
        "rekognition/dates": "2026-01-30 to 2026-02-01",
        "rekognition/prefix": f"s3://{deployment.settings.bucket}/lobby/",
    }
