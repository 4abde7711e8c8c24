"""The embedded models on real video."""

from __future__ import annotations

import pytest

from rekognition_dagster.engine import analyze
from rekognition_dagster.operations import OPERATIONS


def test_the_man_in_the_car_is_one_person_with_one_face(sample):
    path = sample("carphone_pristine.mp4")
    for weights in ("object-efficientdet-lite0", "face-yunet"):
        sample(weights)
    rows = {name: [] for name in OPERATIONS}
    analyze(path, {name: found.extend for name, found in rows.items()}, sample_fps=10)
    frames = 40
    people = rows["person_tracking"]
    assert {r["person_index"] for r in people} == {0}
    assert len(people) >= frames - 2
    assert sum("face" in r for r in people) >= frames - 4
    assert len(rows["face_detection"]) == pytest.approx(frames, abs=2)
    labels = {r["name"] for r in rows["label_detection"]}
    assert {"Person", "Tie", "Accessories"} <= labels
    assert "Car" not in labels, "he sits in one, and none is in the picture"
    first, last = rows["face_detection"][0]["face"], rows["face_detection"][-1]["face"]
    assert first["confidence"] > 60
    assert abs(first["pose"]["yaw"]) < 30
    # his head leans to the picture's left throughout, counter-clockwise
    assert max(first["pose"]["roll"], last["pose"]["roll"]) < 0
