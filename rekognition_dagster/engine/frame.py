"""A frame of a video: when it was, and its pixels in whatever form and size somebody needs.

A decoder gives planes of brightness and colour. Who needs a small picture, or the colours of some
points, gets them from the planes: turning a large frame into RGB costs more than looking at it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

# The network has all cores: more threads for a picture take from it what they wait for each other.
cv2.setNumThreads(1)

Image = npt.NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""

Luma = npt.NDArray[np.uint8]
"""Grey, shape (height, width)."""

Orientation: TypeAlias = "tuple[bool, bool, bool] | None"
"""How a stored picture is turned: rows for columns, then mirrored, then upside down; None as it is
stored."""

_PLANAR = ("yuv4", "yuvj4", "yuva4", "gray")  # pixel formats, by their names
_UNSPECIFIED, _PQ, _HLG = 2, 16, 18  # transfer characteristics, as FFmpeg numbers them
_WHITE_NITS, _BRIGHTEST_NITS = 203.0, 1000.0
_FULL_RANGE = 2  # of brightness and colours, as FFmpeg numbers it; else 16 to 235, and 16 to 240
_TO_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
BLUE, RED = 1.772, 1.402
"""By how much more blue or red than bright a pixel is, for each step of Cb or Cr."""

_STORED = np.arange(256)
_WIDENED = [  # brightness, and differences of colour, of 16 to 235 and 16 to 240 to 0 to 255
    np.round(values).clip(0, 255).astype(np.uint8)
    for values in ((_STORED - 16) * (255 / 219), (_STORED - 128) * (255 / 224) + 128)
]


@dataclass(frozen=True, eq=False)
class Display:
    """How a stored picture becomes the displayed one.

    Args:
        orientation: How it is turned, after it was widened.
        pixel_aspect: Width of a stored pixel in its heights.
        tones: For each value of red, green and blue the displayed one, shape (256,); None as it is.
    """

    orientation: Orientation = None
    pixel_aspect: float = 1.0
    tones: npt.NDArray[np.uint8] | None = None

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the displayed width and height of a stored picture."""
        width = max(1, round(width * self.pixel_aspect))
        turned = self.orientation is not None and self.orientation[0]
        return (height, width) if turned else (width, height)


_AS_STORED = Display()


