"""The commands that act on the pipeline's state: ``state show|rebuild`` and ``rerun``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.deployments import home_option, opened, stack_home
from rekognition_dagster.cli.story import show as show_story
from rekognition_dagster.terminal import command


@click.group()
def state() -> None:
    """Look at the pipeline's state, or rebuild it.

    \b
      rekognition-dagster state show s3://videos/2026-11-25/bikes.mp4
    """


@state.command()
@click.argument("video")
@home_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def show(video: str, home: Path | None, form: str) -> None:
    """Print everything that is recorded about a VIDEO; the same as `status VIDEO`.

    \b
      rekognition-dagster state show s3://videos/2026-11-25/bikes.mp4
    """
    with opened(home) as (_, state):
        show_story(state, video, (), "table" if form == "text" else form, home)


@state.command()
@click.option(
    "--lake",
    "url",
    metavar="DIR",
    help="The lake to read; the deployment's by default.",
)
@home_option
def rebuild(url: str | None, home: Path | None) -> None:
    """Enter the results that the lake has, so that none is paid for again.

    For a lost database, or a new Dagster instance over an old lake. Discovery does the same for
    each video before it starts a job; this command does it for all at once.

    \b
      rekognition-dagster state rebuild
    """
    from rekognition_dagster.cli.query import existing_lake
    from rekognition_dagster.state.rebuild import rebuild as rebuild_state

    with opened(home, missing="make") as (deployment, state):
        settings = deployment.settings
        lake = settings.open_lake(existing_lake(url or settings.lake))
        entered = rebuild_state(state, lake, settings.partitioning, deployment.state_models)
    for operation, count in sorted(entered.items()):
        click.echo(f"{operation}: {count} results entered")
    if not entered:
        click.echo(f"{lake.url}: there are no results to enter that the state does not have")


@click.command()
@click.option("--failed", is_flag=True, help="Videos whose job FAILED or whose start was refused.")
@click.option("--prefix", metavar="P", help="Videos whose S3 keys begin so.")
@click.option("--date", "day", metavar="D", help="Videos recorded on that day: 2026-01-31.")
@options.operations("Which operations; the deployment's by default.")
@click.option("--detector", metavar="SPEC", help="With the local engine and this detector instead.")
@home_option
def rerun(
    failed: bool,
    prefix: str | None,
    day: str | None,
    names: Sequence[str],
    detector: str | None,
    home: Path | None,
) -> None:
    """Analyse videos again: a new attempt of each, before all that waits.

    Writes to the pipeline's state; the sensor job_dispatch starts the jobs while Dagster runs. With
    --detector, prints how to run the local backfill for the same videos.

    \b
      rekognition-dagster rerun --failed
      rekognition-dagster rerun --prefix 2026-11-25/ --operation person_tracking
    """
    from rekognition_dagster.state.rerun import (
        Choice,
        ask_again,
        choose,
        nothing_chosen,
        operations_of,
        uri_of,
    )

    if not (failed or prefix is not None or day is not None):
        raise click.UsageError("say which: --failed, --prefix P or --date D")
    if detector is not None:
        from rekognition_dagster.engine import open_detector

        open_detector(detector)
    with opened(home) as (deployment, state):
        pattern = deployment.settings.date_pattern
        operations = operations_of(names, deployment.operation_names)
        choice = Choice(operations, failed, prefix, day)
        if detector is None:
            for line in ask_again(state, choice, pattern):
                click.echo(line)
            return
        chosen = choose(state, choice, pattern)
        if not chosen:
            click.echo(nothing_chosen(choice))
            return
        config = {"failed": failed, "prefix": prefix, "date": day, "detector": detector}
        config = {k: v for k, v in config.items() if v not in (None, False)}
        config["operations"] = operations
        ops = {"ops": {deployment.scoped("ask_again"): {"config": config}}}
        launch = ("-m", "rekognition_dagster.definitions", "--job", deployment.scoped("rerun"))
        click.echo("The engine runs in Dagster. Launch its job, by dg of dagster-dg-cli, with")
        if stack := stack_home(home):
            environment = shlex.quote(str(stack.absolute() / "environment"))
            click.echo(
                f"set -a; . {environment}; set +a  # while {command('dev', '--home', stack)}"
            )
        click.echo(shlex.join(["dg", "launch", *launch, "--config-json", json.dumps(ops)]))
        click.echo("It analyses:")
        for name, keys in chosen.items():
            for key in keys:
                click.echo(f"{name} {uri_of(key)}")
