"""Files as recorders, joins and editors leave them: true times, the right stream, nothing lost."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rekognition_dagster.engine import analyze, open_workers, read_metadata, read_pauses_ms
from rekognition_dagster.engine.clock import Clock
from rekognition_dagster.engine.decode import DamagedVideo, open_video
from rekognition_dagster.errors import VideoError
from tests.engine.conftest import square_at

WALKERS = "tests.engine.scripted:Walkers"
STANDING = "tests.engine.scripted:Standing"
SECOND = range(0, 1000, 40)


class Stream:
    """What a clock asks of a stream, at 25 frames a second, with stamps in milliseconds."""

    time_base = Fraction(1, 1000)
    average_rate = guessed_rate = Fraction(25)


class Stamped:
    """A frame with nothing but its time stamp."""

    def __init__(self, pts: int | None):
        self.pts = pts


def ticks(stamps: Sequence[int | None]) -> list[int]:
    clock = Clock(0, Stream())
    timed = [one for pts in stamps for one in clock.tick(Stamped(pts))]
    return [time for _, time in timed + clock.end()]


def encode(
    path: Path,
    *,
    frames: int = 50,
    size: tuple[int, int] = (128, 96),
    options: dict[str, str] | None = None,
    codec: str = "libx264",
    aspect: Fraction | None = None,
    container_options: dict[str, str] | None = None,
    rate: int = 25,
    pixels: str = "yuv420p",
) -> Path:
    """Write a video of 25 frames a second with PyAV's usual settings."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(square_at(index, *size), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def times_of(path: Path) -> list[int]:
    with open_video(path) as video:
        return [frame.timestamp_ms for frame in video.frames()]


@pytest.mark.parametrize("b_frames", ["0", "3", "16"])
def test_avi_without_presentation_times_has_true_times(tmp_path, b_frames):
    path = encode(tmp_path / "recorder.avi", options={"bf": b_frames})
    assert times_of(path) == list(range(0, 2000, 40))


def test_a_repeated_stamp_shifts_nothing_after_it():
    stamps = [t - 40 if t % 1000 == 520 else t for t in range(0, 60_000, 40)]
    found = ticks(stamps)
    assert np.abs(np.subtract(found, range(0, 60_000, 40))).max() <= 40
    assert (np.diff(found) > 0).all()
    assert found[-1] == 59_960


def test_late_stamps_shift_nothing_after_them():
    jitter = [-45 if index % 5 == 3 else 0 for index in range(1500)]
    found = ticks([40 * index + off for index, off in enumerate(jitter)])
    assert np.abs(np.subtract(found, [40 * index for index in range(1500)])).max() <= 45
    assert (np.diff(found) > 0).all()


def test_a_joined_recording_goes_on_by_a_frame():
    assert ticks([*SECOND, *SECOND]) == list(range(0, 2000, 40))


@pytest.mark.parametrize("wrong", [0, 30_000, 93_600_000])
@pytest.mark.parametrize("frames", [1, 3])
def test_wrong_stamps_of_a_few_frames_shift_nothing(wrong, frames):
    stamps = [20_000 + t for t in SECOND]
    right = ticks(stamps)
    stamps[10 : 10 + frames] = [wrong + t for t in range(0, 40 * frames, 40)]
    assert ticks(stamps) == right


def test_a_stamp_that_never_changes_tells_no_time():
    assert ticks([0] * 150)[-1] == pytest.approx(5960, abs=200)
    assert ticks([0, *[40] * 2, 120, *[160] * 2, 240]) == [0, 40, 41, 120, 160, 161, 240]


def test_a_pause_stays_a_pause():
    assert ticks([0, 40, 600_040, 600_080]) == [0, 40, 600_040, 600_080]


def test_a_jump_ahead_parts_people_and_is_told(tmp_path, make_video):
    wrap = 2**33 // 90  # milliseconds
    seconds = range(0, 5000, 40)
    path = make_video("jump.mkv", [*seconds, *(wrap + t for t in seconds)])
    rows: list[dict] = []
    metadata = analyze(path, {"person_tracking": rows.extend}, detector=STANDING)
    before = {row["person_index"] for row in rows if row["timestamp_ms"] < wrap}
    after = {row["person_index"] for row in rows if row["timestamp_ms"] >= wrap}
    assert before
    assert after
    assert not before & after
    assert not any(5000 < row["timestamp_ms"] < wrap for row in rows)
    assert (metadata.gaps, metadata.gap_ms) == (1, wrap - 4960)
    assert read_pauses_ms(path) == pytest.approx(wrap - 4960, abs=1)
    assert read_pauses_ms(make_video("whole.mkv", [*seconds])) == 0


