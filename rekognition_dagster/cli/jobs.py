"""``jobs``: what an operator sees of the service's jobs in a store, and does with them."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.endings import fail
from rekognition_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from rekognition_dagster.service.store import Job, JobStore, Selection

_STATES = ("queued", "running", "succeeded", "failed")
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_COLUMNS = (
    *("job_id", "status", "operation", "account", "video", "started", "ended", "attempts"),
    *("interruptions", "claims", "due", "worker", "topic", "tag", "message"),
)


class Age(click.ParamType):
    """A time such as ``90s``, ``15min``, ``2h`` or ``7d``, in seconds."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|d)", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no age such as 90s, 15min, 2h or 7d", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


_store = click.option(
    "--store",
    metavar="DIR|URL",
    help="The service's --store; by default this user's, as serve has it. "
    "[env: REKOGNITION_DAGSTER_STORE]",
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--newer-than", type=Age(), metavar="AGE", help="Only those of less age."),
        click.option(
            "--older-than",
            type=Age(),
            metavar="AGE",
            help="Only jobs that ended so long ago, or are in progress for so long: 90s, 2h, 7d.",
        ),
        options.operations("Only jobs of this operation; repeatable."),
        click.option("--account", help="Only jobs of this account of the credentials file."),
        click.option(
            "--status",
            "states",
            type=click.Choice(_STATES, case_sensitive=False),
            multiple=True,
            help="Only jobs in this state; repeatable.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def jobs() -> None:
    """List, show, cancel, requeue and purge the jobs in a service's store.

    Works on the store itself, beside the service or without it. A JOB_ID may be shortened to its
    first digits.

    \b
      rekognition-dagster jobs list --status failed --newer-than 1d
      rekognition-dagster jobs requeue --status failed --newer-than 1d
    """


@jobs.command("list")
@_store
@_filters
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="table: for reading. json: an array. csv: with a header.",
)
def list_jobs(store: str | None, limit: int, form: str, **filters: Any) -> None:
    """List jobs, the latest first.

    \b
      rekognition-dagster jobs list --store /var/lib/rekognition --status queued --older-than 1h
      rekognition-dagster jobs list --status failed --format csv > failed.csv
    """
    with _opened(store) as opened:
        found = opened.jobs(_selection(**filters), limit + 1)
    _write(found[:limit], form)
    if len(found) > limit:
        click.echo(f"note: there are more than {limit} jobs; see --limit", err=True)


@jobs.command()
@_store
@click.argument("job_id", metavar="JOB_ID")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def show(store: str | None, job_id: str, form: str) -> None:
    """Show everything that the store has of one job.

    \b
      rekognition-dagster jobs show 4f0c2a
    """
    with _opened(store) as opened:
        job = _one(opened, job_id)
    facts = {**_row(job), "request": job.request, "metadata": job.metadata, "rows": job.orders}
    if form == "json":
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        if value is not None and value != {}:
            text = value if isinstance(value, (str, int)) else json.dumps(value)
            click.echo(f"{name:<14}{text}")


@jobs.command()
@_store
@click.argument("job_ids", metavar="[JOB_ID]...", nargs=-1)
@_yes
@_filters
def cancel(store: str | None, job_ids: Sequence[str], yes: bool, **filters: Any) -> None:
    """End jobs in progress in FAILED, and announce that as any end of a job.

    A worker that has the job stops within a third of the lease (10 s).

    \b
      rekognition-dagster jobs cancel 4f0c2a
      rekognition-dagster jobs cancel --account security --status queued --yes
    """
    chosen = _Chosen(("QUEUED", "RUNNING"), job_ids, filters)
    with _opened(store) as opened:
        _act(opened, chosen, opened.cancel, "cancelled", None if yes else "cancel")


@jobs.command()
@_store
@click.argument("job_ids", metavar="[JOB_ID]...", nargs=-1)
@_filters
def requeue(store: str | None, job_ids: Sequence[str], **filters: Any) -> None:
    """Put FAILED jobs back into the queue, with all their attempts.

    Their JobIds stay, and their ends are announced again. The limit of jobs in progress does not
    apply.

    \b
      rekognition-dagster jobs requeue --status failed --newer-than 1d
    """
    chosen = _Chosen(("FAILED",), job_ids, filters)
    with _opened(store) as opened:
        _act(opened, chosen, opened.requeue, "queued again")


@jobs.command()
@_store
@click.argument("job_ids", metavar="[JOB_ID]...", nargs=-1)
@_yes
@_filters
def purge(store: str | None, job_ids: Sequence[str], yes: bool, **filters: Any) -> None:
    """Remove ended jobs with their results before their life is over.

    The API no longer knows them at once. A running service removes their results within a minute,
    else the next one does; what is not announced yet stays until it is.

    \b
      rekognition-dagster jobs purge --status succeeded --older-than 2d
    """
    chosen = _Chosen(("SUCCEEDED", "FAILED"), job_ids, filters)
    with _opened(store) as opened:
        _act(opened, chosen, opened.expire, "purged", None if yes else "purge")


@dataclass(frozen=True)
class _Chosen:
    """The jobs that a command is for: by their states, and by JobIds or else filters."""

    states: Sequence[str]
    job_ids: Sequence[str]
    filters: Mapping[str, Any]

    def jobs(self, store: JobStore) -> list[Job]:
        """The jobs, of which those of other states are left out, or an error where named."""
        has_filters = any(value not in (None, ()) for value in self.filters.values())
        if bool(self.job_ids) == has_filters:
            raise click.UsageError(
                "name JOB_IDs, or select jobs by --status, --operation, --account, --older-than "
                "or --newer-than"
            )
        if has_filters:
            asked = {state.upper() for state in self.filters["states"]}
            if asked and not asked & set(self.states):
                raise click.UsageError(
                    f"this is for jobs that are {' or '.join(self.states)}, not "
                    + " or ".join(sorted(asked))
                )
            found = store.jobs(_selection(**self.filters))
            return [job for job in found if job.state in self.states]
        found = [_one(store, job_id) for job_id in self.job_ids]
        for job in found:
            if job.state not in self.states:
                raise ConfigurationError(
                    f"job {job.job_id[:12]} is {job.state}; this is for jobs that are "
                    f"{' or '.join(self.states)}"
                )
        return found


def _act(
    store: JobStore,
    chosen: _Chosen,
    act: Callable[[str], bool],
    done: str,
    question: str | None = None,
) -> None:
    found = chosen.jobs(store)
    count = f"{len(found)} job{'' if len(found) == 1 else 's'}"
    if question and found:
        _ask(f"{question} {count}")
    number = sum(act(job.job_id) for job in found)
    click.echo(f"{number} of {count} {done}" if number != len(found) else f"{count} {done}")


@contextmanager
def _opened(store: str | None) -> Iterator[JobStore]:
    """The store, which must exist.

    Raises:
        ConfigurationError: It does not, or cannot be opened.
    """
    from rekognition_dagster.database import sqlite_path
    from rekognition_dagster.service.settings import Settings
    from rekognition_dagster.service.store import JobStore

    if store == "":
        raise click.UsageError("--store is empty; name a folder or a database's URL")
    settings = Settings.of(store=store, results="unused")  # only the service needs that place
    url = settings.database_url
    if url.startswith("sqlite") and not sqlite_path(url).exists():
        raise ConfigurationError(
            f"there is no job store in {settings.store}. Name the service's --store, or set "
            "REKOGNITION_DAGSTER_STORE"
        )
    opened = JobStore(url)
    try:
        yield opened
    finally:
        opened.close()


def _selection(
    states: Sequence[str],
    account: str | None,
    names: Sequence[str],
    older_than: float | None,
    newer_than: float | None,
) -> Selection:
    from rekognition_dagster.service.store import Selection

    if older_than is not None and newer_than is not None and older_than >= newer_than:
        raise click.UsageError("no job is both --older-than and --newer-than these ages")
    states = [state.upper() for state in states]
    return Selection("", states, names, account, older_than, newer_than)


def _one(store: JobStore, job_id: str) -> Job:
    from rekognition_dagster.service.store import Selection

    if not re.fullmatch("[0-9a-f]{1,64}", job_id):
        raise click.BadParameter(
            f"{job_id!r} has other characters than 0-9a-f", param_hint="JOB_ID"
        )
    found = store.jobs(Selection(job_id), 2)
    if len(found) != 1:
        what = "several jobs have" if found else "no job has"
        raise ConfigurationError(f"{what} a JobId that begins with {job_id}")
    return found[0]


def _ask(what: str) -> None:
    try:
        if click.confirm(f"{what}?", err=True):
            return
    except click.Abort:
        raise ConfigurationError("nothing was done: pass --yes to do it without asking") from None
    fail("nothing was done")


def _write(found: Sequence[Job], form: str) -> None:
    from rekognition_dagster.cli.story import write_csv
    from rekognition_dagster.terminal import text_table, width_of

    rows = [_row(job) for job in found]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
    elif form == "csv":
        write_csv(_COLUMNS, [list(row.values()) for row in rows])
    elif not rows:
        click.echo("no jobs")
    else:
        columns = (
            "job_id",
            "status",
            "operation",
            "account",
            "video",
            "age",
            "attempts",
            "message",
        )
        cells = [
            [{**row, "job_id": job.job_id[:12], "age": _age(job)}[name] for name in columns]
            for job, row in zip(found, rows, strict=True)
        ]
        for line in text_table(columns, cells, width_of(sys.stdout)):
            click.echo(line)


def _row(job: Job) -> dict[str, Any]:
    ended = job.completed_at
    values = (
        *(job.job_id, job.state, job.operation, job.account, job.video, _time(job.created_at)),
        *(None if ended is None else _time(ended), job.attempts, job.interruptions, job.claims),
        *(_time(job.available_at) if ended is None else None, job.lease_owner, job.topic_arn),
        *(job.job_tag, job.status_message),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _age(job: Job) -> str:
    seconds = max(0.0, time.time() - (job.completed_at or job.created_at))
    unit = next((u for u in ("d", "h", "min") if seconds >= _UNITS[u]), "s")
    return f"{seconds / _UNITS[unit]:.0f} {unit}"
