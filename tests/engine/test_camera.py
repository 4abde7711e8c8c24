"""A blank picture, or another scene for a while, interrupts a scene and does not end it."""

from __future__ import annotations

import numpy as np
import pytest

from rekognition_dagster.engine import analyze
from rekognition_dagster.engine.tracking.camera import Camera
from tests.engine.conftest import write_frames

STANDING = "tests.engine.scripted:Standing"
NOBODY = np.zeros((0, 4))


def street(seed: int) -> np.ndarray:
    """Blocks of random grey in the size of small pictures."""
    blocks = np.random.default_rng(seed).uniform(20, 235, (12, 16))
    return np.kron(blocks, np.ones((10, 10))).astype(np.uint8)


def blank(level: int) -> np.ndarray:
    return np.full((120, 160), level, np.uint8)


def coloured(seed: int) -> np.ndarray:
    """A street as a frame of a video, 128 pixels wide."""
    return np.repeat(street(seed)[:96, :128, None], 3, axis=2)


def scenes(*pictures: np.ndarray, step_ms: int = 40) -> list[int]:
    camera = Camera()
    return [
        camera.update(picture, NOBODY, 640, step_ms * n)[0] for n, picture in enumerate(pictures)
    ]


@pytest.mark.parametrize("between", [blank(0), blank(250), street(2)])
@pytest.mark.parametrize("count", [1, 3, 25])
def test_the_scene_after_an_interruption_is_the_one_before_it(between, count):
    found = scenes(street(1), street(1), *[between] * count, street(1), street(1))
    assert found == [0, 0, *[1] * count, 0, 0]


def test_several_interruptions_are_none_the_more():
    found = scenes(street(1), street(2), blank(0), street(1), street(2))
    assert found == [0, 1, 2, 0, 1]


def test_a_scene_after_more_than_an_absence_is_new():
    assert scenes(street(1), *[blank(0)] * 4, street(1), step_ms=2000) == [0, 1, 1, 1, 1, 2]


def test_a_scene_that_is_another_one_is_new():
    assert scenes(street(1), blank(0), street(2)) == [0, 1, 2]


def test_the_cameras_motion_goes_on_after_an_interruption():
    camera = Camera()
    wide = np.kron(np.random.default_rng(3).uniform(20, 235, (20, 30)), np.ones((10, 10)))
    views = [wide[20:140, 10 + 3 * n : 170 + 3 * n].astype(np.uint8) for n in range(6)]
    views.insert(4, blank(0))
    shifts = [camera.update(v, NOBODY, 160, 40 * n)[1].shift.real for n, v in enumerate(views)]
    assert shifts[-1] == pytest.approx(15, abs=1.5)


@pytest.mark.parametrize("between", ["black", "white", "grey", "other"])
def test_somebody_keeps_their_index_across_an_interruption(tmp_path, between):
    foreign = {
        "black": np.zeros((96, 128, 3), np.uint8),
        "white": np.full((96, 128, 3), 255, np.uint8),
        "grey": np.full((96, 128, 3), 128, np.uint8),
        "other": coloured(5),
    }[between]
    pictures = [coloured(1)] * 150
    pictures[60:75] = [foreign] * 15
    rows: list[dict] = []
    path = write_frames(tmp_path / "interrupted.mp4", pictures)
    analyze(path, {"person_tracking": rows.extend}, detector=STANDING)
    outside = [r for r in rows if not 2400 <= r["timestamp_ms"] < 3000]
    assert {row["person_index"] for row in outside} == {0}
    assert len(outside) == 135
    assert 0 not in {r["person_index"] for r in rows if 2400 <= r["timestamp_ms"] < 3000}
