"""Text for people: tables that fit their terminal, and commands to copy."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

_GAP = "  "


def width_of(out: TextIO) -> int | None:
    """Return the characters in a line of a terminal; None for a pipe or file: no limit."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def command(*arguments: object) -> str:
    """Return a command line of this package, quoted for a shell.

    Its name is the path of the script where that is not on PATH, as in a fresh checkout.
    """
    name = "rekognition-dagster"
    script = Path(sys.executable).with_name(name)
    if shutil.which(name) is None and script.exists():
        inside = script.is_relative_to(Path.cwd())
        name = str(script.relative_to(Path.cwd()) if inside else script)
    return shlex.join([name, *map(str, arguments)])


def text_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    width: int | None = None,
) -> Iterator[str]:
    """Yield the lines of a table; no cell is ever cut.

    Args:
        columns: The heading of each column.
        rows: Cells of each row; None is an empty cell. Numbers are aligned on the right.
        width: Characters in a line. A wider table is turned, so that each row is a column; where
            that is too wide as well, each filled cell has a line.
    """
    table = [list(columns), *([_cell(c) for c in row] for row in rows)]
    turned = [list(line) for line in zip(*table, strict=True)]
    if width is None or _width(table) <= width:
        right = [_is_numeric([row[i] for row in rows]) for i in range(len(columns))]
        yield from _aligned(table, right)
    elif _width(turned) <= width:
        are_numbers = all(_is_numeric(cells) for cells in list(zip(*rows, strict=True))[1:])
        yield from _aligned(turned, [False] + [are_numbers] * len(rows))
    else:
        yield from _listed(columns, table[1:])


def _cell(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def _sizes(table: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, cells)) for cells in zip(*table, strict=True)]


def _width(table: Sequence[Sequence[str]]) -> int:
    return sum(_sizes(table)) + len(_GAP) * (len(table[0]) - 1)


def _aligned(table: Sequence[Sequence[str]], right: Sequence[bool]) -> Iterator[str]:
    from rich.cells import cell_len

    sizes = _sizes(table)
    for line in table:
        cells = []
        for text, size, is_right in zip(line, sizes, right, strict=True):
            padding = " " * (size - cell_len(text))
            cells.append(padding + text if is_right else text + padding)
        yield _GAP.join(cells).rstrip()


def _listed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    size = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, text in zip(columns, row, strict=True):
            if text:
                yield f"{name:{size}}{_GAP}{text}"


def _is_numeric(cells: Sequence[object]) -> bool:
    filled = [c for c in cells if c is not None]
    return bool(filled) and all(isinstance(c, (int, float, Right)) for c in filled)


class Right(str):
    """A text that is aligned on the right like a number: ``4.2 s``."""

    __slots__ = ()
