"""Shots and black frames in videos that are made with known ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from rekognition_dagster.engine import BlackFrames, analyze, open_workers
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.segments.boundaries import Boundaries
from rekognition_dagster.engine.segments.fold import Segments
from rekognition_dagster.engine.segments.observation import Observation
from rekognition_dagster.engine.segments.timecode import timecode

from . import scripted

SIZE = 160, 120
WALKERS = f"{scripted.__name__}:Walkers"
Images = list[np.ndarray]


def scene(seed: int, frames: int, *, noise: float = 4.0, pace: float = 3) -> Images:
    """A street of grey blocks that the camera pans over, with somebody who walks, and noise."""
    dice = np.random.default_rng(seed)
    blocks = dice.uniform(20, 230, (14, 24)).astype(np.float32)
    wide = cv2.resize(blocks, (320, 180), interpolation=cv2.INTER_CUBIC)
    left, top = dice.integers(0, 40, 2)
    shot = []
    for n in range(frames):
        image = wide[top : top + SIZE[1], left + n // 2 : left + n // 2 + SIZE[0]].copy()
        left_foot = int(pace * n) % 130
        image[40:110, left_foot : left_foot + 22] = 15
        shot.append(clipped(image + dice.normal(0, noise, image.shape)))
    return shot


def clipped(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)


def write(path: Path, images: Sequence[np.ndarray], rate: Fraction | int = 25) -> Path:
    """Encode grey pictures as H.264."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "28"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.repeat(image[:, :, None], 3, 2), format="rgb24")
            frame.pts, frame.time_base = number, 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def segments(path: Path, **how: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    analyze(path, {"segment_detection": rows.extend}, **how)
    return sorted(rows, key=lambda row: (row["type"], row["start_frame_number"]))


def shots(path: Path, **how: Any) -> list[tuple[int, int]]:
    """First and last frame of each shot."""
    return [
        (row["start_frame_number"], row["end_frame_number"])
        for row in segments(path, **how)
        if row["type"] == "SHOT"
    ]


def small_of(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(image, (48, 36), interpolation=cv2.INTER_AREA), np.uint8)


def starts(images: Sequence[np.ndarray]) -> list[int]:
    """First frames of shots after the first, of pictures that are not encoded."""
    found, boundaries = [], Boundaries()
    for number, image in enumerate(images):
        found += boundaries.add(number, 40 * number, small_of(image))
    return [b.frame for b in found + boundaries.end()]


# -- cuts -----------------------------------------------------------------------------------------


def test_hard_cuts_are_found_on_their_frame_and_shots_tile_the_video(tmp_path: Path) -> None:
    lengths = [30, 12, 45, 8, 20]
    images = [image for n, length in enumerate(lengths) for image in scene(n, length)]
    rows = segments(write(tmp_path / "cuts.mp4", images))
    ends = np.cumsum(lengths).tolist()
    found = [(row["start_frame_number"], row["end_frame_number"]) for row in rows]
    assert found == list(zip([0, *ends[:-1]], [end - 1 for end in ends], strict=True))
    assert [row["shot_index"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(row["type"] == "SHOT" and 50 <= row["shot_confidence"] <= 100 for row in rows)
    first, second = rows[0], rows[1]
    assert (first["start_timestamp_ms"], first["end_timestamp_ms"]) == (0, 29 * 40)
    assert (first["duration_ms"], first["duration_frames"]) == (29 * 40, 29)
    assert second["start_timecode_smpte"] == "00:00:01:05"
    assert second["duration_smpte"] == "00:00:00:11"


def test_a_cut_between_two_views_of_one_scene_is_found(tmp_path: Path) -> None:
    near = [
        cv2.resize(i[20:80, 30:110], SIZE, interpolation=cv2.INTER_LINEAR) for i in scene(1, 25)
    ]
    assert shots(write(tmp_path / "near.mp4", scene(1, 25) + near)) == [(0, 24), (25, 49)]


def test_a_single_shot_is_one_segment_from_the_first_frame_to_the_last(tmp_path: Path) -> None:
    assert shots(write(tmp_path / "one.mp4", scene(3, 40, noise=8))) == [(0, 39)]
    assert shots(write(tmp_path / "short.mp4", scene(3, 1))) == [(0, 0)]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_flash_is_no_cut(frames: int) -> None:
    images = scene(5, 60)
    for n in range(30, 30 + frames):
        images[n] = clipped(images[n] * 0.3 + 180)
    assert starts(images) == []


def test_somebody_who_passes_close_by_is_no_cut() -> None:
    images = scene(6, 60)
    for n in range(20, 30):
        left = 25 * (n - 22)
        images[n][:, max(0, left) : max(0, left + 60)] = 30
    assert starts(images) == []


def test_a_change_of_exposure_is_no_cut() -> None:
    images = scene(7, 50)
    assert starts(images[:25] + [clipped(image * 0.45 + 10) for image in images[25:]]) == []


# -- gradual --------------------------------------------------------------------------------------


def faded(shot: Images, length: int, *, out: bool) -> Images:
    shares = [(n + 1) / (length + 1) for n in range(length)]
    if out:
        return shot[:-length] + [
            clipped(i * s) for i, s in zip(shot[-length:], shares[::-1], strict=True)
        ]
    return [clipped(i * s) for i, s in zip(shot[:length], shares, strict=True)] + shot[length:]


@pytest.mark.parametrize("black", [1, 5, 40])
def test_a_fade_through_black_is_one_boundary_in_the_black(black: int) -> None:
    images = faded(scene(1, 40), 12, out=True) + [np.zeros(SIZE[::-1], np.uint8)] * black
    (found,) = starts(images + faded(scene(2, 40), 12, out=False))
    assert 38 <= found <= 40 + black


def test_a_long_black_between_two_cuts_is_a_shot_of_its_own_and_a_short_one_is_not() -> None:
    black = [np.full(SIZE[::-1], 2, np.uint8)]
    assert starts(scene(1, 30) + black * 20 + scene(2, 30)) == [30, 50]
    assert starts(scene(1, 30) + black * 4 + scene(2, 30)) == [34]
    assert starts(scene(1, 30)[:15] + black * 2 + scene(1, 30)[15:]) == []
    assert starts(black * 20 + scene(2, 30)) == [20]
    assert starts(scene(1, 30) + black * 20) == [30]
    assert starts(faded(black * 9 + scene(2, 30), 12, out=False)) == []


@pytest.mark.parametrize("length", [8, 16, 30])
def test_a_dissolve_is_found_in_its_middle(length: int) -> None:
    one, two = scene(1, 60, pace=0.5), scene(2, 60, pace=0.5)
    mixed = [
        clipped(a * (1 - (n + 1) / (length + 1)) + b * ((n + 1) / (length + 1)))
        for n, (a, b) in enumerate(zip(one[-length:], two[:length], strict=True))
    ]
    (found,) = starts(one[:-length] + mixed + two[length:])
    assert abs(found - (60 - length / 2)) <= length / 4 + 1


def test_a_pan_to_another_place_is_no_dissolve() -> None:
    dice = np.random.default_rng(0)
    wide = cv2.resize(dice.uniform(20, 230, (14, 90)).astype(np.float32), (1200, 120))
    assert starts([clipped(wide[:, 5 * n : 5 * n + 160]) for n in range(150)]) == []


def test_cuts_are_found_at_any_frame_rate_and_across_gaps() -> None:
    images = scene(1, 20) + scene(2, 20) + scene(3, 20)
    small = [small_of(image) for image in images]
    for times in (
        [1000 * n for n in range(60)],
        [4 * n for n in range(60)],
        [40 * n + (600_000 if n >= 40 else 0) for n in range(60)],
    ):
        boundaries = Boundaries()
        found = [b for n, t in enumerate(times) for b in boundaries.add(n, t, small[n])]
        found += boundaries.end()
        assert [(b.frame, b.time_ms, b.before_ms) for b in found] == [
            (n, times[n], times[n - 1]) for n in (20, 40)
        ]


def test_a_pause_ends_a_shot_and_a_time_lapse_has_none() -> None:
    images = [small_of(image) for image in scene(1, 40)]
    paused = [40 * n + (600_000 if n >= 20 else 0) + (60_000 if n >= 30 else 0) for n in range(40)]
    for times, expected in (
        (paused, [(0, 19, 760), (20, 29, 360), (30, 39, 360)]),
        ([15_000 * n for n in range(40)], [(0, 39, 585_000)]),
    ):
        made = Segments(25.0, BlackFrames())
        rows = [r for n, t in enumerate(times) for r in made.add(t, Observation(images[n], 0.0))]
        rows += made.end()
        assert [
            (r["start_frame_number"], r["end_frame_number"], r["duration_ms"]) for r in rows
        ] == expected


# -- black frames ---------------------------------------------------------------------------------


def cues(path: Path, **how: Any) -> list[tuple[int, int]]:
    return [
        (row["start_frame_number"], row["end_frame_number"])
        for row in segments(path, **how)
        if row["type"] == "TECHNICAL_CUE" and row["cue_type"] == "BlackFrames"
    ]


def test_black_frames_are_told_by_both_thresholds(tmp_path: Path) -> None:
    dark = [np.full(SIZE[::-1], 35, np.uint8)] * 10
    lit = [np.zeros(SIZE[::-1], np.uint8) for _ in range(10)]
    for image in lit:
        image[:12] = 200  # a tenth of the picture
    images = scene(1, 20) + dark + scene(2, 20) + lit
    path = write(tmp_path / "dark.mp4", images)
    assert cues(path) == [(20, 29)]
    assert cues(path, black_frames=BlackFrames(0.05)) == []
    assert cues(path, black_frames=BlackFrames(0.2, 85)) == [(20, 29), (50, 59)]
    assert cues(path, black_frames=BlackFrames(0.05, 85)) == [(50, 59)]
    (cue,) = [row for row in segments(path) if row["type"] == "TECHNICAL_CUE"]
    assert cue["cue_confidence"] == pytest.approx(100)
    assert (cue["start_timestamp_ms"], cue["end_timestamp_ms"]) == (800, 1160)


def test_thresholds_count_in_the_range_that_the_video_uses() -> None:
    for full, darkest in ((True, 0), (False, 16)):
        raw: Any = av.VideoFrame(64, 48, "yuvj420p" if full else "yuv420p")
        plane = np.frombuffer(raw.planes[0], np.uint8).reshape(48, -1)
        top = darkest + 0.2 * (255 if full else 219)
        plane[:] = np.floor(top)
        frame = Frame.decoded(raw, 0, 0)
        assert frame.dark_share(0.2) == 1
        plane[:24] = np.floor(top) + 1
        assert frame.dark_share(0.2) == 0.5
    assert Frame.from_image(np.full((10, 10, 3), 51, np.uint8)).dark_share(0.2) == 1


def test_impossible_thresholds_are_refused() -> None:
    for values in ((1.1, 99), (0.2, 101), (-0.1, 99)):
        with pytest.raises(ValueError, match="not possible"):
            BlackFrames(*values)


# -- with the rest of the engine ------------------------------------------------------------------


@pytest.mark.parametrize("sample_fps", [5, "auto"])
def test_every_frame_counts_for_segments_and_only_samples_for_the_rest(
    tmp_path: Path, sample_fps: Any
) -> None:
    path = write(tmp_path / "both.mp4", scene(1, 33) + scene(2, 30))
    alone: list[dict[str, Any]] = []
    how = {"detector": WALKERS, "sample_fps": sample_fps}
    before = analyze(path, {"person_tracking": alone.extend}, **how)
    people: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    after = analyze(
        path, {"person_tracking": people.extend, "segment_detection": rows.extend}, **how
    )
    assert people == alone
    assert after.frames_analyzed == before.frames_analyzed
    assert rows == segments(path) == segments(path, sample_fps=sample_fps)
    assert [row["start_frame_number"] for row in rows] == [0, 33]


def test_segments_are_the_same_however_the_video_is_divided(tmp_path: Path) -> None:
    images = [image for n in range(22) for image in scene(n, 17 + n)]
    path = write(tmp_path / "long.mp4", images, rate=9)  # more than one span
    whole = segments(path)
    assert len(whole) == 22
    with open_workers(2) as workers:
        assert segments(path, workers=workers) == whole
        assert segments(path, workers=workers, sample_fps=1) == whole


def test_sound_tracks_are_described(make_audio: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        audio: Any = container.add_stream("aac", rate=16_000, layout="mono")
        for image in scene(1, 25):
            frame = av.VideoFrame.from_ndarray(np.repeat(image[:, :, None], 3, 2), format="rgb24")
            container.mux(video.encode(frame))
        for n in range(16):
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts = 16_000, n * 1024
            container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    (track,) = analyze(path, {"segment_detection": lambda rows: None}).audio
    assert (track.codec, track.sample_rate, track.channels) == ("aac", 16_000, 1)
    assert track.duration_ms == pytest.approx(1024, abs=70)


# -- timecodes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "rate", "expected"),
    [
        (0, 25, "00:00:00:00"),
        (90_024, 25, "01:00:00:24"),
        (24, 23.976, "00:00:01:00"),
        (1799, 30, "00:00:59:29"),
        (1800, 30, "00:01:00:00"),
        (299, 29.97003, "00:00:09;29"),
        (1799, 29.97, "00:00:59;29"),
        (1800, 29.97, "00:01:00;02"),
        (17_981, 29.97, "00:09:59;29"),
        (17_982, 29.97, "00:10:00;00"),
        (107_892, 29.97, "01:00:00;00"),
        (3599, 59.94, "00:00:59;59"),
        (3600, 59.94, "00:01:00;04"),
        (35_964, 59.94, "00:10:00;00"),
        (7, 0.0, None),
    ],
)
def test_timecodes(frame: int, rate: float, expected: str | None) -> None:
    assert timecode(frame, rate) == expected


def test_drop_frame_timecodes_keep_up_with_the_clock_and_never_repeat() -> None:
    rate = 30_000 / 1001
    seen = [timecode(frame, rate) for frame in range(0, 110_000)]
    assert len(set(seen)) == len(seen)
    for frame in range(0, 110_000, 997):
        code = str(seen[frame])
        clock = sum(
            int(part) * s for part, s in zip(code[:8].split(":"), (3600, 60, 1), strict=True)
        )
        assert abs(clock + int(code[9:]) / 30 - frame / rate) < 0.1