@pytest.mark.parametrize("still_first", [True, False])
def test_the_moving_stream_is_taken_and_not_a_still_picture(tmp_path, still_first):
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        names = ["still", "moving"] if still_first else ["moving", "still"]
        streams = {name: container.add_stream("libx264", rate=25) for name in names}
        streams["still"].width, streams["still"].height = 640, 480
        streams["moving"].width, streams["moving"].height = 128, 96
        for stream in streams.values():
            stream.pix_fmt = "yuv420p"
        for index in range(25):
            for name, stream in streams.items():
                if name == "moving" or index == 0:
                    size = (stream.width, stream.height)
                    frame = av.VideoFrame.from_ndarray(square_at(index, *size), format="rgb24")
                    frame.pts = index
                    container.mux(stream.encode(frame))
        for stream in streams.values():
            container.mux(stream.encode())
    assert times_of(path) == list(SECOND)
    assert read_metadata(path).width == 128


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
@pytest.mark.parametrize("name", ["two.mp4", "two.mkv"])
def test_the_moving_stream_is_taken_and_not_a_picture_that_is_repeated(tmp_path, name, codec):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        looped = container.add_stream(codec, rate=25)
        looped.width, looped.height = 640, 480
        moving = container.add_stream("libx264", rate=25)
        moving.width, moving.height = 128, 96
        looped.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        moving.pix_fmt = "yuv420p"
        noise = np.random.default_rng(1)
        for index in range(25):
            noisy = noise.integers(0, 255, (96, 128, 3), np.uint8)
            for stream, image in ((looped, square_at(0, 640, 480)), (moving, noisy)):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = index
                container.mux(stream.encode(frame))
        for stream in (looped, moving):
            container.mux(stream.encode())
    assert read_metadata(path).width == 128


def test_pictures_that_begin_after_the_sound_end_within_the_duration(tmp_path):
    path = tmp_path / "late.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for index in range(78):
            samples = np.zeros((1, 1024), np.float32)
            sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 16_000, index * 1024
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(square_at(index, 128, 96), format="rgb24")
            frame.pts = 75 + index
            container.mux(video.encode(frame))
        container.mux(video.encode())
    times = times_of(path)
    assert times[0] == pytest.approx(3000, abs=80)
    assert read_metadata(path).duration_ms >= times[-1]
    analyzed = analyze(path, {"person_tracking": lambda _: None}, detector=WALKERS)
    assert times[-1] < analyzed.duration_ms < times[-1] + 1000


def test_a_stream_without_a_header_of_its_length_has_the_length_that_was_decoded(tmp_path):
    path = encode(tmp_path / "raw.h264", options={"bf": "0"})
    metadata = analyze(path, {"person_tracking": lambda _: None}, detector=WALKERS)
    assert metadata.duration_ms == pytest.approx(2000, abs=80)
    assert metadata.frames_analyzed == 50


@pytest.mark.parametrize(
    ("aspect", "size", "shown"),
    [
        (Fraction(16, 11), (352, 288), (512, 288)),
        (Fraction(2, 1), (352, 576), (704, 576)),
        (Fraction(8, 9), (720, 480), (640, 480)),
        (Fraction(3201, 3200), (352, 288), (352, 288)),
    ],
)
def test_pixels_that_are_not_square_are_shown_as_they_are_meant(tmp_path, aspect, size, shown):
    path = encode(tmp_path / "d1.mp4", frames=2, size=size, aspect=aspect)
    metadata = read_metadata(path)
    assert (metadata.width, metadata.height) == shown
    with open_video(path) as video:
        frame = next(iter(video.frames()))
        rows, columns = np.array([[5], [60]]), np.array([[10, shown[0] - 10]])
        points = frame.colours(rows, columns)
        small = frame.part((0, 0, shown[0] // 2, shown[1] // 2), 64, 48)
        image = frame.image
    assert image.shape == (shown[1], shown[0], 3)
    luma = image[rows, columns].astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(points[0] - luma).max() < 12
    red, green, _ = small[5, 5].tolist()
    assert red > 180
    assert green < 120


def test_a_fragmented_file_that_breaks_off_says_so(tmp_path):
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = encode(tmp_path / "f.mp4", options={"g": "10", "bf": "0"}, container_options=fragments)
    assert len(times_of(path)) == 50
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10])
    with open_video(path) as video, pytest.raises(DamagedVideo, match="breaks off"):
        list(video.frames())


