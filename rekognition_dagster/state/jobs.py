"""Jobs: reserved within the quota, started, refused, completed, overdue, and asked for by hand.

Each function is one step of a transaction; what it changes goes to the outbox and the history too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rekognition_dagster.state import log
from rekognition_dagster.state.budget import (
    Allowance,
    Budget,
    Spent,
    bytes_a_second,
    minutes_of,
    spent,
)
from rekognition_dagster.state.control import runs
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
    UNANSWERED,
    VIDEOS,
    WORK,
    Phase,
)
from rekognition_dagster.state.videos import CHUNK, Row, covered, video_of
from rekognition_dagster.videos import Source, Video

EXPIRED_ATTEMPTS = 2
"""A job whose results expired is started again by itself up to this attempt."""
UNANSWERED_STARTS = 5
"""A start that gets no answer so many times in a row gives its slot back."""
EARLY_DAYS = 14
"""So long a completion of a job that is not known here is kept."""


def startable(sources: Sequence[Source], operation: str) -> sa.ColumnElement[bool]:
    """The condition under which waiting work of an operation may start by itself."""
    there = sa.and_(VIDEOS.c.status == PRESENT, VIDEOS.c.discovered.is_(True))
    return sa.and_(there, covered(sources, operation))


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
        lapsed: Whether an earlier start broke off or got no answer: its job may run already.
        has_slot: Whether such a start is still counted as a job in flight.
        version: Of the content that the work is for.
        minutes: How long the video is, as far as that can be told.
    """

    operation: str
    key: str
    partition: str
    video: Video
    attempt: int
    asked: bool
    lapsed: bool = False
    has_slot: bool = False
    version: str = "unknown"
    minutes: float = 0.0


def in_flight(connection: sa.Connection, now: float) -> int:
    """Jobs in flight: those in progress, also of replaced videos, and starts under way."""
    jobs = sa.select(sa.func.count()).select_from(JOBS).where(JOBS.c.status == IN_PROGRESS)
    starts = (
        sa.select(sa.func.count())
        .select_from(WORK)
        .where(
            WORK.c.phase == Phase.WAITING.value,
            WORK.c.priority.in_((UNANSWERED, RECOVERED)),
            WORK.c.lease_until > now,
        )
    )
    return int(connection.scalar(jobs) or 0) + int(connection.scalar(starts) or 0)


def reserve(
    connection: sa.Connection,
    operations: Sequence[str],
    sources: Sequence[Source],
    *,
    most: int,
    limit: int,
    now: float,
    lease_s: float,
    keys: Sequence[str] | None = None,
    without: Collection[tuple[str, str]] = (),
    budget: Budget | None = None,
) -> list[Waiting]:
    """Reserve work for which slots are free, each operation in turn, in order of rank and time.

    A reservation that :func:`started`, :func:`refused` or :func:`release` does not follow lapses
    after ``lease_s``, and its work comes first then.

    Args:
        connection: A transaction that writes.
        operations: Which may start.
        sources: The videos that may start by themselves.
        most: Jobs in flight at most.
        limit: Reservations at most.
        now: The time.
        lease_s: How long a reservation holds, in seconds.
        keys: Only these videos.
        without: Operations and keys to leave out: they were lost in this tick.
        budget: What may start in a day or a month; what may run already is started all the same.
    """
    room = most - in_flight(connection, now)
    most_rows = limit + len(without)
    turns = [
        [
            w
            for w in _waiting(connection, o, sources, most_rows, now, keys, room <= 0, budget)
            if (w.operation, w.key) not in without
        ]
        for o in operations
    ]
    # First what may run already, whatever its operation, or there would be more than ``most``.
    chosen = [w for turn in turns for w in turn if w.has_slot][:limit]
    room = min(room + len(chosen), limit)
    chosen += [w for turn in turns for w in turn if w.lapsed and not w.has_slot]
    chosen = chosen[: max(room, 0)]
    turns = [[w for w in turn if not w.lapsed] for turn in turns]
    while len(chosen) < room and any(turns):
        for turn in turns:
            if turn and len(chosen) < room:
                chosen.append(turn.pop(0))
    if budget is not None and budget.limits:
        allowance = Allowance(connection, budget, now)
        chosen = [w for w in chosen if w.lapsed or allowance.take(w.operation, w.minutes)]
    if chosen:
        reservation = _each(lease_until=now + lease_s, priority=RECOVERED)
        ours = [{"of_operation": w.operation, "of_key": w.key} for w in chosen]
        connection.execute(reservation, ours)
    return chosen


