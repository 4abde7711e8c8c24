"""``status``: the state of all videos, of those that failed, or of one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.deployments import home_option, opened
from rekognition_dagster.cli.story import WORK_COLUMNS, show, work_row, write_csv
from rekognition_dagster.terminal import command


@click.command()
@click.argument("video", required=False)
@click.option("--failed", is_flag=True, help="List the videos that failed, each with its error.")
@options.operations("Only these; the deployment's by default.")
@home_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="table: for reading. json: an array, or an object for one VIDEO. csv: with a header.",
)
def status(
    video: str | None, failed: bool, names: Sequence[str], home: Path | None, form: str
) -> None:
    """Count the videos by what is next for them, or tell the story of one VIDEO.

    VIDEO is its URI, its path or the end of its key. Its story has each operation's jobs, attempts,
    rows and last error, what to do about it, and its history.

    \b
    held         discovered; waits for the nightly batch, or is archived
    waiting      to be started, as soon as the quota has room
    in flight    started, and not completed
    unpaged      completed; its results are not in the lake yet
    failed       the job FAILED or its start was refused
    analysed     its results are in the lake
    gone         deleted from the bucket
    ignored      a person said so (`ignore`), or deleted its partition in Dagster
    not covered  not started, and outside the configured bucket and prefix
    expiring     of the unpaged: the service forgets their results within two days
    oldest       how long the first of those before `failed` has been there

    Reads the state of REKOGNITION_DAGSTER_STATE or DAGSTER_HOME, else of the demo's home.

    \b
      rekognition-dagster status
      rekognition-dagster status bikes.mp4 --operation person_tracking
      rekognition-dagster status --failed --format csv > failed.csv
      rekognition-dagster status --format json | python3 -m json.tool
    """
    if video and failed:
        raise click.UsageError("name a VIDEO, or ask for --failed ones, not both")
    with opened(home) as (deployment, state):
        if video:
            show(state, video, names, form, home)
            return
        from rekognition_dagster.cli.status_table import write_status
        from rekognition_dagster.state.budget import spent
        from rekognition_dagster.state.control import pauses
        from rekognition_dagster.state.jobs import too_long
        from rekognition_dagster.state.queries import failed_work, summary

        operations = list(names) or deployment.operation_names
        with state.read() as connection:
            if not failed:
                summaries = [
                    summary(connection, n, deployment.settings.source_list) for n in operations
                ]
                write_status(summaries, form, sys.stdout)
                if form != "table":
                    return
                now = time.time()
                for s in spent(connection, deployment.settings.limits, now):
                    click.echo(f"budget: {s.text}; {s.forecast(now):.0f} minutes by its end")
                settings = deployment.settings
                for n in operations:
                    count = too_long(connection, n, settings.source_list, settings.limits)
                    if count:
                        click.echo(f"budget: {count} videos of {n} exceed a whole limit alone")
                for paused in pauses(connection):
                    click.echo(f"paused: {paused.text}; go on with {command('resume')}")
                return
            rows = [work_row(work, of, home) for work, of in failed_work(connection, operations)]
    _write_failed(rows, form)


def _write_failed(rows: Sequence[Sequence[object]], form: str) -> None:
    from rekognition_dagster.terminal import text_table, width_of

    if form == "json":
        named = [dict(zip(WORK_COLUMNS, row, strict=True)) for row in rows]
        click.echo(json.dumps(named, indent=2))
    elif form == "csv":
        write_csv(WORK_COLUMNS, rows)
    elif not rows:
        click.echo("nothing failed")
    else:
        for line in text_table(WORK_COLUMNS, rows, width_of(sys.stdout)):
            click.echo(line)
