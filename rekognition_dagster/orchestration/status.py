"""Where all videos stand, printed for the person who runs the pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

from rekognition_dagster.orchestration.standing import Phase, Summary

_COLUMNS = {
    Phase.HELD: "held",
    Phase.WAITING: "waiting",
    Phase.IN_FLIGHT: "in flight",
    Phase.UNPAGED: "unpaged",
    Phase.FAILED: "failed",
    Phase.ANALYSED: "analysed",
}


def write_status(summaries: Sequence[Summary], form: str, to: TextIO) -> None:
    """Print summaries as ``table`` or ``json``."""
    if form == "json":
        json.dump([_plain(s) for s in summaries], to, indent=2)
        to.write("\n")
        return
    console = Console(file=to, highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("operation")
    for name in (*_COLUMNS.values(), "expiring", "oldest"):
        table.add_column(name, justify="right")
    for summary in summaries:
        table.add_row(
            summary.operation,
            *(str(summary.counts[phase]) for phase in _COLUMNS),
            str(summary.expiring),
            _age(min((t for p, t in summary.since.items() if p is not Phase.FAILED), default=None)),
        )
    console.print(table)
    for summary in summaries:
        for title, named in (("failed", summary.failed), ("not paged", summary.unpaged)):
            for reason in named.values():
                console.print(
                    f"{summary.operation} {title}: {reason}", markup=False, soft_wrap=True
                )


def _plain(summary: Summary) -> dict[str, object]:
    return {
        "operation": summary.operation,
        **{phase.value: summary.counts[phase] for phase in Phase},
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