def beyond(
    connection: sa.Connection,
    operations: Sequence[str],
    sources: Sequence[Source],
    budget: Budget,
    now: float,
) -> list[Spent]:
    """How the limits stand that the next work of an operation does not fit into."""
    waiting = [
        w
        for o in (operations if budget.limits else ())
        for w in _waiting(connection, o, sources, 1, now)
    ]
    return [
        s
        for s in spent(connection, budget, now)
        if any(
            s.limit.has(w.operation)
            and not s.has_room(w.minutes, w.minutes * budget.prices.get(w.operation, 0.0))
            for w in waiting
        )
    ]


_OF_VERSION = WORK.c.version.label("of_version")


def _waiting(
    connection: sa.Connection,
    operation: str,
    sources: Sequence[Source],
    limit: int,
    now: float,
    keys: Sequence[str] | None = None,
    only_unanswered: bool = False,
    budget: Budget | None = None,
) -> list[Waiting]:
    rate = bytes_a_second(connection)
    columns = (WORK.c.attempt, WORK.c.reason, WORK.c.priority, WORK.c.lease_until, _OF_VERSION)
    query = (
        sa.select(VIDEOS, *columns)
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .where(
            WORK.c.operation == operation,
            WORK.c.phase == Phase.WAITING.value,
            sa.or_(WORK.c.lease_until <= now, WORK.c.priority == UNANSWERED),
            WORK.c.not_before <= now,
            sa.or_(WORK.c.reason == BY_HAND, startable(sources, operation)),
            runs(connection, operation),
        )
        .order_by(WORK.c.priority, WORK.c.rank, WORK.c.since, WORK.c.key)
        .limit(limit)
    )
    if keys is not None:
        query = query.where(WORK.c.key.in_(keys[:CHUNK]))
    if only_unanswered:
        query = query.where(WORK.c.priority == UNANSWERED)
    longest = budget.longest(operation) if budget else None
    if longest is not None:
        may_run = WORK.c.priority.in_((UNANSWERED, RECOVERED))
        query = query.where(sa.or_(may_run, _minutes(rate) <= longest))
    return [
        Waiting(
            operation,
            row["key"],
            row["partition"],
            video_of(row),
            row["attempt"],
            row["reason"] == BY_HAND,
            row["priority"] in (UNANSWERED, RECOVERED),
            row["lease_until"] > now,
            row["of_version"],
            minutes_of(row["duration_s"], row["size"], rate),
        )
        for row in connection.execute(query).mappings()
    ]


def _minutes(rate: float) -> sa.ColumnElement[float]:
    """See :func:`.budget.minutes_of`."""
    estimated = sa.func.coalesce(VIDEOS.c.size, 0) / rate
    return sa.func.coalesce(VIDEOS.c.duration_s, estimated) / 60.0


def too_long(
    connection: sa.Connection, operation: str, sources: Sequence[Source], budget: Budget
) -> int:
    """Return how many waiting videos never start, because they alone exceed a whole limit."""
    longest = budget.longest(operation)
    if longest is None:
        return 0
    query = (
        sa.select(sa.func.count())
        .select_from(WORK)
        .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
        .where(
            WORK.c.operation == operation,
            WORK.c.phase == Phase.WAITING.value,
            WORK.c.priority.not_in((UNANSWERED, RECOVERED)),
            startable(sources, operation),
            _minutes(bytes_a_second(connection)) > longest,
        )
    )
    return int(connection.scalar(query) or 0)


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


def unanswered(connection: sa.Connection, work: Waiting, now: float, lease_s: float) -> None:
    """Keep the slot of a start that got no answer: its job may run.

    It may be started again at once. It loses the slot after ``lease_s``, and where no answer came
    :data:`UNANSWERED_STARTS` times in a row.
    """
    row = _row(connection, work.operation, work.key)
    if row is None or row["tries"] + 1 >= UNANSWERED_STARTS:
        release(connection, [work])
        return
    keep = {"priority": UNANSWERED, "lease_until": now + lease_s, "tries": row["tries"] + 1}
    connection.execute(_of(work).values(**keep))


@dataclass(frozen=True)
class Started:
    """A job that the service started, or found running, for reserved work."""

    work: Waiting
    job_id: str
    token: str


