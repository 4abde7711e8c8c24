"""Compaction: the small files of a table's day become a few large ones, sorted by video.

A day goes through three steps, by itself at each call of :func:`compact`:

1. *staged*: the merged files lie under ``.compaction/{table}/date=.../``, where a plain glob does
   not look. One small file says so, ``date=....next.json``; from then on the lake's own views read
   the merged files. The small ones stay for the queries that run.
2. *published*, a grace later: the merged files appear beside the small ones and these are deleted.
   Only for so long does a plain glob see both.
3. *tidied*, a grace later: the names under ``.compaction`` go.

A video whose rows lie in a merged file is written again by writing that file again, whole and in
place: so its rows are never in two files, and no reader needs a rule. Each change of a day that has
been compacted is made under the day's lock; a day that has not needs none.
"""

from __future__ import annotations

import heapq
import json
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake.damage import damaged, name_foreign
from rekognition_dagster.lake.lock import locked
from rekognition_dagster.lake.names import PART, is_own, is_small
from rekognition_dagster.lake.storage import Storage, StoredFile, lake_errors
from rekognition_dagster.lake.tables import TABLES
from rekognition_dagster.lake.writer import ROW_GROUP_ROWS, TableWriter

GRACE_S = 12 * 3600.0
"""Small files outlive their merging by so long: the longest query, or the oldest connection."""
QUIET_S = 3600.0
"""Files younger than this are left for another time: their video may still be written again."""
MIN_FILES = 8
"""A day with fewer small files is left as it is."""
PART_ROWS = 16 * ROW_GROUP_ROWS
"""Rows of a merged file, about: what writing one of its videos again costs."""

FOLDER = ".compaction"
_TOGETHER = 16  # requests to S3 at a time
_SMALL_BYTES = 4 * 1024 * 1024  # files up to this size are read ahead

Outcome = Literal["nothing", "staged", "waits", "changed", "published"]
"""What a call did for a day: nothing was due; merged; merged before, and the grace is not over; a
writer came between, so another time; the small files are gone."""


@dataclass(frozen=True)
class Rows:
    """Which rows of a merged file are one small file's: those of a video; of ``jobs``, those of an
    operation, too."""

    video: str
    operation: str | None = None

    def of(self, table: pa.Table) -> pa.ChunkedArray:
        """A mask of them."""
        pc = _arrow_compute()
        mask = pc.equal(table["video"], self.video)
        if self.operation is None:
            return mask
        return pc.and_(mask, pc.equal(table["operation"], self.operation))


@dataclass
class Merged:
    """The merged files of a day.

    Args:
        parts: The last video of each, by its path; in order.
        stems: The small files whose rows they hold: names without ``.parquet``.
    """

    parts: dict[str, str]
    stems: list[str]


@dataclass
class Staged(Merged):
    """Merged files that are not published yet.

    Args:
        merged: Size and time of every file that went into them, by path.
        at: When, in seconds since 1970.
        publishing: Whether the merged may be gone already.
    """

    merged: dict[str, list[int]]
    at: float
    publishing: bool = False


class _Run(NamedTuple):
    """Rows of one video that follow each other."""

    video: str
    rows: pa.Table