def test_zeros_in_place_of_the_last_fragments_are_a_missing_end(tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = encode(tmp_path / "a.mp4", options={"g": "10"}, container_options=options)
    content = path.read_bytes()
    place = content.rindex(b"moof") - 4
    path.write_bytes(content + bytes(4096))
    assert len(times_of(path)) == 50
    path.write_bytes(content[:place] + bytes(len(content) - place))
    kept, damage = lost(path)
    assert kept == 40
    assert damage.lost_share == pytest.approx(1 - place / len(content), abs=0.01)
    assert "breaks off" in str(damage)


def test_a_file_whose_samples_are_all_there_is_whole_whatever_its_last_size_says(tmp_path):
    path = encode(tmp_path / "f.mp4", container_options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    place = content.index(b"mdat") - 4
    size = int.from_bytes(content[place : place + 4], "big")
    content[place : place + 4] = (size + 4096).to_bytes(4, "big")
    path.write_bytes(content)
    assert len(times_of(path)) == 50


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF])
def test_a_recorder_that_never_wrote_the_size_of_its_avi_lost_nothing(tmp_path, size):
    path = encode(tmp_path / "r.avi", codec="mpeg4")
    content = bytearray(path.read_bytes())
    content[4:8] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(times_of(path)) == 50


def test_a_live_recording_that_breaks_off_in_a_cluster_is_whole_as_far_as_can_be_told(tmp_path):
    path = encode(tmp_path / "live.mkv", container_options={"live": "1"})
    assert len(times_of(path)) == 50


@pytest.fixture
def transport_stream(tmp_path: Path) -> bytes:
    return encode(tmp_path / "a.ts", frames=100, options={"g": "25"}).read_bytes()


def test_joined_transport_streams_are_whole(tmp_path, transport_stream):
    path = tmp_path / "joined.ts"
    path.write_bytes(transport_stream + transport_stream)
    assert times_of(path) == list(range(0, 8000, 40))


