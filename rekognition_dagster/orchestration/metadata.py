"""Row counts, schemas and links to files, under the names that Dagster's UI has places for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from rekognition_dagster.lake import Lake


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """An Arrow schema as Dagster's UI shows one."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                f.name, str(f.type) if len(str(f.type)) < 80 else str(f.type).split("<")[0]
            )
            for f in schema
        ]
    )


def file_metadata(lake: Lake, path: str, rows: int) -> dict[str, Any]:
    """What a materialized partition says of its file; ``path`` is relative to the lake."""
    uri = lake.storage.uri(path)
    return {
        "dagster/partition_row_count": rows,
        "dagster/uri": uri if not lake.storage.is_local else Path(uri).as_uri(),
        "path": path,
        "file": dg.MetadataValue.path(uri) if lake.storage.is_local else dg.MetadataValue.url(uri),
    }
