"""How all videos stand, printed for the person who runs the pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

from rekognition_dagster.state.queries import Summary
from rekognition_dagster.state.tables import Phase

_COLUMNS = {
    Phase.HELD: "held",
    Phase.WAITING: "waiting",
    Phase.IN_FLIGHT: "in flight",
    Phase.UNPAGED: "unpaged",
    Phase.FAILED: "failed",
    Phase.ANALYSED: "analysed",
}
_LEFT_OUT = {"gone": "gone", "ignored": "ignored", "not_covered": "not covered"}


def write_status(summaries: Sequence[Summary], form: str, to: TextIO) -> None:
    """Print summaries as ``table`` or ``json``."""
    if form == "json":
        json.dump([_plain(s) for s in summaries], to, indent=2)
        to.write("\n")
        return
    console = Console(file=to, highlight=False)
    if not console.is_terminal:  # no column is cut in a pipe
        console.width = 160
    table = Table(box=None, pad_edge=False)
    table.add_column("operation")
    for name in (*_COLUMNS.values(), *_LEFT_OUT.values(), "expiring", "oldest"):
        table.add_column(name, justify="right")
    for summary in summaries:
        table.add_row(
            summary.operation,
            *(str(summary.counts[phase]) for phase in _COLUMNS),
            *(str(summary.left_out[name]) for name in _LEFT_OUT),
            str(summary.expiring),
            _age(min((t for p, t in summary.since.items() if p is not Phase.FAILED), default=None)),
        )
    console.print(table)
    for summary in summaries:
        for title, named in (("failed", summary.failed), ("not paged", summary.unpaged)):
            for uri, reason in named.items():
                text = reason if uri in reason else f"{uri}: {reason}"
                console.print(f"{summary.operation} {title}: {text}", markup=False, soft_wrap=True)


def _plain(summary: Summary) -> dict[str, object]:
    return {
        "operation": summary.operation,
        **{phase.value: summary.counts[phase] for phase in Phase},
        **summary.left_out,
        "expiring": summary.expiring,
        "since": {phase.value: at for phase, at in summary.since.items()},
        "reasons": {**summary.failed, **summary.unpaged},
    }


def _age(since: float | None) -> str:
    """How long ago, in its largest unit."""
    if since is None:
        return "-"
    seconds = max(0.0, time.time() - since)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
