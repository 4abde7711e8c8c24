"""What a report says, asked of the lake's tables per day in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake.names import literal
from rekognition_dagster.operations import FACE_DETECTION, LABEL_DETECTION, Operation

if TYPE_CHECKING:
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.lake.views import LakeConnection

Row = Mapping[str, Any]
NO_CAMERA = "no camera known"
"""The name of the videos whose camera is not known."""
TREND_DAYS = 14
MOMENTS_PER_CAMERA = 3
_DWELL_EDGES = (5, 10, 30, 60, 120, 300, 600, 1800)
"""Seconds between which stays are counted together."""
_TABLES = (
    "activity_by_day",
    "activity_by_hour",
    "occupancy",
    "heat",
    "line_crossings",
    "zone_visits",
)


@dataclass(frozen=True)
class Scope:
    """What a report is about.

    Args:
        since: The first day, by the cameras' clocks.
        until: The last day.
        camera: The cameras; names may have ``*``.
        faces: Whether it counts faces.
        labels: Whether it counts labels.
    """

    since: date
    until: date
    camera: str = "*"
    faces: bool = False
    labels: bool = False

    @property
    def days(self) -> int:
        """How many days."""
        return (self.until - self.since).days + 1

    @property
    def text(self) -> str:
        """The days as people write them."""
        if self.days == 1:
            return f"{self.since:%A, %d %B %Y}"
        return f"{self.since:%d %B %Y} to {self.until:%d %B %Y}"


@dataclass
class Facts:
    """What the lake says about a scope; tables are lists of rows.

    Args:
        by_day: Totals of each day, from two weeks before.
        cameras: Totals of each camera.
        by_hour: People of each camera and hour of the day.
        minutes: The most people at once and the mean, by camera and five minutes, or by hour for
            several days.
        heat: Person-seconds of each camera and cell.
        crossings: By camera, line, direction and hour of the day.
        stays: How long people stayed, by camera and zone.
        dwell: The same as a distribution.
        moments: The busiest moments of each camera, with the place in the video.
        faces: Faces by camera; None where not asked for or not there.
        labels: The most frequent labels; likewise.
        missing: Videos whose people are not known, or not all, and why.
        damaged: Files of the lake that are left out, and why.
        silent: Cameras that recorded in the two weeks before and not now.
        notes: What the lake lacks for this report.
    """

    by_day: list[Row] = field(default_factory=list)
    cameras: list[Row] = field(default_factory=list)
    by_hour: list[Row] = field(default_factory=list)
    minutes: list[Row] = field(default_factory=list)
    heat: list[Row] = field(default_factory=list)
    crossings: list[Row] = field(default_factory=list)
    stays: list[Row] = field(default_factory=list)
    dwell: list[Row] = field(default_factory=list)
    moments: list[Row] = field(default_factory=list)
    faces: list[Row] | None = None
    labels: list[Row] | None = None
    missing: list[Row] = field(default_factory=list)
    damaged: list[Row] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gather(lake: Lake, scope: Scope) -> Facts:
    """Ask the lake.

    Raises:
        LakeError: The lake cannot be read.
        ConfigurationError: The lake has no camera of this name.
    """
    there = set(lake.tables())
    facts = Facts()
    with lake.connect() as connection:
        ask = _Ask(connection, scope)
        if "videos" not in there or not ask("SELECT 1 FROM videos LIMIT 1"):
            facts.notes.append("The lake has no videos yet.")
            return facts
        _check_camera(ask, lake.url)
        _note_what_is_no_part(ask, facts.notes)
        if there.issuperset(_TABLES):
            _gather_people(facts, ask)
            if facts.cameras and not (facts.crossings or facts.stays):
                facts.notes.append("No person crossed a line or was in a zone of zones.yaml.")
        else:
            lacking = ", ".join(sorted(set(_TABLES) - there))
            facts.notes.append(
                f"People are not counted: the lake has no {lacking}. Analyze videos with "
                "person_tracking, then run rekognition-dagster refresh."
            )
        if scope.faces:
            facts.faces = _found(ask, _FACES, FACE_DETECTION, facts.notes)
        if scope.labels:
            facts.labels = _found(ask, _LABELS, LABEL_DETECTION, facts.notes)
        facts.missing = ask(_MISSING)
        facts.damaged = [
            {"file": lake.storage.uri(path), "reason": reason}
            for path, reason in sorted(connection.damaged.items())
        ]
    return facts


def _note_what_is_no_part(ask: _Ask, notes: list[str]) -> None:
    """Name videos that are on no day, and the days that there are where none of them is meant."""
    ((count, example),) = (tuple(row.values()) for row in ask(_UNDATED))
    if count:
        notes.append(
            f"{count} video{'s have' if count > 1 else ' has'} no known time of recording and "
            f"count{'' if count > 1 else 's'} on no day, e.g. {example}. See camera_pattern in the "
            "configuration."
        )
    if not ask(f"{_VIDEOS} LIMIT 1"):
        ((first, last),) = (tuple(row.values()) for row in ask(_DAYS))
        there = f"; there are recordings from {first} to {last}" if first else ""
        when = ask.scope.text
        notes.append(f"Nothing was recorded on {when}{there}.")
        ((guessed, example),) = (tuple(row.values()) for row in ask(_BY_LAST_CHANGE))
        if guessed:
            notes.append(
                f"The time of {guessed} video{'s' * (guessed > 1)} was taken from the file's last "
                f"change, e.g. of {example}: camera_pattern in the configuration (or "
                "REKOGNITION_DAGSTER_CAMERA_PATTERN) takes it from the name."
            )


def _found(ask: _Ask, sql: str, operation: Operation, notes: list[str]) -> list[Row] | None:
    """The rows of a query; None, with a note, where the videos were never analyzed for them."""
    rows = ask(sql)
    if not rows and not ask(_SUCCEEDED, operation=operation.name):
        notes.append(f"{operation.name} has not been run on these videos.")
        return None
    return rows


def _gather_people(facts: Facts, ask: _Ask) -> None:
    facts.by_day = ask(_BY_DAY)
    facts.cameras = ask(_CAMERAS)
    facts.silent = [str(row["camera"]) for row in ask(_SILENT)]
    facts.by_hour = ask(_BY_HOUR)
    facts.minutes = ask(_MINUTES)
    facts.heat = ask(_HEAT)
    facts.crossings = ask(_CROSSINGS)
    facts.stays = ask(_STAYS)
    facts.dwell = ask(_DWELL)
    facts.moments = _exact(ask, ask(_MOMENTS))


def ask_heat(lake: Lake, scope: Scope) -> list[Row]:
    """See :attr:`Facts.heat`; none where the lake has no such table."""
    if "heat" not in lake.tables():
        return []
    with lake.connect(["heat"]) as connection:
        return _Ask(connection, scope)(_HEAT)


def check_camera(lake: Lake, camera: str) -> None:
    """Refuse a camera that no video is of.

    Raises:
        ConfigurationError: The text has those there are.
    """
    with lake.connect(["videos"]) as connection:
        _check_camera(_Ask(connection, Scope(date.today(), date.today(), camera)), lake.url)


def recorded_days(lake: Lake, camera: str = "*") -> tuple[date, date] | None:
    """The first and the last day on which a camera recorded, by its clock, if any is known."""
    query = (
        "SELECT min(recorded_local)::DATE, max(recorded_local)::DATE FROM videos "
        "WHERE coalesce(camera, '') GLOB $camera"
    )
    with lake.connect(["videos"]) as connection:
        ((first, last),) = connection.execute(query, {"camera": camera}).fetchall()
    return None if last is None else (first, last)


@dataclass(frozen=True)
class _Ask:
    """Runs queries about a scope: ``$since``, ``$until``, ``$camera``, ``$before``."""

    connection: LakeConnection
    scope: Scope

    def __call__(self, sql: str, **more: Any) -> list[Row]:
        """The rows."""
        known = {
            "since": self.scope.since,
            "until": self.scope.until,
            "before": self.scope.since - timedelta(days=TREND_DAYS - 1),
            "camera": self.scope.camera,
            "several": self.scope.days > 1,
            **more,
        }
        used = {name: value for name, value in known.items() if f"${name}" in sql}
        for is_last in (False, True):
            try:
                answer = self.connection.execute(sql, used)
                names = [column[0] for column in answer.description or ()]
                return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
            except _duckdb_error():
                if is_last or not self.connection.leave_out_damaged(sql):
                    raise
        raise AssertionError


def _duckdb_error() -> type[Exception]:
    import duckdb

    return duckdb.Error


def _check_camera(ask: _Ask, url: str) -> None:
    if "*" in ask.scope.camera or ask("SELECT 1 FROM videos WHERE camera = $camera LIMIT 1"):
        return
    sql = "SELECT DISTINCT camera FROM videos WHERE camera IS NOT NULL ORDER BY 1"
    names = ", ".join(str(row["camera"]) for row in ask(sql)[:20])
    names = names or "none; set REKOGNITION_DAGSTER_CAMERA_PATTERN"
    raise ConfigurationError(f"there is no camera {ask.scope.camera} in {url}; there are {names}")


def _exact(ask: _Ask, moments: Sequence[Row]) -> list[Row]:
    """Find the video of each busiest minute, and the moment in it at which most people were."""
    if not moments:
        return []
    minutes = {
        "of": [m["camera"] for m in moments],
        "starts": [m["starts_at"] for m in moments],
        "number": list(range(len(moments))),
    }
    parts = ask(_PARTS, **minutes)
    # literals let DuckDB leave out the row groups of other videos
    videos = ", ".join(sorted({literal(p["video"]) for p in parts})) or "''"
    columns = {name: [p[name] for p in parts] for name in ("number", "video", "from_ms")}
    rows = {row["number"]: row for row in ask(_EXACT.format(videos=videos), **columns)}
    return [{**m, **rows[n]} for n, m in enumerate(moments) if n in rows]


_OF = "coalesce(camera, '') GLOB $camera"
_IN = f"{_OF} AND date BETWEEN $since AND $until"
_SUMS = """
    sum(people)::BIGINT AS people,
    sum(person_seconds) / 3600 AS person_hours,
    sum(recorded_s) / 3600 AS recorded_hours,
    max(most)::BIGINT AS most,
    sum(arrivals)::BIGINT AS arrivals,
    sum(visits)::BIGINT AS visits,
    sum(crossings)::BIGINT AS crossings,
    sum(begun_mid_picture)::BIGINT AS begun_mid_picture,
    sum(interpolated_share * person_seconds)
        / nullif(sum(person_seconds) FILTER (interpolated_share IS NOT NULL), 0)
        AS interpolated_share
