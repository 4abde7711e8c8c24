"""Progress bars of long commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bars() -> Iterator[Callable[[str, float], None]]:
    """A function of a name and its fraction done: bars on a terminal, nothing in a log."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    to = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=to, transient=True, disable=not to.is_terminal) as bars:

        def progress(what: str, fraction: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=fraction, visible=fraction < 1)

        yield progress


@contextmanager
def counter(what: str) -> Iterator[Callable[[int], None]]:
    """A function of how many there were so far: shown on a terminal, nothing in a log."""
    from rich.console import Console

    to = Console(stderr=True)
    if not to.is_terminal:
        yield lambda count: None
        return
    with to.status(f"0 {what}") as shown:
        yield lambda count: shown.update(f"{count} {what}")
