"""How much of a file's end is missing, as its container's own sizes and end marks tell.

Formats that can be cut anywhere (MPEG-TS, MPEG-PS, NUT, raw streams) do not tell.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide", b"pnot"}
_PLACEHOLDER = 0x7FFF0000  # what recorders write that never come to write a RIFF chunk's size
_LONGEST_PAGE = 65_307  # bytes of an Ogg page
_ASF = bytes.fromhex("3026b275")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER = 1 << 16  # bytes in which its properties are
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


def missing_share(path: Path) -> float:
    """Return which part of a file is missing at its end, 0 to 1.

    MP4 in fragments, AVI, Matroska, WebM and ASF tell sizes. GIF and Ogg have a mark at their end,
    which tells that something is missing, and not how much: then it is next to nothing.

    An MP4 that is not in fragments lists its samples, and decoding tells which are missing. Of one
    in fragments only the last one's end is known, so at least as much is missing.
    """
    size = path.stat().st_size
    end = _declared_end(path, size)
    return 1 - size / end if end > size else 0.0


def _declared_end(path: Path, size: int) -> int:
    with path.open("rb") as file:
        start = file.read(12)
        end = _end_of_boxes if start[4:8] in _BOXES else _ENDS.get(start[:4])
        return size if end is None else end(file, size)


def _end_of_asf(file: BinaryIO, _: int) -> int:
    """Return the size that the header of a WMV or ASF file tells; 0 where it is not known."""
    file.seek(0)
    header = file.read(_ASF_HEADER)
    place = header.find(_ASF_PROPERTIES)
    if place < 0 or len(header) < place + 92:
        return 0
    size, live = header[place + 40 : place + 48], header[place + 88] & 1
    return 0 if live else int.from_bytes(size, "little")


def _end_of_gif(file: BinaryIO, size: int) -> int:
    """Return a GIF file's size, and more where it lacks the mark of its end."""
    return size if _tail(file, size).endswith(b"\0;") else size + 1


def _end_of_ogg(file: BinaryIO, size: int) -> int:
    """Return an Ogg file's size, and more where its last page does not end a stream."""
    tail = _tail(file, size)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or not page[5] & 4:
        return size + 1
    sizes = page[27 : 27 + page[26]]
    return max(size, size - len(page) + 27 + page[26] + sum(sizes))


def _tail(file: BinaryIO, size: int) -> bytes:
    file.seek(max(0, size - _LONGEST_PAGE))
    return file.read()


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return where the last box of an MP4 or QuickTime file in fragments ends.

    Where something else follows the boxes, and not after the index that ends such a file, that is
    in the place of what is missing.
    """
    place, in_fragments, is_complete = 0, False, False
    while place < size:
        file.seek(place)
        header = file.read(16)
        if len(header) < 8:
            return place + 8
        length, kind = struct.unpack(">I4s", header[:8])
        if not kind.isalnum() or 1 < length < 8:  # something else than boxes from here on
            return size * size // place if in_fragments and not is_complete else size
        in_fragments = in_fragments or kind == b"moof"
        is_complete = kind == b"mfra"
        if length == 0:  # to the end of the file
            return size
        if length == 1:
            if len(header) < 16:
                return place + 16
            length = struct.unpack(">Q", header[8:])[0]
        if length < 8:  # of a large box
            return size
        place += length
    return place if in_fragments else size


def _end_of_chunks(file: BinaryIO, size: int) -> int:
    """Return where the last RIFF chunk of an AVI file ends."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length == 0 or length >= _PLACEHOLDER:  # or no longer chunks
            return size
        place += 8 + length + length % 2
    return place


def _end_of_segment(file: BinaryIO, _: int) -> int:
    """Return where the segment of a Matroska file ends; 0 where it does not tell."""
    place = 0
    for wanted in (_EBML, _SEGMENT):
        file.seek(place)
        found = _element(file.read(16))
        if found is None or found[0] != wanted or found[2] is None:
            return 0
        place += found[1] + found[2]
    return place


def _element(data: bytes) -> tuple[int, int, int | None] | None:
    """Return an EBML element's identity, the length of its header, and its size if known."""
    if not data or not data[0]:
        return None
    id_length = 9 - data[0].bit_length()
    rest = data[id_length:]
    if not rest or not rest[0]:
        return None
    length = 9 - rest[0].bit_length()
    if len(rest) < length:
        return None
    bits = (1 << (7 * length)) - 1
    value = int.from_bytes(rest[:length], "big") & bits
    known = None if value == bits else value
    return int.from_bytes(data[:id_length], "big"), id_length + length, known


_ENDS: dict[bytes, Callable[[BinaryIO, int], int]] = {
    b"RIFF": _end_of_chunks,
    _EBML.to_bytes(4, "big"): _end_of_segment,
    _ASF: _end_of_asf,
    b"GIF8": _end_of_gif,
    b"OggS": _end_of_ogg,
}