"""
_BY_DAY = f"""
SELECT day, {_SUMS} FROM activity_by_day
WHERE {_OF} AND date BETWEEN $before AND $until GROUP BY day ORDER BY day
"""
_CAMERAS = f"""
SELECT camera, arg_max(busiest_at, most) AS busiest_at, {_SUMS} FROM activity_by_day
WHERE {_IN} GROUP BY camera ORDER BY people DESC, camera
"""
_SILENT = f"""
SELECT DISTINCT camera FROM activity_by_day
WHERE {_OF} AND date BETWEEN $before AND $until AND camera IS NOT NULL
GROUP BY camera HAVING max(date) < $since ORDER BY camera
"""
_BY_HOUR = f"""
SELECT camera, hour(hour_local) AS hour, sum(people)::BIGINT AS people
FROM activity_by_hour WHERE {_IN} GROUP BY ALL ORDER BY camera, hour
"""
_MINUTES = f"""
SELECT
    camera,
    time_bucket(CASE WHEN $several THEN INTERVAL 1 HOUR ELSE INTERVAL 5 MINUTE END, starts_local)
        AS starts,
    starts + CASE WHEN $several THEN INTERVAL 1 HOUR ELSE INTERVAL 5 MINUTE END AS ends,
    max(most)::BIGINT AS most,
    sum(person_seconds) / nullif(sum(recorded_s), 0) AS mean
