"""Small real videos, made with PyAV, and detectors that follow a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rekognition_dagster.engine import models
from rekognition_dagster.errors import ModelError


@pytest.fixture(scope="session")
def sample() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        try:
            return models.path(name)
        except ModelError as error:
            pytest.skip(f"cannot fetch {name}: {error}")

    return find


def square_at(index: int, width: int, height: int) -> np.ndarray:
    """A grey picture with a white square that moves to the right, and a red top left corner."""
    image = np.full((height, width, 3), 90, np.uint8)
    left = (4 * index) % max(1, width - 16)
    image[height // 2 : height // 2 + 16, left : left + 16] = 255
    image[: height // 4, : width // 4] = (255, 0, 0)
    return image


def write_video(
    path: Path,
    times_ms: Sequence[int],
    *,
    size: tuple[int, int] = (128, 96),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    gop: int = 10,
    start_ms: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """A video with a frame at each of the times."""
    container_options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = 0
        if rotation:
            stream.set_display_rotation(rotation)
        for index, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(square_at(index, *size), format="rgb24")
            frame.pts, frame.time_base = time + start_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_frames(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    """Write RGB pictures as a video of 25 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "video.mp4", times_ms: Sequence[int] | None = None, **how) -> Path:
        times = list(range(0, 2000, 40)) if times_ms is None else times_ms
        return write_video(tmp_path / name, times, **how)

    return make


@pytest.fixture
def make_audio(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str = "song.mp4") -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16_000, layout="mono")
            for i in range(20):
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = 16_000, i * 1024
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make
