"""A lake: Parquet under ``{root}/{table}/date=YYYY-MM-DD/{video id}.parquet``, seen by DuckDB.

A video's rows of a table are one file, so writing them again replaces them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rekognition_dagster.errors import LakeError
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
        """Where a video's rows of a table lie, relative to the root."""
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
        return TableWriter(
            self.storage,
            self.path(table, video),
            schema if schema is not None else TABLES[table].schema,
            known.sort_columns if known else (),
            metadata=metadata,
        )

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
        with TableWriter(self.storage, self.path("videos", video), VIDEOS.schema) as writer:
            writer.write([row])

    def write_job(self, video: Video, operation: str, job: Mapping[str, Any]) -> None:
        """Write the row of ``jobs`` for a video's latest job of an operation."""
        row = {"operation": operation, "video": video.uri, "version": video.version, **job}
        path = self.path("jobs", video, part=operation)
        with TableWriter(self.storage, path, JOBS.schema) as writer:
            writer.write([row])

    def read_job(self, video: Video, operation: str) -> dict[str, Any] | None:
        """The row of ``jobs`` for a video and an operation, if there is one."""
        path = self.path("jobs", video, part=operation)
        if not self.storage.exists(path):
            return None
        with (
            lake_errors(self.storage, path, verb="read"),
            self.storage.filesystem.open_input_file(self.storage.full(path)) as file,
        ):
            return pq.ParquetFile(file).read().to_pylist()[0]

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
        """A DuckDB file with a view per table, for any DuckDB client; replaced whole."""
        import duckdb

        if not self.storage.is_local:
            raise LakeError(
                f"a catalogue file can only view a lake in a folder, not {self.url}. "
                "Ask it with `rekognition-dagster query` or Lake.connect()"
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with duckdb.connect(str(beside)) as connection:
                self._create_views(connection, self.tables(), None)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        return path

    def scan(self, table: str, videos: Sequence[Video] | None = None) -> str:
        """A DuckDB table expression for a table, or for the files of some videos only."""
        if videos is None:
            files = [self._duckdb_path(f"{table}/*/*.parquet")]
            present = any(
                name.endswith(".parquet") and "/date=" in name for name in self._some_files(table)
            )
        else:
            parts = tuple(OPERATIONS) if table == JOBS.name else ("",)
            paths = [self.path(table, v, part=part) for v in videos for part in parts]
            files = [self._duckdb_path(p) for p in self.storage.present(paths)]
            present = bool(files)
        if present:
            listed = ", ".join(_quoted(f) for f in files)
            return (
                f"read_parquet([{listed}], hive_partitioning = true, "
                "hive_types = {'date': DATE}, union_by_name = true)"
            )
        known = TABLES.get(table)
        if known is None:
            raise LakeError(f"the lake {self.url} has no table {table!r}")
        columns = ", ".join(f'NULL::{_sql_type(f.type)} AS "{f.name}"' for f in known.schema)
        return f"(SELECT {columns}, NULL::DATE AS date WHERE false)"

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
            for table in tables:
                rows = self.scan(table, videos)
                connection.execute(f'CREATE VIEW "{table}" AS SELECT * FROM {rows}')


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
