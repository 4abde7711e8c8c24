"""The commands about the pipeline's state: ``status``, ``state show|rebuild`` and ``rerun``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from rekognition_dagster.cli import options
from rekognition_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from rekognition_dagster.orchestration.names import Deployment
    from rekognition_dagster.state import State


@contextmanager
def _opened() -> Iterator[tuple[Deployment, State]]:
    """The deployment that the environment describes, and its state."""
    from rekognition_dagster.orchestration.names import Deployment
    from rekognition_dagster.orchestration.settings import Settings
    from rekognition_dagster.state import open_state

    deployment = Deployment(Settings.from_env())
    url = deployment.settings.state or _local_stack(deployment.settings.name)
    if url:
        yield deployment, open_state(url, deployment.settings.name)
        return
    import dagster as dg

    try:
        instance = dg.DagsterInstance.get()
    except dg.DagsterError as error:
        raise ConfigurationError(
            f"there is no Dagster instance: {str(error).splitlines()[0]} Set DAGSTER_HOME to the "
            "folder of its dagster.yaml, or REKOGNITION_DAGSTER_STATE to the state's database"
        ) from error
    with instance:
        yield deployment, deployment.state(instance)


def _local_stack(name: str) -> str | None:
    """The state of the demo's home in this folder, where no Dagster home is set."""
    from rekognition_dagster.state.store import sqlite_url

    home = options.DEFAULT_HOME.absolute() / "dagster"
    if "DAGSTER_HOME" in os.environ or not home.is_dir():
        return None
    return sqlite_url(str(home), name)


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="table: for reading. json: one array, an object for each operation.",
)
def status(form: str) -> None:
    """Count the videos of each operation by what is next for them.

    \b
    held         discovered; waits for the nightly batch, is archived, or is a local file
    waiting      to be started, as soon as the quota has room
    in flight    started, and not completed
    unpaged      completed; its results are not in the lake yet
    failed       the job FAILED or its start was refused; the reasons follow
    analysed     its results are in the lake
    gone         deleted from the bucket
    ignored      its partition was deleted in Dagster
    not covered  not started, and outside the configured bucket and prefix
    expiring     of the unpaged: the service forgets their results within two days
    oldest       for how long the first of those before `failed` has been so

    Reads the pipeline's state: REKOGNITION_DAGSTER_STATE, the file in DAGSTER_HOME, or else the
    demo's.

    \b
      rekognition-dagster status
      rekognition-dagster status --format json | python3 -m json.tool
    """
    from rekognition_dagster.state.queries import summary
    from rekognition_dagster.status_table import write_status

    with _opened() as (deployment, opened), opened.read() as connection:
        names = deployment.operation_names
        summaries = [summary(connection, name, deployment.coverage) for name in names]
    write_status(summaries, form, sys.stdout)


@click.group()
def state() -> None:
    """Look at the pipeline's state, or rebuild it."""


@state.command()
@click.argument("video")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def show(video: str, form: str) -> None:
    """Print everything that is known of a VIDEO, in order, with times.

    \b
      rekognition-dagster state show s3://videos/2026-11-25/bikes.mp4
    """
    from rekognition_dagster.state.queries import everything

    key = _key(video)
    with _opened() as (_, opened), opened.read() as connection:
        facts = everything(connection, key)
    if facts["video"] is None and not facts["history"]:
        raise ConfigurationError(
            f"{video}: it is not known. The sensor video_discovery finds what is in the bucket"
        )
    if form == "json":
        json.dump(facts, sys.stdout, indent=2)
        click.echo()
        return
    for line in _lines(facts):
        click.echo(line)


