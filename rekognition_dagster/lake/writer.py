"""Write one Parquet file, sorted and whole: rows stream in, a file appears at the end or never.

Row groups depend on the rows alone, not on the pieces they came in, so the same results always give
the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from rekognition_dagster.lake.storage import Storage, lake_errors

ROW_GROUP_ROWS = 128 * 1024
_STAY_BACK = 1 / 8  # of a row group
_PLAIN_ROWS = 16  # so few rows are written plain: encoding them costs more than it saves
_RUN_ROWS = 128 * 1024
"""Rows that are sorted in memory, where a file has to be sorted."""
_RUN_GROUP_ROWS = 4096
"""Rows of a run that are in memory while runs are merged."""


class TableWriter:
    """Streams rows into one Parquet file of a lake; a context manager.

    Leaving the ``with`` block normally publishes the file, replacing what was there; leaving it by
    an exception, or dying, leaves what was there. Memory holds little more than a row group. Rows
    should come in the order of ``sort_columns``; where they come from further back than that, the
    file is sorted once at the end, on disk.

    Args:
        storage: Where the file goes.
        path: Its path in that storage.
        schema: Columns of the file.
        sort_columns: The file's order; rows that tie keep the order they came in.
        row_group_rows: Rows in a row group.
        metadata: Key-value pairs for the file's footer.
        publish: What makes the complete file appear at its path; by default the storage does.
        video: Whose rows they are, for errors.

    Raises:
        LakeError: The storage cannot be written (permission, space, address).
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        schema: pa.Schema,
        sort_columns: Sequence[str] = (),
        *,
        row_group_rows: int = ROW_GROUP_ROWS,
        metadata: Mapping[str, str] | None = None,
        publish: Callable[[IO[bytes], str], None] | None = None,
        video: str = "",
    ):
        self.storage, self.path, self.video = storage, path, video
        self._publish = publish or storage.publish
        self.schema = schema.with_metadata(dict(metadata)) if metadata else schema
        self.order = [(c, "ascending") for c in sort_columns]
        self.rows = 0
        self._row_group_rows = row_group_rows
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._last: tuple[Any, ...] | None = None
        self._in_order = True
        self._runs: list[int] = []  # row groups of each sorted run
        self._file: IO[bytes] | None = None
        self._parquet: pq.ParquetWriter | None = None

    def __enter__(self) -> TableWriter:
        with lake_errors(self.storage, self.path, video=self.video):
            self._file = self.storage.spool(self.path)
        return self

    def write(self, rows: pa.Table | pa.RecordBatch | Iterable[Mapping[str, Any]]) -> None:
        """Add rows: an Arrow table or batch, or dicts by column name (absent columns are null)."""
        if isinstance(rows, pa.RecordBatch):
            table = pa.Table.from_batches([rows])
        elif isinstance(rows, pa.Table):
            table = cast(pa.Table, rows)
        else:
            pylist = [dict(row) for row in cast("Iterable[Mapping[str, Any]]", rows)]
            table = pa.Table.from_pylist(pylist, schema=self.schema)
        if table.schema != self.schema:
            table = table.select(self.schema.names).cast(self.schema)
        self.rows += table.num_rows
        self._pending.append(table)
        self._pending_rows += table.num_rows
        # Some rows stay back, for a page may repeat the timestamp that the last one ended on.
        while self._pending_rows >= self._group_rows * (1 + _STAY_BACK):
            self._write_group(self._take_pending())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        spooled = self._file
        try:
            if kind is not None:
                if self._parquet is not None:
                    with contextlib.suppress(OSError):  # the first error is the one to report
                        self._parquet.close()
                return
            with lake_errors(self.storage, self.path, video=self.video):
                if self._parquet is None:
                    self._parquet = self._open(spooled, plain=self._pending_rows <= _PLAIN_ROWS)
                while self._pending_rows:
                    self._write_group(self._take_pending())
                self._parquet.close()
                if self._in_order:
                    self._publish(spooled, self.path)
                else:
                    self._parquet = None  # its footer takes memory
                    with self.storage.spool(self.path) as ordered:
                        self._sort(spooled, ordered)
                        self._publish(ordered, self.path)
        finally:
            with contextlib.suppress(OSError):  # a full disk is reported above, and once
                spooled.close()

    def _open(self, file: IO[bytes], *, plain: bool = False) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            pa.PythonFile(file, mode="w"),
            self.schema,
            compression="none" if plain else "zstd",
            use_dictionary=False if plain else _repeating(self.schema.remove_metadata()),  # pyright: ignore[reportArgumentType]
            sorting_columns=pq.SortingColumn.from_ordering(self.schema, self.order)
            if self.order
            else None,
        )

    def _take_pending(self) -> pa.Table:
        """The next row group in order; the rest stays pending."""
        table = self._ordered(pa.concat_tables(self._pending))
        rest = table.slice(self._group_rows)
        self._pending, self._pending_rows = [rest], rest.num_rows
        return table.slice(0, self._group_rows)

    @property
    def _group_rows(self) -> int:
        """Rows that are sorted and written together."""
        return self._row_group_rows if self._in_order else _RUN_ROWS

    def _ordered(self, table: pa.Table) -> pa.Table:
        """The table in order; not copied where it is so already, as it mostly is."""
        import pyarrow.compute as pc  # a tenth of a second, which a reader need not wait for

        if not self.order or table.num_rows < 2:
            return table
        keys = table.select([c for c, _ in self.order])
        options = pc.SortOptions(sort_keys=self.order)
        indices = pc.call_function("sort_indices", [keys], options)
        pairs = [indices.slice(0, len(indices) - 1), indices.slice(1)]
        in_order = pc.call_function("all", [pc.call_function("less", pairs)])
        return table if in_order.as_py() else table.take(indices)

    def _write_group(self, group: pa.Table) -> None:
        size = self._group_rows
        if self.order:
            keys = group.select([c for c, _ in self.order])
            first, last = (_key(keys, i) for i in (0, keys.num_rows - 1))
            follows = self._last is None or self._last <= first
            self._in_order &= follows
            self._last = last
            size = size if self._in_order else min(self._row_group_rows, _RUN_GROUP_ROWS)
            self._runs += [0] if not (follows and self._runs) else []
            self._runs[-1] += -(-group.num_rows // size)
        assert self._file is not None
        self._parquet = self._parquet or self._open(self._file)
        with lake_errors(self.storage, self.path, video=self.video):
            self._parquet.write_table(group, row_group_size=size)

    def _sort(self, spooled: IO[bytes], ordered: IO[bytes]) -> None:
        """Merge the sorted runs that lie in one file into another file."""
        source, first = pq.ParquetFile(spooled), 0
        runs: list[Iterator[pa.Table]] = []
        for groups in self._runs:
            runs.append(map(source.read_row_group, range(first, first + groups)))
            first += groups
        with self._open(ordered) as parquet:
            pending: list[pa.Table] = []
            for rows in self._merged(runs):
                pending.append(rows)
                while sum(t.num_rows for t in pending) >= self._row_group_rows:
                    table = pa.concat_tables(pending)
                    parquet.write_table(table.slice(0, self._row_group_rows))
                    pending = [table.slice(self._row_group_rows)]
            if rest := [t for t in pending if t.num_rows]:
                parquet.write_table(pa.concat_tables(rest))

    def _merged(self, runs: Sequence[Iterator[pa.Table]]) -> Iterator[pa.Table]:
        """Yield the rows of sorted runs in order; memory holds one row group of each run.

        In a tie, rows of an earlier run come first.
        """
        heads = [_Head(run, [c for c, _ in self.order]) for run in runs]
        while heads := [h for h in heads if h.load()]:
            # Nothing that is still to be read comes before the end of this group.
            limit = min(range(len(heads)), key=lambda i: heads[i].last)
            end = heads[limit].last
            taken = [h.take(end, ties=i <= limit) for i, h in enumerate(heads)]
            yield self._ordered(pa.concat_tables([t for t in taken if t.num_rows]))


class _Head:
    """The rows of a sorted run that were read and not yet taken."""

    def __init__(self, groups: Iterator[pa.Table], columns: Sequence[str]):
        self._groups, self._columns = groups, list(columns)
        self._rows: pa.Table | None = None
        self.last: tuple[Any, ...] = ()

    def load(self) -> bool:
        """Read the next group where there are no rows left; return whether there are rows."""
        while self._rows is None or not self._rows.num_rows:
            self._rows = next(self._groups, None)
            if self._rows is None:
                return False
            if self._rows.num_rows:
                self.last = _key(self._rows.select(self._columns), self._rows.num_rows - 1)
        return True

    def take(self, end: tuple[Any, ...], *, ties: bool) -> pa.Table:
        """Take the rows up to a key, with those that tie with it or without."""
        assert self._rows is not None
        keys, bisect = self._rows.select(self._columns), bisect_right if ties else bisect_left
        count = bisect(range(keys.num_rows), end, key=lambda row: _key(keys, row))
        taken, self._rows = self._rows.slice(0, count), self._rows.slice(count)
        return taken


@functools.cache
def _repeating(schema: pa.Schema) -> list[str]:
    """Leaf columns worth a dictionary: all but ratios, which hardly ever repeat."""
    file = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), file)
    leaves = pq.read_metadata(pa.BufferReader(file.getvalue())).schema
    columns = (leaves.column(i) for i in range(len(leaves)))
    return [c.path for c in columns if c.physical_type not in ("FLOAT", "DOUBLE")]


def _key(keys: pa.Table, row: int) -> tuple[Any, ...]:
    """A row's sort key as Python compares it; Arrow puts nulls last."""
    return tuple((value is None, value) for value in keys.slice(row, 1).to_pylist()[0].values())
