"""A cut is told from motion, from noise and from a change of light."""

from __future__ import annotations

import numpy as np
import pytest

from rekognition_dagster.engine.tracking.cuts import Cuts, thumbnail


def scene(seed: int, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Blocks of random grey: a street, as far as a cut is concerned."""
    dice = np.random.default_rng(seed)
    blocks = dice.uniform(20, 235, (12, 16))
    tall = np.kron(blocks, np.ones((size[0] // 12, size[1] // 16)))
    return np.repeat(tall[:, :, None], 3, axis=2)


def cuts(*images: np.ndarray) -> list[bool]:
    seen = Cuts()
    lumas = [np.clip(image, 0, 255).astype(np.uint8).mean(axis=2) for image in images]
    return [seen.between(thumbnail(luma)) for luma in lumas]


def test_another_scene_is_a_cut():
    assert cuts(scene(1), scene(1), scene(2), scene(2)) == [False, False, True, False]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image * 0.4,
        lambda image: image * 0.7 + 60,
        lambda image: image + np.random.default_rng(0).normal(0, 25, image.shape),
        lambda image: np.roll(image, 6, axis=1),
    ],
    ids=["dimmed", "brighter", "noisy", "panned"],
)
def test_light_noise_and_motion_are_none(change):
    assert cuts(scene(1), change(scene(1))) == [False, False]


def test_a_person_who_fills_a_third_of_the_picture_is_none():
    walking = scene(1)
    walking[:, 60:165] = 10
    assert cuts(scene(1), walking, scene(1)) == [False, False, False]


def test_a_blank_picture_begins_another_shot():
    blank = np.full((240, 320, 3), 30.0)
    assert cuts(scene(1), blank, blank, blank + 20, scene(1)) == [False, True, False, False, True]


def test_something_that_jumps_across_a_plain_floor_is_none():
    here, there = np.full((240, 320, 3), 90.0), np.full((240, 320, 3), 90.0)
    here[100:160, 20:80] = 255
    there[100:160, 240:300] = 255
    assert cuts(here, there) == [False, False]
