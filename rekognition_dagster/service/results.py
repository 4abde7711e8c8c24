"""A job's results, read: pages cut out of the Parquet files that ``writing`` made.

A page touches one or two row groups, so that the last page costs what the first one costs. Rows
become JSON values column by column, along botocore's shapes.
"""

from __future__ import annotations

import functools
import itertools
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from botocore.model import Shape

from rekognition_dagster.lake.storage import Storage
from rekognition_dagster.operations import Operation, snake_case
from rekognition_dagster.service.protocol import operation_model


@dataclass(frozen=True)
class Results:
    """Where the results of all jobs lie.

    Args:
        url: A folder or ``s3://bucket/prefix``.
    """

    url: str

    @functools.cached_property
    def storage(self) -> Storage:
        """The place as a lake's storage."""
        return Storage.at(self.url)

    def page(self, operation: Operation, folder: str, order: str, offset: int, limit: int) -> list:
        """Rows ``offset`` to ``offset + limit`` of a job, as the API's JSON values.

        Args:
            operation: The job's operation.
            folder: The job's results.
            order: The order of the rows.
            offset: Zero-based first row.
            limit: At most so many rows.
        """
        table = _rows(self.storage, path_of(folder, order), offset, limit)
        return wire_rows(operation, table)

    def delete(self, folder: str) -> None:
        """Remove the results in ``folder``; nothing happens where there are none."""
        for path in self.storage.files(folder):
            self.storage.delete(path)
        if self.storage.is_local:
            import shutil

            shutil.rmtree(self.storage.full(folder), ignore_errors=True)


def path_of(folder: str, order: str) -> str:
    """The file with a job's rows in one order."""
    return f"{folder}/{order.lower()}.parquet"


def wire_rows(operation: Operation, table: pa.Table) -> list[dict[str, Any]]:
    """Lake rows as the API's JSON values: members of botocore's shape, nulls left out."""
    output = operation_model(operation.get_api).output_shape
    shape = output.members[operation.results].member  # type: ignore[union-attr]
    columns = {
        c.path: _one_array(table.column(c.name))
        for c in operation.columns
        if c.name in table.column_names
    }
    return [row or {} for row in _nested(shape, columns, table.num_rows)]


def _nested(shape: Any, columns: Mapping[tuple[str, ...], pa.Array], length: int) -> list[Any]:
    members: dict[str, list[Any]] = {}
    for head in dict.fromkeys(path[0] for path in columns):
        member = shape.members.get(head)
        if member is None:
            continue
        below = {path[1:]: array for path, array in columns.items() if path[0] == head}
        members[head] = (
            _values(member, below[()]) if () in below else _nested(member, below, length)
        )
    return _dicts(members, length)


def _dicts(members: Mapping[str, list[Any]], length: int) -> list[Any]:
    """One dict a row without its absent members; None where that leaves nothing."""
    present = {n: v for n, v in members.items() if not all(x is None for x in v)}
    if not present:
        return [None] * length
    names, columns = tuple(present), present.values()
    if any(None in v for v in columns):
        return [
            {n: x for n, x in zip(names, row, strict=True) if x is not None} or None
            for row in zip(*columns, strict=True)
        ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(shape: Shape, array: pa.Array) -> list[Any]:
    """An Arrow array as JSON values of one shape, None where it is null."""
    if array.null_count == len(array):
        return [None] * len(array)
    if pa.types.is_struct(array.type):
        by_name = {f.name: i for i, f in enumerate(array.type)}
        members = {
            name: _values(member, array.field(by_name[snake_case(name)]))
            for name, member in shape.members.items()  # type: ignore[attr-defined]
            if snake_case(name) in by_name
        }
        return _where_valid(array, _dicts(members, len(array)))
    if pa.types.is_list(array.type):
        items = _values(shape.member, array.flatten())  # type: ignore[attr-defined]
        lists, start = [], 0
        for size in array.value_lengths().fill_null(0).to_pylist():
            lists.append(items[start : start + size])
            start += size
        return _where_valid(array, lists)
    if shape.type_name == "structure":  # a {Name} that the lake keeps as a string
        (name,) = shape.members  # type: ignore[attr-defined]
        return [None if v is None else {name: v} for v in array.to_pylist()]
    if array.null_count == 0 and (
        pa.types.is_floating(array.type) or pa.types.is_integer(array.type)
    ):
        return array.to_numpy().tolist()
    return array.to_pylist()


def _where_valid(array: pa.Array, values: list[Any]) -> list[Any]:
    if not array.null_count:
        return values
    valid = array.is_valid().to_pylist()
    return [v if ok else None for v, ok in zip(values, valid, strict=True)]


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else combined.chunk(0)


def _rows(storage: Storage, path: str, offset: int, limit: int) -> pa.Table:
    footer, starts = _footer(storage.url, path)
    end = min(offset + limit, starts[-1])
    if offset >= end:
        return footer.schema.to_arrow_schema().empty_table()
    first, last = bisect_right(starts, offset) - 1, bisect_right(starts, end - 1) - 1
    groups = [_group(storage.url, path, i) for i in range(first, last + 1)]
    return pa.concat_tables(groups).slice(offset - starts[first], end - offset)


# Results never change once a job has them, so what was read of them may be kept.
@functools.lru_cache(maxsize=32)
def _footer(url: str, path: str) -> tuple[pq.FileMetaData, list[int]]:
    """A file's footer, and the row that each of its row groups starts at, with the end."""
    storage = Storage.at(url)
    with storage.filesystem.open_input_file(storage.full(path)) as source:
        footer = pq.read_metadata(source)
    sizes = (footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    return footer, list(itertools.accumulate(sizes, initial=0))


@functools.lru_cache(maxsize=16)
def _group(url: str, path: str, index: int) -> pa.Table:
    storage = Storage.at(url)
    with storage.filesystem.open_input_file(storage.full(path)) as source:
        file = pq.ParquetFile(source, metadata=_footer(url, path)[0])
        return file.read_row_group(index, use_threads=False)
