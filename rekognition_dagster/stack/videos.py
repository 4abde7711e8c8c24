"""The folder whose files are the local bucket's objects, and under which keys."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from rekognition_dagster.videos import DATE_PATTERN, is_video_key


class VideoFolder:
    """Videos that the local stack puts into its bucket at every start.

    The bucket forgets at its end and an object's time is that of its upload, so a key without a day
    gets that of the file: the same video then has the same key, version and date ever after.

    Args:
        folder: Where they lie; made when the first is added.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[Path, tuple[int, int]] = {}
        self._seen: dict[Path, tuple[int, int]] = {}

    def add(self, path: Path, name: str | None = None) -> tuple[Path, str]:
        """Take a video in, by a link where possible; its file here, and its key.

        Args:
            path: The file.
            name: What it is to be called; as the file by default. Another video of that name and
                day gets a number.
        """
        path, called = path.absolute(), Path(name or path.name)
        for number in range(1, 1000):
            numbered = f"-{number}" if number > 1 else ""
            own = self.folder / _dated(f"{called.stem}{numbered}{called.suffix}", path)
            if not own.exists():
                own.parent.mkdir(parents=True, exist_ok=True)
                own.unlink(missing_ok=True)  # a link to a video that is gone
                _link(path, own)
                break
            if own.samefile(path) or _same_content(own, path):
                break
        else:
            raise OSError(f"{self.folder} has a thousand videos called {called}")
        self._known[own] = _stamp(own)
        return own, self._key(own)

    def files(self) -> Iterator[tuple[Path, str]]:
        """Every video here and its key."""
        for path in self._paths():
            self._known[path] = _stamp(path)
            yield path, self._key(path)

    def settled_since(self) -> Iterator[tuple[Path, str]]:
        """Videos that are new or changed since they were last given, once they no longer grow."""
        for path in self._paths():
            stamp = _stamp(path)
            if self._known.get(path) == stamp:
                continue
            if self._seen.get(path) == stamp:
                self._known[path] = stamp
                yield path, self._key(path)
            self._seen[path] = stamp

    def _paths(self) -> list[Path]:
        found = sorted(self.folder.rglob("*")) if self.folder.exists() else []
        return [p for p in found if p.is_file() and is_video_key(p.name)]

    def _key(self, path: Path) -> str:
        return _dated(path.relative_to(self.folder).as_posix(), path)


def _dated(key: str, path: Path) -> str:
    """The key, below the day of the file unless it has a day of its own."""
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
