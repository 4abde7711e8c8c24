"""The tables of the lake: their names, columns and order. What a row is, each says in a line.

Results tables come from the table of operations; ``videos`` and ``jobs`` are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rekognition_dagster.operations import OPERATIONS

_TIME = pa.timestamp("ms", "UTC")


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        name: Its name, and its folder's.
        row: What one row is.
        schema: Its columns, without the ``date`` that the folder gives.
        sort_columns: Each file's order.
    """

    name: str
    row: str
    schema: pa.Schema
    sort_columns: tuple[str, ...] = ()


VIDEOS = Table(
    "videos",
    "a video",
    pa.schema(
        [
            ("video", pa.string()),
            ("codec", pa.string()),
            ("format", pa.string()),
            ("duration_ms", pa.int64()),
            ("frame_rate", pa.float64()),
            ("width", pa.int64()),
            ("height", pa.int64()),
            ("color_range", pa.string()),
            ("declared_duration_ms", pa.int64()),
            ("frames_analyzed", pa.int64()),
            ("gaps", pa.int64()),
            ("gap_ms", pa.int64()),
            ("lost_share", pa.float64()),
            ("warning", pa.string()),
            ("size", pa.int64()),
            ("etag", pa.string()),
            ("version_id", pa.string()),
            ("last_modified", _TIME),
            ("container_created_at", _TIME),
        ]
    ),
)
JOBS = Table(
    "jobs",
    "a job",
    pa.schema(
        [
            ("operation", pa.string()),
            ("video", pa.string()),
            ("job_id", pa.string()),
            ("token", pa.string()),
            ("status", pa.string()),
            ("status_message", pa.string()),
            ("started_at", _TIME),
            ("completed_at", _TIME),
            ("backend", pa.string()),
            ("software", pa.string()),
            ("version", pa.string()),
            ("rows", pa.int64()),
        ]
    ),
)
TABLES: Mapping[str, Table] = {
    **{o.table: Table(o.table, o.row, o.schema, o.sort_columns) for o in OPERATIONS.values()},
    VIDEOS.name: VIDEOS,
    JOBS.name: JOBS,
}
"""Every table that the pipeline writes, by name; analytics tables come from their SQL."""

ANALYTICS = tuple(sorted(p.stem for p in Path(__file__).parents[1].glob("analytics/*.sql")))
"""Tables of the models that come with the package; others are registered when first written."""