def with_stamps(path: Path, source: bytes, ahead_s: float) -> Path:
    """Write the packets of a transport stream with later or earlier stamps."""
    path.write_bytes(source)
    copied = path.with_suffix(".copy.ts")
    options = {"muxdelay": "0", "avoid_negative_ts": "disabled"}
    with av.open(str(path)) as old, av.open(str(copied), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                shift = round(ahead_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                new.mux(packet)
    return copied


def test_a_pause_between_joined_transport_streams_loses_nothing(tmp_path):
    first = encode(tmp_path / "a.ts", frames=100, options={"g": "25", "bf": "3"}).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(first + with_stamps(tmp_path / "b.ts", first, 20).read_bytes())
    times = times_of(path)
    assert len(times) == 200
    assert times[99:101] == [3960, pytest.approx(20_000, abs=100)]


@pytest.mark.parametrize("first_s", [3600, 95_441])
def test_a_transport_stream_whose_stamps_go_back_goes_on_by_a_frame(tmp_path, first_s):
    source = encode(tmp_path / "a.ts", frames=100, options={"g": "25", "bf": "3"}).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(with_stamps(tmp_path / "b.ts", source, first_s).read_bytes() + source)
    assert times_of(path) == list(range(0, 8000, 40))


def test_a_lower_frame_rate_after_a_joint_is_no_loss(tmp_path):
    fast = encode(tmp_path / "a.ts", frames=100, options={"g": "25"})
    slow = encode(tmp_path / "b.ts", frames=40, options={"g": "25"}, rate=10)
    path = tmp_path / "joined.ts"
    path.write_bytes(fast.read_bytes() + slow.read_bytes())
    assert len(times_of(path)) == 140


def test_a_wrong_stamp_at_the_end_of_a_transport_stream_is_no_missing_end(tmp_path):
    source = encode(tmp_path / "a.ts", frames=100, options={"g": "25"}).read_bytes()
    tail = encode(tmp_path / "c.ts", frames=1).read_bytes()
    path = tmp_path / "wrong.ts"
    path.write_bytes(source + with_stamps(tmp_path / "d.ts", tail, 25_452).read_bytes())
    assert len(times_of(path)) == 101


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_packets_lost_in_an_avi_leave_the_times_of_the_rest(tmp_path, b_frames):
    path = encode(tmp_path / "a.avi", frames=150, options={"g": "25", "bf": b_frames})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    for place, size in packets[30:45]:
        content[place : place + size] = bytes(size)
    path.write_bytes(content)
    found = []
    with open_video(path) as video, pytest.raises(DamagedVideo) as damage:
        found.extend(frame.timestamp_ms for frame in video.frames())
    assert found[-1] == 5960
    assert set(found) <= set(range(0, 6000, 40))
    assert len(found) / 150 == pytest.approx(1 - damage.value.lost_share, abs=0.01)
    assert "breaks off" not in str(damage.value)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.m2v", "mpeg2video"), ("a.mxf", "mpeg2video")]
)
def test_pictures_begin_at_0_where_the_decoder_reorders_them(tmp_path, name, codec):
    path = encode(tmp_path / name, frames=50, options={"bf": "2", "b": "2M"}, codec=codec)
    content = path.read_bytes()
    if name == "a.mxf":
        path.write_bytes(content[: len(content) * 8 // 10])
    with open_video(path) as video:
        assert next(iter(video.frames())).timestamp_ms == 0


def lost(path: Path) -> tuple[int, DamagedVideo]:
    found = []
    with open_video(path) as video, pytest.raises(DamagedVideo) as damage:
        found.extend(video.frames())
    return len(found), damage.value


def test_packets_lost_within_a_transport_stream_are_counted_and_the_rest_is_kept(
    tmp_path, transport_stream
):
    half = len(transport_stream) // 376 * 188
    path = tmp_path / "hole.ts"
    path.write_bytes(transport_stream[:half] + transport_stream[half + 10 * 188 :])
    kept, damage = lost(path)
    assert 70 < kept < 98
    assert kept / (1 - damage.lost_share) == pytest.approx(100, abs=2)
    rows: list[dict] = []
    metadata = analyze(path, {"person_tracking": rows.extend}, detector=WALKERS)
    assert metadata.lost_share == pytest.approx(damage.lost_share, abs=1e-3)
    assert metadata.warning
    assert "cannot be decoded" in metadata.warning
    assert rows[-1]["timestamp_ms"] > 3500


def test_how_much_may_be_lost_is_a_setting(tmp_path, transport_stream, monkeypatch):
    path = tmp_path / "hole.ts"
    third = len(transport_stream) // 564 * 188
    path.write_bytes(transport_stream[:third] + transport_stream[third + 20 * 188 :])
    monkeypatch.setenv("REKOGNITION_DAGSTER_MAX_LOST_SHARE", "0.01")
    with pytest.raises(VideoError, match="REKOGNITION_DAGSTER_MAX_LOST_SHARE"):
        analyze(path, {"person_tracking": lambda _: None}, detector=WALKERS)


def test_a_size_that_changes_changes_nobodys_index(tmp_path):
    one = encode(tmp_path / "one.ts", frames=50, size=(128, 96)).read_bytes()
    two = encode(tmp_path / "two.ts", frames=50, size=(256, 192)).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(one + two)
    rows: list[dict] = []
    analyze(path, {"person_tracking": rows.extend}, detector=STANDING)
    assert {row["person_index"] for row in rows} == {0}
    assert rows[-1]["timestamp_ms"] == 3960


def test_a_codec_has_the_name_of_its_format_and_not_of_a_decoder(tmp_path):
    path = encode(tmp_path / "a.mp4", frames=5, codec="libsvtav1", size=(128, 128))
    assert read_metadata(path).codec == "av1"


@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("bomb.gif", "gif", "rgb8"), ("bomb.mov", "png", "gray")]
)
def test_a_picture_of_more_pixels_than_any_camera_has_is_refused(tmp_path, name, codec, pixels):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 9000, 8000, pixels
        picture = av.VideoFrame(9000, 8000, pixels)
        picture.pts = 0
        container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match=r"9000x8000.*limit is 64.*REKOGNITION_DAGSTER_MAX_PIXELS"):
        read_metadata(path)


