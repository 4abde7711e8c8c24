"""Clips begin within a keyframe or exactly, keep their audio in step, and cover people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from pictures.conftest import RATE, box, number_of, person, picture, read, write

from rekognition_dagster.errors import VideoError
from rekognition_dagster.pictures.clips import cut, file_name
from rekognition_dagster.pictures.drawing import Filmed
from rekognition_dagster.pictures.encoding import Encoder, new_video

Film = Callable[..., Filmed]
TIMES = range(0, 10_000, 40)
FLASH_MS = 4000


def beep_of(path: Path) -> float:
    """When the beep begins, in milliseconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.nonzero(np.abs(frame.to_ndarray()[0]) > 0.2)[0]
            if len(loud) and frame.pts is not None:
                return float(frame.pts * frame.time_base) * 1000 + loud[0] * 1000 / RATE
    raise AssertionError("no beep")


@pytest.fixture
def filmed(film: Film, tmp_path: Path) -> Filmed:
    """Ten seconds, with a keyframe every 400 ms, and a beep at four seconds."""
    path = write(tmp_path / "video.mp4", TIMES, beep_ms=FLASH_MS)
    where = box(0.4, 0.25, 0.3, 0.5)
    return film(path, person_detections=[person(t, where) for t in range(2000, 6000, 200)])


def test_a_copy_begins_at_the_keyframe_before_and_is_the_same_pictures(
    filmed: Filmed, tmp_path: Path
) -> None:
    clip = cut(filmed, 3100, 5000, tmp_path / "clip.mp4")
    assert clip.is_copy
    assert clip.from_ms == 2800
    times, images = read(clip.path)
    assert times[0] == 0
    assert [number_of(i) for i in images[:3]] == [70, 71, 72]
    assert 5000 - 2800 - 40 <= times[-1] <= 5000 - 2800 + 400
    originals = read(filmed.path)[1]
    assert all((a == b).all() for a, b in zip(images, originals[70:], strict=False))
    assert times == [40 * n for n in range(len(times))]


def test_an_exact_one_begins_and_ends_at_its_frames(filmed: Filmed, tmp_path: Path) -> None:
    clip = cut(filmed, 3100, 5000, tmp_path / "clip.mp4", exact=True)
    times, images = read(clip.path)
    assert not clip.is_copy
    assert times == [t - 3100 for t in TIMES if 3100 <= t < 5000]
    assert [number_of(images[0]), number_of(images[-1])] == [78, 124]


