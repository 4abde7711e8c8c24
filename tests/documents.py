"""The fenced blocks of a page and the examples of ``--help``: read, compared, written back."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?")


def operations_table(page: str) -> list[str]:
    """The rows that a page of the documentation must have, one for each operation."""
    from rekognition_dagster.operations import OPERATIONS

    if page == "engine.md":
        return [f"| `{o.name}` | {o.finds} | `{o.table}` |" for o in OPERATIONS.values()]
    return [
        f"| `{o.start_api}`, `{o.get_api}` | `{o.results}`: {o.row} |" for o in OPERATIONS.values()
    ]


@dataclass
class Command:
    """A command of a console block, and the output that is shown below it.

    Args:
        text: What is typed, with its continuation lines.
        shown: Lines of output; empty where the page shows none.
    """

    text: str
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        page: The page's path below the repository's root.
        line: Its first line.
        language: As the page says: console, python, sql, yaml, ...
        text: Between the fences.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The block's place, for messages."""
        return f"{self.page}:{self.line}"

    def commands(self) -> list[Command]:
        """The commands of a console block, in order."""
        found: list[Command] = []
        is_open = False
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:]))
            elif is_open:
                found[-1].text += f"\n{line}"
            elif found:
                found[-1].shown.append(line)
            is_open = bool(found) and not found[-1].shown and not is_complete(found[-1].text)
        return found


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    return [
        Block(name, text[: m.start()].count("\n") + 1, m[1], m[2]) for m in _FENCED.finditer(text)
    ]


def help_block(group: click.Group) -> Block:
    """The examples in the help of every command, as one console block."""
    lines = [f"$ {example}" for _, found in examples(group, "") for example in found]
    return Block("--help", 1, "console", "\n".join(lines) + "\n")


def examples(command: click.Command, before: str) -> Iterator[tuple[str, list[str]]]:
    """The name of each command and the examples in its help."""
    name = f"{before} {command.name}".strip()
    yield name, _examples_of(inspect.cleandoc(command.help or ""))
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from examples(inner, name)


def _examples_of(text: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        if found and not is_complete(found[-1]):
            found[-1] += f"\n{line}"
        elif re.match(r"  (rekognition-dagster|eval|cp|aws) ", line):
            found.append(line.strip())
    return found


def is_complete(text: str) -> bool:
    """Whether a shell would run a command, rather than read on."""
    if text.endswith("\\"):
        return False
    if heredoc := _HEREDOC.search(text):
        return text.splitlines()[-1] == heredoc[1]
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def differences(shown: list[str], output: list[str], exact: dict[str, float]) -> list[str]:
    """What an output has otherwise than the page shows.

    Numbers may differ by a fifth, small whole ones not at all. In a table, ``exact`` has what a
    column's numbers may differ by. A line ``...`` stands for any lines.
    """
    if any(line.startswith("┌") for line in shown):
        return _table_differences(_table(shown), _table(output), exact)
    wanted, there = [x.rstrip() for x in shown], [x.rstrip() for x in output if x.strip()]
    wanted = [line for line in wanted if line]
    if "..." in [line.strip() for line in wanted]:
        at = [line.strip() for line in wanted].index("...")
        tail = len(wanted) - at - 1
        there = [*there[:at], wanted[at], *there[len(there) - tail :]] if tail else there[:at]
        wanted = wanted if tail else wanted[:at]
    if len(wanted) != len(there):
        return [f"{len(wanted)} lines are shown, {len(there)} printed: " + " | ".join(there[:5])]
    pairs = zip(wanted, there, strict=True)
    return [f"shown {w!r}, printed {t!r}" for w, t in pairs if not _is_like(w, t)]


def _is_like(shown: str, printed: str) -> bool:
    words = [re.sub(r"[─━\s]+", " ", _NUMBER.sub("#", text)).strip() for text in (shown, printed)]
    numbers = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=False)
    return words[0] == words[1] and all(_is_near(a, b, None) for a, b in numbers)


def _is_near(shown: str, printed: str, within: float | None) -> bool:
    if within is None:
        is_small = "." not in shown and abs(float(shown)) < 10
        within = 0.0 if is_small else abs(float(shown)) / 5
    return abs(float(shown) - float(printed)) <= within + 1e-9


def _table(lines: list[str]) -> list[list[str]]:
    """The cells of DuckDB's box: its names, then its rows."""
    rows = [
        [cell.strip() for cell in line.strip().strip("│").split("│")]
        for line in lines
        if line.startswith("│")
    ]
    return [rows[0], *rows[2:]] if rows else []


def _table_differences(
    shown: list[list[str]], printed: list[list[str]], exact: dict[str, float]
) -> list[str]:
    if not printed or shown[0] != printed[0] or len(shown) != len(printed):
        return [f"shown {shown}, printed {printed}"]
    found = []
    for wanted, there in zip(shown[1:], printed[1:], strict=True):
        for name, a, b in zip(shown[0], wanted, there, strict=True):
            is_number = _NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)
            if not (_is_near(a, b, exact.get(name)) if is_number else a == b):
                found.append(f"{name}: shown {a}, printed {b} in {there}")
    return found


def write_back(page: Path, outputs: dict[int, list[Command]]) -> None:
    """Put the outputs of console blocks, by their first line, in the place of those shown."""
    text = page.read_text(encoding="utf-8")

    def renew(match: re.Match[str]) -> str:
        commands = outputs.get(text[: match.start()].count("\n") + 1)
        if commands is None:
            return match[0]
        lines = [line for c in commands for line in (f"$ {c.text}", *c.shown)]
        return "```console\n" + "\n".join(lines) + "\n```"

    page.write_text(_FENCED.sub(renew, text), encoding="utf-8")