def test_a_size_that_only_the_first_packet_says_is_refused_with_the_limit(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.avi", codec="mjpeg", frames=2, pixels="yuvj420p", size=(640, 480))
    monkeypatch.setenv("REKOGNITION_DAGSTER_MAX_PIXELS", "100000")
    with pytest.raises(VideoError, match=r"640x480.*the limit"):
        read_metadata(path)


def test_a_picture_within_the_limit_that_is_set_is_read(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", frames=3)
    monkeypatch.setenv("REKOGNITION_DAGSTER_MAX_PIXELS", "10000")
    with pytest.raises(VideoError, match="128x96"):
        read_metadata(path)
    monkeypatch.setenv("REKOGNITION_DAGSTER_MAX_PIXELS", "20000")
    assert read_metadata(path).width == 128


@pytest.mark.parametrize(("transfer", "grey"), [(16, 148), (18, 190)])
def test_high_dynamic_range_is_as_bright_as_a_standard_picture(transfer, grey):
    from rekognition_dagster.engine.frame import Displays, Frame

    raw = av.VideoFrame.from_ndarray(np.full((64, 96, 3), grey, np.uint8), format="rgb24")
    raw = raw.reformat(format="yuv420p10le")
    raw.color_trc = transfer
    frame = Frame.decoded(raw, 0, 0, Displays().of(raw))
    assert frame.stretched(48, 32).mean() == pytest.approx(188, abs=8)  # white paper in both


def cut(path: Path, share: float = 0.8) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize(
    ("name", "codec", "lost"),
    [("a.wmv", "wmv2", 0.2), ("a.gif", "gif", None), ("a.ogv", "libtheora", None)],
)
def test_a_missing_end_is_reported_where_the_container_tells(tmp_path, name, codec, lost):
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    try:
        path = encode(tmp_path / name, codec=codec, frames=100, pixels=pixels)
    except ValueError:  # there is no such encoder
        pytest.skip(f"no {codec} here")
    assert len(times_of(path)) == 100
    with open_video(cut(path)) as video, pytest.raises(DamagedVideo, match="breaks off") as damage:
        list(video.frames())
    if lost is not None:
        assert damage.value.lost_share == pytest.approx(lost, abs=0.05)


def encode_with_sound(path: Path, *, frames: int, sound_s: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "25"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        sound = container.add_stream("aac", rate=48_000)
        noise = np.random.default_rng(1).normal(0, 0.1, (1, 1024)).astype(np.float32)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(square_at(index, 128, 96), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for index in range(sound_s * 48_000 // 1024):
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, index * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize("name", ["a.flv", "a.mkv"])
def test_sound_that_goes_on_after_the_pictures_is_no_missing_end(tmp_path, name):
    assert len(times_of(encode_with_sound(tmp_path / name, frames=50, sound_s=5))) == 50


def test_a_missing_end_is_reported_where_there_is_sound(tmp_path):
    path = cut(encode_with_sound(tmp_path / "a.flv", frames=100, sound_s=4), 0.3)
    kept, damage = lost(path)
    assert 20 < kept < 40
    assert damage.lost_share == pytest.approx(1 - kept / 100, abs=0.04)
    assert "breaks off" in str(damage)


def test_each_frame_that_an_mp4_lists_and_lacks_is_counted(tmp_path):
    options = {"movflags": "faststart"}
    path = encode(tmp_path / "a.mp4", frames=100, options={"bf": "2"}, container_options=options)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: places[-4] + 3])
    kept, damage = lost(path)
    assert damage.lost_share == pytest.approx(1 - kept / 100, abs=1e-6)
    assert "breaks off" in str(damage)
    assert 94 <= kept <= 96


def test_an_avi_without_its_index_is_whole(tmp_path):
    path = encode(tmp_path / "a.avi", codec="mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"idx1")])
    assert len(times_of(path)) == 50


@pytest.mark.parametrize("name", ["joined.ts", "cut.h264", "cut.avi", "hole.ts", "cut.nut"])
def test_a_duration_is_never_less_than_the_end_of_the_last_row(tmp_path, name):
    path = encode(tmp_path / name, frames=100, options={"g": "25"})
    content = path.read_bytes()
    half = len(content) // 376 * 188
    parts = {
        "joined.ts": content * 2 + content[:half],
        "hole.ts": content[:half] + content[half + 1880 :] + content,
    }
    path.write_bytes(parts.get(name, content[: len(content) * 9 // 10]))
    rows: list[dict] = []
    metadata = analyze(path, {"person_tracking": rows.extend}, detector=STANDING)
    assert rows
    assert metadata.duration_ms >= rows[-1]["timestamp_ms"] + 40


@pytest.mark.parametrize("sample_fps", [None, 0.5])
@pytest.mark.parametrize("workers", [None, 1])
def test_the_frame_rate_is_an_average(tmp_path, make_video, sample_fps, workers):
    times = [t + 7 * 40 * (t // 400) for t in range(0, 18_000, 40)]
    path = make_video("vfr.mkv", times)
    rows: list[dict] = []
    sinks = {"label_detection": rows.extend}
    with ExitStack() as stack:
        pool = workers and stack.enter_context(open_workers(workers))
        how = {"sample_fps": sample_fps, "workers": pool}
        metadata = analyze(path, sinks, detector=STANDING, **how)
    assert metadata.frame_rate == pytest.approx(len(times) / times[-1] * 1000, rel=0.03)


def test_a_header_without_a_length_declares_none(tmp_path, make_video):
    path = make_video("late.mkv", start_ms=93_600_000)
    content = bytearray(path.read_bytes())
    place = content.index(b"\x44\x89\x88") + 3
    content[place : place + 8] = struct.pack(">d", 6000.0)
    path.write_bytes(content)
    assert read_metadata(path).duration_ms >= 0
