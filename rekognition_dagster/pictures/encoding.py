"""Writing pictures and video: H.264 that browsers play, whole files or none.

A file is written beside its place and renamed when it is whole; see :mod:`outputs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np

from rekognition_dagster.engine.decode import open_container
from rekognition_dagster.engine.frame import Image
from rekognition_dagster.errors import OutputError, VideoError
from rekognition_dagster.outputs import new_file

_MS = Fraction(1, 1000)
_BT601, _LIMITED = 6, 1  # as FFmpeg numbers colour spaces and ranges
AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "alac"})
"""Codecs of audio that MP4 holds; others are left out."""
OPTIONS = {"preset": "veryfast", "crf": "23"}
"""Of x264."""


def write_picture(image: Image, path: Path) -> Path:
    """Write an RGB picture, shape (height, width, 3).

    Raises:
        OutputError: It cannot be written.
    """
    done, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError(f"{path} cannot be written: OpenCV makes no such picture")
    with new_file(path) as temporary:
        temporary.write_bytes(content.tobytes())
    return path


class Audio:
    """The audio of a file, to be copied packet by packet beside what is encoded.

    Args:
        source: The file.
        from_ms: Time in the video that becomes 0.
        until_ms: Where it ends.
        offset_ms: What is added to a time stamp to give a time in the video.
    """

    def __init__(
        self, source: Path, offset_ms: float, from_ms: int = 0, until_ms: int | None = None
    ) -> None:
        self._source, self._shift_ms = source, offset_ms - from_ms
        self._length_ms = float("inf") if until_ms is None else until_ms - from_ms
        self._packets: Iterator[tuple[float, Any]] = iter(())
        self._next: tuple[float, Any] | None = None
        self._from_ms = from_ms

    def begin(self, output: Any) -> None:
        """Add the streams to a container that has no packets yet."""
        self._packets = self._read(output)
        self._next = next(self._packets, None)

    def copy_until(self, output: Any, time_ms: float) -> None:
        """Write the packets that come before a time."""
        while self._next is not None and self._next[0] < time_ms:
            output.mux(self._next[1])
            self._next = next(self._packets, None)

    def _read(self, output: Any) -> Iterator[tuple[float, Any]]:
        with open_container(self._source) as container:
            streams = [s for s in container.streams.audio if can_copy_audio(s)]
            if not streams:
                return
            copies = {s.index: output.add_stream_from_template(s) for s in streams}
            if self._from_ms:
                container.seek(max(0, int((-self._shift_ms - 500) * 1000)))
            for packet in packets_of(container, streams):
                time = float(packet.pts * packet.time_base * 1000) + self._shift_ms
                if time >= self._length_ms:
                    return
                if time >= 0:
                    shift_packet(packet, self._shift_ms)
                    packet.stream = copies[packet.stream.index]
                    yield time, packet


def packets_of(container: Any, streams: Sequence[Any]) -> Iterator[Any]:
    """Yield the packets of some streams that have a time, up to where the file is damaged."""
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError):
            return
        if packet is None:
            return
        if packet.pts is not None and packet.size:
            yield packet


def can_copy_audio(stream: Any) -> bool:
    """Whether MP4 holds a stream as it is."""
    codec = stream.codec_context
    return codec is not None and codec.codec.canonical_name in AUDIO


def shift_packet(packet: Any, by_ms: float) -> None:
    """Move a packet in time."""
    shift = round(by_ms / 1000 / packet.time_base)
    if packet.pts is not None:
        packet.pts += shift
    if packet.dts is not None:
        packet.dts += shift


class Encoder:
    """Frames as H.264 in an open MP4, each at its own time.

    The last one lasts as long as the one before.

    Args:
        output: A container that is open for writing.
        frame_rate: Of the video, as far as known; a lone frame lasts as long as one of it.
        audio: Copied beside the pictures.
    """

    def __init__(
        self, output: Any, frame_rate: float | None = None, audio: Audio | None = None
    ) -> None:
        self._output, self._audio = output, audio
        self._length_ms = max(1, round(1000 / (frame_rate or 25.0)))
        self._stream: Any = None
        self._last_ms: int | None = None
        self._planes = np.empty((0, 0), np.uint8)

    def write(self, image: Image, time_ms: int) -> None:
        """Encode an RGB picture; of odd sides, the last row or column is left out."""
        stream = self._stream = self._stream or self._begin(image)
        crop = image[: stream.height, : stream.width]
        if crop.shape[:2] != (stream.height, stream.width):
            crop = cv2.resize(image, (stream.width, stream.height))
        cv2.cvtColor(crop, cv2.COLOR_RGB2YUV_I420, dst=self._planes)
        picture = av.VideoFrame.from_ndarray(self._planes, format="yuv420p")  # a copy
        picture.colorspace, picture.color_range = _BT601, _LIMITED
        picture.pts, picture.time_base = time_ms, _MS
        if self._last_ms is not None:
            self._length_ms = time_ms - self._last_ms
        self._last_ms = time_ms
        self._mux(stream.encode(picture))
        if self._audio is not None:
            self._audio.copy_until(self._output, time_ms)

    def end(self) -> None:
        """Write what is left."""
        if self._stream is not None:
            self._mux(self._stream.encode())
            if self._audio is not None:
                self._audio.copy_until(self._output, float("inf"))

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            packet.duration = self._length_ms  # for the last one; each other lasts until the next
            self._output.mux(packet)

    def _begin(self, image: Image) -> Any:
        stream = self._output.add_stream("libx264", rate=1000, options=OPTIONS)
        # colours are stored by 2 x 2 pixels
        stream.height, stream.width = (max(2, n // 2 * 2) for n in image.shape[:2])
        self._planes = np.empty((stream.height * 3 // 2, stream.width), np.uint8)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _MS
        stream.codec_context.colorspace, stream.codec_context.color_range = _BT601, _LIMITED
        if self._audio is not None:
            self._audio.begin(self._output)
        return stream


@contextmanager
def new_video(path: Path, video: str) -> Iterator[Any]:
    """Open an MP4 for writing that appears when it is whole, and plays while it loads.

    Args:
        path: The file.
        video: The name of the video whose pictures it has.

    Raises:
        OutputError: It cannot be written.
        VideoError: MP4, or the encoder, does not take these pictures.
    """
    try:
        with (
            new_file(path) as temporary,
            av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as output,
        ):
            yield output
    except (av.error.FFmpegError, ValueError) as error:
        remedy = "Convert it to H.264"
        raise VideoError(video, f"cannot be written as MP4 ({error})", remedy) from error
