"""The camera's motion is found, a camera that stands still has none, and tracks survive it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.tracking.motion import STILL, CameraMotion, moved, small_grey

SIZE = (640, 480)
NOBODY = np.zeros((0, 4))


@pytest.fixture(scope="module")
def place() -> np.ndarray:
    """A place larger than the picture, with structure of every size."""
    random = np.random.default_rng(3)
    sizes = [(960, 720, 40), (240, 180, 60), (60, 45, 50)]
    layers = [
        cv2.resize(random.normal(0, deviation, (h, w)).astype(np.float32), (960, 720))
        for w, h, deviation in sizes
    ]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


def view(place: np.ndarray, x: float, y: float, zoom: float = 1.0, degrees: float = 0.0) -> Frame:
    """What a camera sees whose picture's corner lies at a point of the place."""
    turn = cv2.getRotationMatrix2D((x + 320, y + 240), degrees, zoom)
    turn[:, 2] -= (x, y)
    grey = cv2.warpAffine(place, turn, SIZE)
    return Frame.from_image(np.asarray(np.repeat(grey[:, :, None], 3, axis=2), np.uint8))


def followed(place: np.ndarray, views: Sequence[tuple[float, ...]]) -> list[np.ndarray]:
    """Where a point of the place that is in the middle of the first view is told to be."""
    camera, found = CameraMotion(), []
    for each in views:
        to_steady = camera.update(small_grey(view(place, *each)), NOBODY, SIZE[0])
        x, y = 160 + 320 - each[0], 120 + 240 - each[1]
        found.append(moved(np.array([[x - 5, y - 5, x + 5, y + 5]]), *to_steady)[0])
    return found


@pytest.mark.parametrize(
    "views",
    [
        [(160 + 15 * np.sin(i / 6), 120 + 8 * np.sin(i / 4)) for i in range(60)],
        [(160 + 6 * (-1) ** i, 120 + 5 * (-1) ** (i // 2)) for i in range(30)],
        [(160 + 4 * i, 120 + i) for i in range(40)],
    ],
    ids=["sway", "shake", "pan"],
)
def test_a_thing_that_stands_still_stays_where_it_is(place, views):
    found = np.array(followed(place, views))
    way = np.hypot(*np.ptp(np.array(views), axis=0))
    assert np.abs(found - found[0]).max() < 2.5 + 0.05 * way  # pixels


def test_zoom_and_turn_are_found(place):
    camera = CameraMotion()
    to_steady = camera.update(small_grey(view(place, 160, 120)), NOBODY, SIZE[0])
    for step in range(1, 11):
        seen = view(place, 160, 120, zoom=1.02**step, degrees=0.5 * step)
        to_steady = camera.update(small_grey(seen), NOBODY, SIZE[0])
    assert abs(to_steady.turn) == pytest.approx(1.02**-10, rel=0.02)
    assert np.degrees(np.angle(to_steady.turn)) == pytest.approx(5, abs=0.7)


def test_a_camera_that_stands_still_has_no_motion_whatever_moves_and_flickers(place):
    random = np.random.default_rng(5)
    camera = CameraMotion()
    for step in range(60):
        image = view(place, 160, 120).image.copy()
        image[100:400, 8 * step : 8 * step + 120] = 30
        noisy = np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        person = np.array([[8 * step, 100, 8 * step + 120, 400]]) / [640, 480, 640, 480]
        assert camera.update(small_grey(Frame.from_image(noisy)), person, SIZE[0]) is STILL


def test_a_picture_without_structure_tells_no_motion():
    camera = CameraMotion()
    for grey in (50, 200, 90):
        frame = Frame.from_image(np.full((480, 640, 3), grey, np.uint8))
        assert camera.update(small_grey(frame), NOBODY, SIZE[0]) == STILL


def test_there_and_back_is_where_it_was():
    boxes = np.array([[10.0, 20, 50, 100], [0, 0, 4, 8]])
    there = moved(boxes, 2 + 0j, 5 - 3j)
    assert np.allclose(there, [[25, 37, 105, 197], [5, -3, 13, 13]])
    assert np.allclose(moved(there, 1 / (2 + 0j), -(5 - 3j) / 2), boxes)


def test_a_pan_is_found_where_most_of_the_picture_is_sky(place):
    sky = place.copy()
    sky[:420] = 200  # two thirds of what the camera sees
    views = [(160 + 4 * i, 120) for i in range(40)]
    found = np.array(followed(sky, views))
    assert np.abs(found - found[0]).max() < 2.5 + 0.05 * 160  # pixels


def test_a_quick_pan_is_found_where_most_of_the_picture_goes_its_own_way(place):
    """Water and leaves: what few points agree on is lost in a picture that shares little."""
    random, camera = np.random.default_rng(8), CameraMotion()
    for i in range(90):
        x = 160 + 64 * np.sin(0.2 * i)
        image = view(place, x, 120).image.copy()
        image[:190] = np.roll(image[:190], 9 * i, axis=1)
        noisy = np.clip(image + random.normal(0, 14, image.shape), 0, 255).astype(np.uint8)
        to_steady = camera.update(small_grey(Frame.from_image(noisy)), NOBODY, SIZE[0])
        assert to_steady.shift.real == pytest.approx(64 * np.sin(0.2 * i), abs=6)
