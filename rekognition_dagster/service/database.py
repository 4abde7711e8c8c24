"""The job store's tables, and connections to SQLite or PostgreSQL.

What is done with them is in ``store``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError

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
    sa.Column("lease_owner", sa.String(128)),
    sa.Column("lease_until", sa.Double),
    sa.Column("metadata", sa.Text),
    sa.Column("results", sa.Text),
    sa.Column("orders", sa.Text),
    sa.Index("jobs_by_status", "status", "available_at"),
    sa.Index("jobs_by_expiry", "expires_at"),
)
TOKENS = sa.Table(
    "tokens",
    SCHEMA,
    sa.Column("account", sa.String(128), primary_key=True),
    sa.Column("operation", sa.String(64), primary_key=True),
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
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


def open_engine(url: str) -> sa.Engine:
    """Connections to the database at SQLAlchemy's ``url``; a transaction that has the execution
    option ``writes`` may write."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, pool_size=10, max_overflow=10)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(parsed, connect_args={"timeout": 30}, pool_size=20, max_overflow=30)

    @event.listens_for(engine, "connect")
    def _open(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an accepted job survives a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later can fail half-way: take the lock at once.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def without_password(url: str) -> str:
    """A URL that may be shown."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "(unreadable URL)"
