"""The job store's tables. ``store`` reads and writes them."""

from __future__ import annotations

import sqlalchemy as sa

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
