"""A lake: Parquet under ``{root}/{table}/date=YYYY-MM-DD/{video id}.parquet``, seen by DuckDB.

A video's rows of a table are one file, so writing them again replaces them. What :mod:`compaction`
has merged is found, read and replaced here like any other.
"""

from __future__ import annotations

import functools
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake import cameras, compaction
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.lake.compaction import Rows
from rekognition_dagster.lake.damage import name_foreign
from rekognition_dagster.lake.lock import locked
from rekognition_dagster.lake.names import DAY, REGISTRY, is_day, is_own, schema_path
from rekognition_dagster.lake.storage import Storage, lake_errors
from rekognition_dagster.lake.tables import ANALYTICS, JOBS, TABLES, VIDEOS
from rekognition_dagster.lake.writer import TableWriter
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.videos import DATE_PATTERN, Video

_CAMERAS = "cameras"


@dataclass(frozen=True)
class DayPart:
    """A camera's rows of a day.

    Args:
        rows: They have a column ``camera``.
        digest: Changes when they are to be computed again; empty where the camera has no
            recordings on this day.
    """

    rows: pa.Table
    digest: str


if TYPE_CHECKING:
    from rekognition_dagster.lake.views import LakeConnection


class Lake:
    """A lake at a local folder or ``s3://bucket/prefix``.

    Args:
        url: Its root.
        date_pattern: Finds the day of recording in a video's key; see
            :func:`rekognition_dagster.videos.day_of`.
        cameras: How the camera and the time of recording are found; None is what the lake stores.
            They are stored when something is written.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        date_pattern: str = DATE_PATTERN,
        cameras: Cameras | None = None,
    ):
        self.storage = Storage.at(url)
        self.date_pattern = date_pattern
        self._cameras = cameras
        self._stored_cameras = False
        self._registered: dict[str, pa.Schema] = {}

    @property
    def url(self) -> str:
        """The root, absolute if it is a folder."""
        return self.storage.url

    @property
    def cameras(self) -> Cameras:
        """How the camera and the time of recording are found."""
        if self._cameras is None:
            try:
                self._cameras = Cameras.from_json(self.storage.read(cameras.PATH))
            except ValueError as error:
                raise LakeError(
                    f"{self.storage.uri(cameras.PATH)}: {error}. Set "
                    "REKOGNITION_DAGSTER_CAMERA_PATTERN and run `rekognition-dagster refresh`"
                ) from None
            self._stored_cameras = True
        return self._cameras

    # -- writing ------------------------------------------------------------------------------

    def store_cameras(self) -> None:
        """Store the settings of cameras, unless the lake has them."""
        ours = self.cameras
        if not self._stored_cameras:
            there = self.storage.read(cameras.PATH) or Cameras().to_json()
            if there != ours.to_json():
                self.storage.write(cameras.PATH, ours.to_json())
        self._stored_cameras = True

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
        """A writer of a video's rows of a table.

        A table that is not one of the pipeline's needs a ``schema`` and becomes a table of this
        lake with its first writer. Folders that no writer made are not read, compacted or deleted.
        """
        known = TABLES.get(table)
        if schema is None and known is None:
            raise LakeError(f"no table {table!r}; there are {', '.join(TABLES)}")
        if schema is not None and known is None:
            self._register(table, schema)
        return self._writer(
            self.path(table, video),
            schema if schema is not None else TABLES[table].schema,
            Rows(video.uri),
            known.sort_columns if known else (),
            metadata,
        )

    def _register(self, table: str, schema: pa.Schema) -> None:
        columns = pa.schema([f for f in schema if f.name != "date"])
        if self._registered.get(table) == columns:
            return
        if not table.isidentifier():
            raise LakeError(f"a table cannot be called {table!r}: use letters, digits, underscores")
        path, content = schema_path(table), io.BytesIO()
        pq.write_table(columns.empty_table(), content)
        with lake_errors(self.storage, path):
            if self.storage.read(path) != content.getvalue():
                self.storage.write(path, content.getvalue())
        self._registered[table] = columns

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
        with lake_errors(self.storage, path, video=video.uri):
            self.store_cameras()
        with self._writer(path, VIDEOS.schema, Rows(video.uri)) as writer:
            writer.write([row])

    def write_job(self, video: Video, operation: str, job: Mapping[str, Any]) -> None:
        """Write the row of ``jobs`` for a video's latest job of an operation."""
        row = {"operation": operation, "video": video.uri, "version": video.version, **job}
        path = self.path("jobs", video, part=operation)
        with self._writer(path, JOBS.schema, Rows(video.uri, operation)) as writer:
            writer.write([row])

    def day_path(self, table: str, day: date) -> str:
        """The file of a day's rows of a table that is computed by day, relative to the root."""
        return f"{table}/date={day:%Y-%m-%d}/{DAY}"

    def write_day(self, table: str, day: date, parts: Mapping[str | None, DayPart]) -> str:
        """Replace the rows of some cameras on a day, and return the file's path.

        Args:
            table: A table that is computed by day, with a column ``camera``.
            day: By the cameras' clocks.
            parts: By camera; the rows of all others stay.
        """
        path = self.day_path(table, day)
        schema = next(iter(parts.values())).rows.schema
        self._register(table, schema)
        with lake_errors(self.storage, path), self._locked_days(table):
            before, digests = self._read_day(path)
            digests |= {camera: part.digest for camera, part in parts.items()}
            kept = [] if before is None else [before.filter(_not_of(before, list(parts)))]
            pieces = [*kept, *(part.rows for part in parts.values())]
            rows = pa.concat_tables(pieces, promote_options="permissive")
            self._write_day(path, rows.sort_by([("camera", "ascending")]), digests)
        return path

    def _write_day(self, path: str, rows: pa.Table, digests: Mapping[str | None, str]) -> None:
        metadata = {_CAMERAS: json.dumps([[c, d] for c, d in digests.items() if d])}
        with TableWriter(self.storage, path, rows.schema, metadata=metadata) as writer:
            writer.write(rows)

    def days(self, table: str) -> dict[date, dict[str | None, str]]:
        """The days of a table that is computed by day: the digest of each camera's part."""
        with lake_errors(self.storage, table, "read"):
            files = [f for f in self.storage.files(table) if is_day(f)]
            with ThreadPoolExecutor(16) as threads:
                found = list(threads.map(self._digests, files))
        return {
            date.fromisoformat(f.split("/")[1].removeprefix("date=")): digests
            for f, digests in zip(files, found, strict=True)
        }

    def _digests(self, path: str) -> dict[str | None, str]:
        try:
            with self.storage.filesystem.open_input_file(self.storage.full(path)) as file:
                metadata = pq.ParquetFile(file).schema_arrow.metadata or {}
        except (pa.ArrowInvalid, FileNotFoundError):  # damaged: computed again
            return {}
        return dict(json.loads(metadata.get(_CAMERAS.encode(), b"[]")))

    def _read_day(self, path: str) -> tuple[pa.Table | None, dict[str | None, str]]:
        content = self.storage.read(path)
        if content is None:
            return None, {}
        try:
            rows = pq.read_table(io.BytesIO(content))
        except pa.ArrowInvalid:  # damaged: the cameras that were in it are computed again
            return None, {}
        metadata = rows.schema.metadata or {}
        digests = dict(json.loads(metadata.get(_CAMERAS.encode(), b"[]")))
        return rows.replace_schema_metadata(None), digests

    def _locked_days(self, table: str) -> AbstractContextManager[Any]:
        return locked(self.storage, f"{compaction.FOLDER}/{table}.days.lock")

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
        """Remove a video's rows of every table. Counts by day are computed anew without it when the
        analytics per day are next refreshed."""
        self._forget_days(video)
        for table in self.tables():
            parts = tuple(OPERATIONS) if table == JOBS.name else ("",)
            paths = {self.path(table, video, part=part): part for part in parts}
            with lake_errors(self.storage, table, video=video.uri):
                there = compaction.locate(self.storage, list(paths))
                for path in there:
                    self._put(Rows(video.uri, paths[path] or None), None, path)

    def _forget_days(self, video: Video) -> None:
        """Remove a video's own rows from the files of the days that it touches."""
        days = self._days_of(video)
        paths = {self.day_path(t, day): t for t in self.tables() for day in days}
        with lake_errors(self.storage, "", video=video.uri):
            there = self.storage.present(list(paths))
        for path in there:
            with lake_errors(self.storage, path, video=video.uri), self._locked_days(paths[path]):
                rows, digests = self._read_day(path)
                if rows is None or "video" not in rows.column_names:
                    continue
                kept = rows.filter(_is_not(rows["video"], video.uri))
                if kept.num_rows < rows.num_rows:
                    self._write_day(path, kept, digests)

    def _days_of(self, video: Video) -> list[date]:
        """The days of the camera's clock that a video touches, and those beside them."""
        with self.connect([VIDEOS.name], [video]) as connection:
            found = connection.execute(
                "SELECT recorded_local::DATE, "
                "(recorded_local + to_milliseconds(coalesce(duration_ms, 0)))::DATE FROM videos "
                "WHERE recorded_at IS NOT NULL"
            ).fetchall()
        return [
            first + timedelta(n)
            for first, last in found
            for n in range(-1, (last - first).days + 2)
        ]

    def has(self, table: str, video: Video) -> bool:
        """Whether a video's rows of a table are there, be it that it has none."""
        path = self.path(table, video)
        with lake_errors(self.storage, path, "read", video=video.uri):
            return path in compaction.locate(self.storage, [path])

    def written(self, table: str, videos: Iterable[Video]) -> dict[Video, float | None]:
        """When the rows of those videos that have some were written, in seconds since 1970; None
        where they lie in a merged file."""
        by_folder: dict[str, dict[str, Video]] = defaultdict(dict)
        for video in videos:
            path = self.path(table, video)
            by_folder[path.rpartition("/")[0]][path] = video

        def times(folder: str) -> dict[Video, float | None]:
            alone = {f.path: f.mtime_ns / 1e9 for f in self.storage.listing(folder)}
            day = compaction.Day(self.storage, folder)
            ours = by_folder[folder]
            there = None if alone.keys() >= ours.keys() else day.staged() or day.published()
            stems = set(there.stems) if there else set()
            merged = (p for p in ours if compaction.stem_of(p) in stems)
            found = {**dict.fromkeys(merged), **alone}
            return {video: found[path] for path, video in ours.items() if path in found}

        with lake_errors(self.storage, table, "read"), ThreadPoolExecutor(16) as threads:
            return {v: t for some in threads.map(times, by_folder) for v, t in some.items()}

    def files_of(self, tables: Iterable[str], video: Video) -> set[str]:
        """The files in which a video's rows of some tables are, alone or with other videos'."""
        parts = {JOBS.name: tuple(OPERATIONS)}
        paths = [self.path(t, video, part=part) for t in tables for part in parts.get(t, ("",))]
        return set().union(*compaction.locate(self.storage, paths).values())

    def read_job(self, video: Video, operation: str) -> dict[str, Any] | None:
        """The row of ``jobs`` for a video and an operation, if there is one."""
        path = self.path(JOBS.name, video, part=operation)
        with lake_errors(self.storage, path, "read", video=video.uri):
            files = compaction.locate(self.storage, [path]).get(path, [])
            found = compaction.read_rows(self.storage, files, Rows(video.uri, operation))
        return found.to_pylist()[0] if found.num_rows else None

    # -- reading ------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """The pipeline's tables, and those of analytics models that were written to this lake."""
        there = (Path(f.path) for f in self.storage.listing(REGISTRY))
        registered = [path.stem for path in there if path.suffix == ".parquet"]
        standard = set(ANALYTICS).intersection(self.storage.folders())
        return [*TABLES, *sorted({*registered, *standard} - set(TABLES))]

    def name_foreign_files(self) -> None:
        """Log the files in tables' folders that are not the lake's own."""
        with lake_errors(self.storage, "", "read"):
            for table in self.tables():
                files = self.storage.files(table)
                name_foreign(self.storage, table, (f for f in files if not is_own(f)))

    def connect(
        self, tables: Iterable[str] | None = None, videos: Sequence[Video] | None = None
    ) -> LakeConnection:
        """Open DuckDB in memory with a view per table, made when a statement first names it.

        A file that cannot be read is logged as a warning and left out.

        Args:
            tables: Only these; all of them by default.
            videos: Only the rows of these, by their files; all of them by default.
        """
        from rekognition_dagster.lake import views

        with lake_errors(self.storage, "", "read"):
            found = self.tables() if tables is None else list(tables)
        expression = functools.partial(self._expression, videos)
        return views.connect(views.Views(expression, self.storage, found))

    def scan(self, table: str, videos: Sequence[Video] | None = None) -> str:
        """A DuckDB table expression for a table, or for the rows of some videos only."""
        return self._expression(videos, table)

    def _expression(
        self, videos: Sequence[Video] | None, table: str, without: Iterable[str] = ()
    ) -> str:
        from rekognition_dagster.lake import views

        if videos is None:
            found = views.everything(self.storage, table, without)
            return self.cameras.view(found) if table == VIDEOS.name else found
        parts = tuple(OPERATIONS) if table == JOBS.name else ("",)
        wanted = {self.path(table, v, part=part): v.uri for v in videos for part in parts}
        found = views.rows_of(self.storage, table, wanted, without)
        return self.cameras.view(found) if table == VIDEOS.name else found

    def save_catalogue(self, path: str | Path, *, again: bool = False) -> Path:
        """Write a DuckDB file with a view per table, for any DuckDB client; see :mod:`catalogue`.

        Args:
            path: The file; its folder is made if it is missing.
            again: Write it even where its views are those that the lake needs.

        Raises:
            LakeError: It cannot be written, or the lake is on S3.
        """
        from rekognition_dagster.lake import catalogue, views

        if not self.storage.is_local:
            raise LakeError(
                f"a catalogue file can only view a lake in a folder, not {self.url}. "
                "Ask it with `rekognition-dagster query` or Lake.connect()"
            )
        path, expression = Path(path), functools.partial(self._expression, None)
        catalogue.save(views.Views(expression, self.storage, self.tables()), path, again=again)
        return path


def _not_of(rows: pa.Table, cameras: Sequence[str | None]) -> pa.Array:
    """A mask of the rows of other cameras."""
    import pyarrow.compute as pc

    known = pa.array([c for c in cameras if c is not None], pa.string())
    theirs = pc.is_in(rows["camera"], value_set=known)  # pyright: ignore[reportAttributeAccessIssue]
    if None in cameras:
        theirs = pc.or_(theirs, pc.is_null(rows["camera"]))  # pyright: ignore[reportAttributeAccessIssue]
    return pc.invert(theirs)  # pyright: ignore[reportAttributeAccessIssue]


def _is_not(column: pa.ChunkedArray, value: str) -> pa.Array:
    """A mask of the rows that have another value, or none."""
    import pyarrow.compute as pc

    return pc.invert(pc.fill_null(pc.equal(column, value), False))  # pyright: ignore[reportAttributeAccessIssue]
