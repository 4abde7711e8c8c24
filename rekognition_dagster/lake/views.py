"""SQL over a lake: what the view of each table reads, and a connection that makes views on demand.

A view has every documented column of its table, null where a file has none, and ``date`` from the
file's folder. It reads the lake's own files only; a damaged one is logged and left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake import compaction
from rekognition_dagster.lake.compaction import Day, Staged
from rekognition_dagster.lake.damage import REMEDY, damaged, name_foreign
from rekognition_dagster.lake.macros import macros_of
from rekognition_dagster.lake.names import (
    escaped,
    is_compacted,
    is_day,
    is_own,
    is_small,
    literal,
    patterns,
    schema_path,
)
from rekognition_dagster.lake.storage import Storage, lake_errors
from rekognition_dagster.lake.tables import ANALYTICS, TABLES

log = logging.getLogger(__name__)

_LISTS_TABLES = re.compile(
    r"\b(show|describe|information_schema|pg_\w+|pragma\w*|duckdb_(views|columns)|query|query_table)\b",
    re.IGNORECASE,
)
"""Statements that may concern any table without naming it."""


def everything(storage: Storage, table: str, without: Iterable[str] = ()) -> str:
    """Return a DuckDB table expression for all rows of a table.

    Args:
        storage: The lake's.
        table: Its name.
        without: Damaged files.
    """
    skipped = set(without)
    files = storage.files(table)
    own = [f for f in files if is_own(f)]
    name_foreign(storage, table, set(files).difference(own))
    staged = compaction.staged_days(storage, table)
    rest = [f for f in own if f.split("/")[1] not in staged]
    kinds = zip(patterns(table), (is_small, is_compacted, is_day), strict=True)
    globs = [pattern for pattern, is_of_kind in kinds if any(map(is_of_kind, rest))]
    pieces: list[str] = []
    if skipped or _match_any(globs, set(files).difference(own)):
        pieces += _read(storage, [escaped(f) for f in rest if f not in skipped])
    else:
        days = ", ".join(literal(day) for day in staged)
        pieces += _read(storage, globs, f"{_FOLDER} NOT IN ({days})" if days else "")
    for day, merged in staged.items():
        pieces += _staged_day(Day(storage, f"{table}/{day}"), merged, skipped)
    return _union(storage, table, pieces)


def rows_of(
    storage: Storage, table: str, wanted: Mapping[str, str], without: Iterable[str] = ()
) -> str:
    """Return a DuckDB table expression for the rows of some videos.

    Args:
        storage: The lake's.
        table: Its name.
        wanted: The URI of the video that each small file is of, by path.
        without: Damaged files.
    """
    located = compaction.locate(storage, list(wanted))
    skipped = set(without)
    own = [path for path, files in located.items() if files == [path]]
    merged = {f for path, files in located.items() if files != [path] for f in files}
    uris = sorted({wanted[path] for path, files in located.items() if files != [path]})
    pieces = [
        *_read(storage, [escaped(f) for f in own if f not in skipped]),
        *_read(
            storage,
            [escaped(f) for f in sorted(merged - skipped)],
            f"video IN ({', '.join(map(literal, uris))})",
        ),
    ]
    return _union(storage, table, pieces)


def _staged_day(day: Day, staged: Staged, skipped: set[str]) -> list[str]:
    """Read the merged files of a day and the files that came later, before and after it is
    published."""
    later = [f.path for f in day.small_files() if f.path not in staged.merged]
    pieces = _read(day.storage, [escaped(f) for f in staged.parts if f not in skipped])
    if skipped or not later:
        return pieces + _read(day.storage, [escaped(f) for f in later if f not in skipped])
    pattern = patterns(day.folder.split("/")[0])[0].rpartition("/")[2]
    names = ", ".join(literal(f.rpartition("/")[2]) for f in staged.merged)
    return pieces + _read(day.storage, [f"{day.folder}/{pattern}"], f"{_NAME} NOT IN ({names})")


_FOLDER, _NAME = (f"split_part(filename, '/', {i})" for i in (-2, -1))
_DATE = "_date_of_folder"


def _read(storage: Storage, paths: Sequence[str], where: str = "") -> list[str]:
    """Return the SELECT that reads some files, given as glob patterns, if there are any.

    The date comes from a file's own folder: DuckDB would take it from any folder above the lake.
    """
    if not paths:
        return []
    listed = ", ".join(literal(f"{_pattern_root(storage)}{path}") for path in paths)
    return [
        f"SELECT * EXCLUDE (filename), try_cast({_FOLDER}[6:] AS DATE) AS {_DATE} "
        f"FROM read_parquet([{listed}], hive_partitioning = false, union_by_name = true, "
        f"filename = true){f' WHERE {where}' if where else ''}"
    ]


def _union(storage: Storage, table: str, pieces: Sequence[str]) -> str:
    """Return all rows of some SELECTs, with every documented column even where there are none."""
    documented, columns = [], _documented(table)
    if table not in TABLES and (registered := storage.read(schema_path(table))) is not None:
        path = literal(_pattern_root(storage) + schema_path(table))
        documented = [
            f"SELECT *, {_NO_DATE} FROM read_parquet({path}, hive_partitioning = false) WHERE false"
        ]
        # of an older form, if it lacks some; a user's model of that name has types of its own
        there = pq.read_schema(io.BytesIO(registered)).names
        columns = {name: type_ for name, type_ in columns.items() if name not in there}
    elif not columns and not pieces:
        raise LakeError(f"the lake {storage.url} has no table {table!r}")
    nulls = "".join(f'NULL::{type_} AS "{name}", ' for name, type_ in columns.items())
    documented.append(f"SELECT {nulls}{_NO_DATE} WHERE false")
    union = " UNION ALL BY NAME ".join([*documented, *pieces])
    return f"(SELECT * EXCLUDE ({_DATE}) REPLACE ({_DATE} AS date) FROM ({union}))"


def _documented(table: str) -> Mapping[str, str]:
    """The columns that a table has in any case, and their SQL types."""
    if table in TABLES:
        return {f.name: _sql_type(f.type) for f in TABLES[table].schema}
    return ANALYTICS.get(table, {})


_NO_DATE = f"NULL::DATE AS date, NULL::DATE AS {_DATE}"


def _match_any(globs: Sequence[str], files: Iterable[str]) -> bool:
    return any(
        f.count("/") == pattern.count("/") and fnmatchcase(f, pattern)
        for f in files
        for pattern in globs
    )


def _pattern_root(storage: Storage) -> str:
    """What comes before a glob pattern below the root, for DuckDB."""
    return f"{escaped(storage.root)}/" if storage.is_local else "lake://"


def _sql_type(type_: pa.DataType) -> str:
    """DuckDB's name for an Arrow type of this package's tables."""
    if pa.types.is_struct(type_):
        return "STRUCT(" + ", ".join(f'"{f.name}" {_sql_type(f.type)}' for f in type_) + ")"
    if pa.types.is_list(type_):
        return _sql_type(type_.value_type) + "[]"
    if pa.types.is_timestamp(type_):
        return "TIMESTAMPTZ"
    names = {pa.int64(): "BIGINT", pa.float32(): "FLOAT", pa.float64(): "DOUBLE"}
    return {**names, pa.string(): "VARCHAR", pa.bool_(): "BOOLEAN"}[type_]


@dataclass
class Views:
    """The views of one connection and of its cursors.

    Args:
        expression: Returns a table's expression without some damaged files.
        storage: The lake's.
        tables: The tables that there are.
        damaged: Files that are left out, and why.
        made: Tables whose views were made.
        macros: Macros that were made.
    """

    expression: Callable[[str, Iterable[str]], str]
    storage: Storage
    tables: Sequence[str]
    damaged: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    macros: set[str] = field(default_factory=set)

    def named(self, text: str) -> list[str]:
        """The tables that a statement may read."""
        macros = macros_of(self.tables)
        macros = [m for name, m in macros.items() if re.search(rf"\b{name}\b", text, re.I)]
        text = " ".join([text, *(t for m in macros for t in m.tables)])
        found = [t for t in self.tables if re.search(rf"\b{t}\b", text, re.IGNORECASE)]
        return list(self.tables) if not found and _LISTS_TABLES.search(text) else found

    def make(self, connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> None:
        """Create the views of some tables, unless they are there."""
        for table in tables:
            if table not in self.made:
                self._make(connection, table)
                self.made.add(table)
        for name, macro in macros_of(self.tables).items():
            if name not in self.macros and self.made.issuperset(macro.tables):
                with contextlib.suppress(duckdb.BinderException):  # a user's table of that name
                    connection.execute(macro.statement)
                self.macros.add(name)

    def _make(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        with lake_errors(self.storage, table, "read"):
            try:
                _create_view(connection, table, self.expression(table, self.damaged))
                failure = None
            except duckdb.Error as error:
                failure = error
            if failure is None and not _has_foreign_types(connection, table):
                return
            if self.find_damaged(table, whole=False):
                _create_view(connection, table, self.expression(table, self.damaged))
            elif failure is not None:
                raise failure

    def find_damaged(self, table: str, *, whole: bool) -> bool:
        """Look for damaged files of a table, log them, and return whether there are new ones."""
        own = [f for f in self.storage.files(table) if is_own(f)]
        own += [f for s in compaction.staged_days(self.storage, table).values() for f in s.parts]
        unknown = [f for f in own if f not in self.damaged]
        found = damaged(self.storage, unknown, whole=whole)
        for path, reason in found.items():
            log.warning("%s is left out: %s. %s", self.storage.uri(path), reason, REMEDY)
        self.damaged |= found
        return bool(found)


if TYPE_CHECKING:  # DuckDB alone can make its connections, so this one passes on to one of them
    _Connection = duckdb.DuckDBPyConnection
else:
    _Connection = object


class LakeConnection(_Connection):
    """DuckDB's connection, which makes a lake's view when a statement first names its table.

    A view reads the footer of each of its table's files: some seconds for ten thousands of files,
    which a statement about other tables need not wait for.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, views: Views):
        self._connection, self._views = connection, views

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> LakeConnection:
        """Like DuckDB's."""
        return self

    def __exit__(self, *_: object) -> None:
        """Like DuckDB's."""
        self._connection.close()

    def sql(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Like DuckDB's."""
        return self._prepared(query).sql(query, *args, **kwargs)

    def query(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Like DuckDB's."""
        return self._prepared(query).query(query, *args, **kwargs)

    def from_query(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Like DuckDB's."""
        return self._prepared(query).from_query(query, *args, **kwargs)

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Like DuckDB's."""
        self._prepared(query).execute(query, *args, **kwargs)
        return self

    def executemany(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Like DuckDB's."""
        self._prepared(query).executemany(query, *args, **kwargs)
        return self

    def table(self, table_name: str) -> Any:
        """Like DuckDB's."""
        return self._prepared(table_name).table(table_name)

    def view(self, view_name: str) -> Any:
        """Like DuckDB's."""
        return self._prepared(view_name).view(view_name)

    def cursor(self) -> LakeConnection:
        """Like DuckDB's."""
        return LakeConnection(self._connection.cursor(), self._views)

    @property
    def damaged(self) -> Mapping[str, str]:
        """Files that views leave out, and what is wrong with each."""
        return self._views.damaged

    def leave_out_damaged(self, query: str) -> bool:
        """Read the tables of a failed statement whole, and make their views without damaged files.

        Returns:
            Whether there are any that were not known, so that the statement is worth repeating.
        """
        views = self._views
        tables = [t for t in views.named(query) if t in views.made]
        found = [t for t in tables if views.find_damaged(t, whole=True)]
        views.made.difference_update(found)
        views.make(self._connection, found)
        return bool(found)

    def _prepared(self, query: Any) -> duckdb.DuckDBPyConnection:
        """DuckDB's connection, with the views that a statement names."""
        text = query if isinstance(query, str) else getattr(query, "query", "")
        self._views.make(self._connection, self._views.named(text))
        return self._connection


def connect(views: Views) -> LakeConnection:
    """Open DuckDB in memory, with views that are made when a statement names their tables."""
    connection = duckdb.connect()
    if not views.storage.is_local:
        from rekognition_dagster.lake import duckdb_files

        connection.register_filesystem(duckdb_files.filesystem(views.storage))
    return LakeConnection(connection, views)


def digest(expression: str) -> str:
    """The comment of the view that has a table expression: equal for equal ones."""
    return f"rekognition-dagster {hashlib.sha256(expression.encode()).hexdigest()[:16]}"


def _create_view(connection: duckdb.DuckDBPyConnection, table: str, expression: str) -> None:
    """Create or replace the view of a table. A table of that name stays: it is the user's."""
    query = "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'main' AND table_name = ?"
    if connection.execute(query, [table]).fetchall() == [(0,)]:
        connection.execute(f'CREATE OR REPLACE VIEW "{table}" AS FROM {expression}')
        connection.execute(f"COMMENT ON VIEW \"{table}\" IS '{digest(expression)}'")


def _has_foreign_types(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether a file made text of a documented column that is none."""
    if table not in TABLES:
        return False
    query = (
        "SELECT column_name FROM duckdb_columns() WHERE table_name = ? AND data_type = 'VARCHAR'"
    )
    found = connection.execute(query, [table]).fetchall()
    texts = {f.name for f in TABLES[table].schema if f.type == pa.string()}
    return any(name in TABLES[table].schema.names and name not in texts for (name,) in found)