def started(connection: sa.Connection, starts: Sequence[Started], now: float) -> list[Waiting]:
    """Enter started jobs.

    Returns:
        Work that a person asked for and whose job has ended before: it needs another attempt, and
        waits for it.
    """
    ids = [s.job_id for s in starts]
    known = {j["job_id"]: j for j in _select(connection, JOBS, JOBS.c.job_id, ids)}
    again = [s.work for s in starts if s.work.asked and _is_over(connection, s, known)]
    for work in again:
        connection.execute(_of(work).values(attempt=work.attempt + 1, lease_until=0.0))
    new = [s for s in starts if s.work not in again]
    rows = [_new_job(s, now) for s in new if s.job_id not in known]
    if rows:
        connection.execute(JOBS.insert(), rows)
    if new:
        since = {job_id: job["started_at"] for job_id, job in known.items()}
        connection.execute(
            _each(
                phase=Phase.IN_FLIGHT.value,
                since=sa.bindparam("at"),
                job_id=sa.bindparam("id"),
                attempt=sa.bindparam("nth"),
                lease_until=0.0,
                priority=NORMAL,
                reason=None,
                shown=True,
                refusals=0,
                tries=0,
                not_before=0.0,
            ).where(WORK.c.version == sa.bindparam("of_version")),  # it may have changed meanwhile
            [
                {"of_operation": s.work.operation, "of_key": s.work.key}
                | {"of_version": s.work.version}
                | {"at": since.get(s.job_id, now), "id": s.job_id, "nth": s.work.attempt}
                for s in new
            ],
        )
    log.to_report(connection, ((log.job(s.work.operation), s.work.partition) for s in new))
    entries = ((s.work.key, s.work.operation, f"job {s.job_id}") for s in new)
    log.remember(connection, "started", entries)
    ended = [known[s.job_id] for s in new if s.job_id in known]
    _end(connection, [(j, _ending(j)) for j in ended if j["status"] != IN_PROGRESS], now)
    early = _select(connection, EARLY, EARLY.c.job_id, [s.job_id for s in new])
    if early:
        connection.execute(EARLY.delete().where(EARLY.c.job_id.in_([e["job_id"] for e in early])))
        complete(connection, [_ending(e) for e in early], now)
    return again


def _is_over(connection: sa.Connection, start: Started, known: Mapping[str, Row]) -> bool:
    """Whether this job has ended before, or is the one whose results are in the lake."""
    job, work = known.get(start.job_id), _row(connection, start.work.operation, start.work.key)
    if job is not None and job["status"] != IN_PROGRESS:
        return True
    return work is not None and work["results_job_id"] == start.job_id


def _new_job(start: Started, now: float) -> dict[str, Any]:
    return {
        "job_id": start.job_id,
        "operation": start.work.operation,
        "key": start.work.key,
        "version": start.work.version,
        "attempt": start.work.attempt,
        "token": start.token,
        "status": IN_PROGRESS,
        "started_at": now,
        "check_at": 0.0,
        "minutes": start.work.minutes,
    }


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


@dataclass(frozen=True)
class Ending:
    """How and when a job ended, as its completion or the service reports."""

    job_id: str
    status: str
    completed_at: float | None = None


def _ending(row: Row) -> Ending:
    return Ending(row["job_id"], row["status"], row["completed_at"])


def complete(connection: sa.Connection, endings: Sequence[Ending], now: float) -> int:
    """Enter that jobs have ended; of how many that is news.

    A completion of a job that is not known here is kept: its start may not be entered yet.
    """
    first = {e.job_id: e for e in reversed(endings)}
    known = {j["job_id"]: j for j in _select(connection, JOBS, JOBS.c.job_id, list(first))}
    early = [
        {
            "job_id": e.job_id,
            "status": e.status,
            "completed_at": e.completed_at,
            "received_at": now,
        }
        for e in first.values()
        if e.job_id not in known
    ]
    upsert(connection, EARLY, early, update=[])
    news = [(j, first[i]) for i, j in known.items() if j["status"] == IN_PROGRESS]
    _end(connection, news, now)
    return len(news)


