"""A small picture, or the colours of some points, are those of the whole picture in RGB."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from rekognition_dagster.engine.frame import Display, Frame

FORMATS = (
    *("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv411p", "yuva420p"),
    *("yuv420p10le", "yuv422p12le", "yuv444p16le"),
    *("gray", "gray10le", "nv12", "p010le", "rgb24", "bgra", "pal8", "yuyv422", "yuv420p10be"),
)
STANCES = [None, *product((False, True), repeat=3)]
CLOSE = 2.5  # levels of 256 in the mean: colours of half the resolution are halved once more


def scene(width=96, height=64):
    """Soft colours all over, none of them twice."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 40 + 160 * x / width, 60 + 120 * y / height
    blue = 90 + 60 * np.sin(x / 17) * np.cos(y / 11)
    return np.stack([red, green, blue], axis=-1).round().astype(np.uint8)


def decoded(pixel_format="yuv420p", stance=None, **tags):
    """The scene, as a decoder gives it."""
    raw = av.VideoFrame.from_ndarray(scene(), "rgb24")
    if pixel_format != "rgb24":
        raw = raw.reformat(format="rgb8" if pixel_format == "pal8" else pixel_format)
    for name, value in tags.items():
        setattr(raw, name, value)
    return Frame.decoded(raw, 0, 0, Display(stance))


def apart(one, other):
    return np.abs(one.astype(float) - other.astype(float)).mean()


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_a_small_picture_is_the_whole_one_shrunk_whatever_the_pixel_format(pixel_format):
    small = decoded(pixel_format).stretched(48, 40)
    whole = cv2.resize(decoded(pixel_format).image, (48, 40), interpolation=cv2.INTER_LINEAR)
    assert small.shape == (40, 48, 3)
    assert small.dtype == np.uint8
    assert apart(small, whole) < CLOSE


@pytest.mark.parametrize("size", [(96, 64), (192, 128), (37, 23), (1, 1)])
def test_any_size_can_be_had(size):
    assert decoded().stretched(*size).shape == (size[1], size[0], 3)
    assert Frame.from_image(scene()).stretched(*size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("stance", STANCES)
def test_a_small_picture_stands_as_the_whole_one_does(stance):
    small = decoded(stance=stance).stretched(40, 44)
    whole = cv2.resize(decoded(stance=stance).image, (40, 44), interpolation=cv2.INTER_LINEAR)
    assert apart(small, whole) < CLOSE


@pytest.mark.parametrize("colorspace", [Colorspace.ITU709, Colorspace.ITU601])
@pytest.mark.parametrize("color_range", [ColorRange.JPEG, ColorRange.MPEG])
def test_a_small_picture_has_the_colours_that_the_video_is_tagged_with(colorspace, color_range):
    tags = {"colorspace": colorspace, "color_range": color_range}
    whole = cv2.resize(decoded(**tags).image, (48, 40), interpolation=cv2.INTER_LINEAR)
    assert apart(decoded(**tags).stretched(48, 40), whole) < CLOSE


@pytest.mark.parametrize("stance", STANCES)
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_points_have_the_colours_of_the_whole_picture(pixel_format, stance):
    frame = decoded(pixel_format, stance)
    rows = np.arange(1, frame.height, 7)[:, None]
    columns = np.arange(1, frame.width, 5)[None, :]
    points = frame.colours(rows, columns)
    whole = Frame.from_image(decoded(pixel_format, stance).image).colours(rows, columns)
    assert points.shape == (3, rows.size, columns.size)
    assert apart(points, whole) < CLOSE


def test_a_picture_that_is_stored_upside_down_is_converted_as_a_whole():
    raw = av.VideoFrame.from_ndarray(scene(), "rgb24").reformat(format="yuv420p")
    picture = Frame.decoded(raw, 0, 0).image

    class UpsideDown:
        """As FFmpeg gives raw video whose rows come last to first."""

        format, width, height, color_range = raw.format, raw.width, raw.height, raw.color_range
        planes = [SimpleNamespace(line_size=-128, width=96, height=64)] * 3

    frame = Frame(0, 0, raw.width, raw.height, UpsideDown(), _image=picture)
    assert apart(frame.stretched(48, 40), cv2.resize(picture, (48, 40))) == 0
    assert frame.colours(np.array([3]), np.array([4])).shape == (3, 1)
    assert frame.luma.shape == (64, 96)


def test_points_of_full_range_are_told_from_those_of_limited_range():
    rows, columns = np.array([5, 30]), np.array([7, 60])
    limited = decoded(color_range=ColorRange.MPEG).colours(rows, columns)
    full = decoded(color_range=ColorRange.JPEG).colours(rows, columns)
    assert limited[0] == pytest.approx((full[0].astype(float) - 16) * 255 / 219, abs=0.5)
    assert limited[1] == pytest.approx((full[1] - 128.0) * 255 / 224 + 128, abs=0.5)


def test_the_whole_picture_is_not_converted_for_a_small_one_or_for_points():
    frame = decoded()
    frame.stretched(48, 32)
    frame.colours(np.array([3]), np.array([4]))
    frame.luma  # noqa: B018
    assert frame._image is None


def test_the_points_of_a_video_are_those_of_its_frames(tmp_path):
    path = tmp_path / "scene.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {"crf": "4"}
        picture = av.VideoFrame.from_ndarray(scene(), "rgb24")
        container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        frame = Frame.decoded(next(container.decode(video=0)), 0, 0)
    rows, columns = np.arange(2, 60, 6)[:, None], np.arange(2, 90, 6)[None, :]
    truth = Frame.from_image(scene()).colours(rows, columns)
    assert apart(frame.colours(rows, columns), truth) < 2


@pytest.mark.parametrize("stance", STANCES)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv411p", "yuv420p10le", "nv12", "rgb24"])
def test_a_part_is_that_of_the_whole_picture(pixel_format, stance):
    frame = decoded(pixel_format, stance)
    left, top, right, bottom = 16, 8, 48, 40
    part = frame.part((left, top, right, bottom), 48, 64)
    whole = decoded(pixel_format, stance).image
    expected = cv2.resize(whole[top:bottom, left:right], (48, 64), interpolation=cv2.INTER_LINEAR)
    assert part.shape == (64, 48, 3)
    assert apart(part, expected) < CLOSE


def test_a_part_that_shrinks_much_is_averaged():
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    image = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    small = Frame.from_image(image).part((8, 8, 56, 56), 12, 12)
    assert np.abs(small.astype(int) - 127).max() <= 1
