"""Scripted videos: textured frames with a mark that says which one it is; rows in a real lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rekognition_dagster import Lake
from rekognition_dagster.pictures.drawing import Filmed
from rekognition_dagster.videos import Video

MS = Fraction(1, 1000)
SIZE = (320, 240)
RATE = 16_000
NOISE = np.random.default_rng(1).integers(0, 2, (2000, 2000), np.uint8) * 60
Box = tuple[float, float, float, float]


def picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """A grey texture; its left edge has the number, as eight black or white fields."""
    width, height = size
    image = np.full((height, width, 3), 90, np.uint8)
    image += np.kron(NOISE[: -(-height // 4), : -(-width // 4)], np.ones((4, 4), np.uint8))[
        :height, :width, None
    ]
    step = height // 8
    for bit in range(8):
        image[bit * step : (bit + 1) * step, : width // 10] = 255 * (index >> bit & 1)
    return image


def number_of(image: np.ndarray) -> int:
    """Which frame a picture is, by its mark."""
    height, width = image.shape[:2]
    step = height // 8
    fields = (image[bit * step + step // 2, width // 40].mean() > 128 for bit in range(8))
    return sum(is_white << bit for bit, is_white in enumerate(fields))


def write(
    path: Path,
    times_ms: Sequence[int],
    *,
    size: tuple[int, int] = SIZE,
    rotation: int = 0,
    pixel: Fraction | None = None,
    beep_ms: int | None = None,
    codec: str = "libx264",
    draw: Callable[[int, tuple[int, int]], np.ndarray] = picture,
) -> Path:
    """A video with a frame at each of the times, a keyframe every ten; silence with a beep."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"crf": "12"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = MS
        stream.codec_context.gop_size = 10
        if pixel is not None:
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = pixel
        if rotation:
            stream.set_display_rotation(rotation)
        sound: Any = None
        if beep_ms is not None:
            sound = container.add_stream("aac", rate=RATE, layout="mono")
        for index, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(draw(index, size), format="rgb24")
            frame.pts, frame.time_base = time, MS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            length = round((times_ms[-1] + 40) * RATE / 1000)
            signal = np.zeros(length, np.float32)
            first = round((beep_ms or 0) * RATE / 1000)
            signal[first : first + RATE // 10] = np.sin(np.arange(RATE // 10) * 0.5)
            for begin in range(0, length - 1024, 1024):
                part = av.AudioFrame.from_ndarray(
                    signal[None, begin : begin + 1024], "fltp", "mono"
                )
                part.sample_rate, part.pts = RATE, begin
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    return path


def read(path: Path) -> tuple[list[int], list[np.ndarray]]:
    """Times and RGB pictures of a video."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [round(float(f.pts * f.time_base) * 1000) for f in frames if f.pts is not None]
    return times, [f.to_ndarray(format="rgb24") for f in frames]


def colored(image: np.ndarray, least: int = 30) -> np.ndarray:
    """Where a picture, grey by itself, has a colour; the trail and texts included."""
    return np.ptp(image.astype(int), axis=2) > least


def edges(image: np.ndarray, row: float) -> tuple[float, float]:
    """The first and the last coloured pixel of a row, both as ratios."""
    columns = np.nonzero(colored(image)[round(row * image.shape[0])])[0]
    return columns.min() / image.shape[1], columns.max() / image.shape[1]


def box(left: float, top: float, width: float, height: float) -> dict[str, float]:
    return {"left": left, "top": top, "width": width, "height": height}


def person(time_ms: int, where: dict[str, float] | None, index: int = 3) -> dict[str, Any]:
    return {"timestamp_ms": time_ms, "person_index": index, "bounding_box": where}


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Filmed]:
    """Writes a video's rows into a lake."""

    def make(path: Path, lake: Lake | None = None, **tables: Iterable[dict[str, Any]]) -> Filmed:
        lake = lake or Lake(tmp_path / "lake")
        video = Video.from_file(path)
        for table, rows in tables.items():
            with lake.writer(table, video) as writer:
                writer.write({"video": video.uri, "job_id": "job", **row} for row in rows)
        job = {"job_id": "job", "status": "SUCCEEDED", "rows": 1}
        lake.write_job(video, "person_tracking", job)
        with av.open(str(path)) as container:
            duration = (container.duration or 0) // 1000
            facts = {"duration_ms": duration, "width": SIZE[0], "height": SIZE[1]}
        lake.write_video(video, facts)
        return Filmed(video, path, lake)

    return make
