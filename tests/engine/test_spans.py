"""A video is the same in spans as in one piece: every frame is in one of them, as it is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rekognition_dagster.engine.decode import DamagedVideo, Uncut, open_video
from rekognition_dagster.engine.frame import Frame

SPAN_MS = 1000
UNEVEN = np.cumsum(np.random.default_rng(5).integers(5, 110, 100)).tolist()


def write(
    path: Path,
    codec: str = "libx264",
    *,
    options: dict[str, str] | None = None,
    b_frames: int = 3,
    gop: int = 12,
    times_ms: list[int] | None = None,
    seed: int = 0,
) -> Path:
    """A hundred frames of a pattern that moves, so that each has a picture of its own."""
    pattern = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, b_frames
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(100):
            frame = av.VideoFrame.from_ndarray(np.roll(pattern, i, axis=1), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def marks(frames: Iterator[Frame]) -> list[tuple[int, int]]:
    return [(frame.timestamp_ms, zlib.crc32(frame.image.tobytes())) for frame in frames]


def in_one_piece(path: Path, sample_fps: float | None = None) -> list[tuple[int, int]]:
    with open_video(path) as video:
        return marks(video.frames(sample_fps))


def in_spans(
    path: Path, sample_fps: float | None = None, found: list[tuple[int, int]] | None = None
) -> list[tuple[int, int]]:
    """The frames of all spans, each opened by itself; they must fit together."""
    found = [] if found is None else found
    begin, last, place = 0, None, 0
    while True:
        with open_video(path) as video:
            frames = marks(video.cut(begin, begin + SPAN_MS, sample_fps))
            if begin and (video.before != last or video.reads[0] > place):
                raise Uncut(f"they do not fit at {begin}")
            found += frames
            last, place = video.end, video.reads[1]
            if video.next_ms is None:
                return found
            begin = video.next_ms // SPAN_MS * SPAN_MS


OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:bframes=3:b-pyramid=normal"}
OPEN_265 = {"x265-params": "open-gop=1:keyint=12:log-level=none"}


@pytest.mark.parametrize("sample_fps", [None, 7])
@pytest.mark.parametrize(
    ("name", "codec", "how"),
    [
        ("closed.mp4", "libx264", {}),
        ("open.mp4", "libx264", {"options": OPEN_GOP}),
        ("open.ts", "libx264", {"options": OPEN_GOP}),
        ("open_265.mp4", "libx265", {"options": OPEN_265}),
        ("uneven.mp4", "libx264", {"times_ms": UNEVEN}),
        ("late.mkv", "libx264", {"times_ms": [time + 7000 for time in UNEVEN]}),
        ("negative.mkv", "libx264", {"times_ms": [time - 500 for time in UNEVEN]}),
        ("plain.avi", "mpeg4", {"b_frames": 0}),
        ("b_frames.avi", "mpeg4", {"b_frames": 2}),
        ("b_frames.ts", "mpeg2video", {"b_frames": 2}),
        ("one_keyframe.mp4", "libx264", {"gop": 1000}),
        ("all_keyframes.avi", "ffv1", {"b_frames": 0}),
    ],
)
def test_spans_together_are_the_video(tmp_path, name, codec, how, sample_fps):
    path = write(tmp_path / name, codec, **how)
    whole = in_one_piece(path, sample_fps)
    assert len({time for time, _ in whole}) == len(whole) > 20
    assert in_spans(path, sample_fps) == whole


def test_a_gap_in_the_times_is_no_end(tmp_path):
    times = [40 * i + (20_000 if i >= 60 else 0) for i in range(100)]
    path = write(tmp_path / "gap.mkv", times_ms=times)
    assert [time for time, _ in in_spans(path)] == times


def twice(path: Path) -> Path:
    """A recording joined to itself: the times begin anew in the middle."""
    data = write(path).read_bytes()
    path.write_bytes(data + data)
    return path


def damaged(path: Path) -> Path:
    data = bytearray(write(path).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(data)
    return path


def truncated(path: Path) -> Path:
    path.write_bytes(write(path).read_bytes()[:-20_000])
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: twice(folder / "twice.ts"),
        lambda folder: damaged(folder / "damaged.mp4"),
        lambda folder: truncated(folder / "truncated.avi"),
        lambda folder: write(folder / "b_frames.avi"),  # has no times for h264
    ],
    ids=["joined", "damaged", "truncated", "without times"],
)
def test_what_cannot_be_cut_says_so_and_never_gives_other_frames(tmp_path, make):
    path = make(tmp_path)
    found: list[tuple[int, int]] = []
    with pytest.raises(Uncut):
        in_spans(path, found=found)
    with open_video(path) as video:
        whole: list[tuple[int, int]] = []
        with suppress(DamagedVideo):
            for frame in video.frames():
                whole += marks(iter([frame]))
    assert len(whole) > len(found)
    assert whole[: len(found)] == found


def test_pictures_that_are_refreshed_bit_by_bit_are_right_or_not_cut(tmp_path):
    options = {"x264-params": "intra-refresh=1:keyint=12"}
    path = write(tmp_path / "refreshed.ts", options=options, b_frames=0)
    found: list[tuple[int, int]] = []
    whole = in_one_piece(path)
    try:
        assert in_spans(path, found=found) == whole
    except Uncut:
        assert found == whole[: len(found)]
