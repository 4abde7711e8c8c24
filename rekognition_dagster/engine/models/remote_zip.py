"""Members of a zip file on a server, read without fetching the rest of it."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rekognition_dagster.engine.models.transfer import (
    Progress,
    SourceError,
    Web,
    WrongBytesError,
)

_CHUNK = 1 << 16
_TAIL = 1 << 16  # bytes at a zip's end that hold the directory of most zips


class RemoteZip:
    """A zip file whose server gives parts of files; fetches its directory.

    Raises:
        NoRangesError: The server gives the file only as a whole.
        SourceError: The server does not give the file, or it is not a zip.
    """

    def __init__(self, web: Web, url: str, auth: tuple[str, str] | None = None) -> None:
        self._web, self._url, self._auth = web, url, auth
        _, size = web.read(url, 0, 1, auth)
        self._file = _RangeFile(lambda first, end: web.read(url, first, end, auth)[0], size)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except zipfile.BadZipFile as error:
            raise SourceError(f"not a zip file: {error}") from error

    def extract(self, member: str, size: int, part: Path, target: Path, progress: Progress) -> None:
        """Fetch one member into ``target`` through ``part``, which holds its compressed bytes.

        Raises:
            NoRangesError: The server no longer gives parts of the file.
            SourceError: The server does not give the bytes, or they are not the member's.
        """
        start, end = self._span(_member(self._zip, member, size))
        self._web.download(self._url, part, progress, span=(start, end), auth=self._auth)
        self._file.pieces[start] = part.read_bytes()
        try:
            unpack(self._zip, member, size, target)
        finally:
            del self._file.pieces[start]

    def _span(self, member: zipfile.ZipInfo) -> tuple[int, int]:
        """A member's record: its first byte, and the first one of what follows it."""
        start = member.header_offset
        after = [i.header_offset for i in self._zip.infolist() if i.header_offset > start]
        return start, min([*after, self._zip.start_dir])


class _RangeFile(io.RawIOBase):
    """A remote file for ``zipfile``: a seek costs nothing, a read asks for what is not held."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self._size, self._position = fetch, size, 0
        tail = max(0, size - _TAIL)
        self.pieces: dict[int, bytes] = {tail: fetch(tail, size)}
        """Bytes that are held, by their position."""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        if base[whence] + offset < 0:
            raise OSError("before the file's start")
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer)
        end = min(self._position + len(target), self._size)
        if end <= self._position:
            return 0
        data = self._held(self._position, end) or self._fetch(self._position, end)
        target[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _held(self, first: int, end: int) -> bytes | None:
        for start, piece in self.pieces.items():
            if start <= first < start + len(piece):
                return piece[first - start : end - start]
        return None


def unpack(archive: zipfile.ZipFile, member: str, size: int, target: Path) -> None:
    """Write a member of an open zip to ``target``.

    Raises:
        SourceError: There is no such member, it has another size, or it is damaged.
    """
    try:
        with archive.open(_member(archive, member, size)) as source, target.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                sink.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise WrongBytesError(f"its {member} is damaged: {error}") from error


def _member(archive: zipfile.ZipFile, member: str, size: int) -> zipfile.ZipInfo:
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise SourceError(f"it has no {member}") from None
    if info.file_size != size:
        raise WrongBytesError(f"its {member} has {info.file_size} bytes, expected {size}")
    return info
