"""One video's story from the pipeline's state: work, jobs, rows, errors, and what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.terminal import command

if TYPE_CHECKING:
    import sqlalchemy as sa

    from rekognition_dagster.state import State

WORK_COLUMNS = (
    *("operation", "video", "phase", "since", "attempt", "job_id", "rows", "backend", "error"),
    "what_to_do",
)
"""The columns of a video's work, in tables, CSV and JSON."""


def show(
    state: State, text: str, operations: Sequence[str], form: str, home: Path | None = None
) -> None:
    """Print everything that is recorded about a video.

    Args:
        state: The deployment's.
        text: The video: a URI, a path, a partition key, or the end of its key.
        operations: Only these; none is all.
        form: ``table`` for people, ``json`` or ``csv``.
        home: The home that the user named, for commands to copy.

    Raises:
        ConfigurationError: There is no such video, or there are several.
    """
    from rekognition_dagster.state.queries import everything

    with state.read() as connection:
        facts: dict[str, Any] = everything(connection, _key(connection, text))
    video: Mapping[str, Any] = facts["video"] or {}  # a forgotten one has its history only
    if not video and not facts["history"]:
        raise ConfigurationError(_unknown(text))
    if operations:
        for part in ("work", "jobs", "history"):
            facts[part] = [f for f in facts[part] if f["operation"] in (*operations, None)]
    if form == "csv":
        write_csv(WORK_COLUMNS, [work_row(w, video, home) for w in facts["work"]])
    elif form == "json":
        for work in facts["work"]:
            work["what_to_do"] = what_to_do(work, video, home)
        click.echo(json.dumps(facts, indent=2))
    else:
        for line in _lines(facts, home):
            click.echo(line)


def _key(connection: sa.Connection, text: str) -> str:
    """Return the partition key of the video that a user means.

    Raises:
        ConfigurationError: Several videos are called so, or none can be.
    """
    from rekognition_dagster.state.queries import find
    from rekognition_dagster.videos import Video

    try:
        if "://" in text or text.startswith("/") or Path(text).is_file():
            return Video.from_uri(text).partition_key
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="VIDEO") from None
    keys = find(connection, text)
    if len(keys) > 1:
        uris = ", ".join(Video.from_partition_key(k).uri for k in keys[:5])
        raise ConfigurationError(f"{text}: several videos are called so. Name one: {uris}")
    if not keys:
        raise ConfigurationError(_unknown(text))
    return keys[0]


def _unknown(text: str) -> str:
    return (
        f"{text}: no video of the pipeline has this URI, or a key that ends in these parts. The "
        "sensor video_discovery finds what is in the bucket; `analyze` records its jobs in "
        "its lake only: " + command("query", "FROM jobs")
    )


def work_row(
    work: Mapping[str, Any], video: Mapping[str, Any], home: Path | None = None
) -> list[object]:
    """Return the cells of :data:`WORK_COLUMNS`."""
    return [
        work["operation"],
        uri(video),
        work["phase"],
        at(work["since"]),
        work["attempt"],
        work["job_id"] or work["results_job_id"],
        work["rows"],
        work["backend"],
        work["reason"],
        what_to_do(work, video, home),
    ]


def what_to_do(work: Mapping[str, Any], video: Mapping[str, Any], home: Path | None = None) -> str:
    """Return what happens next with a video's work, or what a person has to do."""
    from rekognition_dagster.state.tables import GONE, IGNORED

    place = ("--home", home) if home else ()
    again = command("rerun", *place, "--prefix", video["name"], "--operation", work["operation"])
    if video["status"] == GONE:
        return "nothing, the object was deleted from its bucket. Upload it again to analyse it"
    if video["status"] == IGNORED:
        return f"nothing, its partition was deleted in Dagster. To analyse it all the same: {again}"
    if work["phase"] == "held" and work["reason"]:
        return "nothing until that is done"
    if work["phase"] == "failed" and not video["bucket"]:
        return "mend the cause, then run the job local_backfill again"
    return {
        "held": f"nothing, the nightly batch starts it. To start it now: {again}",
        "waiting": _when_it_starts(work),
        "in_flight": "nothing, the sensor completions notices when the job ends",
        "unpaged": "nothing, the sensor results_refresh pages the results; it tries again by "
        "itself",
        "failed": f"mend the cause, then: {again}",
        "analysed": f"nothing, it is done. To analyse it again: {again}"
        if video["bucket"]
        else "nothing, it is done",
    }[work["phase"]]


def _when_it_starts(work: Mapping[str, Any]) -> str:
    when = "as soon as the quota has room"
    if work["not_before"] > time.time():
        when = f"not before {at(work['not_before'])}"
    return f"nothing, the sensor job_dispatch starts it {when}, while Dagster runs"


def _lines(facts: Mapping[str, Any], home: Path | None) -> Iterator[str]:
    video: Mapping[str, Any] = facts["video"] or {}
    jobs = facts["jobs"]
    if video:
        yield f"{uri(video)}  {video['status']}, version {video['version']}"
    for work in facts["work"]:
        yield ""
        yield f"{work['operation']}  {work['phase'].replace('_', ' ')} since {at(work['since'])}"
        for job in (j for j in jobs if j["operation"] == work["operation"]):
            yield f"  {_job(job, work['reason'])}"
        if work["results_job_id"]:
            by = f" by {work['backend']}" if work["backend"] else ""
            yield f"  {work['rows']} rows{by} in {work['path']}, since {at(work['results_at'])}"
        if work["warning"]:
            yield f"  warning: {work['warning']}"
        if work["reason"]:
            yield f"  why: {work['reason']}"
        yield f"  what to do: {what_to_do(work, video, home)}"
    if facts["analytics"]:
        yield ""
    for model in facts["analytics"]:
        when = f"computed {at(model['at'])}" if model["at"] else "not computed yet"
        yield f"{model['model']}  {when}{', behind' if model['behind'] else ''}"
    yield ""
    for entry in facts["history"]:
        what = " ".join(filter(None, (entry["operation"], entry["what"])))
        detail = f": {entry['detail']}" if entry["detail"] else ""
        yield f"{at(entry['at'])}  {what}{detail}"


def _job(job: Mapping[str, Any], reason: str | None) -> str:
    end = f", completed {at(job['completed_at'])}" if job["completed_at"] else ""
    message = f": {job['message']}" if job["message"] not in (None, reason) else ""
    return (
        f"job {job['job_id']}  attempt {job['attempt']}, started {at(job['started_at'])}{end}: "
        f"{job['status']}{message}"
    )


def write_csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as CSV with a header; None is an empty cell."""
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows([columns, *rows])


def uri(video: Mapping[str, Any]) -> str:
    """Return the URI of a row of the state's ``videos``."""
    from rekognition_dagster.videos import Video

    return Video(video["bucket"], video["name"]).uri


def at(seconds: float) -> str:
    """Return a time in UTC as text, to the second."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(" ", "seconds")