@state.command()
@click.option(
    "--lake",
    "url",
    metavar="DIR",
    help="The lake to read; the deployment's by default.",
)
def rebuild(url: str | None) -> None:
    """Enter the results that the lake has, so that none is paid for again.

    For a lost database, or a new Dagster instance over an old lake. Discovery does the same by
    itself for each video before it starts a job; this does so for all at once.

    \b
      rekognition-dagster state rebuild
    """
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.orchestration.analytics import load_models, order_models
    from rekognition_dagster.state.rebuild import rebuild as rebuild_state

    with _opened() as (deployment, opened):
        settings = deployment.settings
        models = [m for _, m in order_models(load_models(), settings.operation_list)]
        lake = Lake(url or settings.lake, date_pattern=settings.date_pattern)
        entered = rebuild_state(opened, lake, settings.partitioning, models)
    for operation, count in sorted(entered.items()):
        click.echo(f"{operation}: {count} results entered")
    if not entered:
        click.echo(f"{lake.url}: there are no results to enter")


@click.command()
@click.option("--failed", is_flag=True, help="Videos whose job FAILED or whose start was refused.")
@click.option("--prefix", metavar="P", help="Videos whose S3 keys begin so.")
@click.option("--date", "day", metavar="D", help="Videos recorded on that day: 2026-01-31.")
@options.operations("Which operations; the deployment's by default.")
@click.option("--detector", metavar="SPEC", help="With the local engine and this detector instead.")
def rerun(
    failed: bool, prefix: str | None, day: str | None, names: Sequence[str], detector: str | None
) -> None:
    """Have videos analysed again: a new attempt of each, before all that waits.

    Asks the pipeline's state; the sensor job_dispatch starts the jobs. With --detector, prints how
    to run the local backfill for the same videos.

    \b
      rekognition-dagster rerun --failed
      rekognition-dagster rerun --prefix lobby/ --date 2026-01-31 --operation face_detection
    """
    from rekognition_dagster.operations import operation
    from rekognition_dagster.state.rerun import Choice, ask_again, chosen_keys, uri_of

    if not (failed or prefix is not None or day is not None):
        raise click.UsageError("say which: --failed, --prefix P or --date D")
    with _opened() as (deployment, opened):
        pattern = deployment.settings.date_pattern
        operations = [operation(n).name for n in names] or deployment.operation_names
        choice = Choice(operations, failed, prefix, day)
        if detector is None:
            for line in ask_again(opened, choice, pattern):
                click.echo(line)
            return
        click.echo(
            f"The engine runs in Dagster. Launch the job {deployment.scoped('rerun')} with this "
            f"choice and detector: {detector}. It analyses:"
        )
        for name in operations:
            for key in chosen_keys(opened, choice, name, pattern):
                click.echo(f"{name} {uri_of(key)}")


def _key(video: str) -> str:
    from rekognition_dagster.videos import Video

    try:
        if "://" in video or video.startswith("/"):
            return Video.from_uri(video).partition_key
        return Video.from_partition_key(video).partition_key
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="VIDEO") from None


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    video = facts["video"]
    if video is not None:
        yield f"{video['key']}  {video['status']}, version {video['version']}"
    for work in facts["work"]:
        reason = f": {work['reason']}" if work["reason"] else ""
        yield f"{work['operation']}  {work['phase']} since {_time(work['since'])}{reason}"
    for job in facts["jobs"]:
        ended = f", completed {_time(job['completed_at'])}" if job["completed_at"] else ""
        yield (
            f"job {job['job_id']}  {job['operation']} attempt {job['attempt']}: {job['status']}, "
            f"started {_time(job['started_at'])}{ended}"
        )
    for model in facts["analytics"]:
        at = f"computed {_time(model['at'])}" if model["at"] else "not computed yet"
        yield f"{model['model']}  {at}{', behind' if model['behind'] else ''}"
    yield ""
    for entry in facts["history"]:
        what = " ".join(filter(None, (entry["operation"], entry["what"])))
        detail = f": {entry['detail']}" if entry["detail"] else ""
        yield f"{_time(entry['at'])}  {what}{detail}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(" ", "seconds")