@dataclass(frozen=True)
class Day:
    """A table's day.

    Args:
        storage: The lake's.
        folder: ``{table}/date=YYYY-MM-DD``.
        damaged: Files that :meth:`compact` left as they are, and what is wrong with each.
    """

    storage: Storage
    folder: str
    damaged: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def _beside(self) -> str:
        return f"{FOLDER}/{self.folder}"

    # -- what there is ------------------------------------------------------------------------

    def published(self) -> Merged | None:
        """What is merged and published; None where no compaction ever looked at the day."""
        text = self.storage.read(f"{self._beside}.json")
        return None if text is None else Merged(**json.loads(text))

    def staged(self) -> Staged | None:
        """What is merged and not yet published."""
        text = self.storage.read(f"{self._beside}.next.json")
        return None if text is None else Staged(**json.loads(text))

    def small_files(self) -> list[StoredFile]:
        """The files of single videos."""
        return [f for f in self.storage.listing(self.folder) if is_small(f.path)]

    # -- writing a video's file ---------------------------------------------------------------

    def put(self, stem: str, rows: Rows, file: IO[bytes] | None) -> None:
        """Make ``file`` the rows of ``{stem}.parquet``, wherever these lie; None removes them."""
        path, written = f"{self.folder}/{stem}.parquet", None
        if self.published() is None:
            self._put_alone(path, file)
            written = self.storage.look(path)
            if self.published() is None:
                return  # no compaction had begun by then, so the next one will see this
        with self._locked() as keep:
            staged = self.staged()
            if staged is not None and staged.publishing:
                self._publish(staged, keep)
            elif staged is not None and (stem in staged.stems or path in staged.merged):
                self._unstage()
            published = self.published()
            if published is None or stem not in published.stems:
                if written is None or self.storage.look(path) != written:
                    self._put_alone(path, file)
                return
            self._rewrite(published, rows, file)
            if file is None:
                published.stems.remove(stem)
                self._say("json", published)
            self.storage.delete(path)

    def _put_alone(self, path: str, file: IO[bytes] | None) -> None:
        if file is None:
            self.storage.delete(path)
        else:
            self.storage.publish(file, path)

    def _unstage(self) -> None:
        """Let readers go back to the files that were merged: they are all there."""
        published = self.published()
        if published is not None:
            self._say("json", published)  # whose time says when something changed
        self.storage.delete(f"{self._beside}.next.json")

    def _rewrite(self, published: Merged, rows: Rows, file: IO[bytes] | None) -> None:
        """Write the merged file of some rows again, with those of ``file`` in their place."""
        pc = _arrow_compute()
        behind = [p for p, last in published.parts.items() if last >= rows.video]
        path = (behind or list(published.parts))[0 if behind else -1]
        if file is not None:
            file.seek(0)
        with ExitStack() as stack:
            before = stack.enter_context(_opened(self.storage, path))
            new = None if file is None else pq.ParquetFile(file)
            schema = _union([before.schema_arrow, *([] if new is None else [new.schema_arrow])])
            writer = stack.enter_context(TableWriter(self.storage, path, schema))
            for group in _groups(before, schema):
                others = group.filter(pc.invert(rows.of(group)))
                earlier = pc.less(others["video"], rows.video)
                writer.write(others.filter(earlier))
                if new is not None and not pc.all(earlier).as_py():
                    for piece in _groups(new, schema):
                        writer.write(piece)
                    new = None
                writer.write(others.filter(pc.invert(earlier)))
            if new is not None:
                for piece in _groups(new, schema):
                    writer.write(piece)

    # -- compaction ---------------------------------------------------------------------------

    def compact(
        self,
        *,
        grace_s: float = GRACE_S,
        quiet_s: float = QUIET_S,
        min_files: int = MIN_FILES,
        part_rows: int = PART_ROWS,
    ) -> Outcome:
        """Take the step that is due; see the module.

        Args:
            grace_s: How long what readers may still read stays, in seconds.
            quiet_s: Only files that are so old are merged.
            min_files: Fewer such files are left as they are.
            part_rows: A merged file ends with the video that reaches so many rows.

        Raises:
            LakeError: The lake cannot be read or written. Nothing is lost; call it again.
        """
        with lake_errors(self.storage, self.folder):
            staged = self.staged()
            if staged is None:
                self._tidy(grace_s)
                return self._stage(quiet_s, min_files, part_rows)
            if not staged.publishing and time.time() - staged.at < grace_s:
                return "waits"
            with self._locked() as keep:
                staged = self.staged()
                if staged is not None:
                    self._publish(staged, keep)
            return "published"

    def _stage(self, quiet_s: float, min_files: int, part_rows: int) -> Outcome:
        if len(self.small_files()) < min_files:
            return "nothing"
        if self.published() is None:
            # Said before looking: from now on every writer takes the lock.
            self._say("json", Merged({}, []))
        published, now = self.published() or Merged({}, []), time.time()
        small = [f for f in self.small_files() if now - f.mtime_ns / 1e9 >= quiet_s]
        if len(small) < min_files:
            return "nothing"
        earlier = [f for f in map(self.storage.look, published.parts) if f is not None]
        try:
            parts = self._merge(small, earlier, part_rows)
        except (OSError, pa.ArrowException, LakeError):
            small, earlier = self._sound(small), self._sound(earlier)
            if not self.damaged:
                raise
            if len(small) < min_files:
                return "nothing"
            parts = self._merge(small, earlier, part_rows)
        stems = sorted({*published.stems, *(stem_of(f.path) for f in small)})
        merged = {f.path: [f.size, f.mtime_ns] for f in (*small, *earlier)}
        with self._locked():
            there = set(self.storage.listing(self.folder))
            same = there.issuperset((*small, *earlier)) and self.published() == published
            if not same or self.staged() is not None:
                _each(self.storage.delete, parts)
                return "changed"
            self._say("next.json", Staged(parts, stems, merged, now))
        return "staged"

    def _sound(self, files: Sequence[StoredFile]) -> list[StoredFile]:
        """Those of some files that are not damaged; the others go to :attr:`damaged`."""
        self.damaged.update(damaged(self.storage, [f.path for f in files], whole=True))
        return [f for f in files if f.path not in self.damaged]

    def _merge(
        self, small: Sequence[StoredFile], earlier: Sequence[StoredFile], part_rows: int
    ) -> dict[str, str]:
        """Write the merged files; memory holds some row groups, however long the day is."""
        table = TABLES.get(self.folder.split("/", maxsplit=1)[0])
        footers = _each(lambda f: _footer(self.storage, f), [f.path for f in (*small, *earlier)])
        schema = _union([*([table.schema] if table else []), *(s for _, s in footers)])
        ordered = sorted((video, f) for (video, _), f in zip(footers, small, strict=False) if video)
        streams = [_runs_of_small_files(self.storage, ordered, schema)]
        streams += [_runs_of_part(self.storage, f.path, schema) for f in earlier]
        runs = heapq.merge(*streams, key=lambda run: run.video)
        run, parts, name = next(runs, None), dict[str, str](), uuid.uuid4().hex[:12]
        while run is not None or not parts:
            path, last = f"{self._beside}/{name}.{len(parts)}.parquet", ""
            with TableWriter(self.storage, path, schema) as writer:
                while run is not None and (writer.rows < part_rows or run.video == last):
                    writer.write(run.rows)
                    last, run = run.video, next(runs, None)
            parts[path] = last
        return parts

    def _publish(self, staged: Staged, keep: Callable[[], None]) -> None:
        """Let the merged files appear where every reader looks, in place of the small ones."""
        if not staged.publishing:
            staged.publishing = True
            self._say("next.json", staged)
        parts = {f"{self.folder}/{PART}{_name(p)}": last for p, last in staged.parts.items()}
        for source, path in zip(staged.parts, parts, strict=True):
            self.storage.copy(source, path)
            keep()
        there = {f.path: [f.size, f.mtime_ns] for f in self.storage.listing(self.folder)}
        gone = [path for path, was in staged.merged.items() if there.get(path) == was]
        for start in range(0, len(gone), _TOGETHER * 8):
            _each(self.storage.delete, gone[start : start + _TOGETHER * 8])
            keep()
        self._say("json", Merged(parts, staged.stems))
        self.storage.delete(f"{self._beside}.next.json")

    def _tidy(self, grace_s: float) -> None:
        """Remove what is no longer read under ``.compaction``: staged files that are published, or
        that a killed or outrun compaction left."""
        before = time.time() - grace_s
        said = self.storage.look(f"{self._beside}.json")
        if said is not None and said.mtime_ns / 1e9 < before:
            old = [f.path for f in self.storage.listing(self._beside) if f.mtime_ns / 1e9 < before]
            _each(self.storage.delete, old)

    def _say(self, suffix: str, what: Merged) -> None:
        self.storage.write(f"{self._beside}.{suffix}", json.dumps(asdict(what)).encode())

    def _locked(self) -> AbstractContextManager[Callable[[], None]]:
        return locked(self.storage, f"{self._beside}.lock")


