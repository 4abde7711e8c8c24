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

import numpy as np
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
    texts = _nested(shape, columns)
    if not texts:
        return b"[" + b",".join([b"{}"] * table.num_rows) + b"]"
    rows = pc.fill_null(_joined(texts), "{}")
    return b"[" + b",".join(rows.cast(pa.binary()).to_pylist()) + b"]"


_Texts = list[Any]
"""Strings and Arrow arrays with a text a row, which make up one JSON text a row: none where an
array is null. Empty where there is none in any row."""


def _nested(shape: Any, columns: Mapping[tuple[str, ...], pa.Array]) -> _Texts:
    """Columns that lie at paths below ``shape``, as one JSON object a row."""
    members: dict[str, _Texts] = {}
    for head in dict.fromkeys(path[0] for path in columns):
        member = shape.members.get(head)
        if member is None:
            continue
        below = {path[1:]: array for path, array in columns.items() if path[0] == head}
        members[head] = _json(member, below[()]) if () in below else _nested(member, below)
    return _objects(members)


def _objects(members: Mapping[str, _Texts]) -> _Texts:
    """One JSON object a row, without its absent members; none where that leaves nothing."""
    always, sometimes = {}, {}
    for name, texts in members.items():
        if texts:
            has_nulls = any(not isinstance(t, str) and t.null_count for t in texts)
            (sometimes if has_nulls else always)[name] = texts
    parts: _Texts = []
    for name, texts in always.items():
        parts += [f',"{name}":', *texts]
    for name, texts in sometimes.items():
        parts.append(pc.fill_null(_joined([f',"{name}":', *texts]), ""))
    if not parts:
        return []
    if always:
        return ["{" + parts[0][1:], *parts[1:], "}"]
    # each member brings a comma, which the first of a row loses
    inner = pc.utf8_ltrim(_joined(parts), ",")
    return ["{", pc.if_else(pc.equal(inner, ""), pa.scalar(None, pa.string()), inner), "}"]


def _joined(texts: _Texts) -> pa.Array:
    """One text a row: neighbouring strings are put together first."""
    parts: _Texts = []
    for text in texts:
        if parts and isinstance(text, str) and isinstance(parts[-1], str):
            parts[-1] += text
        else:
            parts.append(text)
    return pc.binary_join_element_wise(*parts, "")


def _json(shape: Shape, array: pa.Array) -> _Texts:
    """An Arrow array as JSON texts of one shape."""
    if array.null_count == len(array):
        return []
    if array.null_count:  # children of a null struct are anything: only valid rows are written
        texts = _json(shape, array.drop_null())
        return [_spread(_joined(texts), array.is_valid())] if texts else []
    if pa.types.is_struct(array.type):
        by_name = {f.name: i for i, f in enumerate(array.type)}
        members = shape.members  # type: ignore[attr-defined]
        return _objects(
            {
                name: _json(member, array.field(by_name[snake_case(name)]))
                for name, member in members.items()
                if snake_case(name) in by_name
            }
        )
    if pa.types.is_list(array.type):
        items = array.flatten()
        texts = _json(shape.member, items)  # type: ignore[attr-defined]
        rows = pc.fill_null(_joined(texts), "{}") if texts else pa.repeat("{}", len(items))
        offsets = itertools.accumulate(array.value_lengths().to_pylist(), initial=0)
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), rows)
        return ["[", pc.binary_join(lists, ","), "]"]
    if shape.type_name == "structure":  # a {Name} that the lake keeps as a string
        (name,) = shape.members  # type: ignore[attr-defined]
        return _objects({name: [_scalars(array)]})
    return [_scalars(array)]


def _spread(texts: pa.Array, valid: pa.Array) -> pa.Array:
    """Texts at the places where ``valid`` is true, null elsewhere."""
    at = pc.subtract(pc.cumulative_sum(valid.cast(pa.int32())), 1)
    return texts.take(pc.if_else(valid, at, pa.scalar(None, pa.int32())))


def _scalars(array: pa.Array) -> pa.Array:
    """Numbers, truth values and strings as JSON texts; null for what is no number."""
    if pa.types.is_floating(array.type):
        return _floats(array.to_numpy())
    if not pa.types.is_string(array.type):
        return array.cast(pa.string())
    encoded = array.dictionary_encode()
    escaped = [orjson.dumps(text).decode() for text in encoded.dictionary.to_pylist()]
    return pa.array(escaped, pa.string()).take(encoded.indices)


def _floats(numbers: Any) -> pa.Array:
    """JSON texts as orjson writes them, three times as fast as Arrow does."""
    listed = orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY)
    characters = np.frombuffer(listed, np.uint8)[1:-1]
    is_comma = characters == ord(",")
    commas = np.flatnonzero(is_comma)
    ends = np.concatenate([[0], commas - np.arange(len(commas)), [len(characters) - len(commas)]])
    buffers = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(characters[~is_comma])]
    texts = pa.StringArray.from_buffers(len(numbers), *buffers)
    finite = np.isfinite(numbers)
    return texts if finite.all() else pc.if_else(pa.array(finite), texts, None)


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
