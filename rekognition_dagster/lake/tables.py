"""The tables of the lake: their names, columns and order. What a row is, each says in a line.

Results tables come from the table of operations; ``videos`` and ``jobs`` are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

_BOX = 'STRUCT("left" DOUBLE, top DOUBLE, width DOUBLE, height DOUBLE)'
_DAY = {
    "people": "BIGINT",
    "person_seconds": "DOUBLE",
    "most": "BIGINT",
    "busiest_at": "TIMESTAMPTZ",
    "arrivals": "BIGINT",
    "visits": "BIGINT",
    "crossings": "BIGINT",
    "encounters": "BIGINT",
    "begun_mid_picture": "BIGINT",
    "interpolated_share": "DOUBLE",
}
ANALYTICS: Mapping[str, Mapping[str, str]] = {
    "activity_by_day": {
        "camera": "VARCHAR",
        "day": "DATE",
        "recorded_s": "DOUBLE",
        **_DAY,
    },
    "activity_by_hour": {
        "camera": "VARCHAR",
        "hour_at": "TIMESTAMPTZ",
        "hour_local": "TIMESTAMP",
        "recorded_s": "DOUBLE",
        **_DAY,
    },
    "activity_by_minute": {
        "video": "VARCHAR",
        "minute": "BIGINT",
        "people": "BIGINT",
        "faces": "BIGINT",
        "camera": "VARCHAR",
        "minute_at": "TIMESTAMPTZ",
    },
    "encounters": {
        "camera": "VARCHAR",
        "video": "VARCHAR",
        "person_a": "BIGINT",
        "person_b": "BIGINT",
        "began_at": "TIMESTAMPTZ",
        "ended_at": "TIMESTAMPTZ",
        "began_local": "TIMESTAMP",
        "began_ms": "BIGINT",
        "ended_ms": "BIGINT",
        "seconds": "DOUBLE",
        "nearest": "DOUBLE",
        "unit": "VARCHAR",
        "interpolated_share": "DOUBLE",
    },
    "heat": {
        "camera": "VARCHAR",
        "day": "DATE",
        "cell_x": "BIGINT",
        "cell_y": "BIGINT",
        "person_seconds": "DOUBLE",
        "flow_x": "DOUBLE",
        "flow_y": "DOUBLE",
        "interpolated_share": "DOUBLE",
    },
    "line_crossings": {
        "camera": "VARCHAR",
        "line": "VARCHAR",
        "direction": "VARCHAR",
        "video": "VARCHAR",
        "person_index": "BIGINT",
        "crossed_at": "TIMESTAMPTZ",
        "crossed_local": "TIMESTAMP",
        "crossed_ms": "BIGINT",
        "speed": "DOUBLE",
        "unit": "VARCHAR",
        "interpolated_share": "DOUBLE",
    },
    "occupancy": {
        "camera": "VARCHAR",
        "zone": "VARCHAR",
        "period_minutes": "BIGINT",
        "starts_at": "TIMESTAMPTZ",
        "starts_local": "TIMESTAMP",
        "recorded_s": "DOUBLE",
        "people": "BIGINT",
        "person_seconds": "DOUBLE",
        "mean": "DOUBLE",
        "most": "BIGINT",
        "arrivals": "BIGINT",
        "begun_mid_picture": "BIGINT",
        "joined": "BIGINT",
        "interpolated_share": "DOUBLE",
    },
    "person_paths": {
        "video": "VARCHAR",
        "person_index": "BIGINT",
        "first_seen_ms": "BIGINT",
        "last_seen_ms": "BIGINT",
        "dwell_ms": "BIGINT",
        "detections": "BIGINT",
        "path_length": "DOUBLE",
        "mean_bounding_box": _BOX,
        "camera": "VARCHAR",
        "first_seen_at": "TIMESTAMPTZ",
        "last_seen_at": "TIMESTAMPTZ",
        "first_seen_local": "TIMESTAMP",
        "last_seen_local": "TIMESTAMP",
    },
    "video_summary": {
        "video": "VARCHAR",
        "duration_ms": "BIGINT",
        "people": "BIGINT",
        "person_detections": "BIGINT",
        "face_detections": "BIGINT",
        "most_faces_at_once": "BIGINT",
        "busiest_ms": "BIGINT",
        "most_people_at_once": "BIGINT",
        "camera": "VARCHAR",
        "recorded_at": "TIMESTAMPTZ",
        "recorded_local": "TIMESTAMP",
        "busiest_at": "TIMESTAMPTZ",
    },
    "zone_visits": {
        "camera": "VARCHAR",
        "zone": "VARCHAR",
        "video": "VARCHAR",
        "person_index": "BIGINT",
        "entered_at": "TIMESTAMPTZ",
        "left_at": "TIMESTAMPTZ",
        "entered_local": "TIMESTAMP",
        "left_local": "TIMESTAMP",
        "entered_ms": "BIGINT",
        "left_ms": "BIGINT",
        "dwell_s": "DOUBLE",
        "stood_still_s": "DOUBLE",
        "distance": "DOUBLE",
        "speed": "DOUBLE",
        "unit": "VARCHAR",
        "inside_at_start": "BOOLEAN",
        "inside_at_end": "BOOLEAN",
        "interpolated_share": "DOUBLE",
    },
}
"""Columns of the models that come with the package, and their SQL types: files of an older form
may lack some. Tables of other models are registered when they are first written."""
