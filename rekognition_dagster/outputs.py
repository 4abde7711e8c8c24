"""Files that a command writes: whole or not at all, and an error that names file and remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rekognition_dagster.errors import OutputError


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path beside another one, and rename it at the end; remove it after an error.

    Raises:
        OutputError: It cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(6)}{path.suffix}")
    try:
        with _output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # a read-only file system refuses this, too
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the work.

    Raises:
        OutputError: It cannot be written.
    """
    with _output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OutputError(f"{path} cannot be written: {reason}. {write_remedy(error)}") from error


def write_remedy(
    error: OSError, space: str = "free some space", otherwise: str = "Choose another"
) -> str:
    """Return what a person can do about a file that cannot be written.

    Args:
        error: Why.
        space: How a full disk is mended.
        otherwise: The remedy for other reasons.
    """
    return {
        errno.ENOSPC: f"The disk is full: {space} and run this again",
        errno.EDQUOT: f"The quota is used up: {space} and run this again",
        errno.EFBIG: "The file is larger than this process, or the file system, may write",
        errno.EACCES: "No permission: let this user write there",
        errno.EPERM: "No permission: let this user write there",
        errno.EROFS: "Choose another place",
    }.get(error.errno or 0, otherwise)
