"""What is known of a video: the API's VideoMetadata, and what decoding it showed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class AudioMetadata:
    """A sound track's properties, as the API reference documents ``AudioMetadata``.

    Args:
        codec: Audio codec, e.g. ``aac``.
        duration_ms: Length in milliseconds, where the header tells it.
        sample_rate: Samples per second.
        channels: How many.
    """

    codec: str | None
    duration_ms: int | None
    sample_rate: int | None
    channels: int | None


@dataclass(frozen=True)
class VideoMetadata:
    """A video's properties, as the Rekognition API reference documents ``VideoMetadata``.

    Args:
        codec: Video codec, e.g. ``h264``.
        format: Container, e.g. ``QuickTime / MOV``.
        duration_ms: Length in milliseconds: the header's; after an analysis what was decoded, where
            the header is wrong or tells none.
        frame_rate: Average frames per second: the header's; after an analysis that of what was
            decoded, where the header is wrong.
        width: Width in pixels, as displayed (rotation applied).
        height: Height in pixels, as displayed.
        color_range: ``FULL`` or ``LIMITED``, where the stream says.
        declared_duration_ms: Length that the header tells; 0 where it tells none. This and what
            follows are known after an analysis.
        frames_analyzed: Frames that were looked at.
        gaps: Pauses of more than ten seconds between two frames.
        gap_ms: How long they are in all.
        lost_share: Part of the video that could not be decoded, 0 to 1.
        warning: What was lost and where; None where nothing was.
        container_created_at: When the container says that it was created, in UTC.
        audio: The sound tracks beside the pictures.
    """

    codec: str | None
    format: str | None
    duration_ms: int
    frame_rate: float
    width: int
    height: int
    color_range: str | None = None
    declared_duration_ms: int | None = None
    frames_analyzed: int | None = None
    gaps: int | None = None
    gap_ms: int | None = None
    lost_share: float | None = None
    warning: str | None = None
    container_created_at: datetime | None = None
    audio: tuple[AudioMetadata, ...] = ()
