"""Folders and files that only their user may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rekognition_dagster.errors import ConfigurationError


def private_folder(path: Path) -> Path:
    """Make a folder that only this user may enter, or check that it is one.

    Args:
        path: The folder. A symbolic link that this user made may lead to it.

    Returns:
        ``path``.

    Raises:
        ConfigurationError: It belongs to another user, or is no folder.
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        # In a shared folder such as /tmp, another user may have made it, or a link to elsewhere.
        for status in (path.lstat(), path.stat()):
            if status.st_uid != os.geteuid():
                raise ConfigurationError(
                    f"{path} belongs to another user, who could read or replace what is put into "
                    "it. Remove it, or choose another folder"
                ) from None
        if not path.is_dir():
            raise ConfigurationError(f"{path} is no folder. Remove it") from None
    make_private(path)
    return path


def make_private(path: Path) -> None:
    """Take a file's or folder's permissions from everybody but its user."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        path.chmod(mode & 0o700)
