"""Cutting moments out of a video: its own packets where that is exact enough, else encoded anew.

Packets are copied from the keyframe at or before a moment. That needs a codec that browsers know, a
container whose times go on, and a keyframe within ten seconds; else, and where a moment is to be
exact or people are covered, the pictures are encoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av.error

from rekognition_dagster.engine.decode import ahead, depth_for, open_container, open_video
from rekognition_dagster.engine.streams import codec_name, moving_stream
from rekognition_dagster.errors import VideoError
from rekognition_dagster.pictures.drawing import Filmed, paint
from rekognition_dagster.pictures.encoding import (
    Audio,
    Encoder,
    can_copy_audio,
    new_video,
    packets_of,
    shift_packet,
)
from rekognition_dagster.pictures.overlay import Look
from rekognition_dagster.pictures.timeline import Blur

_COPIED = ("h264", "hevc", "av1", "vp9")
_COPIED_FROM = ("mov,", "matroska,")
_LONGEST_LEAD_MS = 10_000
_INTERLEAVED_MS = 2000  # by which audio may come later in a file than its pictures


@dataclass(frozen=True)
class Clip:
    """A clip that was written.

    Args:
        path: The file.
        from_ms: Where in the video it begins.
        until_ms: Where it ends.
        is_copy: Whether its pictures are the video's own, not encoded again.
    """

    path: Path
    from_ms: int
    until_ms: int
    is_copy: bool


def cut(
    filmed: Filmed,
    from_ms: int,
    until_ms: int,
    output: Path,
    *,
    exact: bool = False,
    blur: Blur | None = None,
) -> Clip:
    """Cut a part out of a video, as MP4.

    Args:
        filmed: The video; its rows are needed to cover people only.
        from_ms: Where it begins, at the latest.
        until_ms: Where it ends.
        output: The file.
        exact: Begin at the first frame from then on, not at a keyframe before.
        blur: Who is covered. Audio is left out then.

    Raises:
        VideoError: The video cannot be opened, or has no frame in this part.
        OutputError: The file cannot be written.
    """
    if not exact and blur is None:
        begin = _copy(filmed, from_ms, until_ms, output)
        if begin is not None:
            return Clip(output, begin, until_ms, True)
    metadata, offset_ms = filmed.metadata()
    audio = None if blur else Audio(filmed.path, offset_ms, from_ms, until_ms)
    look = Look(people=False, blur=blur)
    written = 0
    with new_video(output, filmed.video.uri) as container:
        encoder = Encoder(container, metadata.frame_rate, audio)
        painted = paint(filmed, look, from_ms, until_ms, metadata)
        with closing(ahead(painted, min(2, depth_for(metadata)))) as images:
            for time_ms, image in images:
                encoder.write(image, time_ms - from_ms)
                written += 1
        if not written:
            raise VideoError(
                filmed.video.uri,
                f"has no frames from {from_ms / 1000:g} s to {until_ms / 1000:g} s",
                "Analyze it again if it has changed",
            )
        encoder.end()
    return Clip(output, from_ms, until_ms, False)


def _copy(filmed: Filmed, from_ms: int, until_ms: int, output: Path) -> int | None:
    """Copy packets from a keyframe on; return its time, or None where that cannot be done."""
    with open_video(filmed.path, filmed.video.uri) as opened:
        offset_ms, first_ms = opened.offset_ms, opened.first_ms
    with open_container(filmed.path) as source:
        stream = moving_stream(source, lambda: open_container(filmed.path))
        if (
            stream is None
            or codec_name(stream) not in _COPIED
            or not source.format.name.startswith(_COPIED_FROM)
        ):
            return None
        audio = [s for s in source.streams.audio if can_copy_audio(s)]
        try:
            stamp = int((from_ms - offset_ms) / 1000 / stream.time_base)
            source.seek(stamp, stream=stream)
        except (av.error.FFmpegError, OSError, OverflowError):
            return None
        first = next((p for p in packets_of(source, [stream]) if p.is_keyframe), None)
        if first is None:
            return None
        begin = _time(first, offset_ms)
        if round(begin) > max(from_ms, first_ms) or from_ms - begin > _LONGEST_LEAD_MS:
            return None
        source.seek(stamp, stream=stream)  # audio comes before its pictures, too
        try:
            with new_video(output, filmed.video.uri) as container:
                _copy_packets(source, container, [stream, *audio], offset_ms, begin, until_ms)
        except VideoError:  # MP4 does not take these packets
            return None
    return round(begin)


def _copy_packets(
    source: Any,
    container: Any,
    streams: Sequence[Any],
    offset_ms: float,
    begin: float,
    until_ms: int,
) -> None:
    """Copy the packets between two times; the first of the streams has the pictures."""
    # the decoder's codec, which needs no encoder of that name: of AV1 there is none
    copies = {s.index: container.add_stream_from_template(s, opaque=True) for s in streams}
    latest = begin
    for packet in packets_of(source, streams):
        time = _time(packet, offset_ms)
        if time < begin:
            continue
        is_picture = packet.stream.index == streams[0].index
        decoded = float((packet.dts or 0) * packet.time_base * 1000) + offset_ms
        if is_picture and decoded >= until_ms + _INTERLEAVED_MS:
            break
        # a picture that is decoded before others that are shown before it: they, too
        is_wanted = decoded < until_ms or time < latest if is_picture else time < until_ms
        if is_wanted:
            latest = max(latest, time) if is_picture else latest
            shift_packet(packet, offset_ms - begin)
            packet.stream = copies[packet.stream.index]
            container.mux(packet)


def _time(packet: Any, offset_ms: float) -> float:
    return float(packet.pts * packet.time_base * 1000) + offset_ms


def file_name(*parts: object) -> str:
    """Return a name without a suffix that every file system takes.

    Letters, digits, dots and hyphens stay; everything else becomes a hyphen.
    """
    pieces = [re.sub(r"[^\w.-]+", "-", str(p)).strip(".-_")[:40] for p in parts if p is not None]
    return "_".join(filter(None, pieces)) or "clip"
