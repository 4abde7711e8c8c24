"""SQL macros that find moments: people, visits, crossings and labels between two local times.

They come with the catalogue and with each connection; the command ``find`` asks the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Macro:
    """A table macro.

    Args:
        name: Its name.
        parameters: What it takes; times are by the camera's clock, names may have ``*``.
        tables: What it reads.
        select: What it returns.
    """

    name: str
    parameters: str
    tables: tuple[str, ...]
    select: str

    @property
    def statement(self) -> str:
        """The statement that creates it."""
        return f"CREATE OR REPLACE MACRO {self.name}({self.parameters}) AS TABLE {self.select}"


_CAMERA = "coalesce({0}camera, '') GLOB of_camera"


def people_select(paths: str, camera: str, since: str, until: str) -> str:
    """The SELECT of people between two local times.

    Args:
        paths: A table expression with video, person_index, first_seen_ms and last_seen_ms.
        camera: The camera, as an SQL expression; so are the times.
        since: From this local time.
        until: Before this one.
    """
    return f"""
        SELECT v.camera, p.video, p.person_index,
            timezone(v.timezone, v.recorded_at + to_milliseconds(p.first_seen_ms)) AS from_local,
            timezone(v.timezone, v.recorded_at + to_milliseconds(p.last_seen_ms)) AS until_local,
            p.first_seen_ms AS from_ms, p.last_seen_ms AS until_ms
        FROM {paths} AS p
        JOIN videos AS v ON v.video = p.video
        WHERE coalesce(v.camera, '') GLOB {camera}
            AND timezone(v.timezone, v.recorded_at + to_milliseconds(p.first_seen_ms)) < {until}
            AND timezone(v.timezone, v.recorded_at + to_milliseconds(p.last_seen_ms)) >= {since}
    """


def paths_of(where: str) -> str:
    """The table expression of the people of some videos, from their detections.

    Args:
        where: A condition on ``video``.
    """
    return (
        "(SELECT video, person_index, min(timestamp_ms) AS first_seen_ms, "
        f"max(timestamp_ms) AS last_seen_ms FROM person_detections WHERE {where} GROUP BY ALL)"
    )


_OF_WINDOW = f"""video IN (
    SELECT v.video FROM videos AS v
    WHERE {_CAMERA.format("v.")} AND v.recorded_local < until AND timezone(v.timezone,
        v.recorded_at + to_milliseconds(coalesce(v.duration_ms, 86400000))) >= since
)"""
_PEOPLE = ("people_between", "of_camera, since, until")
_CHOSEN = ("of_camera", "since", "until")
MACROS = (
    Macro(*_PEOPLE, ("person_paths", "videos"), people_select("person_paths", *_CHOSEN)),
    Macro(
        *_PEOPLE,
        ("person_detections", "videos"),
        people_select(paths_of(_OF_WINDOW), *_CHOSEN),
    ),
    Macro(
        "visits_between",
        "of_camera, of_zone, since, until",
        ("zone_visits",),
        # a visit is of the day on which it began
        f"""
            SELECT camera, video, person_index, entered_local AS from_local,
                left_local AS until_local, entered_ms AS from_ms, left_ms AS until_ms, zone, dwell_s
            FROM zone_visits
            WHERE {_CAMERA.format("")} AND zone GLOB of_zone
                AND date BETWEEN since::DATE - 1 AND until::DATE
                AND entered_local < until AND left_local >= since
            """,
    ),
    Macro(
        "crossings_between",
        "of_camera, of_line, since, until",
        ("line_crossings",),
        f"""
            SELECT camera, video, person_index, crossed_local AS from_local,
                crossed_local AS until_local, crossed_ms AS from_ms, crossed_ms AS until_ms,
                line, direction
            FROM line_crossings
            WHERE {_CAMERA.format("")} AND line GLOB of_line
                AND date BETWEEN since::DATE AND until::DATE
                AND crossed_local >= since AND crossed_local < until
            """,
    ),
    Macro(
        "labels_between",
        "of_camera, of_label, since, until",
        ("label_detections", "videos"),
        f"""
            WITH seen AS (
                SELECT v.camera, v.timezone, v.recorded_at, d.video, d.name, d.timestamp_ms,
                    coalesce(d.timestamp_ms - lag(d.timestamp_ms) OVER moment > 2000, true)
                        AS begins
                FROM label_detections AS d
                JOIN videos AS v ON v.video = d.video
                WHERE {_CAMERA.format("v.")} AND lower(d.name) GLOB lower(of_label)
                    AND v.recorded_local < until
                    AND timezone(v.timezone,
                        v.recorded_at + to_milliseconds(coalesce(v.duration_ms, 86400000)))
                        >= since
                WINDOW moment AS (PARTITION BY d.video, d.name ORDER BY d.timestamp_ms)
            ),
            numbered AS (
                SELECT *, sum(begins::INTEGER) OVER (
                    PARTITION BY video, name ORDER BY timestamp_ms
                    ROWS UNBOUNDED PRECEDING
                ) AS moment
                FROM seen
            ),
            moments AS (
                SELECT camera, timezone, recorded_at, video, name, min(timestamp_ms) AS from_ms,
                    max(timestamp_ms) AS until_ms
                FROM numbered
                GROUP BY camera, timezone, recorded_at, video, name, moment
            )
            SELECT camera, video,
                timezone(timezone, recorded_at + to_milliseconds(from_ms)) AS from_local,
                timezone(timezone, recorded_at + to_milliseconds(until_ms)) AS until_local,
                from_ms, until_ms, name AS label
            FROM moments
            WHERE timezone(timezone, recorded_at + to_milliseconds(from_ms)) < until
                AND timezone(timezone, recorded_at + to_milliseconds(until_ms)) >= since
            """,
    ),
)
"""Of several of a name the first counts whose tables the lake has."""


def macros_of(tables: Collection[str]) -> dict[str, Macro]:
    """The macros that some tables allow, by name."""
    found: dict[str, Macro] = {}
    for macro in MACROS:
        if set(macro.tables).issubset(tables):
            found.setdefault(macro.name, macro)
    return found
