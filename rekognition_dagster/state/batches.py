"""Batches: which videos the next run is for, and whether the last run still works.

A batch is chosen and marked in one transaction, so a tick that dies leaves a batch that the next
tick launches under the same run key.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timezone

import sqlalchemy as sa

from rekognition_dagster.state.tables import ANALYTICS, BATCHES, VIDEOS, WORK, Phase
from rekognition_dagster.state.videos import video_of
from rekognition_dagster.videos import Video

TRIES = 5
"""A video is launched so often for the same results, at growing intervals; then again after the
nightly batch."""
RESULTS, DERIVED = "results", "analytics"
"""Kinds of batches."""

_TO_PAGE = sa.and_(WORK.c.phase == Phase.UNPAGED.value, WORK.c.shown.is_(True))
_TO_SHOW = sa.and_(WORK.c.phase == Phase.FAILED.value, WORK.c.shown.is_(False))
_LEFT = ((WORK, sa.or_(_TO_PAGE, _TO_SHOW)), (ANALYTICS, ANALYTICS.c.behind.is_(True)))
"""What a run of a batch has not done yet, by table."""


def open_batch(connection: sa.Connection, kind: str) -> tuple[str, float] | None:
    """The batch that has not ended: its id, and when it last gave a sign of life."""
    query = sa.select(BATCHES.c.id, BATCHES.c.alive_at).where(
        BATCHES.c.kind == kind, BATCHES.c.ended.is_(False)
    )
    row = connection.execute(query.order_by(BATCHES.c.launched_at.desc())).first()
    return None if row is None else (row[0], row[1])


def alive(connection: sa.Connection, batch: str, now: float) -> None:
    """Note that a batch's run works."""
    connection.execute(BATCHES.update().where(BATCHES.c.id == batch).values(alive_at=now))


def end(connection: sa.Connection, batch: str) -> None:
    """Note that a batch's run is over."""
    connection.execute(BATCHES.update().where(BATCHES.c.id == batch).values(ended=True))


def break_off(connection: sa.Connection, batch: str) -> None:
    """Record that a batch's run died.

    A run that died before its work began says nothing about the videos, so this try does not count.
    If it had done some of its work, the rest is due at once, and its tries count anew.
    """
    end(connection, batch)
    began = sa.and_(BATCHES.c.id == batch, BATCHES.c.alive_at > BATCHES.c.launched_at)
    if connection.execute(sa.select(BATCHES.c.id).where(began)).first() is None:
        give_back(connection, batch)
    for table, left in _LEFT:
        ours = table.c.batch == batch
        if connection.execute(sa.select(table.c.key).where(ours, ~left).limit(1)).first():
            connection.execute(table.update().where(ours, left).values(tries=0, not_before=0.0))


def give_back(connection: sa.Connection, batch: str) -> None:
    """Do not count this try of a batch's videos: its run could do nothing for any video.

    They are due after the wait that followed the try before."""
    for table, left in _LEFT:
        fewer = sa.case((table.c.tries > 0, table.c.tries - 1), else_=0)
        connection.execute(table.update().where(table.c.batch == batch, left).values(tries=fewer))


def launch_results(
    connection: sa.Connection,
    operations: Sequence[str],
    now: float,
    *,
    limit: int,
    patience_s: float,
) -> tuple[str | None, dict[str, int]]:
    """Choose completed jobs to be paged, and failures to be shown, the oldest first.

    Returns:
        The batch's id, none where nothing is due; and how many videos of each operation it has.
    """
    batch = _new_id(RESULTS, now)
    counts: dict[str, int] = {}
    for operation in operations:
        for condition in (_TO_PAGE, _TO_SHOW):
            due = sa.and_(WORK.c.operation == operation, condition)
            done = _mark(connection, WORK, due, batch, now, limit, patience_s)
            counts[operation] = counts.get(operation, 0) + done
    return _entered(connection, batch, RESULTS, counts, now)


