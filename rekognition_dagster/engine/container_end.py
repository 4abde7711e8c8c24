"""How much of a file's end is missing, as its container's own sizes tell.

Formats that can be cut anywhere (MPEG-TS, raw streams) do not tell.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide", b"pnot"}
_PLACEHOLDER = 0x7FFF0000  # what recorders write that never come to write a RIFF chunk's size
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


def missing_share(path: Path) -> float:
    """Return which part of an MP4, AVI, Matroska or WebM file is missing at its end, 0 to 1.

    An MP4 that is not in fragments lists its samples, and decoding tells which are missing. Of one
    in fragments only the last one's end is known, so at least as much is missing.
    """
    size = path.stat().st_size
    end = _declared_end(path, size)
    return 1 - size / end if end > size else 0.0


def _declared_end(path: Path, size: int) -> int:
    with path.open("rb") as file:
        start = file.read(12)
        if start[4:8] in _BOXES:
            return _end_of_boxes(file, size)
        if start[:4] == b"RIFF":
            return _end_of_chunks(file, size)
        if start[:4] == _EBML.to_bytes(4, "big"):
            return _end_of_segment(file)
    return size


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return where the last box of an MP4 or QuickTime file in fragments ends."""
    place, in_fragments = 0, False
    while place < size:
        file.seek(place)
        header = file.read(16)
        if len(header) < 8:
            return place + 8
        length, kind = struct.unpack(">I4s", header[:8])
        in_fragments = in_fragments or kind == b"moof"
        if not kind.isalnum():
            return size  # something else than boxes from here on
        if length == 0:  # to the end of the file
            return size
        if length == 1:
            if len(header) < 16:
                return place + 16
            length = struct.unpack(">Q", header[8:])[0]
        if length < 8:
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


def _end_of_segment(file: BinaryIO) -> int:
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