FROM occupancy
WHERE {_IN} AND zone IS NULL AND period_minutes = 1
GROUP BY ALL ORDER BY camera, starts
"""
_HEAT = f"""
SELECT
    camera,
    cell_x,
    cell_y,
    sum(person_seconds) AS person_seconds,
    coalesce(sum(flow_x * person_seconds), 0) / sum(person_seconds) AS flow_x,
    coalesce(sum(flow_y * person_seconds), 0) / sum(person_seconds) AS flow_y
FROM heat WHERE {_IN} GROUP BY ALL ORDER BY camera, cell_y, cell_x
"""
_CROSSINGS = f"""
SELECT camera, line, direction, hour(crossed_local) AS hour, count(*) AS crossings
FROM line_crossings WHERE {_IN} GROUP BY ALL ORDER BY ALL
"""
_STAYS = f"""
SELECT
    camera,
    zone,
    count(*) AS visits,
    count(DISTINCT (video, person_index)) AS people,
    median(dwell_s) AS median_s,
    quantile_cont(dwell_s, 0.9) AS ninth_tenth_s,
    max(dwell_s) AS longest_s,
    avg(stood_still_s) AS stood_still_s,
    count(*) FILTER (inside_at_start OR inside_at_end) AS cut_off
FROM zone_visits WHERE {_IN} GROUP BY ALL ORDER BY camera, zone
"""
_DWELL = f"""
SELECT
    camera,
    zone,
    len(list_filter({list(_DWELL_EDGES)}, lambda edge : edge <= dwell_s)) AS bin,
    count(*) AS visits
FROM zone_visits WHERE {_IN} GROUP BY ALL ORDER BY ALL
"""
_MOMENTS = f"""
WITH hours AS (
    SELECT camera, starts_at, starts_local, most
    FROM occupancy
    WHERE {_IN} AND zone IS NULL AND period_minutes = 1 AND most > 0
    QUALIFY row_number() OVER (
        PARTITION BY camera, date_trunc('hour', starts_local) ORDER BY most DESC, starts_at
    ) = 1
)
SELECT camera, starts_at, starts_local, most FROM hours
QUALIFY row_number() OVER (PARTITION BY camera ORDER BY most DESC, starts_at)
    <= {MOMENTS_PER_CAMERA}
