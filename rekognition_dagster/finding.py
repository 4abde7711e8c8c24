"""Find the moment: the SQL that answers who was where and when, from a few choices.

Its tables are pruned by day and by video, so that one camera's day in a large lake takes a second.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake.macros import paths_of, people_select
from rekognition_dagster.lake.names import literal

if TYPE_CHECKING:
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.lake.views import LakeConnection

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NEAR_MS = 1000
"""A face or a label counts that was seen so long before or after."""
_PEOPLE = "person_detections"
_FIRST, _LAST = date(1970, 1, 1), date(2200, 1, 1)


@dataclass(frozen=True)
class Moments:
    """What is looked for. Times are by the camera's clock; names may have ``*``.

    Args:
        camera: The camera.
        since: The first day.
        until: The last day.
        weekday: ``monday`` to ``sunday``.
        between: Seconds of the day, from and until, 86400 at most; past midnight where the first
            is later.
        zone: Who was in this zone.
        line: Who crossed this line.
        crossed: In this direction.
        label: Where this label was seen; of people, while they were there.
        with_face: Only people whose face was seen meanwhile.
        limit: So many at most, the first ones.
    """

    camera: str = "*"
    since: date | None = None
    until: date | None = None
    weekday: str | None = None
    between: tuple[int, int] | None = None
    zone: str | None = None
    line: str | None = None
    crossed: str | None = None
    label: str | None = None
    with_face: bool = False
    limit: int = 1000


@dataclass(frozen=True)
class Found:
    """A moment that was found.

    Args:
        camera: The camera, if it is known.
        video: The video's URI.
        person: The number of the person, if it is about one.
        from_local: When it began, by the camera's clock, if that is known.
        from_ms: Milliseconds since the start of the video.
        until_ms: When it ended.
        place: Zone, line with direction, or label.
    """

    camera: str | None
    video: str
    person: int | None
    from_local: datetime | None
    from_ms: int
    until_ms: int
    place: str | None


def collect_moments(lake: Lake, connection: LakeConnection, what: Moments) -> tuple[str, bool]:
    """Find moments, as people read them, and keep them for the connection.

    Returns:
        The statement that answers with them, in the order of time, and whether there are more than
        the limit.

    Raises:
        ConfigurationError: The lake lacks the table that answers, or has no such camera, zone, ...
        duckdb.Error: A file of the lake is damaged, and it is not enough to leave it out.
    """
    import duckdb

    one_more = replace(what, limit=what.limit + 1)
    sql = f"CREATE OR REPLACE TEMP TABLE _moments AS {find_sql(lake, connection, one_more)}"
    try:
        connection.execute(sql)
    except duckdb.Error:
        if not connection.leave_out_damaged(sql):
            raise
        connection.execute(sql)
    ((count,),) = connection.execute("SELECT count(*) FROM _moments").fetchall()
    return f"FROM _moments ORDER BY rowid LIMIT {what.limit}", count > what.limit


def find_sql(lake: Lake, connection: LakeConnection, what: Moments) -> str:
    """The statement that finds moments, as people read them, in the order of time.

    Raises:
        ConfigurationError: The lake lacks the table that answers, or has no such camera, zone, ...
    """
    return (
        "SELECT camera, from_local, until_local, person, place, video, "
        "CASE WHEN from_ms >= 3600000 THEN (from_ms // 3600000)::VARCHAR || ':' ELSE '' END "
        f"|| strftime(make_timestamp_ms(from_ms), '%M:%S') AS at {_found(lake, connection, what)}"
    )


def find_moments(lake: Lake, connection: LakeConnection, what: Moments) -> list[Found]:
    """Find moments, in the order of time.

    Raises:
        ConfigurationError: The lake lacks the table that answers, or has no such camera, zone, ...
        duckdb.Error: A file of the lake is damaged.
    """
    columns = ", ".join(f.name for f in fields(Found))
    sql = f"SELECT {columns} {_found(lake, connection, what)}"
    return [Found(*row) for row in connection.execute(sql).fetchall()]


def _found(lake: Lake, connection: LakeConnection, what: Moments) -> str:
    """What follows the columns of a statement that finds moments.

    Args:
        lake: The lake.
        connection: To the lake, for what is to be known beforehand.
        what: What is looked for.

    Raises:
        ConfigurationError: The lake lacks the table that answers, or has no such camera, zone, ...
    """
    by_line = what.line is not None or what.crossed is not None
    tables = ["zone_visits"] * (what.zone is not None) + ["line_crossings"] * by_line
    if not tables:
        tables = ["label_detections"] if what.label and not what.with_face else [_PEOPLE]
    _check(lake, connection, what, tables)
    since = datetime.combine(what.since or _FIRST, time())
    until = datetime.combine((what.until or _LAST) + timedelta(1), time())
    times = f"TIMESTAMP '{since}'", f"TIMESTAMP '{until}'"
    camera, window = literal(what.camera), ", ".join(times)
    zone, line, label = (literal(name or "*") for name in (what.zone, what.line, what.label))
    sources = {
        "zone_visits": f"visits_between({camera}, {zone}, {window})",
        "line_crossings": f"crossings_between({camera}, {line}, {window})",
        "label_detections": f"labels_between({camera}, {label}, {window})",
    }
    columns = {
        "person_detections": "NULL::VARCHAR AS place",
        "zone_visits": "zone AS place",
        "line_crossings": "line || ' ' || direction AS place",
        "label_detections": "label AS place",
    }
    first = tables[-1]
    if first == _PEOPLE:
        sources[_PEOPLE] = _people(lake, connection, camera, times)
    person = "person_index" if first != "label_detections" else "NULL::BIGINT AS person_index"
    conditions = ["true", *_clock(what)]
    if what.crossed is not None:
        conditions.append(f"direction GLOB {literal(what.crossed)}")
    if len(tables) == 2:  # the visit of one who also crossed, within a minute of it
        conditions.append(
            f"EXISTS (FROM {sources['zone_visits']} AS v WHERE v.video = c.video "
            "AND v.person_index = c.person_index "
            "AND c.from_ms BETWEEN v.from_ms - 60000 AND v.until_ms + 60000)"
        )
    found = (
        f"SELECT camera, video, {person}, from_local, until_local, from_ms, until_ms, "
        f"{columns[first]} FROM {sources[first]} AS c WHERE {' AND '.join(conditions)}"
    )
    wants = []
    if what.with_face:
        wants.append(
            "EXISTS (SELECT 1 FROM person_detections AS d WHERE d.video IN ({videos}) "
            "AND d.video = f.video AND d.person_index = f.person_index AND d.face IS NOT NULL "
            f"AND d.timestamp_ms BETWEEN f.from_ms - {_NEAR_MS} AND f.until_ms + {_NEAR_MS})"
        )
    if what.label is not None and first != "label_detections":
        wants.append(
            "EXISTS (SELECT 1 FROM label_detections AS d WHERE d.video IN ({videos}) "
            f"AND d.video = f.video AND lower(d.name) GLOB lower({literal(what.label)}) "
            f"AND d.timestamp_ms BETWEEN f.from_ms - {_NEAR_MS} AND f.until_ms + {_NEAR_MS})"
        )
    if wants:
        # literals let DuckDB leave out the row groups of other videos
        rows = connection.execute(f"SELECT DISTINCT video FROM ({found})").fetchall()
        videos = ", ".join(literal(uri) for (uri,) in rows) or "''"
        found = f"SELECT * FROM ({found}) AS f WHERE " + " AND ".join(wants).format(videos=videos)
    return (
        f"FROM (SELECT *, person_index AS person FROM ({found})) "
        f"ORDER BY from_local, camera, video, person LIMIT {what.limit}"
    )


def _people(lake: Lake, connection: LakeConnection, camera: str, times: tuple[str, str]) -> str:
    """People from ``person_paths``, and from the detections of videos that it lacks."""
    has_paths = "person_paths" in lake.tables()
    since, until = times
    rows = connection.execute(
        f"SELECT v.video FROM videos AS v WHERE coalesce(v.camera, '') GLOB {camera} "
        f"AND v.recorded_local < {until} AND timezone(v.timezone, "
        f"v.recorded_at + to_milliseconds(coalesce(v.duration_ms, 86400000))) >= {since}"
        + (" AND NOT EXISTS (FROM person_paths AS p WHERE p.video = v.video)" * has_paths)
    ).fetchall()
    pieces = [f"FROM people_between({camera}, {since}, {until})"] if has_paths else []
    if rows or not has_paths:
        videos = ", ".join(literal(uri) for (uri,) in rows) or "''"
        pieces.append(people_select(paths_of(f"video IN ({videos})"), camera, since, until))
    return f"({' UNION ALL BY NAME '.join(pieces)})"


def _clock(what: Moments) -> list[str]:
    """Conditions on the time of day and the day of the week."""
    found: list[str] = []
    if what.weekday:
        found.append(f"isodow(from_local) = {_DAYS.index(what.weekday) + 1}")
    if what.between:
        first, last = what.between
        length = (last - first) % 86400 or 86400
        # of the day on which it began, of the one before and of the next
        opens = [f"(from_local::DATE + to_seconds({first + n * 86400}))" for n in (-1, 0, 1)]
        parts = [f"(from_local < {o} + to_seconds({length}) AND until_local >= {o})" for o in opens]
        found.append(f"({' OR '.join(parts)})")
    return found


def _check(lake: Lake, connection: LakeConnection, what: Moments, tables: list[str]) -> None:
    """Refuse names that nothing in the lake has.

    Raises:
        ConfigurationError: The lake has no such camera, zone, line, direction or table.
    """
    there = lake.tables()
    for table in tables:
        if table not in there:
            raise ConfigurationError(
                f"{lake.url} has no table {table}: run `rekognition-dagster refresh`"
            )
    asked = [
        ("videos", "camera", "camera", what.camera),
        ("zone_visits", "zone", "zone", what.zone),
        ("line_crossings", "line", "line", what.line),
        ("line_crossings", "direction", "direction", what.crossed),
        ("label_detections", "name", "label", what.label),
    ]
    for table, column, kind, name in asked:
        if name is None or set(name) & _WILD:
            continue
        same = "lower({0}) = lower(?)" if kind == "label" else "{0} = ?"
        # the table that is read in any case comes first
        own = [tables[-1]] if kind == "camera" and tables[-1] in _WITH_CAMERA else []
        query = f"SELECT 1 FROM {{}} WHERE {same.format(column)} LIMIT 1"
        if any(connection.execute(query.format(t), [name]).fetchone() for t in [*own, table]):
            continue
        for other_table, other in _OTHER.get(kind, ()):
            query = f"SELECT 1 FROM {other_table} WHERE {other} = ? LIMIT 1"
            if other_table in there and connection.execute(query, [name]).fetchone():
                raise ConfigurationError(f"{name} is a {other}, not a {kind}: --{other} {name}")
        rows = connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
        names = _nearest(name, [str(n) for (n,) in rows if n is not None])
        if not names and (kind not in _NONE or _has_jobs(connection, kind)):
            continue  # no visit, or no crossing, in the whole lake
        hint = ", ".join(names) or _NONE[kind]
        raise ConfigurationError(f"there is no {kind} {name} in {lake.url}; there are {hint}")


_SHOWN = 20
_OTHER = {
    "zone": [("line_crossings", "line")],
    "line": [("zone_visits", "zone"), ("occupancy", "zone")],
}
"""Where a name is that is not of the kind that was asked for."""
_WITH_CAMERA = ("zone_visits", "line_crossings")
_WILD = frozenset("*?[")
_NONE = {
    "camera": "none; set REKOGNITION_DAGSTER_CAMERA_PATTERN and run refresh",
    "label": "none; analyze videos with --operation label-detection",
}


def _nearest(name: str, names: list[str]) -> list[str]:
    """Names in order; of too many those that are most like ``name``."""
    nearest = difflib.get_close_matches(name, names, _SHOWN, 0.0) if len(names) > _SHOWN else names
    return sorted(nearest)


def _has_jobs(connection: LakeConnection, kind: str) -> bool:
    """Whether a job looked for labels in some video."""
    query = "SELECT 1 FROM jobs WHERE operation = 'label_detection' LIMIT 1"
    return kind == "label" and connection.execute(query).fetchone() is not None
