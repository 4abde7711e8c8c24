"""The service's own folders and files: only its user may read them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.private import make_private, private_folder
from rekognition_dagster.service.settings import Settings

log = logging.getLogger(__name__)

_OWN = ("jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "results", "scratch")


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Let what this process and its children make be read by their user only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def prepare_store(settings: Settings) -> None:
    """Make the store's folder, and take its files' permissions from everybody but their user.

    A folder that the service did not make, and that holds other files too, keeps its permissions.

    Raises:
        ConfigurationError: The folder cannot be made.
    """
    folder = settings.folder
    if folder is None:
        return
    try:
        is_ours = not folder.exists() or _is_store(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *(folder / name for name in _OWN)):
            if path.exists() and (is_ours or path != folder):
                make_private(path)
    except PermissionError as error:
        log.warning(
            "others may read the store: its permissions cannot be changed",
            extra={"folder": folder, "error": error.strerror},
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot open the job store {folder}: {error.strerror}. Choose another --store"
        ) from error


def prepare_scratch(settings: Settings) -> Path:
    """Make the folder for videos under analysis, or check that it is this user's.

    Raises:
        ConfigurationError: It is another user's.
        OSError: It cannot be made.
    """
    return private_folder(settings.scratch_folder)


def _is_store(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {*_OWN, "jobs.sqlite-journal"}