ORDER BY most DESC, camera, starts_at
"""
_PARTS = """
WITH minutes AS (
    SELECT unnest($of) AS camera, unnest($starts) AS starts, unnest($number) AS number
)
SELECT m.number, v.video, epoch_ms(m.starts) - epoch_ms(v.recorded_at) AS from_ms
FROM minutes AS m
JOIN videos AS v
    ON
        v.camera IS NOT DISTINCT FROM m.camera
        AND v.recorded_at < m.starts + INTERVAL 1 MINUTE
        AND v.recorded_at + to_milliseconds(coalesce(v.duration_ms, 86400000)) > m.starts
"""
_EXACT = """
WITH parts AS (
    SELECT unnest($number) AS number, unnest($video) AS video, unnest($from_ms) AS from_ms
),
counted AS (
    SELECT p.number, d.video, d.timestamp_ms, count(DISTINCT d.person_index) AS people
    FROM person_detections AS d
    JOIN parts AS p
        ON
            p.video = d.video
            AND d.timestamp_ms >= p.from_ms
            AND d.timestamp_ms < p.from_ms + 60000
    WHERE d.video IN ({videos})
    GROUP BY ALL
)
SELECT
    c.number,
    c.video,
    c.timestamp_ms,
    c.people,
    timezone(v.timezone, v.recorded_at + to_milliseconds(c.timestamp_ms)) AS at_local
FROM counted AS c
JOIN videos AS v ON v.video = c.video
QUALIFY row_number() OVER (
    PARTITION BY c.number ORDER BY c.people DESC, c.video, c.timestamp_ms
) = 1
"""
_VIDEOS = """
SELECT * FROM videos
WHERE coalesce(camera, '') GLOB $camera AND recorded_local::DATE BETWEEN $since AND $until
"""
_DAYS = f"""
SELECT min(recorded_local)::DATE AS first, max(recorded_local)::DATE AS last
FROM videos WHERE {_OF}
"""
_UNDATED = f"""
SELECT count(*) AS videos, min(video) AS example FROM videos
WHERE {_OF} AND recorded_local IS NULL
"""
_BY_LAST_CHANGE = f"""
SELECT count(*) AS videos, min(video) AS example FROM videos
WHERE {_OF} AND recorded_at_source = 'modified'
"""
_FACES = f"""
SELECT coalesce(v.camera, '{NO_CAMERA}') AS camera,
    count(*) AS faces,
    count(DISTINCT v.video) AS videos
FROM face_detections AS f
JOIN ({_VIDEOS}) AS v ON v.video = f.video
GROUP BY ALL ORDER BY faces DESC, 1
"""
_LABELS = f"""
SELECT l.name AS label, count(DISTINCT (l.video, l.timestamp_ms // 1000)) AS seconds,
    count(DISTINCT l.video) AS videos
FROM label_detections AS l
JOIN ({_VIDEOS}) AS v ON v.video = l.video
GROUP BY ALL ORDER BY seconds DESC, label LIMIT 20
"""
_MISSING = f"""
WITH latest AS (
    SELECT * FROM jobs
    QUALIFY row_number() OVER (
        PARTITION BY video, operation
        ORDER BY coalesce(completed_at, started_at) DESC NULLS LAST, job_id
    ) = 1
)
SELECT coalesce(v.camera, '{NO_CAMERA}') AS camera,
    v.video,
    coalesce(j.operation, 'person_tracking') AS operation,
    CASE
        WHEN j.status IS NULL THEN 'not analyzed'
        WHEN j.status <> 'SUCCEEDED' THEN lower(j.status) || coalesce(': ' || j.status_message, '')
        ELSE v.warning
    END AS reason
FROM ({_VIDEOS}) AS v
LEFT JOIN latest AS j ON j.video = v.video
WHERE j.status IS NULL OR j.status <> 'SUCCEEDED' OR v.warning IS NOT NULL
ORDER BY v.camera, v.video, operation
"""
_SUCCEEDED = f"""
SELECT 1 FROM jobs JOIN ({_VIDEOS}) AS v ON v.video = jobs.video
WHERE jobs.operation = $operation AND jobs.status = 'SUCCEEDED' LIMIT 1
"""


def dwell_bins() -> list[str]:
    """The names of the bins of :attr:`Facts.dwell`, in order."""
    texts = [_duration(edge) for edge in _DWELL_EDGES]
    between = [f"{a}-{b}" for a, b in pairwise(texts)]
    return [f"< {texts[0]}", *between, f"{texts[-1]}+"]


def _duration(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min"
