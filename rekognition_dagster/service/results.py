"""A job's results, read: pages cut out of the Parquet files that ``writing`` made.

A page touches one or two row groups, so that the last page costs what the first one costs. Rows
become JSON column by column, along botocore's shapes.
"""

from __future__ import annotations

import functools
import itertools
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from botocore.model import Shape

from rekognition_dagster.lake.storage import Storage
from rekognition_dagster.operations import Operation, snake_case
from rekognition_dagster.service.protocol import operation_model

pc: Any = pyarrow.compute  # its functions are made at run time, type checkers see none


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
        return _storage(self.url)

    def page(self, operation: Operation, folder: str, order: str, offset: int, limit: int) -> bytes:
        """Rows ``offset`` to ``offset + limit`` of a job, as the JSON of the API's list.

        Args:
            operation: The job's operation.
            folder: The job's results.
            order: The order of the rows.
            offset: Zero-based first row.
            limit: At most so many rows.
        """
        table = _rows(self.storage, path_of(folder, order), offset, limit)
        return json_rows(operation, table)

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


def json_rows(operation: Operation, table: pa.Table) -> bytes:
    """Lake rows as the JSON of the API's result list: members of botocore's shape, nulls left out.

    Texts are put together column by column in Arrow, without a Python object per row or member.
    """
    output = operation_model(operation.get_api).output_shape
    shape = output.members[operation.results].member  # type: ignore[union-attr]
    columns = {
        c.path: _one_array(table.column(c.name))
        for c in operation.columns
        if c.name in table.column_names
    }
    rows = pc.fill_null(_nested(shape, columns, table.num_rows), "{}")
    return b"[" + b",".join(rows.cast(pa.binary()).to_pylist()) + b"]"


def _nested(shape: Any, columns: Mapping[tuple[str, ...], pa.Array], length: int) -> pa.Array:
    """Columns that lie at paths below ``shape``, as one JSON object a row."""
    members: dict[str, pa.Array] = {}
    for head in dict.fromkeys(path[0] for path in columns):
        member = shape.members.get(head)
        if member is None:
            continue
        below = {path[1:]: array for path, array in columns.items() if path[0] == head}
        members[head] = _json(member, below[()]) if () in below else _nested(member, below, length)
    return _objects(members, length)


def _objects(members: Mapping[str, pa.Array], length: int) -> pa.Array:
    """One JSON object a row, without its absent members; null where that leaves nothing."""
    parts: list[Any] = []
    for name, values in members.items():
        if values.null_count == length:
            continue
        if values.null_count:
            member = pc.binary_join_element_wise(f'"{name}":', values, ",", "")
            parts.append(pc.fill_null(member, ""))
        else:
            parts += [f'"{name}":', values, ","]
    if not parts:
        return pa.nulls(length, pa.string())
    texts = pc.binary_join_element_wise(*parts, "")
    # Each member brought a comma; the last one's goes.
    texts = pc.utf8_rtrim(texts, ",")
    objects = pc.binary_join_element_wise("{", texts, "}", "")
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), objects)


def _json(shape: Shape, array: pa.Array) -> pa.Array:
    """An Arrow array as JSON texts of one shape, null where there is nothing."""
    length = len(array)
    if array.null_count == length:
        return pa.nulls(length, pa.string())
    if pa.types.is_struct(array.type):
        by_name = {f.name: i for i, f in enumerate(array.type)}
        members = {
            name: _json(member, array.field(by_name[snake_case(name)]))
            for name, member in shape.members.items()  # type: ignore[attr-defined]
            if snake_case(name) in by_name
        }
        return _where_valid(array, _objects(members, length))
    if pa.types.is_list(array.type):
        items = pc.fill_null(_json(shape.member, array.flatten()), "{}")  # type: ignore[attr-defined]
        sizes = pc.fill_null(array.value_lengths(), 0).to_pylist()
        offsets = pa.array(itertools.accumulate(sizes, initial=0), pa.int32())
        joined = pc.binary_join(pa.ListArray.from_arrays(offsets, items), ",")
        lists = pc.binary_join_element_wise("[", joined, "]", "")
        return _where_valid(array, lists)
    if shape.type_name == "structure":  # a {Name} that the lake keeps as a string
        (name,) = shape.members  # type: ignore[attr-defined]
        return _objects({name: _scalars(array)}, length)
    return _scalars(array)


def _scalars(array: pa.Array) -> pa.Array:
    """Numbers, truth values and strings as JSON texts."""
    if pa.types.is_string(array.type):
        encoded = array.dictionary_encode()
        escaped = [orjson.dumps(text).decode() for text in encoded.dictionary.to_pylist()]
        return pa.array(escaped, pa.string()).take(encoded.indices)
    texts = array.cast(pa.string())
    if not pa.types.is_floating(array.type):
        return texts
    # Larger ones may be written with an exponent, and need no more to be one.
    whole = pc.and_(pc.equal(pc.floor(array), array), pc.less(pc.abs(array), 1e5))
    if pc.any(whole).as_py():  # a float stays one: 50.0, not 50
        dotted = pc.binary_join_element_wise(texts, ".0", "")
        texts = pc.if_else(whole, dotted, texts)
    finite = pc.is_finite(array)
    return texts if pc.all(finite).as_py() else pc.if_else(finite, texts, None)


def _where_valid(array: pa.Array, texts: pa.Array) -> pa.Array:
    if not array.null_count:
        return texts
    return pc.if_else(array.is_valid(), texts, pa.scalar(None, pa.string()))


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


@functools.cache
def _storage(url: str) -> Storage:
    return Storage.at(url)


# Results never change once a job has them, so what was read of them may be kept.
@functools.lru_cache(maxsize=32)
def _footer(url: str, path: str) -> tuple[pq.FileMetaData, list[int]]:
    """A file's footer, and the row that each of its row groups starts at, with the end."""
    storage = _storage(url)
    with storage.filesystem.open_input_file(storage.full(path)) as source:
        footer = pq.read_metadata(source)
    sizes = (footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    return footer, list(itertools.accumulate(sizes, initial=0))


@functools.lru_cache(maxsize=16)
def _group(url: str, path: str, index: int) -> pa.Table:
    storage = _storage(url)
    with storage.filesystem.open_input_file(storage.full(path)) as source:
        file = pq.ParquetFile(source, metadata=_footer(url, path)[0])
        return file.read_row_group(index, use_threads=False)
