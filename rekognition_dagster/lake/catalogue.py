"""The catalogue: a DuckDB file with a view per table of a lake, for any DuckDB client."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path

import duckdb

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake.views import Views, digest


def save(views: Views, path: Path, *, again: bool) -> None:
    """Write the views, unless the file has them: a view finds new files by itself.

    The file is replaced whole; what else a user keeps in it stays. While another process has it
    open for writing, it is left as it is; those that read it go on with the former one.

    Args:
        views: Those of every table.
        path: The file.
        again: Write it in any case, which leaves out files that were damaged since.

    Raises:
        LakeError: It cannot be written.
    """
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not again and _is_current(views, path):
            return
        if not _copied(path, beside):
            return
        with duckdb.connect(str(beside)) as connection:
            views.make(connection, views.tables)
        os.replace(beside, path)
    except (OSError, duckdb.Error) as error:
        raise LakeError(
            f"cannot write the catalogue {path}: {error}. Check that there is space and that "
            "this user may write there. The tables themselves are not touched"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _is_current(views: Views, path: Path) -> bool:
    """Whether the file has these views, or is in use by a process that writes to it."""
    if not path.exists():
        return False
    wanted = {table: digest(views.expression(table, ())) for table in views.tables}
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            views_there = connection.execute("SELECT view_name, comment FROM duckdb_views()")
            found = dict(views_there.fetchall())
            tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    except (duckdb.IOException, duckdb.ConnectionException) as error:
        if isinstance(error, duckdb.IOException) and "lock" not in str(error):
            raise
        return True
    return all(found.get(t) == text or (t,) in tables for t, text in wanted.items())


def _copied(path: Path, beside: Path) -> bool:
    """Copy a DuckDB file between two writes; return whether no other process writes to it."""
    if not path.exists():
        return True
    for only_reads in (False, True):
        try:
            # Writing empties the log beside the file, and keeps others out. Where others read, a
            # log that is there stays, and with it what the file alone lacks.
            with duckdb.connect(str(path), read_only=only_reads):
                if not _log_of(path).exists():
                    shutil.copyfile(path, beside)
                    return True
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise
        except duckdb.ConnectionException:  # this process has it open
            return False
    return False


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")
