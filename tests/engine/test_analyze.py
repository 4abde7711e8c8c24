"""One call analyses one video: rows, order, damage, and nothing heavy before it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from rekognition_dagster.engine import VideoMetadata, analyze, decode, spans
from rekognition_dagster.errors import ModelError, VideoError
from rekognition_dagster.operations import FACE_DETECTION, LABEL_DETECTION, PERSON_TRACKING

from . import scripted

WALKERS = f"{scripted.__name__}:Walkers"


@pytest.fixture(autouse=True)
def scripted_faces(monkeypatch):
    monkeypatch.setattr(spans, "face_detector", lambda detailed: scripted.HeadOfFirst())


def analyzed(path, *operations, **how):
    rows = {name: [] for name in operations}
    how.setdefault("detector", WALKERS)
    metadata = analyze(path, {name: rows[name].extend for name in operations}, **how)
    return metadata, rows


def as_table(operation, rows):
    """The rows as the lake holds them: what does not fit its schema raises."""
    facts = [{"video": "v", "job_id": "j", **row} for row in rows]
    assert all(set(f) <= set(operation.schema.names) for f in facts)
    return pa.Table.from_pylist(facts, schema=operation.schema)


def test_people_keep_their_number_over_the_whole_video(make_video):
    metadata, rows = analyzed(make_video(), "person_tracking")
    assert isinstance(metadata, VideoMetadata)
    table = as_table(PERSON_TRACKING, rows["person_tracking"])
    assert sorted(set(table["person_index"].to_pylist())) == [0, 1]
    for index, direction in ((0, 1), (1, -1)):
        lefts = [
            r["bounding_box"]["left"] for r in rows["person_tracking"] if r["person_index"] == index
        ]
        assert len(lefts) >= 45
        assert np.all(np.diff(lefts) * direction > -0.01)


def test_rows_are_in_the_operations_order_and_times_are_the_frames(make_video):
    times = [0, 40, 100, 160, 240, 300, 340]
    _, rows = analyzed(make_video(times_ms=times), "person_tracking", "label_detection")
    people = [(r["timestamp_ms"], r["person_index"]) for r in rows["person_tracking"]]
    assert people == sorted(people)
    assert len(set(people)) == len(people)
    assert {t for t, _ in people} <= set(times)
    labels = [(r["timestamp_ms"], r["name"]) for r in rows["label_detection"]]
    names = ("Animal", "Canine", "Dog", "Mammal", "Person", "Pet")
    assert labels == [(t, name) for t in times for name in names]
    as_table(LABEL_DETECTION, rows["label_detection"])


def test_boxes_are_ratios_and_confidence_a_percentage(make_video):
    _, rows = analyzed(make_video(), "person_tracking")
    row = next(r for r in rows["person_tracking"] if r["timestamp_ms"] == 400)
    assert row["bounding_box"] == pytest.approx(
        {"left": 16 / 128, "top": 10 / 96, "width": 16 / 128, "height": 40 / 96}, abs=0.02
    )
    assert row["confidence"] == pytest.approx(90, abs=1)


def test_boxes_that_were_filled_in_say_so_and_have_no_confidence(make_video):
    blinking = f"{scripted.__name__}:Blinking"
    _, rows = analyzed(make_video(), "person_tracking", detector=blinking)
    table = as_table(PERSON_TRACKING, rows["person_tracking"])
    filled = table.filter(table["interpolated"])
    assert set(filled["timestamp_ms"].to_pylist()) == set(range(600, 800, 40))
    assert set(filled["person_index"].to_pylist()) == {0, 1}
    assert table["interpolated"].null_count == 0
    assert table["confidence"].is_null().equals(table["interpolated"])


def test_a_face_belongs_to_the_person_whose_head_it_sits_in(make_video):
    _, rows = analyzed(make_video(), "person_tracking", "face_detection")
    faces = {r["timestamp_ms"]: r["face"] for r in rows["face_detection"]}
    assert len(faces) == 50
    as_table(FACE_DETECTION, rows["face_detection"])
    table = as_table(PERSON_TRACKING, rows["person_tracking"])
    with_face = [r for r in table.to_pylist() if r["face"]]
    assert {r["person_index"] for r in with_face} == {0}
    assert len(with_face) >= 40


def test_several_operations_decode_the_video_once(make_video, monkeypatch):
    opened = []
    original = decode.open_video

    def counting(*args):
        opened.append(args)
        return original(*args)

    monkeypatch.setattr(spans, "open_video", counting)
    path = make_video()
    together = analyzed(path, "person_tracking", "face_detection", "label_detection")[1]
    assert len(opened) == 1
    for name in ("face_detection", "label_detection"):
        assert analyzed(path, name)[1][name] == together[name]


def test_sampling_gives_rows_at_the_sampled_times(make_video):
    _, rows = analyzed(make_video(), "person_tracking", sample_fps=5)
    times = sorted({r["timestamp_ms"] for r in rows["person_tracking"]})
    assert set(times) <= set(range(0, 2000, 200))
    assert len(times) >= 9
    assert {r["person_index"] for r in rows["person_tracking"]} == {0, 1}


def test_progress_rises_to_one(make_video):
    seen = []
    analyzed(make_video(), "label_detection", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 10


def test_rows_before_the_damage_are_delivered_and_counted(make_video):
    path = make_video()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    rows = []
    with pytest.raises(VideoError, match=r"s3://films/cut\.mp4") as error:
        analyze(
            path, {"person_tracking": rows.extend}, detector=WALKERS, video="s3://films/cut.mp4"
        )
    assert error.value.rows_kept == len(rows) > 10
    assert error.value.remedy


def test_what_is_wrong_with_the_call_is_told_before_the_video_is_read(tmp_path, make_video):
    with pytest.raises(ValueError, match="celebrity_recognition"):
        analyze(tmp_path / "x.mp4", {"celebrity_recognition": print})
    with pytest.raises(ValueError, match="sample_fps"):
        analyze(tmp_path / "x.mp4", {"person_tracking": print}, sample_fps=0)
    with pytest.raises(ModelError, match="unknown detector"):
        analyze(make_video(), {"person_tracking": print}, detector="magic")


def test_an_error_in_a_sink_ends_the_analysis(make_video):
    def full(rows):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        analyze(make_video(), {"person_tracking": full}, detector=WALKERS)


def test_importing_the_engine_loads_nothing_heavy():
    heavy = "cv2 openvino av torch ultralytics trackers supervision"
    code = (
        "import sys, rekognition_dagster.engine, rekognition_dagster.engine.models;"
        f"print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_without_the_extra_the_remedy_is_told():
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from rekognition_dagster.engine import analyze\n"
        "try: analyze('x.mp4', {})\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("ModelError")
    assert "rekognition-dagster[engine]" in said.stdout


def test_people_are_not_looked_for_with_a_detector_that_knows_none(make_video):
    dogs = f"{scripted.__name__}:Dogs"
    with pytest.raises(ModelError, match=r"scripted:Dogs knows no class person.*knows cat, dog"):
        analyze(make_video(), {"person_tracking": [].extend}, detector=dogs)
    labels: list[dict] = []
    analyze(make_video(), {"label_detection": labels.extend}, detector=dogs)
    assert {row["name"] for row in labels if row["instances"]} == {"Cat", "Dog"}
