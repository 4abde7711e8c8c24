"""The embedded models on real video."""

from __future__ import annotations

import numpy as np
import pytest

from rekognition_dagster.engine import analyze, open_detector
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.operations import OPERATIONS


def test_the_man_in_the_car_is_one_person_with_one_face(sample):
    path = sample("carphone_pristine.mp4")
    for weights in ("person-ssdlite", "face-yunet"):
        sample(weights)
    rows = {name: [] for name in OPERATIONS}
    analyze(path, {name: found.extend for name, found in rows.items()}, sample_fps=10)
    frames = 40
    people = rows["person_tracking"]
    assert {r["person_index"] for r in people} == {0}
    assert len(people) >= frames - 2
    assert sum("face" in r for r in people) >= frames - 4
    assert len(rows["face_detection"]) == pytest.approx(frames, abs=2)
    assert {r["name"] for r in rows["label_detection"]} == {"Person"}
    first, last = rows["face_detection"][0]["face"], rows["face_detection"][-1]["face"]
    assert first["confidence"] > 60
    assert abs(first["pose"]["yaw"]) < 30
    # his head leans to the picture's left throughout, counter-clockwise
    assert max(first["pose"]["roll"], last["pose"]["roll"]) < 0


@pytest.mark.parametrize(
    "size", [(640, 272), (640, 360), (640, 480), (176, 144), (720, 1280), (480, 480)]
)
def test_nobody_is_in_a_blank_picture_of_any_shape(sample, size):
    sample("person-ssdlite")
    detector = open_detector()
    for grey in (0, 90, 128, 200, 255):
        image = np.full((size[1], size[0], 3), grey, np.uint8)
        (found,) = detector.detect([Frame(0, 0, *size, _raw=None, _image=image)])
        assert not (np.asarray(found.confidence) >= detector.scores.sure / 2).any()
