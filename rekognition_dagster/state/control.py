"""What people decide: what is paused, which videos are ignored, and which start first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.state.tables import (
    ASKED,
    IGNORED,
    NORMAL,
    PAUSES,
    PRESENT,
    RECOVERED,
    VIDEOS,
    WORK,
    Phase,
)
from rekognition_dagster.state.videos import begins, mark
from rekognition_dagster.videos import Source

ALL = ""
"""In the place of an operation: all of them."""


@dataclass(frozen=True)
class Pause:
    """Work that does not start.

    Args:
        operation: Which; :data:`ALL` for every one.
        place: ``s3://bucket/prefix``, or a prefix of keys; empty for all videos.
        since: When that began.
    """

    operation: str
    place: str
    since: float

    @property
    def text(self) -> str:
        """What is paused."""
        return f"{self.operation or 'all operations'}{f' of {self.place}' if self.place else ''}"


def pause(connection: sa.Connection, operations: Sequence[str], place: str, now: float) -> None:
    """Start no more jobs of some operations, or of all, for the videos of a place."""
    known = {(p.operation, p.place) for p in pauses(connection)}
    for operation in operations or [ALL]:
        if (operation, place) not in known:
            row = {"operation": operation, "place": place, "since": now}
            connection.execute(PAUSES.insert().values(**row))


def resume(connection: sa.Connection, operations: Sequence[str], place: str) -> list[Pause]:
    """End pauses of just these operations and place, or every pause where neither is named."""
    ended = [
        p
        for p in pauses(connection)
        if not (operations or place) or (p.operation in (operations or [ALL]) and p.place == place)
    ]
    for p in ended:
        its = sa.and_(PAUSES.c.operation == p.operation, PAUSES.c.place == p.place)
        connection.execute(PAUSES.delete().where(its))
    return ended


def pauses(connection: sa.Connection) -> list[Pause]:
    """What is paused, the longest first."""
    query = sa.select(PAUSES.c.operation, PAUSES.c.place, PAUSES.c.since)
    return [Pause(*row) for row in connection.execute(query.order_by(PAUSES.c.since))]


def runs(connection: sa.Connection, operation: str) -> sa.ColumnElement[bool]:
    """The condition that no pause stops work of an operation: its job may run already."""
    stopped = [
        begins(p.place) if p.place else sa.true()
        for p in pauses(connection)
        if p.operation in (ALL, operation)
    ]
    if not stopped:
        return sa.true()
    return sa.or_(WORK.c.priority <= RECOVERED, ~sa.or_(*stopped))


def check_place(place: str, sources: Sequence[Source]) -> None:
    """Refuse a place that none of the deployment's videos can be of.

    Raises:
        ConfigurationError: The text names the buckets that there are.
    """
    bucket = place.removeprefix("s3://").partition("/")[0]
    buckets = sorted({s.bucket for s in sources})
    if place.startswith("s3://") and bucket not in buckets:
        raise ConfigurationError(
            f"{place} is of no bucket of this deployment, which has {', '.join(buckets) or 'none'}"
        )


def ignore(connection: sa.Connection, place: str) -> int:
    """Ignore the videos of a place, until they change; return how many."""
    return _mark(connection, place, PRESENT, IGNORED)


def unignore(connection: sa.Connection, place: str) -> int:
    """Ignore the videos of a place no longer; return how many."""
    return _mark(connection, place, IGNORED, PRESENT)


def _mark(connection: sa.Connection, place: str, before: str, after: str) -> int:
    query = sa.select(VIDEOS.c.key).where(VIDEOS.c.status == before, begins(place))
    keys = list(connection.scalars(query))
    mark(connection, keys, after)
    return len(keys)


def start_first(connection: sa.Connection, operations: Sequence[str], place: str) -> int:
    """Let waiting work of a place start before all else; return how much."""
    theirs = sa.select(VIDEOS.c.key).where(begins(place))
    changed = connection.execute(
        WORK.update()
        .where(
            WORK.c.operation.in_(operations),
            WORK.c.phase == Phase.WAITING.value,
            WORK.c.priority == NORMAL,
            WORK.c.key.in_(theirs),
        )
        .values(priority=ASKED)
    )
    return int(changed.rowcount)
