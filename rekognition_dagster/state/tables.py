"""The state's tables and their version. What is done with them is in the modules beside this one.

Times are seconds since 1970. A video is named by its partition key (``bucket/key``, escaped).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

import sqlalchemy as sa

SCHEMA = sa.MetaData()
SCHEMA_VERSION = 4


class Phase(str, Enum):
    """What is next for a video and an operation."""

    HELD = "held"
    """Nothing yet: it waits for the nightly batch, is archived, or is a local file."""
    WAITING = "waiting"
    """To be started."""
    IN_FLIGHT = "in_flight"
    """Started, and not completed."""
    UNPAGED = "unpaged"
    """Completed, and its results are not in the lake."""
    FAILED = "failed"
    """The job FAILED, its start was refused, or its results expired."""
    ANALYSED = "analysed"
    """Its results are in the lake."""


PRESENT, GONE, IGNORED = "present", "gone", "ignored"
"""Status of a video: in the bucket, deleted from it, or ignored since its partition was deleted."""

IN_PROGRESS, SUCCEEDED, FAILED, EXPIRED = "IN_PROGRESS", "SUCCEEDED", "FAILED", "EXPIRED"
"""Status of a job; EXPIRED where the service no longer knows the job."""

UNANSWERED, RECOVERED, ASKED, NORMAL = 0, 1, 2, 3
"""Order of what waits: a start that got no answer, a start that broke off, what a person asked for,
everything else."""

# S3 lists keys in the order of their bytes; comparing ranges of keys relies on the same order.
_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

VIDEOS = sa.Table(
    "videos",
    SCHEMA,
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("bucket", _KEY, nullable=False),
    sa.Column("name", _KEY, nullable=False),
    sa.Column("partition", _KEY, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("version_id", sa.Text),
    sa.Column("size", sa.BigInteger),
    sa.Column("last_modified", sa.Double),
    sa.Column("sequencer", sa.Text),
    sa.Column("archived", sa.Boolean, nullable=False, default=False),
    sa.Column("status", sa.String(16), nullable=False, default=PRESENT),
    sa.Column("discovered", sa.Boolean, nullable=False, default=True),
    sa.Column("changed_at", sa.Double, nullable=False),
    sa.Column("duration_s", sa.Double),
    sa.Index("videos_by_name", "bucket", "name"),
    sa.Index("videos_by_partition", "partition"),
    sa.Index("videos_by_status", "status"),
)
WORK = sa.Table(
    "work",
    SCHEMA,
    sa.Column("operation", sa.String(64), primary_key=True),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("priority", sa.Integer, nullable=False, default=NORMAL),
    sa.Column("lease_until", sa.Double, nullable=False, default=0.0),
    sa.Column("refusals", sa.Integer, nullable=False, default=0),
    sa.Column("job_id", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("shown", sa.Boolean, nullable=False, default=True),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("not_before", sa.Double, nullable=False, default=0.0),
    sa.Column("rank", sa.Double, nullable=False, default=0.0, server_default="0"),
    sa.Column("batch", sa.String(64)),
    sa.Column("results_job_id", sa.Text),
    sa.Column("results_version", sa.Text),
    sa.Column("results_at", sa.Double),
    sa.Column("rows", sa.BigInteger),
    sa.Column("path", sa.Text),
    sa.Column("backend", sa.Text),
    sa.Column("warning", sa.Text),
    sa.Column("checks", sa.Text),
    sa.Column("highlights", sa.Text),
    sa.Index("work_in_order", "operation", "phase", "priority", "rank", "since", "key"),
    sa.Index("work_by_video", "key"),
    sa.Index("work_to_show", "shown"),
    sa.Index("work_by_batch", "batch"),
)
JOBS = sa.Table(
    "jobs",
    SCHEMA,
    sa.Column("job_id", sa.String(128), primary_key=True),
    sa.Column("operation", sa.String(64), nullable=False),
    sa.Column("key", _KEY, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("token", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("message", sa.Text),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("completed_at", sa.Double),
    sa.Column("noticed_at", sa.Double),
    sa.Column("check_at", sa.Double, nullable=False),
    sa.Column("minutes", sa.Double),
    sa.Index("jobs_by_start", "started_at"),
    sa.Index("jobs_by_status", "status", "check_at"),
    sa.Index("jobs_by_video", "key", "operation"),
)
EARLY = sa.Table(
    "early_completions",
    SCHEMA,
    sa.Column("job_id", sa.String(128), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("completed_at", sa.Double),
    sa.Column("received_at", sa.Double, nullable=False),
)
ANALYTICS = sa.Table(
    "analytics",
    SCHEMA,
    sa.Column("model", sa.String(128), primary_key=True),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("wanted", sa.Integer, nullable=False),
    sa.Column("made", sa.Integer, nullable=False, default=0),
    sa.Column("behind", sa.Boolean, nullable=False, default=True),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("not_before", sa.Double, nullable=False, default=0.0),
    sa.Column("batch", sa.String(64)),
    sa.Column("rows", sa.BigInteger),
    sa.Column("path", sa.Text),
    sa.Column("at", sa.Double),
    sa.Index("analytics_behind", "model", "behind", "not_before"),
    sa.Index("analytics_by_video", "key"),
    sa.Index("analytics_by_batch", "batch"),
)
BATCHES = sa.Table(
    "batches",
    SCHEMA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("launched_at", sa.Double, nullable=False),
    sa.Column("alive_at", sa.Double, nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False, default=False),
    sa.Index("batches_open", "kind", "ended"),
)
OUTBOX = sa.Table(
    "outbox",
    SCHEMA,
    sa.Column("asset", sa.String(128), primary_key=True),
    sa.Column("partition", _KEY, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.Text),
    sa.Index("outbox_in_order", "seq"),
)
PARTITIONS = sa.Table(
    "partitions",
    SCHEMA,
    sa.Column("partition", _KEY, primary_key=True),
)
"""Partitions that were added in Dagster: one that is missing there was deleted by a person."""
HISTORY = sa.Table(
    "history",
    SCHEMA,
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("key", _KEY, nullable=False),
    sa.Column("operation", sa.String(128)),
    sa.Column("what", sa.String(32), nullable=False),
    sa.Column("detail", sa.Text),
    sa.Index("history_by_video", "key", "id"),
)
PAUSES = sa.Table(
    "pauses",
    SCHEMA,
    sa.Column("operation", sa.String(64), primary_key=True),
    sa.Column("place", _KEY, primary_key=True),
    sa.Column("since", sa.Double, nullable=False),
)
"""Work that does not start: an operation, or all if empty, and a place, or everywhere if empty."""
FACTS = sa.Table(
    "facts",
    SCHEMA,
    sa.Column("name", sa.String(160), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def _add_warnings(connection: sa.Connection) -> None:
    """To version 2: what was lost of a video, and a priority before those that there were."""
    connection.execute(sa.text(f"ALTER TABLE {_in_schema(connection, 'work')} ADD warning TEXT"))
    connection.execute(WORK.update().values(priority=WORK.c.priority + 1))


def _add_ranks(connection: sa.Connection) -> None:
    """To version 3: the order in which waiting work starts, and how long videos are."""
    table, before = _in_schema(connection, "work"), _in_schema(connection, "work_by_phase")
    added = f"ALTER TABLE {table} ADD rank DOUBLE PRECISION DEFAULT 0 NOT NULL"
    connection.execute(sa.text(added))
    connection.execute(sa.text(f"DROP INDEX IF EXISTS {before}"))
    for table, column in (("videos", "duration_s"), ("jobs", "minutes")):
        added = f"ALTER TABLE {_in_schema(connection, table)} ADD {column} DOUBLE PRECISION"
        connection.execute(sa.text(added))
    for index in (*WORK.indexes, *JOBS.indexes):
        if index.name in ("work_in_order", "jobs_by_start"):
            index.create(connection, checkfirst=True)


def _add_highlights(connection: sa.Connection) -> None:
    """To version 4: what a video's rows say, and what a report shows of them once."""
    for table, column in (("work", "highlights"), ("outbox", "detail")):
        added = f"ALTER TABLE {_in_schema(connection, table)} ADD {column} TEXT"
        connection.execute(sa.text(added))


def _in_schema(connection: sa.Connection, name: str) -> str:
    schema = connection.get_execution_options().get("schema_translate_map", {}).get(None)
    return f'"{schema}".{name}' if schema else name


UPGRADES: Mapping[int, Callable[[sa.Connection], None]] = {
    1: _add_warnings,
    2: _add_ranks,
    3: _add_highlights,
}
"""By the version that an upgrade starts from; each one leads to the next version."""