@pytest.mark.parametrize("exact", [False, True])
def test_audio_stays_in_step(filmed: Filmed, tmp_path: Path, exact: bool) -> None:
    late = beep_of(filmed.path) - FLASH_MS  # of the encoder
    clip = cut(filmed, 3100, 5000, tmp_path / "clip.mp4", exact=exact)
    times, images = read(clip.path)
    flash = times[[number_of(i) for i in images].index(FLASH_MS // 40)]
    assert beep_of(clip.path) - flash == pytest.approx(late, abs=25)


def test_a_turned_video_is_turned_in_its_copy(film: Film, tmp_path: Path) -> None:
    filmed = film(write(tmp_path / "video.mp4", range(0, 2000, 40), rotation=90))
    clip = cut(filmed, 500, 1000, tmp_path / "clip.mp4")
    assert clip.is_copy
    with av.open(str(clip.path)) as container:
        assert next(container.decode(video=0)).rotation in (90, -90)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("video.mp4", "libx264"),
        ("video.mp4", "libx265"),
        ("video.mkv", "libsvtav1"),
        ("video.mp4", "libsvtav1"),
        ("video.webm", "libvpx-vp9"),
    ],
)
def test_codecs_that_browsers_know_are_copied(
    film: Film, tmp_path: Path, name: str, codec: str
) -> None:
    filmed = film(write(tmp_path / name, range(0, 2000, 40), codec=codec))
    clip = cut(filmed, 900, 1500, tmp_path / "clip.mp4")
    assert clip.is_copy
    assert clip.from_ms <= 900
    images, originals = read(clip.path)[1], read(filmed.path)[1]
    assert len(images) >= (1500 - clip.from_ms) // 40
    assert all(
        (a == b).all() for a, b in zip(images, originals[clip.from_ms // 40 :], strict=False)
    )
    with av.open(str(clip.path)) as copy, av.open(str(filmed.path)) as source:
        names = [c.streams.video[0].codec_context.codec.canonical_name for c in (copy, source)]
    assert names[0] == names[1]


@pytest.mark.parametrize("late_ms", [7, 520])
def test_a_copy_begins_with_a_first_keyframe_that_comes_late(
    film: Film, tmp_path: Path, late_ms: int
) -> None:
    times = range(late_ms, 2000, 40)
    filmed = film(write(tmp_path / "video.mkv", times, beep_ms=900))
    clip = cut(filmed, 0, 1000, tmp_path / "clip.mp4")
    assert (clip.is_copy, clip.from_ms) == (True, late_ms)
    assert read(clip.path)[0][:3] == [0, 40, 80]


def test_pictures_that_mp4_refuses_are_a_fault_of_the_video(tmp_path: Path) -> None:
    too_high = np.zeros((20_000, 16, 3), np.uint8)
    with (
        pytest.raises(VideoError, match=r"^v.mp4: cannot be written as MP4 .*Convert it to H.264"),
        new_video(tmp_path / "clip.mp4", "v.mp4") as container,
    ):
        Encoder(container).write(too_high, 0)
    assert list(tmp_path.iterdir()) == []


def test_the_last_frame_lasts_as_long_as_the_one_before(film: Film, tmp_path: Path) -> None:
    filmed = film(write(tmp_path / "video.mp4", range(0, 10_000, 100)))
    clip = cut(filmed, 0, 10_000, tmp_path / "clip.mp4", exact=True)
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        assert float((stream.duration or 0) * stream.time_base) == pytest.approx(10.0, abs=0.002)
        assert (container.duration or 0) / 1e6 == pytest.approx(10.0, abs=0.002)


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "mpeg4"), ("ts", "libx264")])
def test_what_cannot_be_copied_is_encoded(
    film: Film, tmp_path: Path, suffix: str, codec: str
) -> None:
    filmed = film(write(tmp_path / f"video.{suffix}", range(0, 2000, 40), codec=codec))
    clip = cut(filmed, 1000, 1500, tmp_path / "clip.mp4")
    times, images = read(clip.path)
    assert not clip.is_copy
    assert len(times) in (12, 13)
    assert number_of(images[0]) in (25, 26)


def test_people_are_gone_from_a_blurred_clip_and_their_voices_too(
    filmed: Filmed, tmp_path: Path
) -> None:
    clip = cut(filmed, 1000, 8000, tmp_path / "clip.mp4", blur="people")
    times, images = read(clip.path)
    with av.open(str(clip.path)) as container:
        assert not container.streams.audio
    texture = picture(0, (320, 240))[60:180, 128:224].mean(axis=2)
    for time, image in zip(times, images, strict=True):
        inside = image[60:180, 128:224].mean(axis=2)
        likeness = abs(np.corrcoef(inside.ravel(), texture.ravel())[0, 1])
        elsewhere = np.corrcoef(
            image[60:180, 240:].mean(axis=2).ravel(),
            picture(0, (320, 240))[60:180, 240:].mean(axis=2).ravel(),
        )[0, 1]
        assert elsewhere > 0.8
        if 1500 <= time + 1000 <= 6200:
            assert likeness < 0.4
        elif time + 1000 < 1000 or time + 1000 > 7500:
            assert likeness > 0.8


def test_a_part_without_frames_leaves_no_file(filmed: Filmed, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has no frames from 20 s to 21 s"):
        cut(filmed, 20_000, 21_000, tmp_path / "clips" / "clip.mp4", exact=True)
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("north", "2026-02-03_135958", "person0"), "north_2026-02-03_135958_person0"),
        (("../../etc/<b>x</b>", "a:b", None), "etc-b-x-b_a-b"),
        (("Küche 2", "\x00\n", ".."), "Küche-2"),
        (("", None), "clip"),
        (("x" * 300,), "x" * 40),
    ],
)
def test_names_of_files_are_safe(parts: tuple[str | None, ...], name: str) -> None:
    assert file_name(*parts) == name
