"""SQL macros that find moments: people, visits, crossings and labels between two local times.

They come with the catalogue and with each connection; the command ``find`` asks the same.
"""

from __future__ import annotations

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
MACROS = {
    macro.name: macro
    for macro in (
        Macro(
            "people_between",
            "of_camera, since, until",
            ("person_paths",),
            f"""
            SELECT camera, video, person_index, first_seen_local AS from_local,
                last_seen_local AS until_local, first_seen_ms AS from_ms, last_seen_ms AS until_ms
            FROM person_paths
            WHERE {_CAMERA.format("")} AND first_seen_local < until AND last_seen_local >= since
            """,
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
                    AND v.recorded_local + to_milliseconds(coalesce(v.duration_ms, 86400000))
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
}
"""By name."""
