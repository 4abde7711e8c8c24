"""What counts as a black frame; needs none of the engine's libraries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlackFrames:
    """A frame is black when enough of its pixels are dark enough.

    Args:
        max_pixel_threshold: Luminance up to which a pixel is black, as a share of the range that
            the video uses: 0.2 is 51 in full range (0 to 255), 59.8 in limited range (16 to 235).
        min_coverage_percentage: Percent of the pixels that must be black.

    Raises:
        ValueError: A value is out of its range, 0 to 1 or 0 to 100.

    Source: ``BlackFrame`` of the Amazon Rekognition API reference, with its defaults.
    """

    max_pixel_threshold: float = 0.2
    min_coverage_percentage: float = 99.0

    def __post_init__(self) -> None:
        if not (0 <= self.max_pixel_threshold <= 1 and 0 <= self.min_coverage_percentage <= 100):
            raise ValueError(
                f"{self} is not possible; max_pixel_threshold is 0 to 1, min_coverage_percentage "
                "0 to 100"
            )