def day_of(storage: Storage, path: str) -> Day:
    """The day that a small file belongs to."""
    return Day(storage, path.rpartition("/")[0])


def stem_of(path: str) -> str:
    """A small file's name without its suffix."""
    return _name(path).removesuffix(".parquet")


def due_days(storage: Storage, tables: Iterable[str], min_files: int = MIN_FILES) -> list[Day]:
    """The days for which :meth:`Day.compact` may have something to do, the oldest first."""
    found: set[str] = set()
    for table in tables:
        files = storage.files(table)
        name_foreign(storage, table, (f for f in files if not is_own(f)))
        small = Counter(f.rpartition("/")[0] for f in files if is_small(f))
        found.update(folder for folder, count in small.items() if count >= min_files)
        for path in storage.files(f"{FOLDER}/{table}"):
            if path.endswith((".next.json", ".parquet")):
                day = path.removesuffix(".next.json") if path.endswith(".json") else path
                found.add("/".join(day.split("/")[1:3]))
    return [Day(storage, f) for f in sorted(found, key=lambda f: f.split("/")[::-1])]


def staged_days(storage: Storage, table: str) -> dict[str, Staged]:
    """The days of a table that have staged files, by ``date=YYYY-MM-DD``."""
    suffix = ".next.json"
    names = [_name(f.path) for f in storage.listing(f"{FOLDER}/{table}")]
    days = [n.removesuffix(suffix) for n in names if n.endswith(suffix)]
    found = {day: Day(storage, f"{table}/{day}").staged() for day in days}
    return {day: staged for day, staged in found.items() if staged is not None}


