"""Jobs: reserved within the quota, started, refused, completed, overdue, and asked for by hand.

Each function is one step of a transaction; what it changes goes to the outbox and the history too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rekognition_dagster.state import log
from rekognition_dagster.state.store import fact, set_fact, upsert
from rekognition_dagster.state.tables import (
    ANALYTICS,
    ASKED,
    EARLY,
    EXPIRED,
    FAILED,
    GONE,
    IN_PROGRESS,
    JOBS,
    NORMAL,
    PRESENT,
    RECOVERED,
    SUCCEEDED,
    VIDEOS,
    WORK,
    Phase,
)
from rekognition_dagster.state.videos import CHUNK, Row, video_of
from rekognition_dagster.videos import Video

EXPIRED_ATTEMPTS = 2
"""A job whose results expired is started again by itself up to this attempt."""
EARLY_DAYS = 14
"""So long a completion of a job that is not known here is kept."""


@dataclass(frozen=True)
class Coverage:
    """Which videos the settings cover: those of a bucket whose keys begin with a prefix."""

    bucket: str | None
    prefix: str = ""

    def clause(self) -> sa.ColumnElement[bool]:
        """The condition on ``videos``."""
        inside = VIDEOS.c.bucket == (self.bucket or "")
        if not self.prefix:
            return inside
        # Not LIKE: a prefix may contain % and _, and SQLite's LIKE ignores case.
        length = len(self.prefix)
        return sa.and_(inside, sa.func.substr(VIDEOS.c.name, 1, length) == self.prefix)


def startable(coverage: Coverage) -> sa.ColumnElement[bool]:
    """The condition under which waiting work may start by itself."""
    return sa.and_(VIDEOS.c.status == PRESENT, VIDEOS.c.discovered.is_(True), coverage.clause())


@dataclass(frozen=True)
class Waiting:
    """Work that waits for a job, reserved for the caller.

    Args:
        operation: Which.
        key: The video's.
        partition: The partition that it is in.
        video: The object.
        attempt: Of the job to be started.
        asked: Whether a person asked for it.
    """

    operation: str
    key: str
    partition: str
    video: Video
    attempt: int
    asked: bool


def in_flight(connection: sa.Connection, now: float) -> int:
    """Jobs in flight: those in progress, also of replaced videos, and starts under way."""
    jobs = sa.select(sa.func.count()).select_from(JOBS).where(JOBS.c.status == IN_PROGRESS)
    starts = (
        sa.select(sa.func.count())
        .select_from(WORK)
        .where(
            WORK.c.phase == Phase.WAITING.value,
            WORK.c.priority == RECOVERED,
            WORK.c.lease_until > now,
        )
    )
    return int(connection.scalar(jobs) or 0) + int(connection.scalar(starts) or 0)


def reserve(
    connection: sa.Connection,
    operations: Sequence[str],
    coverage: Coverage,
    *,
    most: int,
    limit: int,
    now: float,
    lease_s: float,
    keys: Sequence[str] | None = None,
    without: Collection[tuple[str, str]] = (),
) -> list[Waiting]:
    """Reserve work for which slots are free, each operation in turn, the longest waiting first.

    A reservation that is not followed by :func:`started`, :func:`refused` or :func:`release`
    lapses after ``lease_s``, and its work comes first then.

    Args:
        connection: A transaction that writes.
        operations: Which may start.
        coverage: Which videos may start by themselves.
        most: Jobs in flight at most.
        limit: Reservations at most.
        now: The time.
        lease_s: How long a reservation holds, in seconds.
        keys: Only these videos.
        without: Operations and keys to leave out: they were lost in this tick.
    """
    room = min(most - in_flight(connection, now), limit)
    if room <= 0:
        return []
    turns = [
        [
            w
            for w in _waiting(connection, o, coverage, room + len(without), now, keys)
            if (w.operation, w.key) not in without
        ]
        for o in operations
    ]
    chosen: list[Waiting] = []
    while len(chosen) < room and any(turns):
        for turn in turns:
            if turn and len(chosen) < room:
                chosen.append(turn.pop(0))
    for one in chosen:
        connection.execute(_of(one).values(lease_until=now + lease_s, priority=RECOVERED))
    return chosen


def _waiting(
    connection: sa.Connection,
    operation: str,
    coverage: Coverage,
    limit: int,
    now: float,
    keys: Sequence[str] | None,
) -> list[Waiting]:
    query = (
        sa.select(VIDEOS, WORK.c.attempt, WORK.c.reason)
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .where(
            WORK.c.operation == operation,
            WORK.c.phase == Phase.WAITING.value,
            WORK.c.lease_until <= now,
            WORK.c.not_before <= now,
            sa.or_(WORK.c.reason == BY_HAND, startable(coverage)),
        )
        .order_by(WORK.c.priority, WORK.c.since, WORK.c.key)
        .limit(limit)
    )
    if keys is not None:
        query = query.where(WORK.c.key.in_(keys[:CHUNK]))
    return [
        Waiting(
            operation,
            row["key"],
            row["partition"],
            video_of(row),
            row["attempt"],
            row["reason"] == BY_HAND,
        )
        for row in connection.execute(query).mappings()
    ]


BY_HAND = "asked for by hand"
"""Reason of waiting work that a person asked for; it starts whatever the settings cover."""


def _of(work: Waiting) -> sa.Update:
    """An update of the work of one video."""
    return WORK.update().where(WORK.c.operation == work.operation, WORK.c.key == work.key)


def release(connection: sa.Connection, delayed: Iterable[Waiting]) -> None:
    """Give back reservations for which the service has no room now."""
    for one in delayed:
        priority = ASKED if one.asked else NORMAL
        connection.execute(_of(one).values(lease_until=0.0, priority=priority))


def started(
    connection: sa.Connection,
    work: Waiting,
    job_id: str,
    token: str,
    now: float,
) -> bool:
    """Enter a started job. False where this job has ended before for the same work, so that a new
    attempt is needed; the work then waits for that attempt."""
    version = work.video.version or "unknown"
    known = connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id)).mappings().first()
    stands = _row(connection, work.operation, work.key)
    ended = known is not None and known["status"] != IN_PROGRESS
    if work.asked and (ended or (stands and stands["results_job_id"] == job_id)):
        connection.execute(_of(work).values(attempt=work.attempt + 1, lease_until=0.0))
        return False
    if known is None:
        row = {
            "job_id": job_id,
            "operation": work.operation,
            "key": work.key,
            "version": version,
            "attempt": work.attempt,
            "token": token,
            "status": IN_PROGRESS,
            "started_at": now,
            "check_at": 0.0,
        }
        connection.execute(JOBS.insert(), row)
    connection.execute(
        _of(work).values(
            phase=Phase.IN_FLIGHT.value,
            since=known["started_at"] if known else now,
            job_id=job_id,
            attempt=work.attempt,
            lease_until=0.0,
            priority=NORMAL,
            reason=None,
            shown=True,
            refusals=0,
            tries=0,
            not_before=0.0,
        )
    )
    log.to_report(connection, [(log.job(work.operation), work.partition)])
    log.remember(connection, "started", [(work.key, work.operation, f"job {job_id}")])
    early = connection.execute(sa.select(EARLY).where(EARLY.c.job_id == job_id)).mappings().first()
    if early is not None:
        connection.execute(EARLY.delete().where(EARLY.c.job_id == job_id))
        complete(connection, job_id, early["status"], early["completed_at"], now)
    elif known is not None and known["status"] != IN_PROGRESS:
        _ended(connection, known, known["status"], known["completed_at"], now)
    return True


def refused(connection: sa.Connection, work: Waiting, reason: str, now: float) -> None:
    """Enter a start that the service refused for good."""
    connection.execute(
        _of(work).values(
            phase=Phase.FAILED.value,
            since=now,
            reason=reason,
            shown=False,
            tries=0,
            not_before=0.0,
            refusals=WORK.c.refusals + 1,
            job_id=None,
            lease_until=0.0,
            priority=NORMAL,
        )
    )
    log.remember(connection, "refused", [(work.key, work.operation, reason)])


# -- completions ----------------------------------------------------------------------------------


def complete(
    connection: sa.Connection, job_id: str, status: str, completed_at: float | None, now: float
) -> bool:
    """Enter that a job has ended; whether that is news.

    A completion of a job that is not known here is kept: its start may not be entered yet.
    """
    job = connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id)).mappings().first()
    if job is None:
        row = {
            "job_id": job_id,
            "status": status,
            "completed_at": completed_at,
            "received_at": now,
        }
        upsert(connection, EARLY, [row], update=[])
        return False
    if job["status"] != IN_PROGRESS:
        return False
    return _ended(connection, job, status, completed_at, now)


def _ended(
    connection: sa.Connection,
    job: Row,
    status: str,
    completed_at: float | None,
    now: float,
) -> bool:
    times = {"completed_at": completed_at, "noticed_at": now}
    if completed_at is not None and completed_at < job["started_at"]:
        times["started_at"] = completed_at  # it was started before this state heard of it
    connection.execute(
        JOBS.update().where(JOBS.c.job_id == job["job_id"]).values(status=status, **times)
    )
    work = _row(connection, job["operation"], job["key"])
    log.remember(connection, "completed", [(job["key"], job["operation"], status)])
    if work is None or work["job_id"] != job["job_id"]:
        return True  # of an earlier version or attempt: its slot is free, nothing else changes
    values: dict[str, Any] = {"since": completed_at or now, "tries": 0, "not_before": 0.0}
    if status == SUCCEEDED:
        values |= {"phase": Phase.UNPAGED.value, "reason": None}
    elif status == EXPIRED and job["attempt"] < EXPIRED_ATTEMPTS:
        values |= {"phase": Phase.WAITING.value, "attempt": job["attempt"] + 1}
        values |= {"reason": None, "priority": NORMAL}
    else:
        reason = "its results expired" if status == EXPIRED else "the job FAILED"
        values |= {"phase": Phase.FAILED.value, "reason": reason, "shown": False, "since": now}
    connection.execute(
        WORK.update()
        .where(WORK.c.operation == job["operation"], WORK.c.key == job["key"])
        .values(**values)
    )
    log.to_report(connection, [(log.completion(job["operation"]), _partition(connection, job))])
    return True


def _row(connection: sa.Connection, operation: str, key: str) -> sa.RowMapping | None:
    query = sa.select(WORK).where(WORK.c.operation == operation, WORK.c.key == key)
    return connection.execute(query).mappings().first()


def _partition(connection: sa.Connection, job: Row) -> str:
    found = connection.scalar(sa.select(VIDEOS.c.partition).where(VIDEOS.c.key == job["key"]))
    return found or job["key"]


def overdue(
    connection: sa.Connection,
    operations: Sequence[str],
    now: float,
    overdue_s: float,
    limit: int,
) -> list[dict[str, Any]]:
    """Jobs in progress for ``overdue_s`` or longer that are due to be asked about, the first
    started first."""
    query = (
        sa.select(JOBS)
        .where(
            JOBS.c.status == IN_PROGRESS,
            JOBS.c.check_at <= now,
            JOBS.c.started_at <= now - overdue_s,
            JOBS.c.operation.in_(operations),
        )
        .order_by(JOBS.c.check_at, JOBS.c.started_at)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def check_later(connection: sa.Connection, job_id: str, check_at: float) -> None:
    """A job still runs: ask again then."""
    connection.execute(JOBS.update().where(JOBS.c.job_id == job_id).values(check_at=check_at))


def purge_early(connection: sa.Connection, now: float) -> None:
    """Drop completions of jobs that were never known here."""
    connection.execute(EARLY.delete().where(EARLY.c.received_at < now - EARLY_DAYS * 86400))


# -- asked for ------------------------------------------------------------------------------------


@dataclass
class Request:
    """What came of asking for jobs by hand.

    Args:
        waiting: Keys of videos that wait for a job now.
        running: Those whose job runs already.
        refused: Why by key, for the others.
    """

    waiting: list[str]
    running: list[str]
    refused: dict[str, str]


def request(
    connection: sa.Connection,
    operation: str,
    keys: Sequence[str],
    now: float,
    *,
    again: bool,
) -> Request:
    """Ask for jobs of some videos, as a person does.

    Args:
        connection: A transaction that writes.
        operation: Which.
        keys: The videos.
        now: The time.
        again: Whether to analyse anew what is analysed; it is left out otherwise.
    """
    outcome = Request([], [], {})
    for key in keys:
        query = sa.select(VIDEOS).where(VIDEOS.c.key == key)
        video = connection.execute(query).mappings().first()
        if video is None:
            outcome.refused[key] = "it is not known; video_discovery finds what is in the bucket"
        elif video["status"] == GONE:
            outcome.refused[key] = "the object was deleted from its bucket. Upload it again"
        elif video["bucket"] == "":
            outcome.refused[key] = "it is a local file. Analyse it with local_backfill"
        elif video["archived"]:
            outcome.refused[key] = "it is archived in S3 Glacier. Restore and copy it first"
        else:
            _request(connection, operation, video, now, again, outcome)
    log.remember(connection, "asked for", ((k, operation, None) for k in outcome.waiting))
    return outcome


def _request(
    connection: sa.Connection,
    operation: str,
    video: sa.RowMapping,
    now: float,
    again: bool,
    outcome: Request,
) -> None:
    key, work = video["key"], _row(connection, operation, video["key"])
    if work is not None and work["version"] == video["version"]:
        if work["phase"] in (Phase.IN_FLIGHT.value, Phase.UNPAGED.value):
            outcome.running.append(key)
            return
        if work["phase"] == Phase.ANALYSED.value and not again:
            return
        had_job = work["job_id"] is not None or work["phase"] == Phase.ANALYSED.value
        is_next = had_job and work["phase"] != Phase.WAITING.value
        attempt = work["attempt"] + is_next
    else:
        attempt = 1
    row = {
        "operation": operation,
        "key": key,
        "phase": Phase.WAITING.value,
        "since": now,
        "version": video["version"],
        "attempt": attempt,
        "priority": ASKED,
        "lease_until": 0.0,
        "refusals": 0,
        "job_id": None,
        "reason": BY_HAND,
        "shown": True,
        "tries": 0,
        "not_before": 0.0,
    }
    upsert(connection, WORK, [row])
    if video["status"] != PRESENT:
        connection.execute(VIDEOS.update().where(VIDEOS.c.key == key).values(status=PRESENT))
        log.to_report(connection, [(log.VIDEO, video["partition"])])
    outcome.waiting.append(key)


# -- the night ------------------------------------------------------------------------------------


def open_night(
    connection: sa.Connection, operations: Sequence[str], max_attempts: int, now: float
) -> None:
    """Ask again for what is not analysed: held videos, refused starts, and jobs that FAILED, up to
    ``max_attempts``; and let runs try again what they could not do."""
    ours = WORK.c.operation.in_(operations)
    waits = {"phase": Phase.WAITING.value, "priority": NORMAL, "tries": 0, "not_before": 0.0}
    failed = sa.and_(ours, WORK.c.phase == Phase.FAILED.value)
    connection.execute(
        WORK.update()
        .where(ours, WORK.c.phase == Phase.HELD.value, WORK.c.reason.is_(None))
        .values(**waits)
    )
    connection.execute(
        WORK.update()
        .where(failed, WORK.c.job_id.is_(None), WORK.c.refusals < max_attempts)
        .values(**waits, shown=True)
    )
    connection.execute(
        WORK.update()
        .where(failed, WORK.c.job_id.is_not(None), WORK.c.attempt < max_attempts)
        .values(**waits, shown=True, attempt=WORK.c.attempt + 1)
    )
    connection.execute(
        WORK.update()
        .where(ours, WORK.c.phase == Phase.UNPAGED.value)
        .values(tries=0, not_before=0.0)
    )
    connection.execute(
        ANALYTICS.update().where(ANALYTICS.c.behind.is_(True)).values(tries=0, not_before=0.0)
    )
    set_fact(connection, "night_opened_at", repr(now))
    purge_early(connection, now)


def night_opened_at(connection: sa.Connection) -> float:
    """When the last nightly batch was opened; 0 before the first."""
    return float(fact(connection, "night_opened_at") or 0.0)


__all__ = [
    "BY_HAND",
    "EXPIRED",
    "FAILED",
    "IN_PROGRESS",
    "SUCCEEDED",
    "Coverage",
    "Request",
    "Waiting",
    "check_later",
    "complete",
    "in_flight",
    "night_opened_at",
    "open_night",
    "overdue",
    "refused",
    "release",
    "request",
    "reserve",
    "startable",
    "started",
]
