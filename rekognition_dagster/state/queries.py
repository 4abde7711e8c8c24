"""State queries for people: how many videos stand where, and everything known of one video."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from rekognition_dagster.state.jobs import BY_HAND
from rekognition_dagster.state.tables import (
    ANALYTICS,
    GONE,
    HISTORY,
    IGNORED,
    JOBS,
    VIDEOS,
    WORK,
    Phase,
)
from rekognition_dagster.state.videos import covered
from rekognition_dagster.videos import Source, Video

RESULTS_LIVE_DAYS = 7
"""So long the service keeps results."""
MAX_REASONS = 50
"""Videos that a summary names at most."""
_EXPIRING_DAYS = 2
_NOT_STARTED = (Phase.HELD.value, Phase.WAITING.value)


@dataclass
class Summary:
    """How the videos stand for an operation.

    Args:
        operation: Its name.
        counts: Videos in each phase.
        left_out: Videos that are not started: ``gone``, ``ignored``, ``not_covered``.
        since: When the first of a phase came to stand so, of the phases before the last.
        failed: The reason by video, of the first :data:`MAX_REASONS`.
        unpaged: Why results are not in the lake yet, likewise.
        expiring: Completed jobs whose results the service forgets within two days.
    """

    operation: str
    counts: Counter[Phase] = field(default_factory=lambda: Counter(dict.fromkeys(Phase, 0)))
    left_out: Counter[str] = field(
        default_factory=lambda: Counter({"gone": 0, "ignored": 0, "not_covered": 0})
    )
    since: dict[Phase, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unpaged: dict[str, str] = field(default_factory=dict)
    expiring: int = 0


def summary(connection: sa.Connection, operation: str, sources: Sequence[Source]) -> Summary:
    """Count the videos of an operation by phase."""
    found = Summary(operation)
    is_out = sa.case(
        (VIDEOS.c.status == GONE, "gone"),
        (VIDEOS.c.status == IGNORED, "ignored"),
        (
            sa.and_(
                WORK.c.phase.in_(_NOT_STARTED),
                sa.func.coalesce(WORK.c.reason, "") != BY_HAND,
                VIDEOS.c.bucket != "",
                ~covered(sources, operation),
            ),
            "not_covered",
        ),
        else_="",
    ).label("is_out")
    query = (
        sa.select(WORK.c.phase, is_out, sa.func.count(), sa.func.min(WORK.c.since))
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .where(WORK.c.operation == operation)
        .group_by(WORK.c.phase, is_out)
    )
    for name, out, count, since in connection.execute(query):
        phase = Phase(name)
        if out:
            found.left_out[out] += count
            continue
        found.counts[phase] += count
        if phase is not Phase.ANALYSED:
            found.since[phase] = min(since, found.since.get(phase, since))
    for phase, reasons in ((Phase.FAILED, found.failed), (Phase.UNPAGED, found.unpaged)):
        query = (
            sa.select(VIDEOS.c.bucket, VIDEOS.c.name, WORK.c.reason)
            .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
            .where(
                WORK.c.operation == operation,
                WORK.c.phase == phase.value,
                WORK.c.reason.is_not(None),
            )
            .order_by(WORK.c.since, WORK.c.key)
            .limit(MAX_REASONS)
        )
        for bucket, name, reason in connection.execute(query):
            reasons[Video(bucket, name).uri] = reason
    late = time.time() - (RESULTS_LIVE_DAYS - _EXPIRING_DAYS) * 86400
    found.expiring = count_unpaged(connection, operation, before=late)
    return found


_COMPLETED = sa.func.coalesce(JOBS.c.completed_at, JOBS.c.noticed_at, WORK.c.since)


def _unpaged(operation: str, *columns: Any) -> Any:
    return (
        sa.select(*columns)
        .select_from(WORK)
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .outerjoin(JOBS, JOBS.c.job_id == WORK.c.job_id)
        .where(WORK.c.operation == operation, WORK.c.phase == Phase.UNPAGED.value)
    )


def count_unpaged(connection: sa.Connection, operation: str, before: float | None = None) -> int:
    """Completed jobs without results in the lake; of those that completed before some time."""
    query = _unpaged(operation, sa.func.count())
    if before is not None:
        query = query.where(before > _COMPLETED)
    return int(connection.scalar(query) or 0)


def unpaged(
    connection: sa.Connection, operation: str, limit: int
) -> Sequence[tuple[float, str, str | None]]:
    """Completed jobs without results in the lake: when each completed, its video's URI, and why;
    the first completed first."""
    query = _unpaged(operation, _COMPLETED, VIDEOS.c.bucket, VIDEOS.c.name, WORK.c.reason)
    rows: Any = connection.execute(query.order_by(_COMPLETED).limit(limit))
    return [(at, f"s3://{bucket}/{name}", reason) for at, bucket, name, reason in rows]


def everything(connection: sa.Connection, key: str) -> dict[str, Any]:
    """All that is known of a video: what it is, its work, its jobs, its analytics, its history."""
    video = connection.execute(sa.select(VIDEOS).where(VIDEOS.c.key == key)).mappings().first()

    def rows(table: sa.Table, *order: Any) -> list[dict[str, Any]]:
        query = sa.select(table).where(table.c.key == key).order_by(*order)
        return [dict(r) for r in connection.execute(query).mappings()]

    return {
        "video": None if video is None else dict(video),
        "work": rows(WORK, WORK.c.operation),
        "jobs": rows(JOBS, JOBS.c.started_at, JOBS.c.attempt),
        "analytics": rows(ANALYTICS, ANALYTICS.c.model),
        "history": rows(HISTORY, HISTORY.c.id),
    }


def failed_work(
    connection: sa.Connection, operations: Sequence[str]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the rows of ``work`` that failed, each with its video's, the first failed first."""
    query = (
        sa.select(WORK, VIDEOS)
        .set_label_style(sa.LABEL_STYLE_TABLENAME_PLUS_COL)
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .where(WORK.c.operation.in_(operations), WORK.c.phase == Phase.FAILED.value)
        .order_by(WORK.c.since, WORK.c.key, WORK.c.operation)
    )

    def part(row: sa.RowMapping, table: sa.Table) -> dict[str, Any]:
        return {c.name: row[f"{table.name}_{c.name}"] for c in table.columns}

    return [(part(r, WORK), part(r, VIDEOS)) for r in connection.execute(query).mappings()]


def last_entry(connection: sa.Connection) -> int:
    """Return the id of the last entry of the history; 0 where there is none."""
    return int(connection.scalar(sa.select(sa.func.max(HISTORY.c.id))) or 0)


def entries_after(connection: sa.Connection, after: int, limit: int = 1000) -> list[dict[str, Any]]:
    """Return the entries of the history after an id, in order."""
    query = sa.select(HISTORY).where(HISTORY.c.id > after).order_by(HISTORY.c.id).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def find(connection: sa.Connection, text: str, limit: int = 100) -> list[str]:
    """Return the keys of videos by partition key, by S3 key or path, or by the end of it."""
    for condition in (
        sa.or_(VIDEOS.c.key == text, VIDEOS.c.name == text),
        # Not LIKE: a name may contain % and _.
        sa.func.substr(VIDEOS.c.name, sa.func.length(VIDEOS.c.name) - len(text)) == f"/{text}",
    ):
        found = connection.scalars(sa.select(VIDEOS.c.key).where(condition).limit(limit)).all()
        if found:
            return sorted(found)
    return []
