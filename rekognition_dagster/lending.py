"""A video in S3 as a file of whatever machine looks at it, fetched once for all its processes.

Who holds a file is known by locks, which end with their process: what nobody holds is removed by
the next one that gives something back.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from rekognition_dagster.backfill import fetch
from rekognition_dagster.private import private_folder
from rekognition_dagster.videos import Video


@dataclass(frozen=True)
class Lent:
    """A source for the engine: a video, in any process on any machine.

    Args:
        video: In S3. The machine that looks at it fetches it, with its own credentials.
    """

    video: Video

    @contextmanager
    def __call__(self) -> Iterator[Path]:
        """The file, for as long as the context lasts.

        Raises:
            VideoError: There is no such object, it may not be read, or the disk is full.
            ConfigurationError: S3 cannot be asked at all, or another user has the folder.
        """
        everything = Path(tempfile.gettempdir()) / f"rekognition-dagster-{os.getuid()}"
        private_folder(everything)
        version = sha256(self.video.version.encode()).hexdigest()[:8]
        folder = everything / f"{self.video.id}-{version}"
        with _lock(everything / "lock"):
            folder.mkdir(exist_ok=True)
            held = _lock(folder / "held", shared=True)
        try:
            with _lock(folder / "fetching"):
                path = folder / f"{self.video.id}{Path(self.video.key).suffix}"
                if not path.exists():
                    path = fetch(self.video, folder)
            yield path
        finally:
            held.close()
            _remove_unheld(everything)


def _remove_unheld(everything: Path) -> None:
    with _lock(everything / "lock"):
        for folder in everything.iterdir():
            if not folder.is_dir():
                continue
            try:
                with _lock(folder / "held", wait=False):
                    shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                pass


def _lock(path: Path, *, shared: bool = False, wait: bool = True) -> IO[bytes]:
    """The file, locked until it is closed."""
    import fcntl  # not on Windows

    file = path.open("ab")
    try:
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, how if wait else how | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return file
