"""A lake's root: a local folder or ``s3://bucket/prefix``, behind pyarrow's file systems.

Files are published whole. Locally a file is written without a name and gets one when it is
complete, so that a killed process leaves nothing behind, or, where it was about to replace another,
a name that goes when the file is next replaced; on S3 it is one completed upload.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow.fs as pafs

from rekognition_dagster import aws
from rekognition_dagster.errors import LakeError
from rekognition_dagster.outputs import write_remedy

_CHUNK_BYTES = 16 * 1024 * 1024


class StoredFile(NamedTuple):
    """A file as it is at a time: another size or time is another content."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Storage:
    """Where files lie.

    Args:
        url: The root as the user wrote it.
        filesystem: pyarrow's file system, with paths relative to nothing.
        root: The root's path in that file system, without a trailing slash.
    """

    url: str
    filesystem: pafs.FileSystem
    root: str

    @classmethod
    def at(cls, url: str | Path) -> Storage:
        """The storage at a folder or ``s3://bucket/prefix``.

        S3 takes credentials, region, profile and endpoint from the usual AWS environment.

        Raises:
            LakeError: The address is of another kind.
        """
        text = str(url)
        if text.startswith("s3://"):
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            region = aws.region()
            filesystem = pafs.S3FileSystem(
                endpoint_override=endpoint or None, region=region or None
            )
            return cls(text.rstrip("/"), filesystem, text[len("s3://") :].rstrip("/"))
        if "://" in text and not text.startswith("file://"):
            raise LakeError(f"the lake {text!r} is neither a folder nor s3://bucket/prefix")
        path = Path(text.removeprefix("file://")).expanduser().absolute()
        return cls(str(path), pafs.LocalFileSystem(), str(path))

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder on this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def full(self, path: str) -> str:
        """A relative path as the file system knows it."""
        return f"{self.root}/{path}" if path else self.root

    def uri(self, path: str) -> str:
        """A relative path as a person would write it."""
        return f"{self.url}/{path}" if path else self.url

    def spool(self, path: str) -> IO[bytes]:
        """A nameless file to write, which :meth:`publish` can turn into ``path``."""
        if not self.is_local:
            return tempfile.TemporaryFile()
        folder = Path(self.full(path)).parent
        folder.mkdir(parents=True, exist_ok=True)
        try:  # those of tempfile can never be given a name
            return open(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666), "w+b")
        except (AttributeError, OSError):  # not Linux, or a file system without nameless files
            return tempfile.TemporaryFile(dir=folder)

    def publish(self, file: IO[bytes], path: str) -> None:
        """Make ``file`` appear at ``path``, whole, in place of what was there."""
        file.flush()
        target = self.full(path)
        if self.is_local:
            os.fsync(file.fileno())
            _link(file, target)
            return
        # In a thread of its own, which no interrupt reaches.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._upload, file, target).result()

    def _upload(self, file: IO[bytes], target: str) -> None:
        """Write an object that is whole: Arrow completes an upload even if it is left early."""
        file.seek(0)
        chunk = file.read(_CHUNK_BYTES)
        if len(chunk) < _CHUNK_BYTES:
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(chunk)
            return
        beside = f"{target}.{uuid.uuid4().hex}.partial"
        try:
            with self.filesystem.open_output_stream(beside) as stream:
                while chunk:
                    stream.write(chunk)
                    chunk = file.read(_CHUNK_BYTES)
            self.filesystem.copy_file(beside, target)  # within S3, up to 5 GB
        finally:
            with contextlib.suppress(OSError):  # the first error counts
                self.filesystem.delete_file(beside)

    def exists(self, path: str) -> bool:
        """Whether there is a file at ``path``."""
        return self.filesystem.get_file_info(self.full(path)).type == pafs.FileType.File

    def present(self, paths: Sequence[str]) -> list[str]:
        """Those of ``paths`` at which there is a file."""
        infos = self.filesystem.get_file_info([self.full(p) for p in paths])
        return [p for p, i in zip(paths, infos, strict=True) if i.type == pafs.FileType.File]

    def read(self, path: str) -> bytes | None:
        """What is in a small file, if it is there."""
        try:
            with self.filesystem.open_input_stream(self.full(path)) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """Make a small file appear at ``path``, in place of what was there."""
        with self.spool(path) as file:
            file.write(content)
            self.publish(file, path)

    def copy(self, source: str, path: str) -> None:
        """Make the file at ``source`` appear at ``path``, too, whole, in place of what was there.

        In a folder it is the same file under another name; on S3 the bytes stay within S3.
        """
        if not self.is_local:
            self.filesystem.copy_file(self.full(source), self.full(path))
            return
        target = self.full(path)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        _named(partial(os.link, self.full(source)), target)

    def delete(self, path: str) -> None:
        """Remove the file at ``path``; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.full(path))

    def listing(self, path: str) -> list[StoredFile]:
        """The files right below ``path``, by name."""
        selector = pafs.FileSelector(self.full(path), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        skip = len(self.root) + 1
        return sorted(
            StoredFile(i.path[skip:], i.size, i.mtime_ns)
            for i in infos
            if i.type == pafs.FileType.File
        )

    def look(self, path: str) -> StoredFile | None:
        """The file at ``path``, if there is one."""
        info = self.filesystem.get_file_info(self.full(path))
        if info.type != pafs.FileType.File:
            return None
        return StoredFile(path, info.size, info.mtime_ns)

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders right below ``path``."""
        selector = pafs.FileSelector(self.full(path), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(i.base_name for i in infos if i.type == pafs.FileType.Directory)

    def files(self, path: str = "") -> list[str]:
        """Relative paths of the files at any depth below ``path``."""
        selector = pafs.FileSelector(self.full(path), recursive=True, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        skip = len(self.root) + 1
        return sorted(i.path[skip:] for i in infos if i.type == pafs.FileType.File)


def _link(file: IO[bytes], target: str) -> None:
    """Give a nameless file its name."""
    try:
        descriptors = os.open("/proc/self/fd", os.O_RDONLY)
    except OSError:
        return _copy(file, target)
    try:
        # Python follows the link to the file only where it is told a folder.
        name = partial(os.link, str(file.fileno()), src_dir_fd=descriptors, follow_symlinks=True)
        _named(name, target)
    except OSError:  # a file system without nameless files
        _copy(file, target)
    finally:
        os.close(descriptors)


def _named(link: Callable[[str], None], target: str) -> None:
    """Give a file a name, in place of the one that has it.

    A link cannot replace a file, a rename can: where there is one, it is both, and whoever is
    killed between them leaves a second name behind, which the next one takes away.
    """
    with contextlib.suppress(FileExistsError):
        return link(target)
    beside = f"{target}.partial"
    while True:
        try:
            link(beside)
        except FileExistsError:  # of one who was killed; one who is at it tries again
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            continue
        try:
            os.replace(beside, target)
        except FileNotFoundError:  # another one took it, or took it away
            continue
        with contextlib.suppress(FileNotFoundError):  # gone, as it should be
            if os.path.samefile(beside, target):  # a rename onto the same file does nothing
                os.unlink(beside)
        return


def _copy(file: IO[bytes], target: str) -> None:
    beside = f"{target}.{uuid.uuid4().hex}.partial"
    file.seek(0)
    with open(beside, "wb") as copy:
        try:
            shutil.copyfileobj(file, copy, _CHUNK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        except BaseException:
            os.unlink(beside)
            raise
    os.replace(beside, target)


@contextlib.contextmanager
def lake_errors(
    storage: Storage, path: str, verb: str = "write", *, video: str = ""
) -> Iterator[None]:
    """Turn what an operating system or S3 says into a LakeError that names the place, the video
    whose rows they are, and what to do."""
    try:
        yield
    except OSError as error:
        place = storage.uri(path) + (f" of {video}" if video else "")
        raise LakeError(f"cannot {verb} {place}: {error}. {_remedy(storage, error)}") from error


def _remedy(storage: Storage, error: OSError) -> str:
    if "ACCESS_DENIED" in str(error):
        return (
            "No permission: allow these credentials s3:ListBucket on the lake's bucket, and "
            "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload below the lake"
        )
    space = "free some space" if storage.is_local else f"free some in {tempfile.gettempdir()}"
    return write_remedy(error, space, "Check the lake's address and its credentials")
