"""Row counts, schemas and links to files, under the names that Dagster's UI has places for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from rekognition_dagster.lake import Lake


def column_schema(
    schema: pa.Schema, descriptions: Mapping[str, str] | None = None
) -> dg.TableSchema:
    """An Arrow schema as Dagster's UI shows one."""
    told = descriptions or {}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(f.name, _type_name(f.type), description=told.get(f.name)) for f in schema
        ]
    )


def _type_name(type_: pa.DataType) -> str:
    name = str(type_)
    return name if len(name) < 80 else name.split("<", maxsplit=1)[0]


def file_metadata(lake: Lake, path: str, rows: int) -> dict[str, Any]:
    """What a materialized partition says of its file; ``path`` is relative to the lake."""
    uri = lake.storage.uri(path)
    return {
        "dagster/partition_row_count": rows,
        "dagster/uri": uri if not lake.storage.is_local else Path(uri).as_uri(),
        "path": path,
        "file": dg.MetadataValue.path(uri) if lake.storage.is_local else dg.MetadataValue.url(uri),
    }
