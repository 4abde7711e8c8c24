"""The job store: jobs, idempotency tokens and the outbox, in SQL through SQLAlchemy.

Every change of a job is one transaction, so that a process may die between any two of them.
SQLite (WAL) serves one host, PostgreSQL several. What a job computes lies in its results, not here.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from rekognition_dagster.database import open_engine, without_password
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.service.backoff import backoff_s
from rekognition_dagster.service.database import (
    ACCOUNTS,
    COUNTERS,
    ENDED,
    FACTS,
    FRAMES,
    JOBS,
    OUTBOX,
    TOKENS,
    prepare,
)

IN_PROGRESS, SUCCEEDED, FAILED = "IN_PROGRESS", "SUCCEEDED", "FAILED"
QUEUED, RUNNING = "QUEUED", "RUNNING"


@dataclass(frozen=True)
class Job:
    """One accepted job.

    Args:
        job_id: 64 hexadecimal characters, as AWS's are.
        operation: The operation's name, e.g. ``person_tracking``.
        account: Whose job it is; idempotency tokens and jobs are told apart by it.
        bucket: Bucket of the video.
        name: Key of the video.
        version: Version of the object, where the request named one.
        job_tag: The caller's tag.
        topic_arn: Where completion is announced.
        request: The Start request.
        status: IN_PROGRESS, SUCCEEDED or FAILED.
        status_message: Why it FAILED, or what was lost of a video that SUCCEEDED.
        created_at: Seconds since 1970.
        completed_at: Seconds since 1970.
        expires_at: When it and its results are removed; infinite while it is in progress.
        attempts: Attempts that failed by the video's fault.
        interruptions: Attempts that failed by a fault around the video.
        claims: How often a worker took it up.
        lease_owner: The worker that holds it.
        available_at: When a worker may claim it: after a back-off, or when its lease expires.
        metadata: Members of a Get response: VideoMetadata, LabelModelVersion.
        results: Folder of its results.
        orders: Rows in each order that the results were written in.
    """

    job_id: str
    operation: str
    account: str
    bucket: str
    name: str
    version: str | None
    job_tag: str | None
    topic_arn: str | None
    request: Mapping[str, Any]
    status: str
    status_message: str | None
    created_at: float
    completed_at: float | None
    expires_at: float
    attempts: int
    interruptions: int
    claims: int
    lease_owner: str | None
    available_at: float
    metadata: Mapping[str, Any] | None
    results: str | None
    orders: Mapping[str, int] | None

    @property
    def state(self) -> str:
        """Its status, and QUEUED or RUNNING for one that is IN_PROGRESS."""
        if self.status != IN_PROGRESS:
            return self.status
        return RUNNING if self.lease_owner else QUEUED

    @property
    def video(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.name}"


@dataclass(frozen=True)
class Notification:
    """A completion to be announced.

    Args:
        job_id: Whose completion.
        topic_arn: The SNS topic.
        message: The message's JSON.
        attempts: How often it was tried.
        age_s: Seconds since the job ended.
        created_at: When the job ended, in seconds since 1970.
    """

    job_id: str
    topic_arn: str
    message: str
    attempts: int
    age_s: float
    created_at: float


@dataclass(frozen=True)
class Waiting:
    """What waits in a store.

    Args:
        jobs: Jobs that no worker has taken up.
        age: Seconds that the oldest of them waits.
        notifications: Completions not yet published.
        notification_age: Seconds that the oldest of them waits.
    """

    jobs: int
    age: float
    notifications: int
    notification_age: float


@dataclass(frozen=True)
class Selection:
    """Which jobs of a store; what is empty or None selects all.

    Args:
        job_id: The JobId, or its beginning.
        states: QUEUED, RUNNING, SUCCEEDED, FAILED.
        operations: Names of operations.
        account: Whose jobs.
        older_than_s: Least seconds since the job ended, or was started while it is in progress.
        newer_than_s: Most seconds likewise.
    """

    job_id: str = ""
    states: Collection[str] = ()
    operations: Collection[str] = ()
    account: str | None = None
    older_than_s: float | None = None
    newer_than_s: float | None = None

    def conditions(self, now: float) -> Iterator[sa.ColumnElement[bool]]:
        """The jobs selected, as SQL."""
        moved_at = sa.func.coalesce(JOBS.c.completed_at, JOBS.c.created_at)
        if self.job_id:  # hexadecimal digits come before g
            yield JOBS.c.job_id.between(self.job_id, f"{self.job_id}g")
        if self.states:
            yield sa.or_(*(_STATES[state] for state in self.states))
        if self.operations:
            yield JOBS.c.operation.in_(list(self.operations))
        if self.account is not None:
            yield JOBS.c.account == self.account
        if self.older_than_s is not None:
            yield moved_at <= now - self.older_than_s
        if self.newer_than_s is not None:
            yield moved_at >= now - self.newer_than_s


_STATES: Mapping[str, sa.ColumnElement[bool]] = {
    QUEUED: sa.and_(JOBS.c.status == IN_PROGRESS, JOBS.c.lease_owner.is_(None)),
    RUNNING: sa.and_(JOBS.c.status == IN_PROGRESS, JOBS.c.lease_owner.is_not(None)),
    SUCCEEDED: JOBS.c.status == SUCCEEDED,
    FAILED: JOBS.c.status == FAILED,
}


class TooManyJobsError(Exception):
    """As many jobs are in progress as are allowed."""


class TokenMismatchError(Exception):
    """The idempotency token was used for another request."""


class JobStore:
    """Jobs in a SQL database.

    Args:
        url: SQLAlchemy's URL.
        clock: Seconds since 1970, for tests; the database's own clock by default, which all hosts
            share.
        job_life_s: How long a job, its results and its token live after its end; also how long a
            job is tried while something around it is at fault.
        wait_s: Seconds to wait for the database.

    Raises:
        ConfigurationError: The database cannot be opened.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] | None = None,
        job_life_s: float = 7 * 86400.0,
        wait_s: float = 30.0,
    ):
        self._clock, self._life, self._wait_s = clock, job_life_s, wait_s
        self._turn = threading.Lock()
        try:
            self._engine = open_engine(url, connections=20, wait_s=wait_s)
            with self._write() as connection:
                if self._engine.dialect.name == "postgresql":
                    # Two hosts that start at once must not both create the tables.
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(7236501)"))
                prepare(connection)
                secret = connection.scalar(sa.select(FACTS.c.value).where(FACTS.c.name == "secret"))
                if secret is None:
                    secret = secrets.token_hex(32)
                    connection.execute(FACTS.insert().values(name="secret", value=secret))
        except (exc.SQLAlchemyError, ImportError, OSError) as error:
            raise ConfigurationError(
                f"cannot open the job store {without_password(url)}: {_first_line(error)}. "
                "Check the store's address, its permissions and its driver"
            ) from error
        self.secret = bytes.fromhex(secret)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        # Threads that wait for SQLite's own lock sleep and look again, some of them for seconds; a
        # queue in front of it serves them in turn. Other processes still meet at SQLite's lock.
        in_turn = (
            self._queued() if self._engine.dialect.name == "sqlite" else contextlib.nullcontext()
        )
        with in_turn, self._engine.execution_options(writes=True).begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _queued(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self._wait_s):
            raise exc.TimeoutError(f"another transaction took more than {self._wait_s:g} s")
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            yield connection

    def _now(self, connection: sa.Connection) -> float:
        """Seconds since 1970 by the clock that all users of the database share."""
        if self._clock is not None:
            return self._clock()
        if self._engine.dialect.name == "sqlite":
            return time.time()
        return connection.execute(
            sa.text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)")
        ).scalar_one()

    def ping(self, *, write: bool = False) -> None:
        """Read from the database, and with ``write`` also write to it.

        Raises:
            SQLAlchemyError: It does not work.
        """
        if not write:
            with self._read() as connection:
                connection.execute(sa.select(FACTS.c.name).limit(1)).all()
            return
        with self._write() as connection:
            connection.execute(
                COUNTERS.update().where(COUNTERS.c.name == FRAMES).values(value=COUNTERS.c.value)
            )

    # -- the API's side ---------------------------------------------------------------------------

    def job_of_token(
        self, account: str, operation: str, token: str, request_hash: str
    ) -> str | None:
        """The JobId that this token already stands for, if any.

        Raises:
            TokenMismatchError: It stands for a request with another hash.
        """
        with self._read() as connection:
            return self._job_of_token(connection, account, operation, token, request_hash)

    def _job_of_token(
        self,
        connection: sa.Connection,
        account: str,
        operation: str,
        token: str,
        request_hash: str,
    ) -> str | None:
        row = connection.execute(
            sa.select(TOKENS.c.job_id, TOKENS.c.request_hash).where(
                TOKENS.c.account == account,
                TOKENS.c.operation == operation,
                TOKENS.c.token == token,
                TOKENS.c.expires_at > self._now(connection),
            )
        ).first()
        if row is None:
            return None
        if row.request_hash != request_hash:
            raise TokenMismatchError(row.job_id)
        return row.job_id

    def add(
        self,
        operation: str,
        request: Mapping[str, Any],
        *,
        account: str,
        token: str | None,
        request_hash: str,
        limit: int,
    ) -> tuple[str, bool]:
        """Accept a job, or find the one that its token stands for.

        Args:
            operation: The operation's name.
            request: The Start request, checked.
            account: Whose job it is.
            token: ``ClientRequestToken``.
            request_hash: Hash of everything else in the request.
            limit: Jobs of the account in progress at once.

        Returns:
            The JobId, and whether it is new.

        Raises:
            TooManyJobsError: ``limit`` jobs of the account are in progress.
            TokenMismatchError: The token stands for another request.
        """
        video = request["Video"]["S3Object"]
        with self._write() as connection:
            now = self._now(connection)
            self._lock_account(connection, account)
            if token is not None:
                known = self._job_of_token(connection, account, operation, token, request_hash)
                if known is not None:
                    return known, False
            running = connection.scalar(
                sa.select(sa.func.count())
                .select_from(JOBS)
                .where(JOBS.c.account == account, JOBS.c.status == IN_PROGRESS)
            )
            if (running or 0) >= limit:
                raise TooManyJobsError
            job_id = secrets.token_hex(32)
            connection.execute(
                JOBS.insert().values(
                    job_id=job_id,
                    operation=operation,
                    account=account,
                    bucket=video["Bucket"],
                    name=video["Name"],
                    version=video.get("Version"),
                    job_tag=request.get("JobTag"),
                    topic_arn=request.get("NotificationChannel", {}).get("SNSTopicArn"),
                    request=json.dumps(request),
                    status=IN_PROGRESS,
                    created_at=now,
                    expires_at=math.inf,
                    available_at=now,
                    attempts=0,
                )
            )
            if token is not None:
                connection.execute(
                    TOKENS.delete().where(
                        TOKENS.c.account == account,
                        TOKENS.c.operation == operation,
                        TOKENS.c.token == token,
                    )
                )
                connection.execute(
                    TOKENS.insert().values(
                        account=account,
                        operation=operation,
                        token=token,
                        request_hash=request_hash,
                        job_id=job_id,
                        expires_at=math.inf,
                    )
                )
        return job_id, True

    def _lock_account(self, connection: sa.Connection, account: str) -> None:
        """Lock an account while its jobs are counted and added; SQLite locks everything anyway."""
        insert = {"sqlite": sqlite.insert}.get(self._engine.dialect.name, postgresql.insert)
        connection.execute(insert(ACCOUNTS).values(account=account).on_conflict_do_nothing())
        connection.execute(
            sa.select(ACCOUNTS.c.turn).where(ACCOUNTS.c.account == account).with_for_update()
        )

    def job(self, job_id: str) -> Job | None:
        """The job, unless there is none or it has expired."""
        with self._read() as connection:
            row = connection.execute(
                sa.select(JOBS).where(
                    JOBS.c.job_id == job_id, JOBS.c.expires_at > self._now(connection)
                )
            ).first()
        return _job(row) if row is not None else None

    # -- the workers' side ------------------------------------------------------------------------

    def claim(self, owner: str, lease_s: float) -> Job | None:
        """Claim the longest due job of the account whose turn it is, for ``lease_s`` seconds.

        A job whose lease expired was interrupted: it becomes due again after its back-off.
        """
        with self._read() as connection:  # most polls find nothing; they need no write lock
            due = _due(self._now(connection))
            if connection.scalar(sa.select(JOBS.c.job_id).where(due).limit(1)) is None:
                return None
        with self._write() as connection:
            now = self._now(connection)
            row = self._next(connection, now)
            if row is None:
                return None
            job = _job(row)
            last = sa.select(sa.func.max(ACCOUNTS.c.turn)).scalar_subquery()
            connection.execute(
                ACCOUNTS.update().where(ACCOUNTS.c.account == job.account).values(turn=last + 1)
            )
            if row.lease_owner is not None:
                self._interrupt(connection, job, now, "its workers were lost")
                return None
            connection.execute(
                JOBS.update()
                .where(JOBS.c.job_id == job.job_id)
                .values(claims=job.claims + 1, lease_owner=owner, available_at=now + lease_s)
            )
        return _job(row, claims=job.claims + 1, lease_owner=owner, available_at=now + lease_s)

    def _next(self, connection: sa.Connection, now: float) -> sa.Row[Any] | None:
        """The due job that is next, locked: each account in turn, its longest due job first."""
        due = JOBS.c.account == ACCOUNTS.c.account, _due(now)
        accounts = connection.scalars(
            sa.select(ACCOUNTS.c.account)
            .where(sa.exists().where(*due))
            .order_by(ACCOUNTS.c.turn, ACCOUNTS.c.account)
        ).all()
        for account in accounts:
            row = connection.execute(
                sa.select(JOBS)
                .where(JOBS.c.account == account, _due(now))
                .order_by(JOBS.c.available_at)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            if row is not None:  # else another worker is claiming the account's only one
                return row
        return None

    def heartbeat(self, job: Job, owner: str, lease_s: float) -> bool:
        """Hold a job for another ``lease_s`` seconds; False where it is no longer this owner's."""
        with self._write() as connection:
            until = self._now(connection) + lease_s
            result = connection.execute(
                JOBS.update().where(*_held(job, owner)).values(available_at=until)
            )
        return result.rowcount == 1

    def count_frames(self, number: int) -> None:
        """Frames that were analysed since this was last called."""
        with self._write() as connection:
            connection.execute(
                COUNTERS.update()
                .where(COUNTERS.c.name == FRAMES)
                .values(value=COUNTERS.c.value + number)
            )

    def release(self, job: Job, owner: str) -> None:
        """Give a job back at once: the attempt was called off, and nothing went wrong."""
        with self._write() as connection:
            connection.execute(
                JOBS.update()
                .where(*_held(job, owner))
                .values(lease_owner=None, available_at=self._now(connection))
            )

    def interrupt(self, job: Job, owner: str, reason: str) -> None:
        """Give a job back that a fault around it stopped; it becomes due after its back-off.

        No attempt is counted. A job that was accepted ``job_life_s`` ago ends in FAILED instead.

        Args:
            job: The job.
            owner: Who holds it; nothing happens where another owner does.
            reason: What is at fault, for the caller: a clause.
        """
        with self._write() as connection:
            row = self._lock(connection, job, owner)
            if row is not None:
                self._interrupt(connection, _job(row), self._now(connection), reason)

    def _interrupt(self, connection: sa.Connection, job: Job, now: float, reason: str) -> None:
        if now - job.created_at >= self._life:
            message = (
                f"{job.video}: it was not analysed within {_time_of(self._life)}, because "
                f"{reason}. Start the job again once that works"
            )
            self._end(connection, job, FAILED, now, message=message)
            return
        number = job.interruptions + 1
        _give_back(connection, job, now + backoff_s(number), interruptions=number)

    def count_attempt(
        self,
        job: Job,
        owner: str,
        reason: str,
        attempts: int,
        metadata: Mapping[str, Any] | None = None,
    ) -> str | None:
        """Count an attempt that the video made fail; at the last one the job ends in FAILED.

        Args:
            job: The job.
            owner: Who holds it; nothing happens where another owner does.
            reason: What went wrong, for the caller: a clause about the analysis.
            attempts: How many there are.
            metadata: See :meth:`fail`.

        Returns:
            The job's status; None where it is no longer this owner's.
        """
        with self._write() as connection:
            row = self._lock(connection, job, owner)
            return self._count(connection, row, reason, attempts, metadata or {})

    def _count(
        self,
        connection: sa.Connection,
        row: sa.Row[Any] | None,
        reason: str,
        attempts: int,
        metadata: Mapping[str, Any],
    ) -> str | None:
        if row is None:
            return None
        job, now = _job(row), self._now(connection)
        number = job.attempts + 1
        if number >= attempts:
            message = (
                f"{job.video}: the analysis failed {number} times, the last time because {reason}. "
                f"{_REMEDY}"
            )
            text = json.dumps(metadata)
            self._end(connection, job, FAILED, now, message=message, metadata=text)
            return FAILED
        _give_back(connection, job, now + backoff_s(number), attempts=number)
        return IN_PROGRESS

    def count_crash(
        self, job_id: str, claims: int, owner: str, reason: str, attempts: int
    ) -> str | None:
        """Count an attempt whose worker ended in it; see :meth:`count_attempt`.

        Its lease may have expired meanwhile, as long as no other worker has taken up the job.
        """
        with self._write() as connection:
            row = connection.execute(
                sa.select(JOBS)
                .where(
                    JOBS.c.job_id == job_id,
                    JOBS.c.status == IN_PROGRESS,
                    JOBS.c.claims == claims,
                    sa.or_(JOBS.c.lease_owner == owner, JOBS.c.lease_owner.is_(None)),
                )
                .with_for_update()
            ).first()
            return self._count(connection, row, reason, attempts, {})

    def _lock(self, connection: sa.Connection, job: Job, owner: str) -> sa.Row[Any] | None:
        """The job's row, locked, where this owner still holds it."""
        return connection.execute(
            sa.select(JOBS).where(*_held(job, owner)).with_for_update()
        ).first()

    def complete(
        self,
        job: Job,
        owner: str,
        *,
        metadata: Mapping[str, Any],
        results: str,
        orders: Mapping[str, int],
        message: str | None = None,
    ) -> bool:
        """End a job in SUCCEEDED and put its announcement in the outbox, in one transaction.

        ``message`` says what was lost of the video.

        Returns:
            False where the job is no longer this owner's; its results are then not the job's.
        """
        with self._write() as connection:
            return self._end(
                connection,
                job,
                SUCCEEDED,
                self._now(connection),
                owner=owner,
                message=message,
                metadata=json.dumps(metadata),
                results=results,
                orders=json.dumps(orders),
            )

    def fail(
        self, job: Job, owner: str, message: str, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """End a job in FAILED with a message for people; see :meth:`complete`."""
        text = json.dumps(metadata or {})
        with self._write() as connection:
            now = self._now(connection)
            return self._end(
                connection, job, FAILED, now, owner=owner, message=message, metadata=text
            )

    def _end(
        self,
        connection: sa.Connection,
        job: Job,
        status: str,
        now: float,
        *,
        owner: str | None = None,
        message: str | None = None,
        **values: Any,
    ) -> bool:
        held = _held(job, owner) if owner else [JOBS.c.job_id == job.job_id]
        ended = connection.execute(
            JOBS.update()
            .where(*held, JOBS.c.status == IN_PROGRESS)
            .values(
                status=status,
                status_message=message,
                completed_at=now,
                expires_at=now + self._life,
                lease_owner=None,
                **values,
            )
        )
        if ended.rowcount != 1:
            return False
        connection.execute(
            COUNTERS.update()
            .where(COUNTERS.c.name == ENDED[status])
            .values(value=COUNTERS.c.value + 1)
        )
        connection.execute(
            TOKENS.update().where(TOKENS.c.job_id == job.job_id).values(expires_at=now + self._life)
        )
        if job.topic_arn:
            connection.execute(
                OUTBOX.insert().values(
                    job_id=job.job_id,
                    topic_arn=job.topic_arn,
                    message=json.dumps(completion_message(job, status, now)),
                    created_at=now,
                    attempts=0,
                    next_at=now,
                )
            )
        return True

    def release_dead(self, is_dead: Callable[[str], bool]) -> int:
        """Interrupt the jobs of owners known to be dead; how many there were.

        Leases expire by themselves; this saves the wait.
        """
        held = [JOBS.c.status == IN_PROGRESS, JOBS.c.lease_owner.is_not(None)]
        with self._read() as connection:
            owners = connection.scalars(sa.select(JOBS.c.lease_owner).where(*held).distinct()).all()
        dead = [o for o in owners if o and is_dead(o)]
        if not dead:
            return 0
        with self._write() as connection:
            now = self._now(connection)
            rows = connection.execute(
                sa.select(JOBS).where(*held, JOBS.c.lease_owner.in_(dead)).with_for_update()
            ).all()
            for row in rows:
                self._interrupt(connection, _job(row), now, "its workers were lost")
        return len(rows)

    # -- the publisher's side ---------------------------------------------------------------------

    def due_notifications(
        self, hold_s: float, limit: int = 20, *, except_topics: Collection[str] = ()
    ) -> list[Notification]:
        """Announcements that are due; others leave them alone for ``hold_s`` seconds."""
        other = OUTBOX.c.topic_arn.not_in(list(except_topics))
        with self._read() as connection:
            due = sa.and_(other, OUTBOX.c.next_at <= self._now(connection))
            if connection.scalar(sa.select(OUTBOX.c.job_id).where(due).limit(1)) is None:
                return []
        with self._write() as connection:
            now = self._now(connection)
            due = sa.and_(other, OUTBOX.c.next_at <= now)
            rows = connection.execute(
                sa.select(OUTBOX)
                .where(due)
                .order_by(OUTBOX.c.next_at)
                .limit(limit)
                .with_for_update(skip_locked=True)
            ).all()
            connection.execute(
                OUTBOX.update()
                .where(OUTBOX.c.job_id.in_([r.job_id for r in rows]))
                .values(next_at=now + hold_s, attempts=OUTBOX.c.attempts + 1)
            )
        return [
            Notification(
                r.job_id,
                r.topic_arn,
                r.message,
                r.attempts + 1,
                max(0.0, now - r.created_at),
                r.created_at,
            )
            for r in rows
        ]

    def announced(self, notification: Notification) -> None:
        """Forget an announcement that was published or given up."""
        # Not by its job alone: that may have been started again and have ended again meanwhile.
        mine = (
            OUTBOX.c.job_id == notification.job_id,
            OUTBOX.c.created_at == notification.created_at,
        )
        with self._write() as connection:
            connection.execute(OUTBOX.delete().where(*mine))

    def announce_later(self, job_ids: Collection[str], delay_s: float) -> None:
        """Try announcements again after ``delay_s`` seconds."""
        with self._write() as connection:
            connection.execute(
                OUTBOX.update()
                .where(OUTBOX.c.job_id.in_(list(job_ids)))
                .values(next_at=self._now(connection) + delay_s)
            )

    # -- the operator's side ----------------------------------------------------------------------

    def jobs(self, selection: Selection, limit: int | None = None) -> list[Job]:
        """The selected jobs that have not expired, the latest first."""
        with self._read() as connection:
            now = self._now(connection)
            rows = connection.execute(
                sa.select(JOBS)
                .where(JOBS.c.expires_at > now, *selection.conditions(now))
                .order_by(JOBS.c.created_at.desc(), JOBS.c.job_id)
                .limit(limit)
            ).all()
        return [_job(row) for row in rows]

    def cancel(self, job_id: str) -> bool:
        """End a job in FAILED; its worker stops at its next heartbeat.

        Returns:
            False where it is not in progress.
        """
        with self._write() as connection:
            row = connection.execute(
                sa.select(JOBS)
                .where(JOBS.c.job_id == job_id, JOBS.c.status == IN_PROGRESS)
                .with_for_update()
            ).first()
            if row is None:
                return False
            job, now = _job(row), self._now(connection)
            message = f"{job.video}: the service's operator cancelled the job. Start it again"
            return self._end(connection, job, FAILED, now, message=message)

    def requeue(self, job_id: str) -> bool:
        """Put a FAILED job back into the queue, as if it were started now.

        Its end is announced again; an announcement of the failure that is not yet published is not
        published any more.

        Returns:
            False where it is not FAILED, or has expired.
        """
        with self._write() as connection:
            now = self._now(connection)
            again = connection.execute(
                JOBS.update()
                .where(JOBS.c.job_id == job_id, JOBS.c.status == FAILED, JOBS.c.expires_at > now)
                .values(
                    status=IN_PROGRESS,
                    status_message=None,
                    created_at=now,
                    completed_at=None,
                    expires_at=math.inf,
                    available_at=now,
                    attempts=0,
                    interruptions=0,
                    metadata=None,
                )
            )
            if again.rowcount != 1:
                return False
            connection.execute(
                TOKENS.update().where(TOKENS.c.job_id == job_id).values(expires_at=math.inf)
            )
            connection.execute(OUTBOX.delete().where(OUTBOX.c.job_id == job_id))
        return True

    def expire(self, job_id: str) -> bool:
        """End an ended job's life now; the service then removes it and its results.

        Returns:
            False where it is in progress, or has expired.
        """
        with self._write() as connection:
            now = self._now(connection)
            gone = connection.execute(
                JOBS.update()
                .where(
                    JOBS.c.job_id == job_id, JOBS.c.status != IN_PROGRESS, JOBS.c.expires_at > now
                )
                .values(expires_at=now)
            )
            connection.execute(
                TOKENS.update()
                .where(TOKENS.c.job_id == job_id, TOKENS.c.expires_at < math.inf)
                .values(expires_at=now)
            )
        return gone.rowcount == 1

    # -- upkeep -----------------------------------------------------------------------------------

    def expired(self, after: str = "", limit: int = 100) -> list[Job]:
        """Jobs whose life is over and whose end is announced, by JobId.

        Args:
            after: Only JobIds greater than this one.
            limit: At most so many.
        """
        pending = sa.exists().where(OUTBOX.c.job_id == JOBS.c.job_id)
        with self._read() as connection:
            rows = connection.execute(
                sa.select(JOBS)
                .where(JOBS.c.expires_at <= self._now(connection), JOBS.c.job_id > after, ~pending)
                .order_by(JOBS.c.job_id)
                .limit(limit)
            ).all()
        return [_job(r) for r in rows]

    def forget(self, job_id: str) -> None:
        """Remove an expired job and its token."""
        with self._write() as connection:
            connection.execute(JOBS.delete().where(JOBS.c.job_id == job_id))
            connection.execute(TOKENS.delete().where(TOKENS.c.job_id == job_id))

    def counts(self) -> dict[str, int]:
        """Jobs by status."""
        with self._read() as connection:
            rows = connection.execute(
                sa.select(JOBS.c.status, sa.func.count()).group_by(JOBS.c.status)
            ).all()
        return {IN_PROGRESS: 0, SUCCEEDED: 0, FAILED: 0, **{r[0]: r[1] for r in rows}}

    def waiting(self) -> Waiting:
        """What waits in the store now."""
        with self._read() as connection:
            now = self._now(connection)
            idle = sa.and_(
                JOBS.c.status == IN_PROGRESS,
                sa.or_(JOBS.c.lease_owner.is_(None), JOBS.c.available_at <= now),
            )
            jobs, oldest = connection.execute(
                sa.select(sa.func.count(), sa.func.min(JOBS.c.created_at)).where(idle)
            ).one()
            pending, first = connection.execute(
                sa.select(sa.func.count(), sa.func.min(OUTBOX.c.created_at))
            ).one()
        ages = (max(0.0, now - (at or now)) for at in (oldest, first))
        return Waiting(jobs, next(ages), pending, next(ages))

    def failed_within(self, seconds: float) -> int:
        """Count the jobs that FAILED in the last ``seconds``."""
        with self._read() as connection:
            since = self._now(connection) - seconds
            failed = JOBS.c.status == FAILED, JOBS.c.completed_at > since
            number = connection.scalar(sa.select(sa.func.count()).select_from(JOBS).where(*failed))
        return number or 0

    def ended(self) -> dict[str, int]:
        """Jobs that ended since the store was made, by status."""
        with self._read() as connection:
            rows = connection.execute(sa.select(COUNTERS.c.name, COUNTERS.c.value)).all()
        values = {row[0]: row[1] for row in rows}
        return {status: values.get(name, 0) for status, name in ENDED.items()}

    def frames(self) -> int:
        """Frames analysed since the store was made."""
        with self._read() as connection:
            return (
                connection.scalar(sa.select(COUNTERS.c.value).where(COUNTERS.c.name == FRAMES)) or 0
            )


def completion_message(job: Job, status: str, at: float) -> dict[str, Any]:
    """The completion notification (source: the Rekognition developer guide, Calling Amazon
    Rekognition Video operations). ``Timestamp`` is milliseconds since 1970."""
    message: dict[str, Any] = {
        "JobId": job.job_id,
        "Status": status,
        "API": OPERATIONS[job.operation].start_api,
    }
    if job.job_tag is not None:
        message["JobTag"] = job.job_tag
    message["Timestamp"] = int(at * 1000)
    message["Video"] = {"S3ObjectName": job.name, "S3Bucket": job.bucket}
    return message


_REMEDY = (
    "See that the object is there, and re-encode the video, cut it into parts or upload it again, "
    "then start the job again"
)


def _due(now: float) -> sa.ColumnElement[bool]:
    """Jobs that are not claimed, or whose lease has expired."""
    return sa.and_(JOBS.c.status == IN_PROGRESS, JOBS.c.available_at <= now)


def _give_back(connection: sa.Connection, job: Job, at: float, **counts: int) -> None:
    """End a claim of a job, so that it can be claimed again from a time on."""
    freed = {"lease_owner": None, "available_at": at, **counts}
    connection.execute(JOBS.update().where(JOBS.c.job_id == job.job_id).values(**freed))


def _held(job: Job, owner: str) -> list[sa.ColumnElement[bool]]:
    """What is true as long as this claim of the job is this owner's."""
    return [
        JOBS.c.job_id == job.job_id,
        JOBS.c.status == IN_PROGRESS,
        JOBS.c.lease_owner == owner,
        JOBS.c.claims == job.claims,
    ]


def _time_of(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 86400 else f"{seconds:g} s"


def _job(row: sa.Row[Any], **changed: Any) -> Job:
    values = dict(row._mapping)
    for name in ("request", "metadata", "orders"):
        values[name] = json.loads(values[name]) if values[name] else None
    values.update(changed)
    return Job(**{name: values[name] for name in Job.__dataclass_fields__})


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
