"""What is known of a decoded video: the API's VideoMetadata, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoMetadata:
    """A video's properties, as the Rekognition API reference documents ``VideoMetadata``.

    Args:
        codec: Video codec, e.g. ``h264``.
        format: Container, e.g. ``QuickTime / MOV``.
        duration_ms: Length in milliseconds.
        frame_rate: Average frames per second.
        width: Width in pixels, as displayed (rotation applied).
        height: Height in pixels, as displayed.
        color_range: ``FULL`` or ``LIMITED``, where the stream says.
    """

    codec: str | None
    format: str | None
    duration_ms: int
    frame_rate: float
    width: int
    height: int
    color_range: str | None = None
