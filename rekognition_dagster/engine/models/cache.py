"""The folder of verified files: what is there, and fetching what is missing.

A file enters the folder whole and verified, under a name that is unique to its content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from rekognition_dagster.engine.models.files import FILES, Address, ModelFile
from rekognition_dagster.engine.models.sources import Fetcher, is_verified
from rekognition_dagster.errors import ModelError

MODELS_VARIABLE = "REKOGNITION_DAGSTER_MODELS"
"""Environment variable that names the user's folder or mirror of files."""


@dataclass(frozen=True)
class ModelStatus:
    """A file and whether it is in the cache.

    Args:
        file: What it is.
        path: Where it is, or would be.
        cached: Whether it is there.
    """

    file: ModelFile
    path: Path
    cached: bool


def cache_folder() -> Path:
    """Return the folder that files are kept in.

    It is the folder that ``$REKOGNITION_DAGSTER_MODELS`` names. Where that is a mirror's address
    or not set, it is ``rekognition-dagster/models`` in the XDG cache folder.
    """
    chosen = os.environ.get(MODELS_VARIABLE, "")
    if chosen and "://" not in chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return root / "rekognition-dagster" / "models"


def list_models() -> list[ModelStatus]:
    """List all files; looks at names and sizes only."""
    return [_status(file) for file in FILES.values()]


def path(name: str) -> Path:
    """Return the verified file called ``name``, fetched on first use.

    Raises:
        ModelError: See :func:`pull`.
    """
    return pull([name])[0]


def pull(
    names: Iterable[str] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[Path]:
    """Fetch what is not in the cache; safe in several processes at once.

    Args:
        names: Which files; all by default.
        progress: Called with a name and the fraction that has arrived, 0 to 1.

    Returns:
        The files' paths, in the order of the names.

    Raises:
        ModelError: An unknown name, or a file that no source gives: it names the file, each
            source with its reason, and the remedy.
    """
    wanted = [_file(name) for name in (FILES if names is None else names)]
    report = progress or (lambda name, fraction: None)
    found = {file.name: _find(file) for file in wanted}
    missing = [file for file in dict.fromkeys(wanted) if found[file.name] is None]
    for name in found.keys() - {file.name for file in missing}:
        report(name, 1.0)
    if missing:
        found.update(_fetch(missing, report))
    return [path for file in wanted if (path := found[file.name])]


def _file(name: str) -> ModelFile:
    try:
        return FILES[name]
    except KeyError:
        known = ", ".join(FILES)
        raise ModelError(f"there is no model {name!r}; there are {known}") from None


def _status(file: ModelFile) -> ModelStatus:
    for candidate in _candidates(file):
        if candidate.is_file() and candidate.stat().st_size == file.size:
            return ModelStatus(file, candidate, True)
    return ModelStatus(file, cache_folder() / file.cached_name, False)


def _find(file: ModelFile) -> Path | None:
    return next((path for path in _candidates(file) if is_verified(path, file)), None)


def _candidates(file: ModelFile) -> list[Path]:
    """Where a file may be: under its name in the cache, or under its original name."""
    return [cache_folder() / name for name in (file.cached_name, *file.original_names)]


def _mirror(file: ModelFile) -> list[Address]:
    """The file's addresses on the user's mirror, if there is one."""
    mirror = os.environ.get(MODELS_VARIABLE, "")
    if "://" not in mirror:
        return []
    if not mirror.startswith(("https://", "http://", "file://")):
        raise ModelError(
            f"{MODELS_VARIABLE} is {Address(mirror)}: write a folder, https://, http:// or file://"
        )
    names = (file.cached_name, *file.original_names)
    return [Address(f"{mirror.rstrip('/')}/{quote(name)}") for name in names]


def _fetch(missing: Sequence[ModelFile], report: Callable[[str, float], None]) -> dict[str, Path]:
    folder = cache_folder()
    scratch = folder / ".partial"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            return _fetch_locked(missing, folder, scratch, report)
    except OSError as error:
        names = ", ".join(file.name for file in missing)
        raise ModelError(
            f"{names}: not in {folder}, which cannot be written: {error.strerror or error}. "
            f"Set {MODELS_VARIABLE} to a folder with space that you may write to, or put the "
            "files there"
        ) from error


def _fetch_locked(
    missing: Sequence[ModelFile],
    folder: Path,
    scratch: Path,
    report: Callable[[str, float], None],
) -> dict[str, Path]:
    fetched: dict[str, Path] = {}
    failed: dict[ModelFile, list[str]] = {}
    fetcher = Fetcher(scratch)
    try:
        for file in missing:
            target = folder / file.cached_name
            if (found := _find(file)) is None:  # another process may have fetched it meanwhile
                report(file.name, 0.0)
                try:
                    reasons = fetcher.fetch(file, _mirror(file), target, partial(report, file.name))
                except OSError as error:
                    reasons = [f"{folder} cannot be written: {error.strerror or error}"]
                if reasons:
                    failed[file] = [*_damaged(file), *reasons]
                    continue
            fetched[file.name] = found or target
            report(file.name, 1.0)
    finally:
        fetcher.close()
    if failed:
        lines = [_failure(file, reasons) for file, reasons in failed.items()]
        raise ModelError("\n".join([*lines, _remedy(failed, folder)]))
    return fetched


def _damaged(file: ModelFile) -> list[str]:
    """Say what is wrong with the files that are in the cache under a file's names."""
    found = [path for path in _candidates(file) if path.exists()]
    return [f"{path}: it is not the expected file, or cannot be read" for path in found]


def _failure(file: ModelFile, reasons: Sequence[str]) -> str:
    title = f"{file.name}: no source gives the file with SHA-256 {file.sha256}."
    return "\n".join([title, *(f"  {reason}" for reason in reasons)])


def _remedy(files: Iterable[ModelFile], folder: Path) -> str:
    names = ", ".join(file.cached_name for file in files)
    return (
        "Check the network and pip's index, and run `rekognition-dagster models pull` again: it "
        "continues where it broke off. Without a network, pull on another machine and copy "
        f"its folder to {folder}, or set {MODELS_VARIABLE} to a folder or an address that has "
        f"{names}"
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time fetches into a folder; the others wait, then find the files."""
    try:
        import fcntl
    except ImportError:  # Windows: processes that pull at once may have to pull again
        yield
        return
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