def locate(storage: Storage, paths: Sequence[str]) -> dict[str, list[str]]:
    """The files in which the rows of small files lie now, for a reader: by a small file's path,
    that path itself or merged files. A path that is missing has no rows anywhere."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.rpartition("/")[0], []).append(path)
    found: dict[str, list[str]] = {}
    for folder, asked in by_folder.items():
        day = Day(storage, folder)
        staged = day.staged()
        stems = set(staged.stems) if staged else set()
        rest = [p for p in asked if stem_of(p) not in stems]
        if staged:
            found.update({p: list(staged.parts) for p in asked if stem_of(p) in stems})
        alone = set(storage.present(rest))
        found.update({p: [p] for p in alone})
        if len(alone) < len(rest) and (published := day.published()):
            stems = set(published.stems)
            missing = [p for p in rest if p not in alone and stem_of(p) in stems]
            found.update({p: list(published.parts) for p in missing})
    return found


def read_rows(storage: Storage, paths: Sequence[str], rows: Rows) -> pa.Table:
    """Some rows out of merged files, reading only row groups that may hold them."""
    found: list[pa.Table] = []
    for path in paths:
        with _opened(storage, path) as file:
            column = file.schema_arrow.get_field_index("video")
            for i in range(file.num_row_groups):
                told = file.metadata.row_group(i).column(column).statistics
                if told is None or not told.has_min_max or told.min <= rows.video <= told.max:
                    group = file.read_row_group(i)
                    found.append(group.filter(rows.of(group)))
    return pa.concat_tables(found, promote_options="permissive") if found else pa.table({})


# -- reading files ----------------------------------------------------------------------------


@contextmanager
def _opened(storage: Storage, path: str) -> Iterator[pq.ParquetFile]:
    with storage.filesystem.open_input_file(storage.full(path)) as source:
        try:
            file = pq.ParquetFile(source)
        except pa.ArrowException as error:
            raise LakeError(
                f"{storage.uri(path)} is no Parquet file: {error}. Remove it, and materialize the "
                "video's partition again"
            ) from error
        yield file


def _footer(storage: Storage, path: str) -> tuple[str | None, pa.Schema]:
    """The first video of a file, if it has rows, and its columns."""
    with _opened(storage, path) as file:
        schema, column = file.schema_arrow, file.schema_arrow.get_field_index("video")
        if column < 0 or schema.field(column).type != pa.string():
            raise LakeError(f"{storage.uri(path)} is not a file of this lake. Move it elsewhere")
        for i in range(file.num_row_groups):
            group = file.metadata.row_group(i)
            if group.num_rows:
                told = group.column(column).statistics
                if told is not None and told.has_min_max:
                    return told.min, schema
                return file.read_row_group(i, ["video"])["video"][0].as_py(), schema
        return None, schema


def _groups(file: pq.ParquetFile, schema: pa.Schema) -> Iterator[pa.Table]:
    for i in range(file.num_row_groups):
        yield _fit(file.read_row_group(i), schema)


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    for column in schema:
        if column.name not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    return table.select(schema.names).cast(schema)


def _union(schemas: Iterable[pa.Schema]) -> pa.Schema:
    different = list(dict.fromkeys(s.remove_metadata() for s in schemas))
    return pa.unify_schemas(different, promote_options="permissive")


def _runs_of_small_files(
    storage: Storage, files: Sequence[tuple[str, StoredFile]], schema: pa.Schema
) -> Iterator[_Run]:
    def source(file: StoredFile) -> pa.NativeFile:
        opened = storage.filesystem.open_input_file(storage.full(file.path))
        if file.size > _SMALL_BYTES:
            return opened
        with opened:
            return pa.BufferReader(opened.read_buffer())

    sources = _ahead(source, [f for _, f in files], 0 if storage.is_local else _TOGETHER)
    for (video, _), opened in zip(files, sources, strict=True):
        with opened:
            for group in _groups(pq.ParquetFile(opened), schema):
                yield _Run(video, group)


def _runs_of_part(storage: Storage, path: str, schema: pa.Schema) -> Iterator[_Run]:
    pc = _arrow_compute()
    with _opened(storage, path) as file:
        for group in _groups(file, schema):
            runs = pc.run_end_encode(group["video"].combine_chunks())
            start = 0
            for video, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                yield _Run(video, group.slice(start, end - start))
                start = end


def _arrow_compute() -> Any:
    """Arrow's functions, which are made at run time: a tenth of a second that readers save."""
    import pyarrow.compute

    return pyarrow.compute


def _each(function: Callable[[str], Any], paths: Iterable[str]) -> list[Any]:
    """Call for each path, some at a time."""
    with ThreadPoolExecutor(_TOGETHER) as pool:
        return list(pool.map(function, paths))


def _ahead(function: Callable[[Any], Any], items: Sequence[Any], depth: int) -> Iterator[Any]:
    """Like map, with so many calls made ahead."""
    with ThreadPoolExecutor(max(depth, 1)) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _name(path: str) -> str:
    return path.rpartition("/")[2]
