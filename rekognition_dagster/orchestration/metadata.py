"""Row counts, schemas and links to files, under the names that Dagster's UI has places for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.names import literal
from rekognition_dagster.orchestration.highlights import clock, markdown_table

_VIDEOS = 10  # named in the metadata of a partition of several


def column_schema(
    schema: pa.Schema, descriptions: Mapping[str, str] | None = None
) -> dg.TableSchema:
    """An Arrow schema as Dagster's UI shows one."""
    return as_schema(columns_of(schema, descriptions or {}))


def columns_of(
    schema: pa.Schema, descriptions: Mapping[str, str]
) -> list[tuple[str, str, str | None]]:
    """Name, type and description of each column."""
    return [(f.name, _type_name(f.type), descriptions.get(f.name)) for f in schema]


def as_schema(columns: Iterable[Sequence[Any]]) -> dg.TableSchema:
    """What :func:`columns_of` returns as Dagster's UI shows it."""
    return dg.TableSchema([dg.TableColumn(n, t, description=text) for n, t, text in columns])


def _type_name(type_: pa.DataType) -> str:
    name = str(type_)
    return name if len(name) < 80 else name.split("<", maxsplit=1)[0]


@dataclass(frozen=True)
class Rows:
    """Rows of a table that are of one video.

    Args:
        video: Its URI.
        path: Their file, relative to the lake; none where that is not known.
        count: How many.
        highlights: What they say, by name; see :mod:`highlights`.
        detail: Markdown to show, by name; and ``columns`` of a table that has none declared.
        warning: What was lost of the video.
        backend: What did the work.
    """

    video: str
    path: str | None
    count: int
    highlights: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    warning: str | None = None
    backend: str | None = None


def rows_metadata(lake: Lake, table: str, rows: Sequence[Rows]) -> dict[str, Any]:
    """What a materialized partition of a table says of its rows, file and videos."""
    if len(rows) != 1:
        return _of_several(rows)
    one = rows[0]
    metadata: dict[str, Any] = {"dagster/partition_row_count": one.count}
    for name, value in one.highlights.items():
        metadata[name.removesuffix("_ms")] = clock(value) if name.endswith("_ms") else value
    if one.warning:
        metadata["warning"] = one.warning
    if one.backend:
        metadata["backend"] = one.backend
    texts = {name: text for name, text in one.detail.items() if name != "columns"}
    metadata |= {name: dg.MetadataValue.md(text) for name, text in texts.items()}
    if columns := one.detail.get("columns"):
        metadata["dagster/column_schema"] = as_schema(columns)
    query = f"```sql\nSELECT * FROM {table} WHERE video = {literal(one.video)}\n```"
    metadata["query"] = dg.MetadataValue.md(query)
    return metadata | (file_metadata(lake, one.path) if one.path else {})


def file_metadata(lake: Lake, path: str) -> dict[str, Any]:
    """A file of the lake, as a link."""
    uri, is_local = lake.storage.uri(path), lake.storage.is_local
    return {
        "dagster/uri": Path(uri).as_uri() if is_local else uri,
        "file": dg.MetadataValue.path(uri) if is_local else dg.MetadataValue.url(uri),
    }


def _of_several(rows: Sequence[Rows]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "videos": len(rows),
        "dagster/partition_row_count": sum(r.count for r in rows),
    }
    if warned := sum(r.warning is not None for r in rows):
        metadata["videos_with_warnings"] = warned
    shown = [{"video": r.video, "rows": r.count, **r.highlights} for r in rows[:_VIDEOS]]
    names = dict.fromkeys(name for row in shown for name in row)
    text = markdown_table(names, shown)
    if len(rows) > _VIDEOS:
        text += f"\n\nand {len(rows) - _VIDEOS} more"
    return metadata | {"by_video": dg.MetadataValue.md(text)}
