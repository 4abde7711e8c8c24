"""The outbox of reports and the history of each video, written with every change of the state."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from rekognition_dagster.state.store import upsert
from rekognition_dagster.state.tables import (
    ANALYTICS,
    HISTORY,
    IGNORED,
    OUTBOX,
    PARTITIONS,
    VIDEOS,
    WORK,
    Phase,
)

VIDEO = "video"
"""The outbox's name for the asset of the videos themselves."""


def job(operation: str) -> str:
    """The outbox's name for an operation's job asset."""
    return f"{operation}_job"


def completion(operation: str) -> str:
    """The outbox's name for an operation's completion asset."""
    return f"{operation}_completion"


def checks(operation: str) -> str:
    """The outbox's name for the checks of an operation's results."""
    return f"{operation}_checks"


def to_report(
    connection: sa.Connection,
    changed: Iterable[tuple[str, str]],
    details: Mapping[tuple[str, str], str] | None = None,
) -> None:
    """Have partitions reported to Dagster, by asset, once and as they stand then.

    Args:
        connection: A transaction that writes.
        changed: Assets and partitions.
        details: What the report shows besides what the state has, in JSON. It is kept until then.
    """
    shown, each_once = details or {}, dict.fromkeys(changed)
    for has_detail in (True, False):
        rows: list[dict[str, Any]] = [
            {"asset": each[0], "partition": each[1], "seq": time.time_ns()}
            | ({"detail": shown[each]} if has_detail else {})
            for each in each_once
            if (each in shown) is has_detail
        ]
        upsert(connection, OUTBOX, rows)


def report_all(connection: sa.Connection, operations: Sequence[str], models: Sequence[str]) -> None:
    """Have Dagster told of everything again: it is a new instance, or an old one without us."""
    connection.execute(PARTITIONS.delete())
    sources: list[tuple[str, sa.Select[Any]]] = [(VIDEO, sa.select(VIDEOS.c.partition))]
    for name in operations:
        work = sa.select(VIDEOS.c.partition).join(WORK, WORK.c.key == VIDEOS.c.key)
        work = work.where(WORK.c.operation == name)
        sources += [(job(name), work.where(WORK.c.job_id.is_not(None)))]
        sources += [(completion(name), work.where(WORK.c.job_id.is_not(None)))]
        sources += [(name, work.where(WORK.c.results_job_id.is_not(None)))]
        settled = WORK.c.phase.in_((Phase.FAILED.value, Phase.ANALYSED.value))
        sources += [(checks(name), work.where(settled))]
    for name in models:
        made = sa.select(VIDEOS.c.partition).join(ANALYTICS, ANALYTICS.c.key == VIDEOS.c.key)
        sources += [(name, made.where(ANALYTICS.c.model == name, ANALYTICS.c.made > 0))]
    seq = time.time_ns()
    for asset, source in sources:
        wanted = source.where(VIDEOS.c.status != IGNORED).distinct().subquery()
        there = sa.exists().where(OUTBOX.c.asset == asset, OUTBOX.c.partition == wanted.c.partition)
        rows = sa.select(sa.literal(asset), wanted.c.partition, sa.literal(seq, sa.BigInteger))
        connection.execute(
            OUTBOX.insert().from_select(["asset", "partition", "seq"], rows.where(~there))
        )


def pending(connection: sa.Connection, limit: int) -> list[tuple[str, str, int, str | None]]:
    """The oldest reports to make: asset, partition, sequence number and detail."""
    query = sa.select(OUTBOX.c.asset, OUTBOX.c.partition, OUTBOX.c.seq, OUTBOX.c.detail)
    found = connection.execute(query.order_by(OUTBOX.c.seq).limit(limit))
    return [(asset, partition, seq, detail) for asset, partition, seq, detail in found]


def reported(connection: sa.Connection, done: Sequence[tuple[str, str, int, str | None]]) -> None:
    """Take reports out of the outbox, unless their partitions changed meanwhile."""
    if not done:
        return
    statement = OUTBOX.delete().where(
        OUTBOX.c.asset == sa.bindparam("a"),
        OUTBOX.c.partition == sa.bindparam("p"),
        OUTBOX.c.seq == sa.bindparam("s"),
    )
    connection.execute(statement, [{"a": a, "p": p, "s": s} for a, p, s, _ in done])


def remember(
    connection: sa.Connection, what: str, entries: Iterable[tuple[str, str | None, str | None]]
) -> None:
    """Add to the history of videos.

    Args:
        connection: A transaction that writes.
        what: What happened, in a word or two.
        entries: Key, operation or model, and detail.
    """
    now = time.time()
    rows = [
        {"at": now, "key": key, "operation": operation, "what": what, "detail": detail}
        for key, operation, detail in entries
    ]
    if rows:
        connection.execute(HISTORY.insert(), rows)


def purge(connection: sa.Connection, before: float) -> None:
    """Remove entries of the history that are older than a time."""
    connection.execute(HISTORY.delete().where(HISTORY.c.at < before))