def _end(connection: sa.Connection, ended: Sequence[tuple[Row, Ending]], now: float) -> None:
    if not ended:
        return
    connection.execute(
        JOBS.update()
        .where(JOBS.c.job_id == sa.bindparam("of"))
        .values(
            status=sa.bindparam("ended_as"),
            completed_at=sa.bindparam("ended_at"),
            noticed_at=now,
            started_at=sa.bindparam("begun_at"),
        ),
        [
            {
                "of": job["job_id"],
                "ended_as": e.status,
                "ended_at": e.completed_at,
                # A job that ended before this state heard of it was started before that.
                "begun_at": min(job["started_at"], e.completed_at or job["started_at"]),
            }
            for job, e in ended
        ],
    )
    entries = ((job["key"], job["operation"], e.status) for job, e in ended)
    log.remember(connection, "completed", entries)
    works = _works(connection, [job["key"] for job, _ in ended])
    for job, e in ended:
        work = works.get((job["operation"], job["key"]))
        if work is None or work["job_id"] != job["job_id"]:
            continue  # of an earlier version or attempt: its slot is free, nothing else changes
        works[job["operation"], job["key"]] = {**work, "next": _next(job, e, now)}
    moved = [w for w in works.values() if "next" in w]
    for columns in {tuple(w["next"]) for w in moved}:
        some = [w for w in moved if tuple(w["next"]) == columns]
        connection.execute(
            _each(**{c: sa.bindparam(f"new_{c}") for c in columns}),
            [
                {"of_operation": w["operation"], "of_key": w["key"]}
                | {f"new_{c}": v for c, v in w["next"].items()}
                for w in some
            ],
        )
    log.to_report(connection, ((log.completion(w["operation"]), w["partition"]) for w in moved))


def _next(job: Row, ending: Ending, now: float) -> dict[str, Any]:
    """New values of the work whose job has ended."""
    values: dict[str, Any] = {"tries": 0, "not_before": 0.0, "reason": None}
    if ending.status == SUCCEEDED:
        return values | {"phase": Phase.UNPAGED.value, "since": ending.completed_at or now}
    if ending.status == EXPIRED and job["attempt"] < EXPIRED_ATTEMPTS:
        values |= {"phase": Phase.WAITING.value, "since": ending.completed_at or now}
        return values | {"attempt": job["attempt"] + 1, "priority": NORMAL}
    reason = "its results expired" if ending.status == EXPIRED else "the job FAILED"
    values |= {"phase": Phase.FAILED.value, "since": now}
    return values | {"reason": reason, "shown": False}


def _select(
    connection: sa.Connection, table: sa.Table, column: sa.Column[Any], values: Sequence[str]
) -> list[sa.RowMapping]:
    """Rows of a table by the values of a column."""
    found: list[sa.RowMapping] = []
    for start in range(0, len(values), CHUNK):
        query = sa.select(table).where(column.in_(values[start : start + CHUNK]))
        found += connection.execute(query).mappings()
    return found


def _works(
    connection: sa.Connection, keys: Sequence[str]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Work of videos with their partitions, by operation and key."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for start in range(0, len(keys), CHUNK):
        query = (
            sa.select(WORK, VIDEOS.c.partition)
            .join(VIDEOS, VIDEOS.c.key == WORK.c.key)
            .where(WORK.c.key.in_(keys[start : start + CHUNK]))
        )
        found |= {(w["operation"], w["key"]): w for w in connection.execute(query).mappings()}
    return found


def _each(**values: Any) -> sa.Update:
    """An update of work, executed with ``of_operation`` and ``of_key`` of each."""
    return (
        WORK.update()
        .where(
            WORK.c.operation == sa.bindparam("of_operation"),
            WORK.c.key == sa.bindparam("of_key"),
        )
        .values(**values)
    )


def _row(connection: sa.Connection, operation: str, key: str) -> sa.RowMapping | None:
    query = sa.select(WORK).where(WORK.c.operation == operation, WORK.c.key == key)
    return connection.execute(query).mappings().first()


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
    connection: sa.Connection,
    operations: Sequence[str],
    max_attempts: int,
    now: float,
    history_days: float,
) -> None:
    """Ask again for what is not analysed, and purge what is old.

    Held videos wait for a job, and so do refused starts and jobs that FAILED, up to
    ``max_attempts``. Runs try again what they could not do.
    """
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
    log.purge(connection, now - history_days * 86400)


def night_opened_at(connection: sa.Connection) -> float:
    """When the last nightly batch was opened; 0 before the first."""
    return float(fact(connection, "night_opened_at") or 0.0)


__all__ = [
    "BY_HAND",
    "EXPIRED",
    "FAILED",
    "IN_PROGRESS",
    "SUCCEEDED",
    "Ending",
    "Request",
    "Started",
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
    "unanswered",
]
