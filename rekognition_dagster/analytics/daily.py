"""Models per day: rows of a camera and a day of its clock, computed from the videos that touch it.

A unit is a camera's day. It is computed again when one of its videos has other results, another
time, or another neighbour, when zones of its camera change, or when the model's text does: each
part of a file says in its footer what it was computed from. A model per day sees the videos of
whole units, and beside the tables of the results these:

- ``recordings``: a row a video with camera, start and time zone, numbered;
- ``zone_shapes``, ``zone_edges``, ``line_shapes``, ``line_edges``, ``grounds``: zones.yaml as it
  holds at the start of each recording; ``shapes`` and ``edges`` have zones and lines;
- ``positions``, ``walks``, ``halves``, ``samples``, ``borders``, ``minutes``, ``presence``: see
  ``movement/*.sql``; ``zone_borders`` and ``line_borders`` have those of zones, and of lines;
- other models per day.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from graphlib import TopologicalSorter
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rekognition_dagster.analytics import AnalyticsModel, SqlModel, create_table, load_models
from rekognition_dagster.analytics.zones import Zones, tables_of
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.lake.lake import DayPart
from rekognition_dagster.lake.names import literal
from rekognition_dagster.videos import Video

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from rekognition_dagster.lake.views import LakeConnection

Unit = tuple[str | None, date]
"""A camera, and a day by its clock."""
MOVEMENT = Path(__file__).parent / "movement"
"""The tables between the results and the models per day."""
_CHUNK_ROWS = 2_000_000
"""Detections that are in memory at a time, about."""
_MEMORY = "600MB"
_KINDS = ("zone", "line")
_RULES: Mapping[str, Collection[str]] = {
    **{f"{kind}_{table}": (kind,) for kind in _KINDS for table in ("shapes", "edges")},
    "shapes": _KINDS,
    "edges": _KINDS,
    "grounds": ("ground",),
}
"""Tables of zones.yaml, and what of it changes them."""
_GIVEN = ("recordings", *_RULES)
_DIGITS = 16
_SHOWN = 5  # rows of a day, to be looked at


@dataclass(frozen=True)
class Recording:
    """A video whose people were tracked, and when it was taken.

    Args:
        video: The video.
        camera: Its camera.
        timezone: Of the camera's clock.
        recorded_at: Its first frame, in UTC.
        recorded_local: The same by the camera's clock.
        duration_ms: Its length, if known.
        counts_from_ms: From when on it shows what no earlier file of the camera does.
        aspect: Width by height of its picture.
        days: The days of the camera's clock that it touches.
        rows: Its detections of people.
        digest: Changes when any of this changes, or its results.
    """

    video: Video
    camera: str | None
    timezone: str
    recorded_at: datetime
    recorded_local: datetime
    duration_ms: int | None
    counts_from_ms: int
    aspect: float
    days: tuple[date, ...]
    rows: int
    digest: str


def recordings_of(lake: Lake, videos: Sequence[Video] | None = None) -> list[Recording]:
    """The videos of a lake whose people were tracked and whose time of recording is known.

    Args:
        lake: The lake.
        videos: Only these, as if there were no others; all of them by default.
    """
    with lake.connect(["videos", "jobs"], videos) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        answer = connection.execute(_RECORDINGS)
        names = [column[0] for column in answer.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    found: list[Recording] = []
    for row in rows:
        video = Video.from_uri(
            row["video"],
            etag=row["etag"],
            version_id=row["version_id"],
            size=row["size"],
            last_modified=row["last_modified"],
        )
        first, last = row["first_day"], row["last_day"]
        days = tuple(first + timedelta(n) for n in range((last - first).days + 1))
        facts = {name: row[name] for name in _FACTS}
        text = repr([row["video"], row["job_id"], row["completed_at"], *facts.values()])
        digest = _short(text)
        found.append(Recording(video=video, days=days, rows=row["rows"], digest=digest, **facts))
    return found


_FACTS = (
    "camera",
    "timezone",
    "recorded_at",
    "recorded_local",
    "duration_ms",
    "counts_from_ms",
    "aspect",
)
_RECORDINGS = """
WITH tracked AS (
    SELECT
        video,
        max(job_id) AS job_id,
        max(completed_at) AS completed_at,
        max(coalesce("rows", 0)) AS "rows"
    FROM jobs
    WHERE operation = 'person_tracking' AND (status = 'SUCCEEDED' OR "rows" > 0)
    GROUP BY video
),
placed AS (
    SELECT
        v.*,
        t.job_id,
        t.completed_at,
        t.rows,
        epoch_ms(v.recorded_at) AS start_ms,
        max(epoch_ms(v.recorded_at) + coalesce(v.duration_ms, 0)) OVER (
            PARTITION BY v.camera, v.recorded_at_source = 'modified'
            ORDER BY v.recorded_at, v.video
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS earlier_until_ms
    FROM videos AS v
    JOIN tracked AS t ON t.video = v.video
    WHERE v.recorded_at IS NOT NULL
)
SELECT
    *,
    -- the time of the last change does not say whether two files overlap
    CASE
        WHEN camera IS NULL OR recorded_at_source = 'modified' THEN 0
        ELSE greatest(0, coalesce(earlier_until_ms, 0) - start_ms)
    END::BIGINT AS counts_from_ms,
    coalesce(width / nullif(height, 0), 1) AS aspect,
    recorded_local::DATE AS first_day,
    timezone(
        timezone, recorded_at + to_milliseconds(greatest(coalesce(duration_ms, 0), 0))
    )::DATE AS last_day
FROM placed
ORDER BY start_ms, video
"""


@dataclass(frozen=True)
class Stale:
    """Units whose rows of some models are to be computed.

    Args:
        digests: By model and unit: what the new rows are computed from; empty where the unit has no
            recordings any more.
    """

    digests: dict[str, dict[Unit, str]]

    @property
    def units(self) -> set[Unit]:
        """All units."""
        return {unit for units in self.digests.values() for unit in units}

    @property
    def days(self) -> list[date]:
        """Their days, in order."""
        return sorted({day for _, day in self.units})


def daily_models(models: Iterable[AnalyticsModel]) -> list[AnalyticsModel]:
    """The models per day, each after those that it reads."""
    return [m for m, _ in _ordered(models) if m.day_column is not None]


def find_stale(
    lake: Lake,
    models: Sequence[AnalyticsModel],
    zones: Zones,
    *,
    recordings: Sequence[Recording] | None = None,
    since: date | None = None,
    until: date | None = None,
    rules_since: date | None = None,
    days: Collection[date] | None = None,
    every: bool = False,
) -> Stale:
    """Find the units whose rows are not those of the lake's videos, the zones and the models.

    Args:
        lake: The lake.
        models: Models; those per day count.
        zones: The zones.
        recordings: Those of the lake, if they were read before.
        since: The first day of interest.
        until: The last.
        rules_since: Of days before this one, only those whose videos or results changed; not those
            where only zones or models did.
        days: Only these days.
        every: Return units of these days that are up to date, too.
    """
    recordings = recordings_of(lake) if recordings is None else recordings
    texts: dict[Unit, list[str]] = defaultdict(list)
    for recording in recordings:
        for day in recording.days:
            texts[recording.camera, day].append(recording.digest)
    digest = cache(zones.digest)
    ordered = _ordered(models)
    versions = _versions(ordered)

    def wanted(day: date) -> bool:
        is_late = (since is None or day >= since) and (until is None or day <= until)
        return is_late and (days is None or day in days)

    found: dict[str, dict[Unit, str]] = {}
    for model, _ in ordered:
        if model.day_column is None:
            continue
        there = {
            (camera, day): digest
            for day, cameras in lake.days(model.name).items()
            for camera, digest in cameras.items()
        }
        reads = versions[model.name][1]
        kinds = frozenset(kind for table in reads for kind in _RULES.get(table, ()))
        fresh: dict[Unit, str] = {}
        stale: dict[Unit, str] = {}
        for (camera, day), parts in texts.items():
            if wanted(day):
                rules = [versions[model.name][0], digest(camera, day, kinds)]
                fresh[camera, day] = _short("\n".join(sorted(parts))) + _short("\n".join(rules))
        for unit, wish in fresh.items():
            is_old = rules_since is not None and unit[1] < rules_since
            digits = _DIGITS if is_old else None  # the first are those of the results
            if every or there.get(unit, "")[:digits] != wish[:digits]:
                stale[unit] = wish
        found[model.name] = stale
        found[model.name] |= {u: "" for u in there if u not in texts and wanted(u[1])}
    return Stale({name: units for name, units in found.items() if units})


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _ordered(models: Iterable[AnalyticsModel]) -> list[tuple[AnalyticsModel, list[str]]]:
    """The tables of ``movement`` and the models per day, each after what it reads."""
    daily = (m for m in models if m.day_column is not None)
    ours: dict[str, AnalyticsModel] = {m.name: m for m in (*_movement(), *daily)}
    names = [*ours, *_GIVEN]
    reads = {n: [t for t in m.mentions(names) if t != n] for n, m in ours.items()}
    order = TopologicalSorter({n: [t for t in r if t in ours] for n, r in reads.items()})
    return [(ours[n], reads[n]) for n in order.static_order()]


@cache
def _movement() -> list[SqlModel]:
    """The tables of ``movement``; ``borders`` also of each kind of shape."""
    models = load_models(MOVEMENT)
    borders = next(m for m in models if m.name == "borders")
    by_kind = (
        replace(
            borders, name=f"{kind}_borders", sql=re.sub(r"\bedges\b", f"{kind}_edges", borders.sql)
        )
        for kind in _KINDS
    )
    return [*models, *by_kind]


def _versions(
    ordered: Sequence[tuple[AnalyticsModel, list[str]]],
) -> dict[str, tuple[str, set[str]]]:
    """By model: a text that changes when it or what it reads changes, and all that it reads."""
    found: dict[str, tuple[str, set[str]]] = {name: ("", {name}) for name in _GIVEN}
    for model, reads in ordered:
        texts = [model.code_version, *(found[r][0] for r in sorted(reads))]
        found[model.name] = (
            _short("\n".join(texts)),
            {model.name}.union(*(found[r][1] for r in reads)),
        )
    return found


@dataclass(frozen=True)
class Computed:
    """Rows of a model and a day that were written.

    Args:
        model: The model.
        day: The day.
        cameras: Whose rows were written.
        rows: How many.
        schema: Their columns.
        path: The file, which has the rows of all cameras.
        first_rows: The first of the written ones.
    """

    model: AnalyticsModel
    day: date
    cameras: tuple[str | None, ...]
    rows: int
    schema: pa.Schema
    path: str
    first_rows: Sequence[Mapping[str, Any]]


def compute_stale(
    lake: Lake,
    models: Sequence[AnalyticsModel],
    zones: Zones,
    stale: Stale,
    *,
    recordings: Sequence[Recording] | None = None,
) -> Iterator[Computed]:
    """Compute units and write them, day by day.

    Yields:
        Each model and day that was written.

    Raises:
        ConfigurationError: A model's SQL is wrong, or it has no column ``camera``, or not the one
            that says the day.
        LakeError: The lake cannot be read or written.
    """
    if not stale.units:
        return
    recordings = recordings_of(lake) if recordings is None else recordings
    by_unit: dict[Unit, list[Recording]] = defaultdict(list)
    for recording in recordings:
        for day in recording.days:
            by_unit[recording.camera, day].append(recording)
    lake.store_cameras()
    ordered = _needed(_ordered(models), set(stale.digests))
    pending: dict[date, dict[str, dict[str | None, DayPart]]] = defaultdict(dict)
    units = sorted(stale.units, key=lambda u: (u[1], u[0] or ""))
    last_of = {day: n for n, (_, day) in enumerate(units)}
    done = 0
    for chunk in _chunks(units, by_unit):
        for name, unit, rows in _compute(lake, ordered, zones, stale, chunk, by_unit):
            part = DayPart(rows, stale.digests[name][unit])
            pending[unit[1]].setdefault(name, {})[unit[0]] = part
        done += len(chunk)
        for day in [d for d in pending if last_of[d] < done]:
            for name, parts in pending.pop(day).items():
                path = lake.write_day(name, day, parts)
                model = next(m for m, _ in ordered if m.name == name)
                tables = [p.rows for p in parts.values()]
                first = [row for t in tables for row in t.slice(0, _SHOWN).to_pylist()][:_SHOWN]
                count = sum(t.num_rows for t in tables)
                yield Computed(model, day, tuple(parts), count, tables[0].schema, path, first)


def movement_of(
    lake: Lake, video: Video, zones: Zones, names: Sequence[str]
) -> list[pa.Table | None]:
    """Compute models of one video with any zones; nothing is written.

    Args:
        lake: The lake.
        video: The video, located.
        zones: The zones.
        names: Of models per day.

    Returns:
        The rows of each; None for all where the video's people were not tracked, or the time of
        its recording is not known.

    Raises:
        LakeError: The lake cannot be read.
    """
    recordings = recordings_of(lake, [video])
    if not recordings:
        return [None for _ in names]
    ordered = _needed(_ordered(load_models()), names)
    tables = {t for m, _ in ordered for t in m.mentions(_results(lake, ordered))}
    with lake.connect(sorted(tables), [video]) as connection:
        _prepare(connection, recordings, zones)
        _create(connection, ordered, tables)
        return [connection.sql(f'FROM "{name}"').to_arrow_table() for name in names]


def _needed(
    ordered: Sequence[tuple[AnalyticsModel, list[str]]], names: Collection[str]
) -> list[tuple[AnalyticsModel, list[str]]]:
    """Some models and what they read, in order."""
    wanted = set(names)
    for model, reads in reversed(ordered):
        if model.name in wanted:
            wanted.update(reads)
    return [(m, r) for m, r in ordered if m.name in wanted]


def _chunks(units: Sequence[Unit], by_unit: dict[Unit, list[Recording]]) -> Iterator[list[Unit]]:
    """Units in pieces that fit into memory; a unit that does not is a piece of its own."""
    chunk: list[Unit] = []
    seen: set[str] = set()
    rows = 0
    for unit in units:
        new = [r for r in by_unit.get(unit, ()) if r.video.uri not in seen]
        more = sum(r.rows for r in new)
        if chunk and rows + more > _CHUNK_ROWS:
            yield chunk
            chunk, seen, rows = [], set(), 0
            new, more = by_unit.get(unit, []), sum(r.rows for r in by_unit.get(unit, ()))
        chunk.append(unit)
        seen.update(r.video.uri for r in new)
        rows += more
    if chunk:
        yield chunk


def _compute(
    lake: Lake,
    ordered: Sequence[tuple[AnalyticsModel, list[str]]],
    zones: Zones,
    stale: Stale,
    units: Sequence[Unit],
    by_unit: dict[Unit, list[Recording]],
) -> Iterator[tuple[str, Unit, pa.Table]]:
    """Compute the models of some units at once."""
    ours = {r.video.uri: r for unit in units for r in by_unit.get(unit, ())}
    recordings = sorted(ours.values(), key=lambda r: (r.recorded_at, r.video.uri))
    tables = {t for m, _ in ordered for t in m.mentions(_results(lake, ordered))}
    with lake.connect(sorted(tables), [r.video for r in recordings]) as connection:
        _prepare(connection, recordings, zones)
        _create(connection, ordered, tables)
        for model, _ in ordered:
            wanted = stale.digests.get(model.name, {})
            mine = [unit for unit in units if unit in wanted]
            if model.day_column is not None and mine:
                rows = _rows_of(connection, model, mine)
                for unit in mine:
                    yield model.name, unit, rows[unit]


def _results(lake: Lake, ordered: Sequence[tuple[AnalyticsModel, list[str]]]) -> list[str]:
    """Tables of the lake that are not computed by day."""
    names = {m.name for m, _ in ordered}
    return [t for t in {*lake.tables(), *TABLES} if t not in names]


def _prepare(connection: DuckDBPyConnection, recordings: Sequence[Recording], zones: Zones) -> None:
    """Set what the SQL reads, and make the tables of recordings and zones."""
    import pyarrow as pa

    options = zones.options
    variables = {
        "point_share": 1.0 if options.point == "bottom" else 0.5,
        "gap_ms": round(options.gap_s * 1000),
        "still": options.still,
        "near": options.near,
        "near_ms": options.near_s * 1000,
    }
    folder = literal(f"{tempfile.gettempdir()}/duckdb-analytics")
    connection.execute(
        f"SET TimeZone = 'UTC'; SET preserve_insertion_order = false; "
        f"SET memory_limit = '{_MEMORY}'; SET temp_directory = {folder}; "
        + "; ".join(f"SET VARIABLE {name} = {value}" for name, value in variables.items())
    )
    numbered = list(enumerate(recordings))
    rows = tables_of(zones, ((n, r.camera, r.recorded_local) for n, r in numbered))
    with_ground = {g["recording"] for g in rows["grounds"]}
    rows["recordings"] = [
        {
            "recording": n,
            "video": r.video.uri,
            "camera": r.camera,
            "timezone": r.timezone,
            "recorded_at": r.recorded_at,
            "start_ms": round(r.recorded_at.timestamp() * 1000),
            "duration_ms": r.duration_ms,
            "counts_from_ms": r.counts_from_ms,
            "aspect": r.aspect,
            "has_ground": n in with_ground,
        }
        for n, r in numbered
    ]
    for name, schema in _SCHEMAS.items():
        table = pa.Table.from_pylist(rows[name], schema=pa.schema(list(schema.items())))
        connection.register("given", table)
        connection.execute(f'CREATE OR REPLACE TEMP TABLE "{name}" AS SELECT * FROM given')
        connection.unregister("given")
    for kind, table in product(_KINDS, ("shapes", "edges")):
        connection.execute(
            f'CREATE OR REPLACE TEMP TABLE "{kind}_{table}" AS '
            f"SELECT * FROM {table} WHERE kind = '{kind}'"
        )
    if any(r.duration_ms is None for r in recordings):
        connection.execute(
            "UPDATE recordings SET duration_ms = coalesce((SELECT max(d.timestamp_ms) "
            "FROM person_detections AS d WHERE d.video = recordings.video), 0) "
            "WHERE duration_ms IS NULL"
        )


def _schemas() -> dict[str, dict[str, Any]]:
    import pyarrow as pa

    i32, i64, f64, text, flag = pa.int32(), pa.int64(), pa.float64(), pa.string(), pa.bool_()
    return {
        "recordings": {
            "recording": i32,
            "video": text,
            "camera": text,
            "timezone": text,
            "recorded_at": pa.timestamp("us", "UTC"),
            "start_ms": i64,
            "duration_ms": i64,
            "counts_from_ms": i64,
            "aspect": f64,
            "has_ground": flag,
        },
        "shapes": {
            "recording": i32,
            "shape": i32,
            "kind": text,
            "name": text,
            "settle_ms": i64,
            "to_left": text,
            "to_right": text,
        },
        "edges": {
            "recording": i32,
            "shape": i32,
            "kind": text,
            "x1": f64,
            "y1": f64,
            "x2": f64,
            "y2": f64,
        },
        "grounds": {"recording": i32, **{f"h{n}": f64 for n in range(9)}},
    }


_SCHEMAS = _schemas()


def _create(
    connection: LakeConnection,
    ordered: Sequence[tuple[AnalyticsModel, list[str]]],
    tables: Collection[str],
) -> None:
    """Make the tables, and drop each when nothing reads it any more."""
    last_read = {t: n for n, (_, reads) in enumerate(ordered) for t in reads}
    for n, (model, _) in enumerate(ordered):
        create_table(connection, model, tables)
        for table, last in last_read.items():
            is_between = any(m.name == table and m.day_column is None for m, _ in ordered)
            if last == n and is_between:
                connection.execute(f'DROP TABLE "{table}"')


def _rows_of(
    connection: DuckDBPyConnection, model: AnalyticsModel, units: Sequence[Unit]
) -> dict[Unit, pa.Table]:
    """The rows of a model, by unit."""
    import pyarrow as pa

    described = connection.sql(f'SELECT * FROM "{model.name}" LIMIT 0')
    types = dict(zip(described.columns, map(str, described.types), strict=True))
    column = model.day_column
    if missing := [c for c in ("camera", column) if c not in types]:
        raise ConfigurationError(
            f"{model.name} is computed per day and has no column {' or '.join(map(str, missing))}"
        )
    day = f't."{column}"'
    if types[str(column)] != "DATE":
        day = f"timezone(coalesce(z.timezone, 'UTC'), {day}::TIMESTAMPTZ)::DATE"
    wanted = pa.table(
        {
            "unit": pa.array(range(len(units)), pa.int32()),
            "camera": pa.array([c for c, _ in units], pa.string()),
            "day": pa.array([d for _, d in units], pa.date32()),
        }
    )
    connection.register("units", wanted)
    rows = connection.sql(
        f"""
        WITH dated AS (
            SELECT t.*, {day} AS _day
            FROM "{model.name}" AS t
            LEFT JOIN (SELECT DISTINCT camera, timezone FROM recordings) AS z
                ON z.camera IS NOT DISTINCT FROM t.camera
        )
        SELECT u.unit AS _unit, d.* EXCLUDE (_day)
        FROM dated AS d
        JOIN units AS u ON u.camera IS NOT DISTINCT FROM d.camera AND u.day = d._day
        ORDER BY ALL
        """
    ).to_arrow_table()
    connection.unregister("units")
    found: dict[Unit, pa.Table] = {}
    numbers = rows.column(0).to_numpy() if rows.num_rows else []
    plain, start = rows.drop_columns(["_unit"]), 0
    counts: dict[int, int] = defaultdict(int)
    for number in numbers:
        counts[int(number)] += 1
    for n, unit in enumerate(units):
        found[unit] = plain.slice(start, counts[n])
        start += counts[n]
    return found
