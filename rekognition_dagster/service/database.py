"""The job store's tables, and how those of an earlier version become them.

``store`` reads and writes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.service.requests import request_hash

SCHEMA_VERSION = 3
SCHEMA = sa.MetaData()
JOBS = sa.Table(
    "jobs",
    SCHEMA,
    sa.Column("job_id", sa.String(64), primary_key=True),
    sa.Column("operation", sa.String(64), nullable=False),
    sa.Column("account", sa.String(128), nullable=False),
    sa.Column("bucket", sa.String(255), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("job_tag", sa.Text),
    sa.Column("topic_arn", sa.Text),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("status_message", sa.Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("completed_at", sa.Double),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("available_at", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("interruptions", sa.Integer, nullable=False, server_default="0"),
    sa.Column("claims", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lease_owner", sa.String(128)),
    sa.Column("metadata", sa.Text),
    sa.Column("results", sa.Text),
    sa.Column("orders", sa.Text),
    sa.Index("jobs_by_status", "status", "available_at"),
    sa.Index("jobs_by_account", "account", "status", "available_at"),
    sa.Index("jobs_by_expiry", "expires_at"),
)
ACCOUNTS = sa.Table(
    "accounts",
    SCHEMA,
    sa.Column("account", sa.String(128), primary_key=True),
    sa.Column("turn", sa.BigInteger, nullable=False, server_default="0"),
)
"""Who has jobs; the account with the lowest ``turn`` has waited longest for a claim."""
TOKENS = sa.Table(
    "tokens",
    SCHEMA,
    sa.Column("account", sa.String(128), primary_key=True),
    sa.Column("operation", sa.String(64), primary_key=True),
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Index("tokens_by_job", "job_id"),
)
OUTBOX = sa.Table(
    "outbox",
    SCHEMA,
    sa.Column("job_id", sa.String(64), primary_key=True),
    sa.Column("topic_arn", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Index("outbox_by_time", "next_at"),
)
COUNTERS = sa.Table(
    "counters",
    SCHEMA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
FACTS = sa.Table(
    "facts",
    SCHEMA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


_VERSION = "schema_version"
FRAMES = "frames"
ENDED: Mapping[str, str] = {"SUCCEEDED": "succeeded", "FAILED": "failed"}
"""The counters of ended jobs, by status."""


def prepare(connection: sa.Connection, version: int = SCHEMA_VERSION) -> None:
    """Create the tables, or bring those of an earlier version to this one.

    Raises:
        ConfigurationError: The tables are of a later version.
    """
    SCHEMA.create_all(connection)
    found = connection.scalar(sa.select(FACTS.c.value).where(FACTS.c.name == _VERSION))
    if found is None:
        # Version 1 did not record its number, but has a secret from its first start on.
        is_new = connection.scalar(sa.select(sa.func.count()).select_from(FACTS)) == 0
        found = SCHEMA_VERSION if is_new else 1
        if is_new:
            _count_from_zero(connection, FRAMES, *ENDED.values())
        connection.execute(FACTS.insert().values(name=_VERSION, value=str(found)))
    number = int(found)
    if number > version:
        raise ConfigurationError(
            f"the job store has schema version {number}, and this package reads {version}. "
            "Install the later version again"
        )
    while number < version:
        UPGRADES[number](connection)
        number += 1
    connection.execute(FACTS.update().where(FACTS.c.name == _VERSION).values(value=str(number)))


def _count_faults_apart(connection: sa.Connection) -> None:
    """To version 2: claims, faults of the video and interruptions are counted apart; a job's life
    begins with its end; tokens compare what a request means."""
    for column in ("interruptions", "claims"):
        connection.execute(
            sa.text(f"ALTER TABLE jobs ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
        )
    for index in TOKENS.indexes:
        index.create(connection, checkfirst=True)
    running = JOBS.c.status == "IN_PROGRESS"
    connection.execute(JOBS.update().where(running).values(attempts=0, expires_at=math.inf))
    worked_s = JOBS.c.completed_at - JOBS.c.created_at
    connection.execute(
        JOBS.update().where(~running).values(expires_at=JOBS.c.expires_at + worked_s)
    )
    rows = connection.execute(
        sa.select(TOKENS.c.job_id, JOBS.c.operation, JOBS.c.request, JOBS.c.expires_at).join_from(
            TOKENS, JOBS, TOKENS.c.job_id == JOBS.c.job_id
        )
    ).all()
    for row in rows:
        hashed = request_hash(OPERATIONS[row.operation], json.loads(row.request))
        connection.execute(
            TOKENS.update()
            .where(TOKENS.c.job_id == row.job_id)
            .values(request_hash=hashed, expires_at=row.expires_at)
        )


def _serve_accounts_in_turn(connection: sa.Connection) -> None:
    """To version 3: accounts take turns; ``available_at`` of a claimed job is its lease's end."""
    for index in JOBS.indexes:
        index.create(connection, checkfirst=True)
    connection.execute(
        ACCOUNTS.insert().from_select(["account"], sa.select(JOBS.c.account).distinct())
    )
    connection.execute(
        sa.text("UPDATE jobs SET available_at = lease_until WHERE lease_until IS NOT NULL")
    )
    if connection.dialect.name == "postgresql":  # where a service of before may still run
        connection.execute(sa.text("ALTER TABLE jobs DROP COLUMN lease_until"))
    _count_from_zero(connection, *ENDED.values())


def _count_from_zero(connection: sa.Connection, *names: str) -> None:
    for name in names:
        connection.execute(COUNTERS.insert().values(name=name, value=0))


UPGRADES: Mapping[int, Callable[[sa.Connection], None]] = {
    1: _count_faults_apart,
    2: _serve_accounts_in_turn,
}
"""By the version that an upgrade starts from; each one leads to the next version."""
