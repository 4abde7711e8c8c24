"""Which stream of a container holds the moving pictures, and what its header tells of them."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

_STILL = ("attached_pic", "timed_thumbnails", "still_image", "dependent", "metadata")
_PROBE_PACKETS = 2000
_FEW = 0.1  # of the frames of the stream that has most
_NO_CHANGE = 1 / 16_384  # bytes a pixel: an eighth of a bit for each block of 16x16 pixels
_HEADERS = 48  # bytes of a packet that changes nothing
_SQUARE = 0.02  # by which a pixel may be wider than high, or higher than wide
_HEADER = 1 << 16  # bytes of a file in which its first picture begins
_WIDEST_PIXEL = 4.0  # beyond, the header is wrong


def moving_stream(container: Any, reopened: Callable[[], Any]) -> Any | None:
    """Return the stream of moving pictures; None where there is no video.

    It may be one that cannot be decoded, where there is no other: its codec context is None.

    Cover art, thumbnails and still pictures that accompany it are passed over. Of several that
    move, it is the default one, then the largest, then the first.

    Args:
        container: Open, nothing read yet.
        reopened: Opens the container a second time, as a context manager.
    """
    moving = [s for s in container.streams.video if not _is_still(s)]
    streams = [s for s in moving if s.codec_context is not None] or moving[:1]
    if len(streams) < 2:
        return streams[0] if streams else None
    with reopened() as probed:
        packets = _packets(probed, [stream.index for stream in streams])
    counts = [stream.frames for stream in streams]
    if not all(counts):
        counts = [len(packets[stream.index]) for stream in streams]
    full = [s for s, n in zip(streams, counts, strict=True) if n >= _FEW * max(counts)]
    full = [s for s in full if not _is_looped(s, packets[s.index])] or full
    return max(full, key=lambda s: (_has(s, "default"), s.width * s.height, -s.index))


class _Packet(NamedTuple):
    size: int
    checksum: int
    is_keyframe: bool


def _packets(container: Any, indices: Sequence[int]) -> dict[int, list[_Packet]]:
    """Return each stream's packets at the beginning."""
    streams = [container.streams[index] for index in indices]
    found: dict[int, list[_Packet]] = {index: [] for index in indices}
    for packet in islice(container.demux(*streams), _PROBE_PACKETS):
        if packet.size:
            one = _Packet(packet.size, zlib.crc32(packet), packet.is_keyframe)
            found[packet.stream.index].append(one)
    return found


def _is_looped(stream: Any, packets: Sequence[_Packet]) -> bool:
    """Whether a stream repeats one picture: what changes is next to nothing."""
    changes = [packet.size for packet in packets if not packet.is_keyframe]
    if changes:
        return median(changes) < max(_HEADERS, stream.width * stream.height * _NO_CHANGE)
    return len({packet.checksum for packet in packets}) < len(packets) / 2


def _is_still(stream: Any) -> bool:
    return any(_has(stream, name) for name in _STILL)


def _has(stream: Any, disposition: str) -> bool:
    value = stream.disposition
    return bool(value & getattr(type(value), disposition, 0))


def codec_name(stream: Any) -> str:
    """Return the format's name, e.g. ``av1``, whichever decoder reads it."""
    return stream.codec_context.codec.canonical_name


def pixel_aspect(stream: Any) -> float:
    """Return the width of a pixel in its heights, 1 where it is square or not told."""
    told = stream.sample_aspect_ratio
    if not told:
        return 1.0
    ratio = float(told)
    off = abs(math.log(ratio))
    return 1.0 if off < _SQUARE or off > math.log(_WIDEST_PIXEL) else ratio


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height by a GIF's, an AVI's or a first picture's header; 0, 0 if unknown.

    Pictures whose header is known are PNG and baseline JPEG.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if header.startswith(b"GIF8"):
        return struct.unpack("<HH", header[6:10])
    if (place := header.find(b"strf(\0\0\0")) > 0 and header.startswith(b"RIFF"):
        width, height = struct.unpack_from("<ii", header, place + 12)
        return width, abs(height)
    if (place := header.find(b"IHDR")) > 0:
        return struct.unpack_from(">II", header, place + 4)
    if (place := header.find(b"\xff\xc0\0\x11\x08")) >= 0:
        height, width = struct.unpack_from(">HH", header, place + 5)
        return width, height
    return 0, 0
