"""Which stream of a container holds the moving pictures, and what its header tells of them."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

_STILL = ("attached_pic", "timed_thumbnails", "still_image", "dependent", "metadata")
_PROBE_PACKETS = 2000
_FEW = 0.1  # of the frames of the stream that has most
_SQUARE = 0.02  # by which a pixel may be wider than high, or higher than wide
_HEADER = 1 << 16  # bytes of a file in which its first PNG picture begins
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
    counts = [stream.frames for stream in streams]
    if not all(counts):
        with reopened() as probed:
            counts = _packets(probed, [stream.index for stream in streams])
    full = [s for s, n in zip(streams, counts, strict=True) if n >= _FEW * max(counts)]
    return max(full, key=lambda s: (_has(s, "default"), s.width * s.height, -s.index))


def _packets(container: Any, indices: Sequence[int]) -> list[int]:
    """Count each stream's packets at the beginning."""
    streams = [container.streams[index] for index in indices]
    packets = islice(container.demux(*streams), _PROBE_PACKETS)
    found = Counter(packet.stream.index for packet in packets if packet.size)
    return [found[index] for index in indices]


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
    """Return width and height by the header of a GIF or a first PNG picture; 0, 0 if unknown."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    place = header.find(b"IHDR")
    if header.startswith(b"GIF8"):
        return struct.unpack("<HH", header[6:10])
    return struct.unpack(">II", header[place + 4 : place + 12]) if place > 0 else (0, 0)
