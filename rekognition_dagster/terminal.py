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
        width: Characters in a line. A wider table has a line for each filled cell instead.
    """
    from rich.cells import cell_len

    texts = [["" if cell is None else " ".join(str(cell).split()) for cell in r] for r in rows]
    widths = [max(map(cell_len, cells)) for cells in zip(columns, *texts, strict=True)]
    if width is not None and sum(widths) + len(_GAP) * (len(columns) - 1) > width:
        yield from _turned(columns, texts)
        return
    right = [_is_numeric([row[i] for row in rows]) for i in range(len(columns))]
    for line in (columns, *texts):
        cells = []
        for text, size, is_right in zip(line, widths, right, strict=True):
            padding = " " * (size - cell_len(text))
            cells.append(padding + text if is_right else text + padding)
        yield _GAP.join(cells).rstrip()


def _turned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
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
