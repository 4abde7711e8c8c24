"""Pose has the API's signs, quality its scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekognition_dagster.engine.detectors.yunet import LANDMARKS
from rekognition_dagster.engine.faces import describe, face_struct, pose, quality
from rekognition_dagster.engine.frame import Frame

from .scripted import found

# Landmarks (eyes, nose, mouth) and poses as the API's own documentation prints them.
PUBLISHED = [
    (
        [(0.6395, 0.4082), (0.7267, 0.4104), (0.6912, 0.4424), (0.6306, 0.4670), (0.7216, 0.4711)],
        {"roll": 0.995, "yaw": 13.69, "pitch": 4.05},
    ),
    (
        [(0.3977, 0.6248), (0.4811, 0.6317), (0.4199, 0.7112), (0.4053, 0.7498), (0.4753, 0.7559)],
        {"roll": 4.71, "yaw": -24.4, "pitch": -9.71},
    ),
    (
        [(0.6007, 0.2908), (0.6808, 0.2961), (0.6395, 0.3523), (0.5892, 0.3869), (0.6746, 0.3941)],
        {"roll": 2.10, "yaw": 6.72, "pitch": -4.68},
    ),
]
FRONTAL = np.array([(30, 40), (70, 40), (50, 63), (35, 80), (65, 80)], float)


@pytest.mark.parametrize(("points", "expected"), PUBLISHED)
def test_poses_agree_with_the_published_examples(points, expected):
    # the examples' pictures are wider than high, in a ratio that is not published
    found_pose = dict(zip(("roll", "yaw", "pitch"), pose(np.array(points)), strict=True))
    assert found_pose == {name: pytest.approx(value, abs=6) for name, value in expected.items()}


@given(st.floats(-80, 80))
def test_turning_the_picture_changes_the_roll_alone(degrees):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    roll, yaw, pitch = pose(FRONTAL @ turn.T)
    assert roll == pytest.approx(degrees, abs=1e-6)
    assert (yaw, pitch) == pytest.approx(pose(FRONTAL)[1:], abs=1e-6)


def test_a_nose_to_the_right_is_a_positive_yaw_and_a_raised_one_a_positive_pitch():
    right, raised = FRONTAL.copy(), FRONTAL.copy()
    right[2] += (10, 0)
    raised[2] -= (0, 8)
    assert abs(pose(FRONTAL)[1]) < 1
    assert pose(right)[1] > 10
    assert pose(raised)[2] > pose(FRONTAL)[2] + 10


def test_quality_rises_with_light_and_detail():
    detail = np.random.default_rng(2).integers(0, 255, (64, 64), np.uint8)
    flat = np.full((64, 64), 128, np.uint8)
    assert quality(detail)[1] > 90
    assert quality(flat)[1] < 10
    assert quality(flat)[0] == pytest.approx(50, abs=1)
    assert quality(np.full_like(flat, 255))[0] == pytest.approx(100, abs=0.1)
    assert quality(np.zeros((0, 4), np.uint8)) == (0, 0)


def test_faces_are_described_in_ratios_and_implausible_ones_left_out():
    faces = found((10, 20, 30, 50), (40, 20, 60, 50), (70, 20, 72, 50))
    marks = np.array([(4, 10), (16, 10), (10, 17), (5, 24), (15, 24)], np.float32)
    corners = np.array([(10, 20), (400, 20), (70, 20)], np.float32)  # the second's are far away
    faces.data[LANDMARKS] = marks[None] + corners[:, None]
    frame = Frame.from_image(np.zeros((100, 100, 3), np.uint8), timestamp_ms=40)
    (record,) = describe(faces, frame)
    face = face_struct(record)
    assert face["bounding_box"] == pytest.approx(
        {"left": 0.1, "top": 0.2, "width": 0.2, "height": 0.3}
    )
    assert face["confidence"] == pytest.approx(90)
    assert [m["type"] for m in face["landmarks"]] == [
        "eyeLeft",
        "eyeRight",
        "nose",
        "mouthLeft",
        "mouthRight",
    ]
    assert face["landmarks"][0] == pytest.approx({"type": "eyeLeft", "x": 0.14, "y": 0.3})
    assert set(face) == {"bounding_box", "confidence", "landmarks", "pose", "quality"}


def test_a_bright_face_is_told_from_a_dark_one_wherever_it_is():
    image = np.zeros((100, 100, 3), np.uint8)
    image[20:50, 40:60] = 204
    faces = found((10, 20, 30, 50), (40, 20, 60, 50), (90, 20, 110, 50))
    marks = np.array([(4, 10), (16, 10), (10, 17), (5, 24), (15, 24)], np.float32)
    faces.data[LANDMARKS] = marks[None] + faces.xyxy[:, None, :2]
    dark, bright, half_outside = describe(faces, Frame.from_image(image))
    assert dark["quality"][0] == 0
    assert bright["quality"][0] == pytest.approx(80, abs=0.1)
    assert half_outside["quality"][0] == 0
