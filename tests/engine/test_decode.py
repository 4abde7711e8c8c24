"""Times are true, pictures stand upright, and damage is told."""

from __future__ import annotations

import gc
import struct
import threading

import av
import numpy as np
import pytest

from rekognition_dagster.engine import read_metadata
from rekognition_dagster.engine.decode import DamagedVideo, ahead, open_video
from rekognition_dagster.errors import VideoError


def times_of(path, sample_fps=None):
    with open_video(path) as video:
        return [frame.timestamp_ms for frame in video.frames(sample_fps)]


def decoded_before_damage(path):
    times = []
    with open_video(path) as video, pytest.raises(DamagedVideo) as damage:
        times.extend(frame.timestamp_ms for frame in video.frames())
    return times, str(damage.value)


def test_times_are_the_frames_own_where_the_frame_rate_varies(make_video):
    irregular = [0, 40, 100, 101, 500, 533, 1700]
    assert times_of(make_video(times_ms=irregular)) == irregular


def test_times_count_from_the_start_where_timestamps_do_not(make_video):
    times = [0, 40, 80, 120]
    assert times_of(make_video("late.ts", times, start_ms=9000)) == times


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_every_container_gives_the_same_times(make_video, suffix):
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    times = list(range(0, 1000, 40))
    found = times_of(make_video(f"video{suffix}", times, codec=codec))
    if suffix == ".avi":  # which has a frame rate instead of times
        assert np.allclose(np.diff(found), found[1] - found[0], atol=1)
    else:
        assert found == times


def test_metadata_is_as_documented(make_video):
    metadata = read_metadata(make_video(size=(130, 98)))
    assert (metadata.width, metadata.height) == (130, 98)
    assert metadata.codec == "h264"
    assert metadata.format == "QuickTime / MOV"
    assert metadata.duration_ms == pytest.approx(2000, abs=45)
    assert metadata.frame_rate == pytest.approx(25, rel=0.05)


@pytest.mark.parametrize(
    ("rotation", "corner"),
    [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))],
)
def test_frames_stand_as_displayed(make_video, rotation, corner):
    with open_video(make_video(rotation=rotation)) as video:
        image = next(iter(video.frames())).image
        assert image.shape == (video.metadata.height, video.metadata.width, 3)
    red, green, _ = image[corner].astype(int)
    assert red > 150
    assert green < 100
    assert image.shape[:2] == ((96, 128) if rotation % 180 == 0 else (128, 96))


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((-1, 0, 0, 1), (0, -1)),  # mirrored, as front cameras do
        ((1, 0, 0, -1), (-1, 0)),  # upside down
        ((0, 1, 1, 0), (0, 0)),  # rows for columns
        ((0, -1, -1, 0), (-1, -1)),
    ],
)
def test_frames_that_are_mirrored_stand_as_displayed(make_video, matrix, corner):
    path = make_video()
    one, last = 1 << 16, 1 << 30
    stored = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, last)
    a, b, c, d = (one * sign for sign in matrix)
    content = path.read_bytes()
    place = content.index(stored, content.index(b"tkhd"))
    told = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, last)
    path.write_bytes(content[:place] + told + content[place + len(told) :])
    with open_video(path) as video:
        frame = next(iter(video.frames()))
        assert (video.metadata.width, video.metadata.height) == (frame.width, frame.height)
    assert frame.image.shape == ((96, 128, 3) if matrix[0] else (128, 96, 3))
    red, green, _ = frame.image[corner].astype(int)
    assert red > 150
    assert green < 100


def test_sampling_takes_the_first_frame_at_or_after_each_time(make_video):
    path = make_video(times_ms=[0, 90, 180, 270, 360, 450, 540, 1500, 1590])
    assert times_of(path, sample_fps=5) == [0, 270, 450, 1500]
    assert times_of(path, sample_fps=1000) == times_of(path)


@pytest.mark.parametrize(
    ("pixels", "codec", "name"),
    [
        ("gray", "ffv1", "grey.mkv"),
        ("yuv420p10le", "ffv1", "ten_bit.mkv"),
        ("yuv444p", "libx264", "full_chroma.mp4"),
    ],
)
def test_any_pixel_format_becomes_rgb(make_video, pixels, codec, name):
    with open_video(make_video(name, codec=codec, pixels=pixels)) as video:
        image = next(iter(video.frames())).image
    assert (image.dtype, image.shape) == (np.uint8, (96, 128, 3))


def test_odd_sizes_and_a_single_frame(make_video):
    with open_video(make_video("tiny.mkv", [0], size=(17, 33), codec="ffv1")) as video:
        frames = list(video.frames())
    assert [(f.width, f.height, f.image.shape) for f in frames] == [(17, 33, (33, 17, 3))]


def test_a_file_that_is_no_video_is_told_from_one_that_is_missing(tmp_path, make_audio):
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(5000))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    listing = tmp_path / "listing.mp4"
    listing.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/other.ts\n")
    said = {
        tmp_path / "missing.mp4": "no such file",
        tmp_path: "folder",
        empty: "empty",
        noise: "not a video",
        listing: "not a video",
        make_audio(): "only audio",
    }
    for path, reason in said.items():
        with pytest.raises(VideoError, match=reason) as error, open_video(path, "s3://b/k.mp4"):
            pass
        assert str(error.value).startswith("s3://b/k.mp4: ")
        assert error.value.remedy


def test_a_video_cut_off_in_the_middle_gives_its_frames_and_then_says_so(make_video):
    path = make_video()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    times, said = decoded_before_damage(path)
    assert times[:5] == [0, 40, 80, 120, 160]
    assert len(times) < 50
    assert "breaks off" in said or "damaged" in said


def test_garbage_in_the_middle_is_told_with_its_time(make_video):
    path = make_video(options={"crf": "5"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = np.random.default_rng(1).bytes(4000)
    path.write_bytes(data)
    times, said = decoded_before_damage(path)
    assert times[0] == 0
    assert times == sorted(set(times))
    assert "damaged" in said


def test_a_video_without_a_frame_has_no_frames(make_video):
    path = make_video(times_ms=[0, 40, 80])
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))
    with pytest.raises(VideoError, match="no frames"), open_video(path):
        pass


def test_reading_ahead_keeps_order_passes_errors_on_and_leaves_no_thread():
    def items():
        yield from range(20)
        raise OSError("disk")

    taken = []
    with pytest.raises(OSError, match="disk"):
        taken.extend(ahead(items(), 3))
    assert taken == list(range(20))
    early = ahead(iter(range(10**9)), 3)
    assert next(early) == 0
    early.close()
    assert "decode" not in [thread.name for thread in threading.enumerate()]


def test_a_frame_is_gone_when_nobody_has_it(make_video):
    gc.collect()
    gc.disable()  # who waits for it holds seconds of large pictures
    try:
        with open_video(make_video()) as video:
            for frame in video.frames():
                frame.luma  # noqa: B018
                frame.stretched(32, 24)
            held = sum(isinstance(held, av.VideoFrame) for held in gc.get_objects())
    finally:
        gc.enable()
    assert held < 5
