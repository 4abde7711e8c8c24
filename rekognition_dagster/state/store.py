"""Connections to the state, its schema, and transactions: SQLite by default, PostgreSQL by URL.

Writers take turns: a transaction that writes holds the database's one write lock (SQLite) or the
deployment's advisory lock (PostgreSQL), so no two processes can undo each other's work.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from rekognition_dagster import database
from rekognition_dagster.database import open_engine, without_password
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.state.tables import FACTS, SCHEMA, SCHEMA_VERSION, UPGRADES

_VERSION, _DEPLOYMENT = "schema_version", "deployment"


class State:
    """The state of one deployment.

    Args:
        url: SQLAlchemy's URL of the database. On PostgreSQL the deployment has a schema of its
            own, so several deployments may share a database.
        deployment: The deployment's name.

    Raises:
        ConfigurationError: The database cannot be opened, is another deployment's, or was written
            by a later version of this package.
    """

    def __init__(self, url: str, deployment: str):
        self.deployment = deployment
        self.schema = f"rekognition_{slug(deployment)}"[:63]
        try:
            self._engine = open_engine(url)
            self.is_postgres = self._engine.dialect.name == "postgresql"
            if self.is_postgres:
                self._engine = self._engine.execution_options(
                    schema_translate_map={None: self.schema}
                )
            self._prepare()
        except (SQLAlchemyError, ArgumentError, OSError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigurationError(
                f"cannot open the pipeline's state {without_password(url)}: {reason}. "
                "Check REKOGNITION_DAGSTER_STATE, and that this user may write there"
            ) from error

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; committed when the block ends without an error."""
        with (
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            if self.is_postgres:
                self._lock(connection)
            yield connection

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _lock(self, connection: sa.Connection) -> None:
        number = int.from_bytes(hashlib.sha256(self.schema.encode()).digest()[:7], "big")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))

    def _prepare(self) -> None:
        """Create or upgrade the schema."""
        with self.write() as connection:
            if self.is_postgres:
                connection.execute(sa.text(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"'))
            SCHEMA.create_all(connection)
            found = fact(connection, _VERSION)
            version = SCHEMA_VERSION if found is None else int(found)
            if version > SCHEMA_VERSION:
                raise ConfigurationError(
                    f"the state of {self.deployment} has schema version {version}, and this "
                    f"package knows {SCHEMA_VERSION}. Install the later version again"
                )
            while version < SCHEMA_VERSION:
                UPGRADES[version](connection)
                version += 1
            set_fact(connection, _VERSION, str(SCHEMA_VERSION))
            owner = fact(connection, _DEPLOYMENT)
            if owner not in (None, self.deployment):
                raise ConfigurationError(
                    f"this state belongs to the deployment {owner}, not to {self.deployment}. Give "
                    "each deployment a REKOGNITION_DAGSTER_STATE of its own"
                )
            set_fact(connection, _DEPLOYMENT, self.deployment)


@lru_cache(maxsize=32)
def open_state(url: str, deployment: str) -> State:
    """The state at a URL; opened once in a process."""
    return State(url, deployment)


def sqlite_url(home: str | Path, deployment: str) -> str:
    """The default: a file in Dagster's home."""
    return database.sqlite_url(Path(home) / "rekognition" / f"{slug(deployment)}.sqlite")


def deployments_in(home: str | Path) -> list[str]:
    """The deployments that have their state in Dagster's home."""
    found: list[str] = []
    for path in sorted((Path(home) / "rekognition").glob("*.sqlite")):
        engine = sa.create_engine(database.sqlite_url(path))
        try:
            with engine.connect() as connection:
                found.append(fact(connection, _DEPLOYMENT) or path.stem)
        except SQLAlchemyError:
            found.append(path.stem)
        finally:
            engine.dispose()
    return found


def slug(name: str) -> str:
    """A name of letters, digits and underscores, different for different deployments."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "deployment"
    if len(plain) <= 40 and plain == name.replace("-", "_"):
        return plain
    return f"{plain[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def fact(connection: sa.Connection, name: str) -> str | None:
    """A stored fact."""
    return connection.scalar(sa.select(FACTS.c.value).where(FACTS.c.name == name))


def set_fact(connection: sa.Connection, name: str, value: str) -> None:
    """Store a fact."""
    upsert(connection, FACTS, [{"name": name, "value": value}])


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: list[dict[str, Any]],
    *,
    update: list[str] | None = None,
) -> None:
    """Insert rows, or update what is there.

    Args:
        connection: A transaction that writes.
        table: Which.
        rows: All with the same columns.
        update: Columns to update; all but the primary key by default. Empty leaves what is there.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert
    keys = [c.name for c in table.primary_key]
    columns = [c for c in rows[0] if c not in keys] if update is None else update
    statement = insert(table)
    if columns:
        statement = statement.on_conflict_do_update(
            index_elements=keys, set_={c: statement.excluded[c] for c in columns}
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, rows)
