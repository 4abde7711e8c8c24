"""What people wear tells them apart, and nothing else in the picture does."""

from __future__ import annotations

import numpy as np
import pytest

from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.tracking import appearance

BOX = (40.0, 20.0, 80.0, 120.0)


def dressed(chest, legs, size=(160, 160), ground=90, box=BOX):
    """A picture of somebody in two colours."""
    image = np.full((size[1], size[0], 3), ground, np.uint8)
    left, top, right, bottom = (int(v) for v in box)
    middle = (top + bottom) // 2
    image[top:middle, left:right] = chest
    image[middle:bottom, left:right] = legs
    return image


def seen(image, *boxes):
    return appearance.describe(Frame.from_image(image), np.array(boxes, np.float32)).astype(float)


def test_the_same_clothes_are_the_same_wherever_and_however_large_they_are_seen():
    red = (180, 30, 40), (30, 30, 60)
    [near] = seen(dressed(*red), BOX)
    far_box = (100.0, 60.0, 116.0, 100.0)
    [far] = seen(dressed(*red, ground=200, box=far_box), far_box)
    assert appearance.distance(near, far) < 0.05


def test_other_clothes_are_other():
    [red] = seen(dressed((180, 30, 40), (30, 30, 60)), BOX)
    [blue] = seen(dressed((60, 90, 170), (30, 30, 60)), BOX)
    [swapped] = seen(dressed((30, 30, 60), (180, 30, 40)), BOX)
    assert appearance.distance(red, blue) > 0.3
    assert appearance.distance(red, swapped) > 0.3


def test_boxes_may_reach_beyond_the_picture():
    image = dressed((180, 30, 40), (30, 30, 60))
    found = seen(image, (-20, -30, 30, 60), (140, 100, 300, 400), (10, 10, 10, 10))
    assert found.shape == (3, appearance.SIZE)
    assert np.isfinite(found).all()


def test_nobody_has_no_appearance():
    frame = Frame.from_image(np.zeros((9, 9, 3), np.uint8))
    assert appearance.describe(frame, np.zeros((0, 4))).shape == (0, appearance.SIZE)


@pytest.mark.parametrize("size", [(7680, 4320), (16, 16)])
def test_any_picture_will_do(size):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    [found] = seen(image, (1, 1, size[0] - 1, size[1] - 1))
    assert (found**2).sum() == pytest.approx(3 * 3 * 255**2, rel=0.02)
