"""Highlights: what a video's rows say, as numbers, first rows and a drawing of paths.

Numbers go to the state, so that every report has them. Rows and drawings are shown once, by the
report that follows. All of it is text; no picture of a video is in it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa

from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import BOUNDING_BOX as API_BOX
from rekognition_dagster.operations import PERSON_TRACKING, Operation, lake_type
from rekognition_dagster.orchestration.checks import find_offenders
from rekognition_dagster.videos import Video

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ROWS, _COLUMNS, _CHARACTERS = 5, 8, 60  # of a table of first rows
_PEOPLE, _POINTS = 24, 12  # of a drawing: more could not be told apart
_DETAILS = ((24, 12), (24, 6), (16, 8), (16, 5), (12, 6), (10, 5), (8, 4), (6, 3), (4, 2))
"""People and points of a drawing, the first that fits."""
_SHOWN_AT_ONCE = 1000  # characters of Markdown
_WIDTH, _TALL = 160, 90
_COLOURS = ("#e33", "#38e", "#2a4", "#d5d", "#f80", "#0aa", "#a72", "#86f")
_SAFE = " '/:=,.;()-"  # of a data URL in Markdown's <>
_BOX = lake_type(API_BOX)


@dataclass(frozen=True)
class Examined:
    """What the rows of a video say.

    Args:
        checks: How many rows break each rule.
        highlights: Numbers and short texts, by name.
        detail: Markdown, by name.
    """

    checks: Mapping[str, int]
    highlights: Mapping[str, Any]
    detail: Mapping[str, str] = field(default_factory=dict)


def examine(lake: Lake, operation: Operation, videos: Sequence[Video]) -> dict[str, Examined]:
    """Examine rows that were just written, of all videos together; by partition key."""
    if not videos:
        return {}
    with lake.connect(tables=(operation.table, "videos"), videos=videos) as connection:
        offenders = find_offenders(connection, operation, videos)
        numbers = _numbers(connection, operation)
        first = _first_rows(connection, operation)
        drawings = _drawings(connection) if operation is PERSON_TRACKING else {}
    found: dict[str, Examined] = {}
    for video in videos:
        detail = {"first_rows": first.get(video.uri, ""), "paths": drawings.get(video.uri, "")}
        found[video.partition_key] = Examined(
            offenders[video.partition_key],
            numbers.get(video.uri, {}),
            {name: text for name, text in detail.items() if text},
        )
    return found


def _numbers(connection: DuckDBPyConnection, operation: Operation) -> dict[str, dict[str, Any]]:
    if operation.highlights is None:
        return {}
    rows = connection.execute(operation.highlights)
    names = [d[0] for d in rows.description or []][1:]
    return {
        uri: {n: _plain(v) for n, v in zip(names, values, strict=True) if v is not None}
        for uri, *values in rows.fetchall()
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else float(value)


# -- rows -----------------------------------------------------------------------------------------


def _first_rows(connection: DuckDBPyConnection, operation: Operation) -> dict[str, str]:
    """The first rows of each video, in the order of its file, as a Markdown table."""
    columns = [c.name for c in operation.columns]
    packed = ", ".join(
        f"'{c.name}': {_short(c.name, lake_type(c.type))}" for c in operation.columns
    )
    order = ", ".join(operation.sort_columns)
    rows = connection.execute(
        f"SELECT video, min_by({{{packed}}}, ({order}), {_ROWS}) "
        f"FROM {operation.table} GROUP BY video"
    )
    return {uri: markdown_table(columns, some) for uri, some in rows.fetchall()}


def _short(column: str, type_: pa.DataType) -> str:
    """SQL for a cell of a table: names, how many there are, a box, or whether it is there."""
    if pa.types.is_list(type_):
        names = pa.types.is_string(type_.value_type)
        return f"array_to_string({column}, ', ')" if names else f"len({column})"
    if pa.types.is_struct(type_) and type_ != _BOX:
        box = any(f.name == "bounding_box" for f in type_)
        return f"{column}.bounding_box" if box else f"{column} IS NOT NULL"
    return column


def table_of(rows: pa.Table) -> str:
    """The first rows of a table of analytics, as a Markdown table."""
    columns = [f.name for f in rows.schema if f.name not in ("video", "job_id")]
    return markdown_table(columns, rows.select(columns).slice(0, _ROWS).to_pylist())


def markdown_table(columns: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of rows, without columns that are empty in all of them."""
    used = [c for c in columns if any(r.get(c) is not None for r in rows)][:_COLUMNS]
    if not used:
        return ""
    lines = [used, ["---"] * len(used), *([_cell(c, r.get(c)) for c in used] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(column: str, value: Any) -> str:
    match value:
        case None:
            text = ""
        case bool():
            text = "yes" if value else "no"
        case float():
            text = f"{value:.4g}"
        case {"left": left, "top": top, "width": width, "height": height}:
            text = f"{width:.0%} × {height:.0%} at {left:.0%}, {top:.0%}"
        case int() if column.endswith("_ms"):
            text = clock(value)
        case _:
            text = str(value)
    text = text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
    # Names come from strangers' videos and models: nothing in them is Markdown.
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def clock(milliseconds: int) -> str:
    """``1:02:03.4``: a time in a video for people."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{seconds:02}.{rest // 100}"


# -- drawings -------------------------------------------------------------------------------------

# The middle of a person's box, four times a second, of which some are taken.
_PATHS = f"""
WITH points AS (
    SELECT video, person_index AS person, timestamp_ms // 250 AS quarter,
        avg(bounding_box.left + bounding_box.width / 2) AS x,
        avg(bounding_box.top + bounding_box.height / 2) AS y
    FROM person_detections GROUP BY ALL
),
paths AS (
    SELECT video, person, count(*) AS length, list([x, y] ORDER BY quarter) AS points
    FROM points GROUP BY video, person
),
longest AS (
    SELECT * FROM paths
    QUALIFY row_number() OVER (PARTITION BY video ORDER BY length DESC, person) <= {_PEOPLE}
)
SELECT v.video, any_value(v.height / nullif(v.width, 0)) AS aspect,
    list([
        points[1 + (i * (length - 1)) // {_POINTS - 1}] FOR i IN range({_POINTS})
        IF i < length
    ] ORDER BY length DESC, person) AS paths
FROM longest JOIN videos v USING (video) GROUP BY v.video
"""


def _drawings(connection: DuckDBPyConnection) -> dict[str, str]:
    """The paths of each video's people, as an image in Markdown."""
    rows = connection.execute(_PATHS).fetchall()
    return {uri: draw_paths(paths, aspect or _TALL / _WIDTH) for uri, aspect, paths in rows}


def draw_paths(paths: Sequence[Sequence[Sequence[float]]], aspect: float) -> str:
    """Draw paths as an SVG image in Markdown; a dot is where a person was seen last.

    Dagster's UI shows Markdown of less than 1,000 characters at once, and more behind a link, so
    there are as many people and points as fit.

    Args:
        paths: Points of each person, in ratios of the frame; those who stayed longest first.
        aspect: Height of the frame by its width.
    """
    height = round(_WIDTH * min(aspect, 2.0))
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='320' "
        f"fill='none'><path stroke='#888' d='M0 0h{_WIDTH}v{height}H0z'/>"
    )
    text = ""
    for people, points in _DETAILS:
        drawn = [_thinned(path, points) for path in paths[:people]]
        placed = [[(round(x * _WIDTH), round(y * height)) for x, y in path] for path in drawn]
        lines = [
            f"<path stroke='{_COLOURS[n % len(_COLOURS)]}' d='{_moves(path)}'/>"
            for n, path in enumerate(placed)
        ]
        ends = "".join(f"M{path[-1][0]} {path[-1][1]}h1" for path in placed)
        dots = f"<path stroke='#888' stroke-width='3' d='{ends}'/>"
        svg = f"{head}{''.join(lines)}{dots}</svg>"
        text = f"![paths](<data:image/svg+xml,{quote(svg, safe=_SAFE)}>)"
        if len(text) < _SHOWN_AT_ONCE:
            break
    return text


def _thinned(path: Sequence[Sequence[float]], most: int) -> list[Sequence[float]]:
    """At most so many points of a path, with its first and last."""
    if len(path) <= most:
        return list(path)
    return [path[i * (len(path) - 1) // (most - 1)] for i in range(most)]


def _moves(points: Sequence[tuple[int, int]]) -> str:
    """A path's ``d``: where it begins, and the steps from there."""
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(points)]
    return f"M{points[0][0]} {points[0][1]}" + "".join(f"l{x} {y}" for x, y in steps)


def dump(detail: Mapping[str, Any]) -> str | None:
    """A detail as the outbox keeps it."""
    return json.dumps(detail, ensure_ascii=False) if detail else None
