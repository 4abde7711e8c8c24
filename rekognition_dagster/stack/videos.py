"""The folder whose files are the local bucket's objects, and under which keys."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.videos import DATE_PATTERN, is_video_key


class VideoFolder:
    """Videos that the local stack puts into its bucket at every start.

    A file's key is its path in the folder, so no two files have one key. The bucket forgets at its
    end and an object's time is that of its upload, so a file whose path has no day moves below the
    day of its own time: the same video then has the same key, version and date ever after. Another
    file with that key stays, and the new one gets a number: ``gate-2.mp4``.

    Args:
        folder: Where they are; made when the first is added.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[Path, tuple[int, int]] = {}
        self._seen: dict[Path, tuple[int, int]] = {}

    def add(self, path: Path, name: str | None = None) -> tuple[Path, str]:
        """Take a video in, by a link where possible; return its file here, and its key.

        A file that was taken in before keeps its key, whatever its content is now.

        Args:
            path: The file.
            name: What to call it; as the file by default.
        """
        path = path.absolute()
        called = name or path.name
        if path.is_relative_to(self.folder):
            return self._taken(self._moved(path))
        for own in self._paths(links_to_nothing=True):
            if own.is_symlink() and own.readlink() == path and called == path.name:
                return self._taken(own)
        own = self._free(self.folder / _dated(called, path), path)
        if not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            _link(path, own)
        return self._taken(own)

    def files(self) -> Iterator[tuple[Path, str]]:
        """Yield every video here and its key."""
        for path in self._paths():
            yield self._taken(self._moved(path))

    def settled_since(self) -> Iterator[tuple[Path, str]]:
        """Yield videos that are new or changed since the last call, once they no longer grow."""
        for path in self._paths():
            stamp = _stamp(path)
            if self._known.get(path) == stamp:
                continue
            if self._seen.pop(path, None) == stamp:
                yield self._taken(self._moved(path))
            else:
                self._seen[path] = stamp

    def _paths(self, *, links_to_nothing: bool = False) -> list[Path]:
        found = sorted(self.folder.rglob("*")) if self.folder.exists() else []
        return [
            p
            for p in found
            if is_video_key(p.name) and (p.is_file() or (links_to_nothing and p.is_symlink()))
        ]

    def _taken(self, own: Path) -> tuple[Path, str]:
        self._known[own] = _stamp(own)
        return own, own.relative_to(self.folder).as_posix()

    def _moved(self, path: Path) -> Path:
        """Move a file of the folder below its day unless its path has one; return its place."""
        dated = self.folder / _dated(path.relative_to(self.folder).as_posix(), path)
        if dated == path:
            return path
        own = self._free(dated, path)
        own.parent.mkdir(parents=True, exist_ok=True)
        path.replace(own)
        return own

    def _free(self, own: Path, path: Path) -> Path:
        """Return the place for a file: ``own``, or one with a number where another file has it."""
        for number in range(1, 1000):
            place = own.with_stem(f"{own.stem}-{number}") if number > 1 else own
            is_free = not place.exists() and not place.is_symlink()
            if is_free or (place.exists() and _same_content(place, path)):
                return place
        raise ConfigurationError(f"{self.folder} has a thousand videos called {own.name}")


def _dated(key: str, path: Path) -> str:
    """Return the key, below the day of the file unless it has a day of its own."""
    if re.search(DATE_PATTERN, key):
        return key
    return f"{datetime.fromtimestamp(path.stat().st_mtime, timezone.utc):%Y-%m-%d}/{key}"


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _link(path: Path, own: Path) -> None:
    try:
        os.symlink(path, own)
    except OSError:  # a file system without links
        shutil.copy2(path, own)


def _same_content(one: Path, other: Path) -> bool:
    import filecmp

    return filecmp.cmp(one, other, shallow=False)
