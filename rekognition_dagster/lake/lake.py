"""A lake: Parquet under ``{root}/{table}/date=YYYY-MM-DD/{video id}.parquet``, seen by DuckDB.

A video's rows of a table are one file, so writing them again replaces them. What :mod:`compaction`
has merged is found, read and replaced here like any other.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake import compaction
from rekognition_dagster.lake.compaction import Day, Rows
from rekognition_dagster.lake.storage import Storage, lake_errors
from rekognition_dagster.lake.tables import JOBS, TABLES, VIDEOS
from rekognition_dagster.lake.writer import TableWriter
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.videos import DATE_PATTERN, Video

if TYPE_CHECKING:
    import duckdb


class Lake:
    """A lake at a local folder or ``s3://bucket/prefix``.

    Args:
        url: Its root.
        date_pattern: Regular expression with groups ``year``, ``month`` and ``day`` that finds the
            day of recording in a video's key.
    """

    def __init__(self, url: str | Path, *, date_pattern: str = DATE_PATTERN):
        self.storage = Storage.at(url)
        self.date_pattern = date_pattern

    @property
    def url(self) -> str:
        """The root, absolute if it is a folder."""
        return self.storage.url

    # -- writing ------------------------------------------------------------------------------

    def path(self, table: str, video: Video, *, part: str = "") -> str:
        """A video's own file of a table, relative to the root; see :meth:`has`."""
        day = video.recorded_on(self.date_pattern)
        return f"{table}/date={day:%Y-%m-%d}/{video.id}{f'.{part}' if part else ''}.parquet"

    def writer(
        self,
        table: str,
        video: Video,
        *,
        schema: pa.Schema | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> TableWriter:
        """A writer of a video's rows of a table; ``schema`` for a table not known here."""
        known = TABLES.get(table)
        if schema is None and known is None:
            raise LakeError(f"no table {table!r}; there are {', '.join(TABLES)}")
        return self._writer(
            self.path(table, video),
            schema if schema is not None else TABLES[table].schema,
            Rows(video.uri),
            known.sort_columns if known else (),
            metadata,
        )

    def _writer(
        self,
        path: str,
        schema: pa.Schema,
        rows: Rows,
        sort_columns: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> TableWriter:
        publish = functools.partial(self._put, rows)
        return TableWriter(
            self.storage,
            path,
            schema,
            sort_columns,
            metadata=metadata,
            publish=publish,
            video=rows.video,
        )

    def _put(self, rows: Rows, file: IO[bytes] | None, path: str) -> None:
        day = compaction.day_of(self.storage, path)
        day.put(compaction.stem_of(path), rows, file)

    def write_video(self, video: Video, metadata: Mapping[str, Any]) -> None:
        """Write the row of ``videos``; ``metadata`` has codec, format, duration_ms and so on."""
        row = {
            "video": video.uri,
            "size": video.size,
            "etag": video.etag,
            "version_id": video.version_id,
            "last_modified": video.last_modified,
            **metadata,
        }
        path = self.path(VIDEOS.name, video)
        with self._writer(path, VIDEOS.schema, Rows(video.uri)) as writer:
            writer.write([row])

    def write_job(self, video: Video, operation: str, job: Mapping[str, Any]) -> None:
        """Write the row of ``jobs`` for a video's latest job of an operation."""
        row = {"operation": operation, "video": video.uri, "version": video.version, **job}
        path = self.path("jobs", video, part=operation)
        with self._writer(path, JOBS.schema, Rows(video.uri, operation)) as writer:
            writer.write([row])

    def remove(self, path: str, video: Video) -> None:
        """Remove a video's rows of a results or analytics table, formerly at :meth:`path`."""
        with lake_errors(self.storage, path, video=video.uri):
            self._put(Rows(video.uri), None, path)

    def remove_former(self, path: str, video: Video, operation: str) -> None:
        """Remove what is left of a video's results that were formerly of another date: the rows at
        ``path``, and those of ``videos`` and ``jobs`` of the same date."""
        table, day, _ = path.split("/")
        removed = {
            path: Rows(video.uri),
            f"{VIDEOS.name}/{day}/{video.id}.parquet": Rows(video.uri),
            f"{JOBS.name}/{day}/{video.id}.{operation}.parquet": Rows(video.uri, operation),
        }
        with lake_errors(self.storage, table, video=video.uri):
            for there in compaction.locate(self.storage, list(removed)):
                self._put(removed[there], None, there)

    def forget(self, video: Video) -> None:
        """Remove a video's rows of every table."""
        for table in self.tables():
            parts = tuple(OPERATIONS) if table == JOBS.name else ("",)
            paths = {self.path(table, video, part=part): part for part in parts}
            with lake_errors(self.storage, table, video=video.uri):
                there = compaction.locate(self.storage, list(paths))
                for path in there:
                    self._put(Rows(video.uri, paths[path] or None), None, path)

    def has(self, table: str, video: Video) -> bool:
        """Whether a video's rows of a table are there, be it that it has none."""
        path = self.path(table, video)
        with lake_errors(self.storage, path, "read", video=video.uri):
            return path in compaction.locate(self.storage, [path])

    def read_job(self, video: Video, operation: str) -> dict[str, Any] | None:
        """The row of ``jobs`` for a video and an operation, if there is one."""
        path = self.path(JOBS.name, video, part=operation)
        with lake_errors(self.storage, path, "read", video=video.uri):
            files = compaction.locate(self.storage, [path]).get(path, [])
            found = compaction.read_rows(self.storage, files, Rows(video.uri, operation))
        return found.to_pylist()[0] if found.num_rows else None

    # -- reading ------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Every known table, and every other folder that holds a table."""
        found = [f for f in self.storage.folders() if f.isidentifier()]
        return [*TABLES, *sorted(set(found) - set(TABLES))]

    def connect(
        self, tables: Iterable[str] | None = None, videos: Sequence[Video] | None = None
    ) -> duckdb.DuckDBPyConnection:
        """DuckDB in memory with a view per table.

        Args:
            tables: Only these; all of them by default.
            videos: Only the rows of these, by their files; all of them by default.
        """
        import duckdb

        connection = duckdb.connect()
        self._attach(connection)
        self._create_views(connection, self.tables() if tables is None else list(tables), videos)
        return connection

    def save_catalogue(self, path: str | Path) -> Path:
        """Write a DuckDB file with a view per table, for any DuckDB client.

        The file is replaced whole; what else a user keeps in it stays. While another process has
        it open for writing, it is left as it is; those that read it go on with the former one.
        """
        import duckdb

        if not self.storage.is_local:
            raise LakeError(
                f"a catalogue file can only view a lake in a folder, not {self.url}. "
                "Ask it with `rekognition-dagster query` or Lake.connect()"
            )
        path = Path(path)
        beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not _copied(path, beside):
                return path
            with duckdb.connect(str(beside)) as connection:
                self._create_views(connection, self.tables(), None)
            os.replace(beside, path)
        except (OSError, duckdb.Error) as error:
            raise LakeError(
                f"cannot write the catalogue {path}: {error}. See that there is space and that "
                "this user may write there. The tables themselves are not touched"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        return path

    def scan(self, table: str, videos: Sequence[Video] | None = None) -> str:
        """A DuckDB table expression for a table, or for the rows of some videos only."""
        pieces = self._everything(table) if videos is None else self._confined(table, videos)
        if pieces:
            return f"({' UNION ALL BY NAME '.join(pieces)})"
        known = TABLES.get(table)
        if known is None:
            raise LakeError(f"the lake {self.url} has no table {table!r}")
        columns = ", ".join(f'NULL::{_sql_type(f.type)} AS "{f.name}"' for f in known.schema)
        return f"(SELECT {columns}, NULL::DATE AS date WHERE false)"

    def _everything(self, table: str) -> list[str]:
        staged = compaction.staged_days(self.storage, table)
        if not any(f.endswith(".parquet") for f in self._some_files(table)):
            return []
        everything = f"FROM {self._parquet([f'{table}/*/*.parquet'])}"
        if not staged:
            return [everything]
        files = [f for d, s in staged.items() for f in Day(self.storage, f"{table}/{d}").files(s)]
        days = ", ".join(f"DATE '{day.removeprefix('date=')}'" for day in staged)
        return [f"{everything} WHERE date NOT IN ({days})", f"FROM {self._parquet(files)}"]

    def _confined(self, table: str, videos: Sequence[Video]) -> list[str]:
        parts = tuple(OPERATIONS) if table == JOBS.name else ("",)
        uris = {self.path(table, v, part=part): v.uri for v in videos for part in parts}
        located = compaction.locate(self.storage, list(uris))
        own = [path for path in uris if located.get(path) == [path]]
        merged = sorted({f for path, files in located.items() if files != [path] for f in files})
        pieces = [f"FROM {self._parquet(own)}"] if own else []
        if merged:
            wanted = {uris[path] for path, files in located.items() if files != [path]}
            listed = ", ".join(_quoted(uri) for uri in sorted(wanted))
            pieces.append(f"FROM {self._parquet(merged)} WHERE video IN ({listed})")
        return pieces

    def _parquet(self, files: Sequence[str]) -> str:
        listed = ", ".join(_quoted(self._duckdb_path(f)) for f in files)
        return (
            f"read_parquet([{listed}], hive_partitioning = true, "
            "hive_types = {'date': DATE}, union_by_name = true)"
        )

    def _some_files(self, table: str) -> list[str]:
        for folder in self.storage.folders(table):
            if files := self.storage.files(f"{table}/{folder}"):
                return files
        return []

    def _duckdb_path(self, path: str) -> str:
        return (
            self.storage.full(path)
            if self.storage.is_local
            else f"lake://{self.storage.full(path)}"
        )

    def _attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        if self.storage.is_local:
            return
        from rekognition_dagster.lake.duckdb_files import filesystem

        connection.register_filesystem(filesystem(self.storage.filesystem))

    def _create_views(
        self,
        connection: duckdb.DuckDBPyConnection,
        tables: Sequence[str],
        videos: Sequence[Video] | None,
    ) -> None:
        with lake_errors(self.storage, "", verb="read"):
            own = {
                name
                for (name,) in connection.execute(
                    "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'"
                ).fetchall()
            }
            for table in tables:
                if table not in own:  # a user's table of that name stays
                    rows = self.scan(table, videos)
                    connection.execute(f'CREATE OR REPLACE VIEW "{table}" AS SELECT * FROM {rows}')


def _copied(path: Path, beside: Path) -> bool:
    """Copy a DuckDB file between two writes; return whether no other process writes to it."""
    import duckdb

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


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql_type(type_: pa.DataType) -> str:
    """DuckDB's name for an Arrow type of this package's tables."""
    if pa.types.is_struct(type_):
        return "STRUCT(" + ", ".join(f'"{f.name}" {_sql_type(f.type)}' for f in type_) + ")"
    if pa.types.is_list(type_):
        return _sql_type(type_.value_type) + "[]"
    if pa.types.is_timestamp(type_):
        return "TIMESTAMPTZ"
    names = {pa.int64(): "BIGINT", pa.float32(): "FLOAT", pa.float64(): "DOUBLE"}
    return {**names, pa.string(): "VARCHAR", pa.bool_(): "BOOLEAN"}[type_]
