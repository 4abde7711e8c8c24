"""Colours, line widths and text that all pictures share."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import supervision as sv

from rekognition_dagster.engine.frame import Image

COLORS = 64


def color_of(index: int) -> sv.Color:
    """Return a colour, far from that of neighbouring numbers.

    supervision paints blue first; frames here have red first. So the two are exchanged.
    """
    hue = (index * 0.618034) % 1  # the golden ratio never comes back near where it was
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.75)
    return sv.Color(round(blue * 255), round(green * 255), round(red * 255))


PALETTE = sv.ColorPalette([color_of(n) for n in range(COLORS)])


@dataclass(frozen=True)
class Style:
    """Sizes that fit a picture.

    Args:
        line: Width of lines, in pixels.
        text: Scale of OpenCV's font.
    """

    line: int
    text: float

    @classmethod
    def of(cls, image: Image) -> Style:
        """Return the sizes for a picture, shape (height, width, 3)."""
        shorter = min(image.shape[:2])
        return cls(max(2, round(shorter / 400)), max(0.35, shorter / 1600))

    def write(self, image: Image, text: str, at: Sequence[float], color: sv.Color) -> None:
        """Write a text around a point, moved so that all of it is in the picture."""
        height, width = image.shape[:2]
        text, padding = plain(text), 3 * self.line
        (across, down), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, self.text, 1)
        x, y = (
            min(max(round(place), size // 2 + padding), max(0, whole - size // 2 - padding))
            for place, size, whole in zip(at, (across, down), (width, height), strict=True)
        )
        sv.draw_text(
            image,
            text,
            sv.Point(x, y),
            text_color=sv.Color.WHITE,
            text_scale=self.text,
            text_padding=padding,
            background_color=color,
        )


def plain(text: str) -> str:
    """Return a text in the letters that OpenCV's font has; ``?`` for others."""
    folded = unicodedata.normalize("NFKD", text).replace("ß", "ss")
    letters = (c for c in folded if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in letters)
