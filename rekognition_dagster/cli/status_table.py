"""How many videos there are in each phase, as a table, JSON or CSV."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TextIO

from rekognition_dagster.state.queries import Summary
from rekognition_dagster.state.tables import Phase
from rekognition_dagster.terminal import Right, text_table, width_of

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
    """Write summaries as ``table``, ``json`` or ``csv``."""
    if form == "json":
        json.dump([_plain(s) for s in summaries], to, indent=2)
        to.write("\n")
    elif form == "csv":
        _write_csv(summaries, to)
    else:
        _write_table(summaries, to)


def _write_table(summaries: Sequence[Summary], to: TextIO) -> None:
    names = ("operation", *_COLUMNS.values(), *_LEFT_OUT.values(), "expiring", "oldest")
    rows = [
        (
            summary.operation,
            *(summary.counts[phase] for phase in _COLUMNS),
            *(summary.left_out[name] for name in _LEFT_OUT),
            summary.expiring,
            Right(
                _age(min((t for p, t in summary.since.items() if p is not Phase.FAILED), default=0))
            ),
        )
        for summary in summaries
    ]
    to.writelines(f"{line}\n" for line in text_table(names, rows, width_of(to)))
    for summary in summaries:
        for title, named in (("failed", summary.failed), ("not paged", summary.unpaged)):
            for uri, reason in named.items():
                text = reason if uri in reason else f"{uri}: {reason}"
                to.write(f"{summary.operation} {title}: {text}\n")


def _write_csv(summaries: Sequence[Summary], to: TextIO) -> None:
    import csv

    plain = [_plain(s) for s in summaries]
    names = [n for n in plain[0] if n not in ("since", "reasons")]
    writer = csv.DictWriter(to, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)


def _plain(summary: Summary) -> dict[str, object]:
    return {
        "operation": summary.operation,
        **{phase.value: summary.counts[phase] for phase in Phase},
        **summary.left_out,
        "expiring": summary.expiring,
        "since": {phase.value: at for phase, at in summary.since.items()},
        "reasons": {**summary.failed, **summary.unpaged},
    }


def _age(since: float) -> str:
    """Return how long ago a time was, in its largest unit; ``-`` for no time."""
    if not since:
        return "-"
    seconds = max(0.0, time.time() - since)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
