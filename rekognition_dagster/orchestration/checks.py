"""Asset checks on results: what must hold of the rows just written, asked of the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.videos import Video

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BOX_TOLERANCE = 0.02
"""How far a box may reach beyond the frame, as a ratio of it: trackers foresee people who leave."""
TIME_TOLERANCE_MS = 1000
"""How far a timestamp may lie after the duration, which containers round."""

_MAX_NAMED = 50  # videos in a check's metadata


@dataclass(frozen=True)
class _Rule:
    """A check: an SQL aggregate over the moments of a video, which counts what breaks it."""

    name: str
    description: str
    sql: str
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR


_OUTSIDE = f"""{{0}}.left < -{BOX_TOLERANCE} OR {{0}}.top < -{BOX_TOLERANCE}
    OR {{0}}.left + {{0}}.width > 1 + {BOX_TOLERANCE}
    OR {{0}}.top + {{0}}.height > 1 + {BOX_TOLERANCE}
    OR {{0}}.width <= 0 OR {{0}}.height <= 0"""
# One scan for all rules; a video without rows has a moment that is null.
_FINDINGS = """
WITH moments AS (
    SELECT video, {time} AS time_ms, {identity},
        count(*) AS found, count(*) FILTER ({outside}) AS outside
    FROM {table} GROUP BY ALL
)
SELECT v.video, {rules} FROM videos v LEFT JOIN moments m USING (video) GROUP BY v.video
"""


def _rules(operation: Operation) -> list[_Rule]:
    rules = [
        _Rule(
            "timestamps_in_duration",
            "Every timestamp lies within the video's duration.",
            f"""sum(found) FILTER (
                time_ms < 0 OR time_ms > duration_ms + {TIME_TOLERANCE_MS})""",
        ),
        _Rule(
            "no_duplicates",
            "Nothing is reported twice at one time of a video.",
            "count(*) FILTER (found > 1)",
        ),
    ]
    if operation.box is not None:
        rules.append(
            _Rule(
                "boxes_in_frame",
                f"Every box lies inside the frame, give or take {BOX_TOLERANCE:.0%}.",
                "sum(outside)",
            )
        )
    if operation.expected is not None:
        counted, warning = "count(*) FILTER (found IS NULL)", dg.AssetCheckSeverity.WARN
        rules.append(_Rule(*operation.expected, counted, warning))
    return rules


HAS_RESULTS = "has_results"
"""The check that fails where a job FAILED or its start was refused, with the reason."""


def results_checks(
    operation: Operation, key: dg.AssetKey, partitions: dg.PartitionsDefinition
) -> list[dg.AssetCheckSpec]:
    """The checks of an operation's results asset, each for every partition."""
    described = {r.name: r.description for r in _rules(operation)} | {
        HAS_RESULTS: "No job of the partition's videos FAILED, and no start was refused."
    }
    return [
        dg.AssetCheckSpec(name, asset=key, description=text, partitions_def=partitions)
        for name, text in described.items()
    ]


def find_offenders(
    connection: DuckDBPyConnection, operation: Operation, videos: Sequence[Video]
) -> dict[str, dict[str, int]]:
    """Evaluate the rules over the rows of some videos, which alone the connection sees.

    Returns:
        How many rows break each rule, by partition key and rule.
    """
    found: dict[str, dict[str, int]] = {v.partition_key: {} for v in videos}
    by_uri = {v.uri: v.partition_key for v in videos}
    table, rules, box = operation.table, _rules(operation), operation.box
    query = _FINDINGS.format(
        table=table,
        time=operation.time,
        identity=", ".join(f"{part} AS what_{n}" for n, part in enumerate(operation.identity)),
        outside=_OUTSIDE.format(box) if box else "false",
        rules=", ".join(r.sql for r in rules),
    )
    for uri, *counts in connection.execute(query).fetchall():
        for rule, count in zip(rules, counts, strict=True):
            if count:
                found[by_uri[uri]][rule.name] = int(count)
    return found


@dataclass(frozen=True)
class Verdict:
    """What a check says of a partition, or of a run's videos."""

    name: str
    passed: bool
    severity: dg.AssetCheckSeverity
    metadata: Mapping[str, Any]
    description: str | None = None


def verdicts(
    operation: Operation,
    findings: Mapping[str, Mapping[str, int]],
    failures: Mapping[str, str],
) -> Iterator[Verdict]:
    """The verdict of each check.

    Args:
        operation: Which.
        findings: By URI of each video that has results, by rule.
        failures: By URI of each video that has none, why.
    """
    rules = _rules(operation) if findings else []
    for rule in rules:
        broken = {uri: f[rule.name] for uri, f in findings.items() if rule.name in f}
        metadata = {"videos_checked": len(findings), **dict(list(broken.items())[:_MAX_NAMED])}
        yield Verdict(rule.name, not broken, rule.severity, metadata)
    named = dict(list(failures.items())[:_MAX_NAMED])
    text = "; ".join(f"{uri}: {r}" for uri, r in list(failures.items())[:5]) or None
    yield Verdict(HAS_RESULTS, not failures, dg.AssetCheckSeverity.ERROR, named, text)
