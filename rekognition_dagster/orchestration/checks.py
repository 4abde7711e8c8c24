"""Asset checks on results: what must hold of the rows just written, asked of the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import PERSON_TRACKING, Operation
from rekognition_dagster.videos import Video

BOX_TOLERANCE = 0.02
"""How far a box may reach beyond the frame, as a ratio of it: trackers foresee people who leave."""
TIME_TOLERANCE_MS = 1000
"""How far a timestamp may lie after the duration, which containers round."""

_BOXES = {
    "person_detections": "bounding_box",
    "face_detections": "face.bounding_box",
}
_IDENTITY = {
    "person_detections": "person_index",
    "face_detections": "face.bounding_box",
    "label_detections": "name",
}


@dataclass(frozen=True)
class _Rule:
    """A check: SQL that yields ``video, found`` for each video that breaks it."""

    name: str
    description: str
    sql: str
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


def _rules(operation: Operation) -> list[_Rule]:
    table, identity = operation.table, _IDENTITY[operation.table]
    rules = [
        _Rule(
            "timestamps_in_duration",
            "Every timestamp lies within the video's duration.",
            f"""SELECT r.video, count(*) AS found FROM {table} r JOIN videos v USING (video)
            WHERE timestamp_ms < 0 OR timestamp_ms > v.duration_ms + {TIME_TOLERANCE_MS}
            GROUP BY r.video""",
        ),
        _Rule(
            "no_duplicates",
            "Nothing is reported twice at one time of a video.",
            f"""SELECT video, count(*) AS found FROM (
                SELECT video FROM {table} GROUP BY video, timestamp_ms, {identity}
                HAVING count(*) > 1
            ) GROUP BY video""",
        ),
    ]
    if box := _BOXES.get(table):
        rules.append(
            _Rule(
                "boxes_in_frame",
                f"Every box lies inside the frame, give or take {BOX_TOLERANCE:.0%}.",
                f"""SELECT video, count(*) AS found FROM {table}
                WHERE {box}.left < -{BOX_TOLERANCE} OR {box}.top < -{BOX_TOLERANCE}
                    OR {box}.left + {box}.width > 1 + {BOX_TOLERANCE}
                    OR {box}.top + {box}.height > 1 + {BOX_TOLERANCE}
                    OR {box}.width <= 0 OR {box}.height <= 0
                GROUP BY video""",
            )
        )
    if operation is PERSON_TRACKING:
        rules.append(
            _Rule(
                "has_people",
                "People are found in the video; a video of an empty place only warns.",
                f"""SELECT video, 1 AS found FROM videos
                WHERE video NOT IN (SELECT DISTINCT video FROM {table})""",
                dg.AssetCheckSeverity.WARN,
            )
        )
    return rules


def results_checks(operation: Operation, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of an operation's results asset."""
    return [
        dg.AssetCheckSpec(r.name, asset=key, description=r.description) for r in _rules(operation)
    ]


def check_results(
    lake: Lake, operation: Operation, key: dg.AssetKey, videos: Sequence[Video]
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate the checks over the files of some videos; offenders are named in the metadata."""
    rules = _rules(operation)
    found: dict[str, dict[str, int]] = {}
    if videos:
        with lake.connect(tables=(operation.table, "videos"), videos=videos) as connection:
            found = {r.name: dict(connection.execute(r.sql).fetchall()) for r in rules}
    for rule in rules:
        broken = found.get(rule.name, {})
        yield dg.AssetCheckResult(
            passed=not broken,
            check_name=rule.name,
            asset_key=key,
            severity=rule.severity,
            metadata={"videos_checked": len(videos), **dict(list(broken.items())[:50])},
        )