def launch_analytics(
    connection: sa.Connection,
    models: Sequence[tuple[str, Sequence[str]]],
    now: float,
    *,
    limit: int,
    patience_s: float,
) -> tuple[str | None, dict[str, int]]:
    """Choose videos whose analytics are behind.

    Args:
        connection: A transaction that writes.
        models: Names of models with those of the models that they read, in the order in which
            they are computed. What reads a chosen model waits for the next batch.
        now: The time.
        limit: Videos of a model at most.
        patience_s: After how long what a run could not do is tried again.
    """
    batch = _new_id(DERIVED, now)
    counts: dict[str, int] = {}
    for model, reads in models:
        if any(counts.get(r) for r in reads):
            continue
        due = sa.and_(ANALYTICS.c.model == model, ANALYTICS.c.behind.is_(True))
        counts[model] = _mark(connection, ANALYTICS, due, batch, now, limit, patience_s)
    return _entered(connection, batch, DERIVED, counts, now)


def _new_id(kind: str, now: float) -> str:
    """A name that people can read in Dagster's list of runs, and that no other batch has."""
    at = datetime.fromtimestamp(now, timezone.utc)
    return f"{kind}-{at:%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(4)}"


def _mark(
    connection: sa.Connection,
    table: sa.Table,
    due: sa.ColumnElement[bool],
    batch: str,
    now: float,
    limit: int,
    patience_s: float,
) -> int:
    """Put what is due into a batch, the longest waiting first; how much that is."""
    keys = sa.select(table.c.key).where(due, table.c.tries < TRIES, table.c.not_before <= now)
    if "since" in table.c:
        keys = keys.order_by(table.c.since, table.c.key)
    again = now + patience_s * _powers(table.c.tries)
    marked = connection.execute(
        table.update()
        .where(due, table.c.key.in_(keys.limit(limit)))
        .values(batch=batch, tries=table.c.tries + 1, not_before=again)
    )
    return marked.rowcount


def _powers(tries: sa.ColumnElement[int]) -> sa.ColumnElement[float]:
    """1, 2, 4, ... for 0, 1, 2, ... tries."""
    return sa.case({n: float(2**n) for n in range(TRIES)}, value=tries, else_=float(2**TRIES))


def _entered(
    connection: sa.Connection, batch: str, kind: str, counts: dict[str, int], now: float
) -> tuple[str | None, dict[str, int]]:
    if not any(counts.values()):
        return None, {}
    connection.execute(
        BATCHES.update()
        .where(BATCHES.c.kind == kind, BATCHES.c.ended.is_(False))
        .values(ended=True)
    )
    # What ended long ago is of no use any more.
    connection.execute(
        BATCHES.delete().where(BATCHES.c.ended.is_(True), BATCHES.c.launched_at < now - 86400)
    )
    row = {"id": batch, "kind": kind, "launched_at": now, "alive_at": now, "ended": False}
    connection.execute(BATCHES.insert(), row)
    return batch, {name: n for name, n in counts.items() if n}


def work_of(connection: sa.Connection, batch: str) -> list[tuple[str, Video]]:
    """What a batch is for: operations or models, each with a video."""
    queries = (
        sa.select(column.label("what"), VIDEOS)
        .join(VIDEOS, VIDEOS.c.key == table.c.key)
        .where(table.c.batch == batch)
        for table, column in ((WORK, WORK.c.operation), (ANALYTICS, ANALYTICS.c.model))
    )
    return [
        (row["what"], video_of(row))
        for query in queries
        for row in connection.execute(query).mappings()
    ]


def keys_of(connection: sa.Connection, batch: str, operation: str) -> list[str]:
    """Videos of a batch that are not done yet: to be paged, or to be shown to have failed."""
    query = (
        sa.select(WORK.c.key)
        .where(
            WORK.c.batch == batch,
            WORK.c.operation == operation,
            sa.or_(WORK.c.phase == Phase.UNPAGED.value, WORK.c.shown.is_(False)),
        )
        .order_by(WORK.c.since, WORK.c.key)
    )
    return list(connection.scalars(query))


def analytics_of(connection: sa.Connection, batch: str, model: str) -> list[str]:
    """Videos of a batch whose model is still behind."""
    query = (
        sa.select(ANALYTICS.c.key)
        .join(VIDEOS, VIDEOS.c.key == ANALYTICS.c.key)
        .where(ANALYTICS.c.batch == batch, ANALYTICS.c.model == model, ANALYTICS.c.behind)
        .order_by(ANALYTICS.c.key)
    )
    return list(connection.scalars(query))
