"""As many frames are looked at as the scene needs, and everybody is there in all of them."""

from __future__ import annotations

import numpy as np
import pytest

from rekognition_dagster.engine import analyze, parse_sample_fps
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.sampling import MOVING_FPS, STILL_FPS, as_needed

from . import scripted

SPAN_MS = 8_000
STREET = np.kron(np.random.default_rng(0).uniform(40, 200, (12, 16)), np.ones((20, 20)))


def picture(left: int | None = None, light: float = 1.0, noise: int | None = None) -> np.ndarray:
    """A street, somebody in it if they are anywhere."""
    grey = STREET * light
    if left is not None:
        grey = grey.copy()
        grey[100:160, left : left + 24] = 15
    if noise is not None:
        grey = grey + np.random.default_rng(noise).normal(0, 3, grey.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def frames(pictures, fps=25.0, begin_ms=0):
    return [
        Frame.from_image(image, i, begin_ms + round(i * 1000 / fps))
        for i, image in enumerate(pictures)
    ]


def looked_at(them):
    return [frame.timestamp_ms for frame, wanted in as_needed(them, SPAN_MS) if wanted]


def test_a_still_scene_is_looked_at_now_and_then_and_at_its_end():
    still = frames([picture(50, noise=i) for i in range(51)])
    times = looked_at(still)
    assert times == [0, 400, 800, 1200, 1600, 2000]
    assert 1000 / STILL_FPS == 400


@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
def test_a_scene_that_moves_is_looked_at_at_one_rate_whatever_the_videos(fps):
    moving = frames([picture(round(60 * i / fps)) for i in range(int(3 * fps))], fps)
    assert len(looked_at(moving)) == pytest.approx(3 * MOVING_FPS, abs=1)


def test_a_slow_video_is_looked_at_whole():
    moving = frames([picture(4 * i) for i in range(30)], fps=8)
    assert len(looked_at(moving)) == 30


def test_looks_begin_with_what_comes_in():
    nobody = [picture(noise=i) for i in range(32)]
    somebody = [picture(3 * i, noise=i) for i in range(18)]
    times = looked_at(frames(nobody + somebody))
    assert [t for t in times if t < 1280] == [0, 400, 800, 1200]
    assert next(t for t in times if t >= 1280) <= 1280 + 100


@pytest.mark.parametrize("light", [0.96, 1.04])
def test_light_that_changes_everywhere_is_no_motion(light):
    bright = [picture(light=1 if i < 12 else light, noise=i) for i in range(26)]
    flat = [np.clip(p.astype(int) + (0 if i < 12 else 20), 0, 255) for i, p in enumerate(bright)]
    times = looked_at(frames([p.astype(np.uint8) for p in flat]))
    assert times == [0, 400, 800, 1000]


def test_the_choice_is_the_same_wherever_a_video_is_divided():
    random = np.random.default_rng(7)
    places = np.cumsum(random.integers(0, 2, 400)) % 290
    whole = frames([picture(int(place)) for place in places])
    second = [f for f in whole if f.timestamp_ms >= SPAN_MS]
    first = [f for f in whole if f.timestamp_ms < SPAN_MS]
    assert looked_at(first) + looked_at(second) == looked_at(whole)


def test_everybody_is_in_all_frames_and_where_nobody_looked_the_row_says_so(make_video):
    seen = []

    class Counting(scripted.Walkers):
        def detect(self, frames):
            return super().detect(seen.append(f.timestamp_ms) or f for f in frames)

    scripted.Counting = Counting  # pyright: ignore[reportAttributeAccessIssue]
    path, runs = make_video(times_ms=list(range(0, 2000, 40))), []
    for _ in range(2):
        rows: list[dict] = []
        labels: list[dict] = []
        sinks = {"person_tracking": rows.extend, "label_detection": labels.extend}
        analyze(path, sinks, detector=f"{scripted.__name__}:Counting", sample_fps="auto")
        runs.append((rows, labels))
    assert runs[0] == runs[1]
    looks = seen[: len(seen) // 2]
    assert len(looks) <= 21
    rows, labels = runs[0]
    for index in (0, 1):
        times = [r["timestamp_ms"] for r in rows if r["person_index"] == index]
        assert times == list(range(0, 2000, 40))
    told = {r["timestamp_ms"] for r in rows if not r["interpolated"]}
    assert told == set(looks)
    assert {r["timestamp_ms"] for r in labels} == set(looks)
    for row in rows:
        x = row["timestamp_ms"] / 25 if row["person_index"] == 0 else 110 - row["timestamp_ms"] / 25
        assert row["bounding_box"]["left"] * 128 == pytest.approx(x, abs=1.5)


@pytest.mark.parametrize(
    ("pixels", "codec"),
    [("yuv420p", "libx264"), ("gray", "ffv1"), ("yuv420p10le", "ffv1"), ("bgr0", "ffv1")],
)
def test_brightness_comes_from_the_decoders_plane_or_from_the_picture(make_video, pixels, codec):
    path = make_video("v.mkv", codec=codec, pixels=pixels, size=(130, 98))
    with open_video(path) as video:
        frame = next(iter(video.frames()))
        luma = frame.luma.astype(int)
        grey = frame.image.mean(axis=2)
    assert luma.shape == (98, 130)
    street = (slice(40, 48), slice(60, 120))  # grey, away from the red corner
    assert luma[street] == pytest.approx(grey[street], abs=16)
    assert luma[60, 8] > luma[80, 100] + 80


@pytest.mark.parametrize("wrong", ["often", 0, -1, "0", "nan", "inf", ""])
def test_a_rate_is_a_positive_number_or_auto(wrong):
    with pytest.raises(ValueError, match="positive number, or auto"):
        parse_sample_fps(wrong)
    assert parse_sample_fps("auto") == "auto"
    assert parse_sample_fps("2.5") == 2.5
    assert parse_sample_fps(None) is None
