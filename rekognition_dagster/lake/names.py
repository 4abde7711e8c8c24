"""Which files of a lake are its own, by their names. Everything else in a lake's root is ignored.

``{table}/date=YYYY-MM-DD/{video id}.parquet`` holds the rows of one video, ``jobs`` has a file per
video and operation, ``compacted.*.parquet`` holds the rows of many videos, and ``day.parquet``
those of a day, of a table that is computed by day.
"""

from __future__ import annotations

import re

from rekognition_dagster.lake.tables import JOBS

REGISTRY = ".tables"
"""Folder of the registered tables: an empty Parquet file each, which has the table's columns."""
PART = "compacted."
"""How the name of a compacted file begins."""
DAY = "day.parquet"
"""The file of a day's rows, of all cameras."""

_DIGIT = "[0-9]"
_HASH = "[0-9a-f]" * 16
_DATE = f"date={_DIGIT * 4}-{_DIGIT * 2}-{_DIGIT * 2}"
_VIDEO = re.compile(rf"([A-Za-z0-9-]+-)?{_HASH}\.parquet")
_JOB = re.compile(rf"([A-Za-z0-9-]+-)?{_HASH}\.\w+\.parquet")
_COMPACTED = re.compile(r"compacted\.[0-9a-f]{12}\.\d+\.parquet")


def is_small(path: str) -> bool:
    """Whether a path is that of a single video's file."""
    table, day, name = _split(path)
    if table is None or not re.fullmatch(_DATE, day):
        return False
    return (_JOB if table == JOBS.name else _VIDEO).fullmatch(name) is not None


def is_compacted(path: str) -> bool:
    """Whether a path is that of a published compacted file."""
    table, day, name = _split(path)
    return table is not None and bool(re.fullmatch(_DATE, day) and _COMPACTED.fullmatch(name))


def is_own(path: str) -> bool:
    """Whether a path is that of a file with rows of the lake."""
    return is_small(path) or is_compacted(path) or is_day(path)


def is_day(path: str) -> bool:
    """Whether a path is that of the rows of a day."""
    table, day, name = _split(path)
    return table is not None and name == DAY and re.fullmatch(_DATE, day) is not None


def schema_path(table: str) -> str:
    """The file that registers a table which is not one of the pipeline's own."""
    return f"{REGISTRY}/{table}.parquet"


def patterns(table: str) -> tuple[str, str, str]:
    """Glob patterns of a table's small files, of its compacted files, and of those of its days.

    Each matches all such files, and few others; see :func:`is_own`.
    """
    suffix = ".*.parquet" if table == JOBS.name else ".parquet"
    return (
        f"{table}/{_DATE}/*{_HASH}{suffix}",
        f"{table}/{_DATE}/{PART}*.parquet",
        f"{table}/{_DATE}/{DAY}",
    )


def escaped(path: str) -> str:
    """A path as a glob pattern that matches this path only."""
    return re.sub(r"[][?*]", lambda special: f"[{special[0]}]", path)


def _split(path: str) -> tuple[str | None, str, str]:
    pieces = path.split("/")
    return (pieces[0], pieces[1], pieces[2]) if len(pieces) == 3 else (None, "", "")


def literal(text: str) -> str:
    """Return a text as a literal of SQL, for where DuckDB takes no parameter or prunes by none."""
    return "'" + text.replace("'", "''") + "'"
