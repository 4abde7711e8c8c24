"""Damaged files: what is wrong with a Parquet file that cannot be read as one of a table's; and
files in a table's folder that are not the lake's own.

A fault of the storage is an OSError as everywhere; only what is wrong with the file is damage.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from rekognition_dagster.lake.names import DAY
from rekognition_dagster.lake.storage import Storage
from rekognition_dagster.lake.tables import TABLES

REMEDY = "Delete it, then compute or page its video again"
_AT_ONCE = 16
_NAMED = 5
"""Of foreign files in a table's folder, so many are named."""
log = logging.getLogger(__name__)


def damage(storage: Storage, path: str, *, whole: bool = False) -> str | None:
    """Say what is wrong with a file of a table, if anything is.

    Args:
        storage: The lake's.
        path: The file, below a table's folder.
        whole: Read its rows, too, not only its footer.

    Raises:
        OSError: The storage cannot be read.
    """
    try:
        with storage.filesystem.open_input_file(storage.full(path)) as source:
            return _damage_of(source, path, whole)
    except FileNotFoundError:
        return None  # replaced or compacted meanwhile
    except OSError:
        # Of the storage, or Arrow's word for a broken page: from memory it is the latter.
        with storage.filesystem.open_input_file(storage.full(path)) as source:
            content = pa.BufferReader(source.read_buffer())
    try:
        return _damage_of(content, path, whole)
    except OSError as error:
        return f"it is damaged: {_one_line(error)}"


def damaged(storage: Storage, paths: Iterable[str], *, whole: bool = False) -> dict[str, str]:
    """Those of some files that are damaged, and what is wrong with each."""
    listed = list(paths)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        reasons = pool.map(lambda path: damage(storage, path, whole=whole), listed)
        return {path: reason for path, reason in zip(listed, reasons, strict=True) if reason}


def name_foreign(storage: Storage, table: str, files: Iterable[str]) -> None:
    """Log the files in a table's folder that are not the lake's own; once for each process.

    Args:
        storage: The lake's.
        table: Its name.
        files: Their paths; hidden ones, and those that are being written, are not named.
    """
    names = sorted(f.partition("/")[2] for f in files)
    is_named = [not (n.rpartition("/")[2].startswith(".") or n.endswith(".partial")) for n in names]
    if any(is_named):
        _log_foreign(
            storage.uri(table), tuple(n for n, it in zip(names, is_named, strict=True) if it)
        )


@functools.lru_cache
def _log_foreign(table: str, names: tuple[str, ...]) -> None:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    log.warning(
        "%s: %s%s: not written by this package, left out. Move such files elsewhere",
        table,
        ", ".join(names[:_NAMED]),
        more,
    )


def _damage_of(source: pa.NativeFile, path: str, whole: bool) -> str | None:
    try:
        file = pq.ParquetFile(source)
        schema = file.schema_arrow
        for group in range(file.num_row_groups if whole else 0):
            file.read_row_group(group, use_threads=False)
    except pa.ArrowException as error:
        return f"it is no Parquet file, or damaged: {_one_line(error)}"
    key = "camera" if path.endswith(f"/{DAY}") else "video"
    if key not in schema.names or (key == "video" and schema.field(key).type != pa.string()):
        return f"it is not a file of this lake: it has no text column `{key}`"
    table = TABLES.get(path.split("/", maxsplit=1)[0])
    if table is not None:
        try:
            pa.unify_schemas([table.schema, schema], promote_options="permissive")
        except pa.ArrowException as error:
            return f"it is not a file of this table: {_one_line(error)}"
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(". ")
