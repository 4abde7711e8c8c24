"""A real street: who crosses a line is counted as a person counts who looks at the frames.

Hand counts: of each fifth frame of vtest.avi (795 frames at 10 a second), who was on the other side
of x = 0.7 than before, by the middle of the body. To the left in frames 12 B, 48 D, 56 E, 140 H,
158 I, 193 F, 229 C, 254 K, 262 M, 430 R, 458 T, 514 U, 519 a couple at the lower edge (overlooked
at first, and found when the tracks had them), 607 W, 637 R, 674 X, 679 D, 727 Y, 747 R; right
in 103 E, 109 D, 121 G, 170 B, 184 C, 358 P, 373 S, 377 N, 465 R, 491 Q, 607 D, 712 T, 726 R, 731 Z,
772 A. R is on the line at 690 and turns round by 697, which may count once more each way.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from walks import compute, rows, walked

from rekognition_dagster.lake import Lake
from rekognition_dagster.videos import Video

TO_LEFT, TO_RIGHT = 20, 15
LINE = """
gap: {gap}
cameras:
  - camera: street
    lines:
      middle: {points: [[0.7, 1.0], [0.7, 0.0]], to_left: left, to_right: right}
"""
KEY = "street/2026-01-31/120000.mp4"
TRUTH = Path(__file__).parents[2] / "benchmarks" / "tracking" / "vtest.txt"
WIDTH, HEIGHT, FRAME_MS = 768, 576, 100


def counted(lake: Lake, gap: int = 5) -> Counter[str]:
    compute(lake, LINE.replace("{gap}", str(gap)))
    return Counter(direction for (direction,) in rows(lake, "SELECT direction FROM line_crossings"))


def written(lake: Lake, video: Video, found: list[dict[str, object]]) -> None:
    with lake.writer("person_detections", video) as writer:
        writer.write(found)
    lake.write_video(video, {"duration_ms": 79_500, "width": WIDTH, "height": HEIGHT})
    lake.write_job(video, "person_tracking", {"status": "SUCCEEDED", "rows": len(found)})


def test_people_who_were_marked_by_hand_cross_as_often_as_counted_by_hand(tmp_path: Path) -> None:
    lake, video = walked(tmp_path), Video("cameras", KEY, etag="e")
    found: list[dict[str, object]] = []
    for line in TRUTH.read_text().splitlines():
        frame, person, left, top, width, height = map(float, line.split(",")[:6])
        box = {
            "left": left / WIDTH,
            "top": top / HEIGHT,
            "width": width / WIDTH,
            "height": height / HEIGHT,
        }
        at = round(frame - 1) * FRAME_MS
        row = {"timestamp_ms": at, "person_index": int(person), "bounding_box": box}
        found.append({"video": video.uri, **row})
    written(lake, video, sorted(found, key=lambda r: (r["timestamp_ms"], r["person_index"])))  # pyright: ignore
    count = counted(lake, gap=60)  # boxes at some frames, lines between them
    assert count["left"] == pytest.approx(TO_LEFT, abs=1)
    assert count["right"] == pytest.approx(TO_RIGHT, abs=1)


def test_the_engine_s_tracks_cross_as_often_within_one_each_way(
    tmp_path: Path, shared_file
) -> None:
    from rekognition_dagster.backfill import analyze_into_lake
    from rekognition_dagster.operations import PERSON_TRACKING

    source = shared_file("videos/vtest.avi")
    detector = f"openvino:{shared_file('models/yolo11n_int8_openvino_model')}"
    lake, video = walked(tmp_path), Video("cameras", KEY, etag="e")
    analyze_into_lake(video, source, lake, [PERSON_TRACKING], detector=detector, sample_fps=5.0)
    count = counted(lake)
    assert count["left"] == pytest.approx(TO_LEFT, abs=1)
    assert count["right"] == pytest.approx(TO_RIGHT, abs=1)
