"""DuckDB reads a lake on S3 through pyarrow's file system, under ``lake://``, relative to its root.

Not through DuckDB's own S3: its extension is downloaded at run time, which a closed network does
not allow, and credentials are found in one way only.
"""

from __future__ import annotations

import pyarrow.fs as pafs
from fsspec.implementations.arrow import ArrowFSWrapper

from rekognition_dagster.lake.storage import Storage

PROTOCOL = "lake"


class _LakeFiles(ArrowFSWrapper):
    protocol = PROTOCOL  # pyright: ignore -- fsspec means it as an attribute of the class

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{PROTOCOL}://").rstrip("/")


def filesystem(storage: Storage) -> ArrowFSWrapper:
    """Return an fsspec file system over a storage, which DuckDB can register."""
    below_root = pafs.SubTreeFileSystem(storage.root, storage.filesystem)
    return _LakeFiles(below_root, skip_instance_cache=True)
