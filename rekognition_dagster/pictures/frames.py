"""Frames of a part of a video, without decoding what is before it where the file allows that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rekognition_dagster.engine.decode import DamagedVideo, Uncut, open_video
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.errors import VideoError

SEEKABLE = ("mov,", "matroska,", "avi")
"""Containers whose times go on from their start to their end: FFmpeg's names begin like this."""
_BACK_MS = 2000


def frames_between(
    source: str | Path, from_ms: int = 0, until_ms: int | None = None, name: str | None = None
) -> Iterator[Frame]:
    """Decode the frames from a time until before another.

    A damaged video ends where its last frame that can be decoded is.

    Args:
        source: A file on this machine.
        from_ms: Milliseconds since the start of the video.
        until_ms: The end of the video by default.
        name: The video's name in errors.

    Raises:
        VideoError: It cannot be opened.
    """
    end = 1 << 62 if until_ms is None else until_ms
    done = from_ms - 1
    if from_ms > 0:
        try:
            with open_video(source, name) as video:
                if video.container_format.startswith(SEEKABLE):
                    for frame in video.cut(from_ms, end):
                        done = frame.timestamp_ms
                        yield frame
                    return
        except Uncut:
            pass
    with open_video(source, name) as video:
        try:
            for frame in video.frames(begin_ms=done + 1):
                if frame.timestamp_ms >= end:
                    return
                yield frame
        except DamagedVideo:
            return


def glance(source: str | Path, time_ms: int, name: str | None = None) -> Frame:
    """Decode one frame near a time: the keyframe before it, where the file allows that.

    Raises:
        VideoError: The video cannot be opened, or no frame of it decoded.
    """
    if time_ms > 0:
        try:
            with open_video(source, name) as video:
                if video.container_format.startswith(SEEKABLE):
                    return video.keyframe_before(time_ms)
        except Uncut:
            pass
    return still(source, time_ms, name)


def ends_before(name: str, time_ms: int, end_ms: float) -> VideoError:
    """Return the error of a time that a video does not reach."""
    reason = f"has no frames from {time_ms / 1000:g} s on; it ends at {end_ms / 1000:g} s"
    return VideoError(name, reason, "Choose another part")


def still(source: str | Path, time_ms: int, name: str | None = None) -> Frame:
    """Decode the first frame at or after a time, else the last one.

    Raises:
        VideoError: The video cannot be opened, or no frame of it decoded.
    """
    for start in (time_ms, max(0, time_ms - _BACK_MS), 0):
        last: Frame | None = None
        frames = frames_between(source, start, None, name)
        for frame in frames:
            last = frame
            if frame.timestamp_ms >= time_ms:
                break
        frames.close()  # type: ignore[attr-defined]
        if last is not None:
            return last
    raise VideoError(name or str(source), "has no frame that can be decoded", "Upload it again")
