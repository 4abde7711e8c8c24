"""What is covered: everyone the rows know, also between rows and a moment before and after."""

from __future__ import annotations

import numpy as np
import pytest

from rekognition_dagster.pictures.cover import cover
from rekognition_dagster.pictures.rows import Row
from rekognition_dagster.pictures.timeline import Timeline

BODY = (0.4, 0.2, 0.6, 0.8)


def covers(boxes: list[tuple[float, float, float, float]], x: float, y: float) -> bool:
    return any(a <= x <= c and b <= y <= d for a, b, c, d in boxes)


def moved(by: float) -> tuple[float, float, float, float]:
    return BODY[0] + by, BODY[1], BODY[2] + by, BODY[3]


def test_a_person_is_covered_before_between_and_after_their_rows() -> None:
    rows = [Row(2000, "person", 0, BODY), Row(6000, "person", 0, moved(0.3))]
    timeline = Timeline(rows, 200)
    found = {t: timeline.covered(t, "people") for t in (1000, 1500, 2000, 4000, 6500, 7000)}
    assert found[1000] == found[7000] == []
    for time in (1500, 2000, 4000):
        assert covers(found[time], 0.5, 0.25)
        assert covers(found[time], 0.5, 0.75)
    assert all(covers(found[4000], x, 0.5) for x in np.linspace(0.4, 0.9, 9))  # wherever they are
    assert covers(found[6500], 0.8, 0.5)


def test_heads_are_covered_be_there_a_face_or_not() -> None:
    timeline = Timeline([Row(0, "person", 0, BODY)], 40)
    found = timeline.covered(0, "faces")
    assert covers(found, 0.5, 0.3)
    assert not covers(found, 0.5, 0.6)


@pytest.mark.parametrize("kind", ["head", "face"])
def test_faces_are_covered_wherever_they_are(kind: str) -> None:
    face = (0.45, 0.6, 0.5, 0.7)
    rows = [
        Row(0, "person", 0, BODY),
        Row(0, kind, 0 if kind == "head" else None, face),  # type: ignore[arg-type]
        Row(200, kind, 0 if kind == "head" else None, (0.47, 0.6, 0.52, 0.7)),  # type: ignore[arg-type]
    ]
    timeline = Timeline(rows, 200)
    for time in (0, 100, 200, 500):
        assert covers(timeline.covered(time, "faces"), 0.475, 0.65)
    assert timeline.covered(3000, "faces") == []


def test_passing_faces_are_not_one_large_one() -> None:
    rows = [
        Row(t, "face", None, box)
        for t in range(0, 400, 40)
        for box in ((0.1, 0.1, 0.2, 0.2), (0.7, 0.7, 0.8, 0.8))
    ]
    found = Timeline(rows, 40).covered(200, "faces")
    assert len(found) == 2
    assert not covers(found, 0.5, 0.5)


def test_covered_pixels_are_gone() -> None:
    random = np.random.default_rng(2)
    image = random.integers(0, 256, (300, 400, 3)).astype(np.uint8)
    before = image.copy()
    cover(image, [(0.25, 0.25, 0.5, 0.75), (-0.5, 0.9, 0.1, 1.5), (0.99, 0.0, 0.992, 0.001)])
    inside = image[75:225, 100:200]
    assert len(np.unique(inside.reshape(-1, 3), axis=0)) <= 3 * 16
    # what is left of a pixel is no more than its block's colour
    assert (inside[:, 1:] != inside[:, :-1]).any(axis=2).mean() < 0.05
    outside = image.copy()
    for region in (np.s_[75:225, 100:200], np.s_[269:, :41], np.s_[:2, 395:]):
        outside[region] = before[region]
    assert (outside == before).all()
    assert (image[275:, :35] != before[275:, :35]).any()


def test_what_two_samples_say_is_held_between_them() -> None:
    rows = [Row(t, "label", "Dog", BODY) for t in (0, 500)]
    timeline = Timeline(rows, 500)
    assert [len(timeline.at(t).labels) for t in (0, 400, 500, 1200, 1300)] == [1, 1, 1, 1, 0]
