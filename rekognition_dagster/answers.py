"""Results of SQL, written for people (a table) or for machines (CSV, JSON)."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from rekognition_dagster.terminal import text_table, width_of

if TYPE_CHECKING:
    import duckdb

Row = tuple[Any, ...]

_BATCH = 1000
_HIDES_COLUMNS = re.compile(r"\d+ columns \(\d+ shown\)")
_NO_LIMIT = 1_000_000
_JSON = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


def write_answer(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    form: str,
    out: TextIO,
    *,
    rows: int = 60,
    width: int | None = None,
    repair: Callable[[str], bool] = lambda _: False,
) -> None:
    """Run ``sql`` and write its rows; a statement that answers nothing writes nothing.

    Args:
        connection: To the lake.
        sql: One statement or several; each result is written, one after another.
        form: ``table``, DuckDB's own box, or plain lines where a box would hide columns; ``csv``
            with a header, lists and structs as JSON, null as an empty cell; or ``json``, one
            array with an object a row, a row a line.
        out: Where to.
        rows: The most that a table shows; it says how many there are.
        width: Characters in a line of a table; None is the terminal's. In a pipe or file no column
            is cut.
        repair: Called with a statement that failed; whether it is worth repeating.

    Raises:
        duckdb.Error: The SQL is wrong, or a file of the lake is.
    """
    import duckdb

    connection.execute("SET TimeZone = 'UTC'")
    statements = [s.query for s in connection.extract_statements(sql)]
    wide = width or width_of(out) or _NO_LIMIT
    for statement in statements:
        for is_last in (False, True):
            written = False
            try:
                for text in _texts(connection, statement, form, rows, wide):
                    out.write(text)
                    written = True
            except duckdb.Error:
                if is_last or not repair(statement) or written:
                    raise
            else:
                break


def _texts(
    connection: duckdb.DuckDBPyConnection, statement: str, form: str, rows: int, width: int
) -> Iterator[str]:
    """Run a statement and yield its output, piece by piece."""
    if form == "table":
        yield _table(connection, statement, rows, width)
        return
    answer = connection.execute(statement)
    if not answer.description:
        return
    names = _unique(column[0] for column in answer.description)
    batches = _batches(answer)
    first = next(batches, [])  # before the header, which could not be taken back
    batches = itertools.chain([first], batches)
    yield from _csv(names, batches) if form == "csv" else _json_array(names, batches)


def _csv(names: Sequence[str], batches: Iterable[Sequence[Row]]) -> Iterator[str]:
    header: list[Row] = [tuple(names)]
    for batch in itertools.chain([header], batches):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_cell(value) for value in row] for row in batch)
        yield text.getvalue()


def _json_array(names: Sequence[str], batches: Iterable[Sequence[Row]]) -> Iterator[str]:
    before = "["
    for batch in batches:
        for row in batch:
            yield f"{before}\n{_json(dict(zip(names, row, strict=True)))}"
            before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def _unique(names: Iterable[str]) -> list[str]:
    """The names, with a number where one comes again, so that no column hides another."""
    unique: list[str] = []
    for name in names:
        number, free = 1, name
        while free in unique:
            number += 1
            free = f"{name}_{number}"
        unique.append(free)
    return unique


def _table(connection: duckdb.DuckDBPyConnection, sql: str, rows: int, width: int) -> str:
    answer = connection.sql(sql)
    if answer is None:
        return ""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):  # DuckDB only prints
        answer.show(max_rows=rows, max_width=width)
    box = text.getvalue().rstrip("\n") + "\n"
    if not _HIDES_COLUMNS.search(box):
        return box
    shown = answer.limit(rows).fetchall()
    lines = list(text_table(_unique(answer.columns), [list(map(_cell, r)) for r in shown], width))
    if len(shown) == rows:
        lines += ["", f"at most {rows} rows are shown"]
    return "\n".join(lines) + "\n"


def _batches(answer: duckdb.DuckDBPyConnection) -> Iterator[list[Row]]:
    while batch := answer.fetchmany(_BATCH):
        yield batch


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _json(value) if isinstance(value, (dict, list, tuple)) else value


def _json(value: Any) -> str:
    return orjson.dumps(value, default=_plain, option=_JSON).decode()


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)
