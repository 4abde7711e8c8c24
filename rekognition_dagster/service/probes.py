"""How the service finds out whether disk, S3 and database work: the probes of ``health``."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rekognition_dagster.service import objects
from rekognition_dagster.service.faults import Part, part_of
from rekognition_dagster.service.health import Health, Trouble
from rekognition_dagster.service.results import Results
from rekognition_dagster.service.settings import Settings
from rekognition_dagster.service.store import JobStore

_PROBE_BYTES = 64 * 1024


def health_of(settings: Settings, store: JobStore, results: Results) -> Health:
    """Return the health of a service; only one with workers needs the disk."""
    probes: dict[Part, Callable[[Trouble | None], None]] = {
        "s3": lambda trouble: _probe_s3(trouble, results),
        "database": lambda trouble: store.ping(write=trouble is not None),
    }
    if settings.workers:
        folders = {
            "where videos are analysed": settings.scratch_folder,
            "where temporary files are": Path(tempfile.gettempdir()),
        }
        if results.storage.is_local:
            folders["where results are kept"] = Path(results.storage.root)
        probes["disk"] = lambda _: _probe_disk(folders, settings.min_free_bytes)
    return Health(probes)


def _probe_disk(folders: Mapping[str, Path], min_free_bytes: int) -> None:
    for what, folder in folders.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if free < min_free_bytes:
                text = f"{free >> 20} MiB are free, of {min_free_bytes >> 20} MiB to be kept free"
                raise OSError(errno.ENOSPC, text)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(os.urandom(_PROBE_BYTES))
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}, {what}") from error


def _probe_s3(trouble: Trouble | None, results: Results) -> None:
    """Ask S3 again for what it did not serve. A good S3 is not asked: it costs money."""
    if trouble is None:
        return
    if not results.storage.is_local:
        probe = f".{os.urandom(8).hex()}"
        results.storage.write(probe, b"")
        results.storage.delete(probe)
    if trouble.about:
        _read_a_byte(trouble.about)


def _read_a_byte(reference: dict[str, Any]) -> None:
    try:
        objects.read_a_byte(reference)
    except Exception as error:
        if part_of(error) == "s3":  # an object that is gone, or empty, is an answer
            raise