class Moment(Protocol):
    """When a frame was, and how large, of which nothing else need be left."""

    @property
    def timestamp_ms(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


@dataclass
class Frame:
    """One frame as displayed. Its pixels are converted when they are asked for.

    Args:
        index: Position among the frames decoded here, from 0, sampled or not.
        timestamp_ms: Time since the start of the video.
        width: Pixels, as displayed.
        height: Pixels, as displayed.
        is_sample: Whether it is one of the frames that were asked for in a second of video.
        passed: Frames of the video that it stands for, itself and those left out before it.
    """

    index: int
    timestamp_ms: int
    width: int
    height: int
    _raw: Any = field(repr=False)
    _display: Display = field(default=_AS_STORED, repr=False)
    _image: Image | None = field(default=None, repr=False)
    _views: list[npt.NDArray] | None = field(default=None, init=False, repr=False)
    is_sample: bool = True
    passed: int = 1

    @property
    def _planes(self) -> list[npt.NDArray] | None:
        if self._views is None and self._raw is not None:
            self._views = _planes_of(self._raw)
        return self._views

    @property
    def image(self) -> Image:
        """RGB pixels, shape (height, width, 3). Lets go of the decoder's frame."""
        if self._image is None:
            shown = _displayed(_rgb(self._raw), self._display)
            if shown.shape[:2] != (self.height, self.width):
                shown = _resized(shown, self.width, self.height)
            self._image = shown
            self._raw = self._views = None
        return self._image

    def stretched(self, width: int, height: int) -> Image:
        """RGB pixels in another size, bilinearly as networks are trained."""
        raw, planes = self._raw, self._planes
        if raw is None or planes is None:
            if self.image.shape[:2] == (height, width):
                return self.image
            return _resized(self.image, width, height)
        return _scaled(raw, planes, width, height, self._display)

    def part(self, box: tuple[int, int, int, int], width: int, height: int) -> Image:
        """Return a part of the frame in another size, without converting the rest.

        Args:
            box: Left, top, right, bottom of the part, in pixels inside the frame. Edges are
                rounded to whole colour samples, which may be two or four pixels wide.
            width: Of the result.
            height: Of the result.
        """
        left, top, right, bottom = box
        how = cv2.INTER_AREA if 2 * width <= right - left else cv2.INTER_LINEAR
        raw, planes = self._raw, self._planes
        if raw is None or planes is None:
            return _resized(self.image[top:bottom, left:right], width, height, how)
        rows, columns = self._stored(np.array([top, bottom - 1]), np.array([left, right - 1]))
        cut = []
        for plane in planes:
            down, across = (-(-a // b) for a, b in zip(planes[0].shape, plane.shape, strict=True))
            first_row, last_row = rows.min() // down, rows.max() // down
            first, last = columns.min() // across, columns.max() // across
            cut.append(plane[first_row : last_row + 1, first : last + 1])
        return _scaled(raw, cut, width, height, self._display, how)

    def colours(self, rows: npt.NDArray, columns: npt.NDArray) -> npt.NDArray[np.uint8]:
        """How bright, how blue and how red pixels are.

        Args:
            rows: Of the pixels, from the top; of any shape.
            columns: From the left; of a shape that goes with it.

        Returns:
            Y', Cb and Cr of each pixel, one after the other in a first axis of 3; each from 0 to
            255, and 128 is neither blue nor red nor their opposites.
        """
        raw, planes = self._raw, self._planes
        if raw is None or planes is None:
            pixels = self.image[rows, columns].astype(np.float32)
            luma = pixels @ _TO_LUMA
            blue, red = (pixels[..., 2] - luma) / BLUE, (pixels[..., 0] - luma) / RED
            return np.stack([luma, blue + 128, red + 128]).round().clip(0, 255).astype(np.uint8)
        rows, columns = self._stored(rows, columns)
        full = _has_full_range(raw)
        deep = raw.format.components[0].bits - 8
        shape = np.broadcast_shapes(rows.shape, columns.shape)
        colours = np.full((3, *shape), 128, np.uint8)
        for part, plane in enumerate(planes[:3]):
            down, across = (-(-a // b) for a, b in zip(planes[0].shape, plane.shape, strict=True))
            stored = plane[rows // down, columns // across]
            stored = stored >> deep if deep else stored
            colours[part] = stored if full else _WIDENED[min(part, 1)].take(stored)
        return colours

    @property
    def luma(self) -> Luma:
        """Brightness as stored, not turned: a view of the decoder's own plane where it has one.

        Ask for it before ``image``, which lets go of the decoder's frame.
        """
        raw, planes = self._raw, self._planes
        if raw is None or planes is None:
            return self.image.mean(axis=2).astype(np.uint8)
        deep = raw.format.components[0].bits - 8
        return (planes[0] >> deep).astype(np.uint8) if deep else planes[0]

    def dark_share(self, threshold: float) -> float:
        """Return the share of pixels that are dark, 0 to 1.

        Args:
            threshold: Luminance up to which a pixel is dark, as a share of the range that the
                stored picture uses, 0 to 1.
        """
        full = self._raw is None or self._planes is None or _has_full_range(self._raw)
        lowest, highest = (0, 255) if full else (16, 235)
        darkest = int(lowest + threshold * (highest - lowest) + 1e-6)
        luma = self.luma
        return np.count_nonzero(luma <= darkest) / luma.size

    def _stored(self, rows: npt.NDArray, columns: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
        """Return where displayed pixels lie in the stored picture."""
        width = self.width
        if self._display.orientation is not None:
            turned, mirrored, upside_down = self._display.orientation
            rows = self.height - 1 - rows if upside_down else rows
            columns = self.width - 1 - columns if mirrored else columns
            if turned:
                rows, columns, width = columns, rows, self.height
        return rows, columns if width == self._raw.width else columns * self._raw.width // width

    def grey(self, width: int, height: int) -> Luma:
        """Return brightness as displayed, in a smaller size."""
        luma = self.luma
        decoded = self._raw is not None
        turned = decoded and self._display.orientation is not None and self._display.orientation[0]
        size = (height, width) if turned else (width, height)
        across, down = (max(1, a // (2 * b)) for a, b in zip(luma.shape[::-1], size, strict=True))
        small = cv2.resize(luma[::down, ::across], size, interpolation=cv2.INTER_AREA)
        return np.asarray(_turned(small, self._display.orientation if decoded else None), np.uint8)

    def without_pixels(self) -> Frame:
        """The frame's time and size; its pixels are let go of, and cannot be asked for."""
        return replace(self, _raw=None, _image=None)

    @classmethod
    def from_image(cls, image: Image, index: int = 0, timestamp_ms: int = 0) -> Frame:
        """A frame around an RGB array."""
        height, width = image.shape[:2]
        return cls(index, timestamp_ms, width, height, None, _image=image)

    @classmethod
    def decoded(
        cls, raw: Any, index: int, timestamp_ms: int, display: Display = _AS_STORED
    ) -> Frame:
        """A frame around what PyAV decoded, and how that is to be displayed."""
        return cls(index, timestamp_ms, *display.size(raw.width, raw.height), raw, display)


class Displays:
    """How the frames of a stream are to be displayed.

    Reading a frame's side data makes a reference cycle, which keeps large pictures in memory until
    Python's garbage collector runs. So it is read from one frame of each rotation.

    Args:
        pixel_aspect: Width of a stored pixel in its heights.
        transfer: The stream's transfer characteristic, as FFmpeg numbers it.
    """

    def __init__(self, pixel_aspect: float = 1.0, transfer: int = 2) -> None:
        self._pixel_aspect = pixel_aspect
        self._transfer = transfer
        self._known: dict[tuple[int, int], Display] = {}

    def of(self, raw: Any) -> Display:
        """Return how a decoded frame is to be displayed."""
        transfer = self._transfer if raw.color_trc == _UNSPECIFIED else raw.color_trc
        key = raw.rotation, transfer
        if key not in self._known:
            tones = _tones(int(transfer))
            self._known[key] = Display(_orientation(raw), self._pixel_aspect, tones)
        return self._known[key]


@lru_cache(maxsize=4)
def _tones(transfer: int) -> npt.NDArray[np.uint8] | None:
    """Return what makes a standard picture of a high dynamic range; None where it is standard.

    Light comes from the transfer functions of ITU-R BT.2100. Up to 1,000 cd/m2 it is compressed as
    Reinhard et al. (2002) do, around the white of 203 cd/m2 that BT.2408 names.
    """
    signal = np.arange(256) / 255
    if transfer == _PQ:
        root = signal ** (1 / 78.84375)
        light = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (
            1 / 0.1593017578125
        )
    elif transfer == _HLG:
        high = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
        light = 1000 * np.where(signal <= 0.5, signal**2 / 3, high) ** 1.2
    else:
        return None
    light, brightest = light / _WHITE_NITS, _BRIGHTEST_NITS / _WHITE_NITS
    compressed = light * (1 + light / brightest**2) / (1 + light)
    return np.round(255 * np.clip(compressed, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _orientation(raw: Any) -> Orientation:
    """How a frame is to be displayed, from its display matrix: a b u, c d v, x y w as in MP4."""
    told = raw.side_data.get("DISPLAYMATRIX")
    if told is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(told)[:20], np.int32).tolist()
    lies = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if lies else (a, d)
    orientation = lies, across < 0, down < 0
    return orientation if any(orientation) else None


def _displayed(image: Image, display: Display) -> Image:
    """Turn a widened picture, and give it its tones."""
    if display.tones is not None:
        image = display.tones[image]
    return _turned(image, display.orientation)


def _turned(image: npt.NDArray, orientation: Orientation) -> npt.NDArray:
    if orientation is None:
        return image
    turned, mirrored, upside_down = orientation
    image = image.swapaxes(0, 1) if turned else image
    image = image[:, ::-1] if mirrored else image
    return np.ascontiguousarray(image[::-1] if upside_down else image)


def _has_full_range(raw: Any) -> bool:
    return raw.color_range == _FULL_RANGE or raw.format.name.startswith("yuvj")


def _planes_of(raw: Any) -> list[npt.NDArray] | None:
    """Views of a frame's planes, brightness first, in eight bits or more; None where its pixel
    format mixes them or has other colours."""
    name = raw.format.name
    if not name.startswith(_PLANAR) or name.endswith("be"):
        return None
    if any(plane.line_size <= 0 for plane in raw.planes):  # stored from the last row to the first
        return None
    dtype = np.dtype(np.uint8 if raw.format.components[0].bits == 8 else "<u2")
    return [
        np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)[
            : plane.height, : plane.width
        ]
        for plane in raw.planes
    ]


def _scaled(
    raw: Any,
    planes: list[npt.NDArray],
    width: int,
    height: int,
    display: Display,
    how: int = cv2.INTER_LINEAR,
) -> Image:
    """RGB pixels, as displayed, of a decoded frame's planes or of a part of each."""
    if display.orientation is not None and display.orientation[0]:
        width, height = height, width
    small = av.VideoFrame(width, height, raw.format.name)
    small.colorspace, small.color_range = raw.colorspace, raw.color_range
    for plane, target in zip(planes, _planes_of(small) or (), strict=True):
        cv2.resize(plane, target.shape[::-1], dst=target, interpolation=how)
    return _displayed(_rgb(small), display)


def _resized(image: Image, width: int, height: int, how: int = cv2.INTER_LINEAR) -> Image:
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)


def _rgb(raw: Any) -> Image:
    converter = _converters.of(raw.width, raw.height, raw.format.name)
    converted = converter.reformat(raw, format="rgb24", threads=1)
    return np.asarray(converted.to_ndarray(), np.uint8)


class _Converters(threading.local):
    """A converter serves one thread and one size at a time; another size is dear."""

    def __init__(self) -> None:
        self.of = lru_cache(maxsize=8)(lambda *_: VideoReformatter())


_converters = _Converters()
