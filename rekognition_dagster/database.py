"""Connections to SQL databases: SQLite in WAL mode, PostgreSQL by URL.

The service's job store and the pipeline's state both open their databases here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError

_BUSY_S = 30.0


def open_engine(url: str, connections: int = 4, wait_s: float = _BUSY_S) -> sa.Engine:
    """Open a database; transactions with the execution option ``writes`` may write.

    Args:
        url: SQLAlchemy's URL: a SQLite file, or PostgreSQL.
        connections: How many to keep open; as many again and half are opened under load.
        wait_s: Seconds to wait for another's transaction (SQLite), for a connection, or for an
            answer of the network (PostgreSQL).

    Raises:
        ArgumentError: The URL cannot be read, or names another kind of database.
    """
    parsed = sa.make_url(url)
    pool: dict[str, Any] = {
        "hide_parameters": True,  # or an error's text, which is logged, would have them
        "pool_size": connections,
        "max_overflow": connections * 3 // 2,
        "pool_timeout": wait_s,
    }
    if parsed.get_backend_name() == "postgresql":
        waits: dict[str, Any] = {}
        if parsed.get_driver_name().startswith("psycopg"):
            # libpq waits for ever by default; it takes whole seconds, and 1 as 2.
            waits = {
                "connect_timeout": max(2, round(wait_s)),
                "tcp_user_timeout": round(wait_s * 1000),
            }
        return sa.create_engine(parsed, pool_pre_ping=True, connect_args=waits, **pool)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ArgumentError("it is neither a SQLite file nor a PostgreSQL URL")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(parsed, connect_args={"timeout": wait_s}, **pool)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def sqlite_url(path: str | Path) -> str:
    """Return the URL of a SQLite file, whatever characters its path has."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


def sqlite_path(url: str) -> Path:
    """Return the file that a SQLite URL names."""
    return Path(sa.make_url(url).database or "")


def without_password(url: str) -> str:
    """Return the URL in a form that may be shown."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "(unreadable URL)"


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # _begin begins transactions, not the driver
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # what is committed survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later can fail half-way: take the lock at once.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
