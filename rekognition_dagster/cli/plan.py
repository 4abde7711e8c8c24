"""The command ``plan``: what would start, and what it would cost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from rekognition_dagster.cli.deployments import home_option, opened
from rekognition_dagster.cli.progress import counter
from rekognition_dagster.errors import ConfigurationError, RekognitionDagsterError
from rekognition_dagster.terminal import text_table, width_of


@click.command()
@home_option
@click.option("--engine/--no-engine", default=True, help="Measure the local engine, too: seconds.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def plan(home: Path | None, engine: bool, form: str) -> None:
    """Say how many videos and hours would start, what they would cost, and which are refused.

    Lists the buckets and compares them with the state and the lake; starts nothing. Lengths that
    are not known are estimated from sizes. Money is at the prices of the settings. Pauses and
    budgets that make videos wait are named. For a deployment in YAML, whose settings are not in the
    environment, launch its job plan in Dagster.

    \b
      rekognition-dagster plan
    """
    from rekognition_dagster import aws
    from rekognition_dagster.orchestration.planning import plan as plan_of

    with opened(home, missing="empty") as (deployment, state), counter("keys listed") as tell:
        settings = deployment.settings
        if not settings.source_list:
            raise ConfigurationError(
                "no bucket is set: set REKOGNITION_DAGSTER_BUCKET or REKOGNITION_DAGSTER_SOURCES. "
                "For a deployment in YAML, launch its job plan in Dagster"
            )
        client = aws.client("s3", assume_role=settings.assume_role)
        lake = settings.open_lake()
        plans = plan_of(deployment, state, client, lake, tell)
    rate = _frames_a_second(settings.detector) if engine else None
    if form == "json":
        rows = [
            {**vars(p), "money": p.money}
            | ({"engine_hours": p.hours_of_engine(rate)} if rate else {})
            for p in plans
        ]
        json.dump(rows, sys.stdout, indent=2)
        click.echo()
        return
    names = ["operation", "videos", "hours", "cost", "hours of the local engine"]
    table = [
        (
            p.operation,
            p.videos,
            f"{p.minutes / 60:.2f}",
            f"{p.money:.2f}",
            f"{p.hours_of_engine(rate):.1f}" if rate else "not measured",
        )
        for p in plans
    ]
    for line in text_table(names, table, width_of(sys.stdout)):
        click.echo(line)
    for p in plans:
        for reason, count in p.refused.most_common():
            click.echo(f"{p.operation}: {count} would not start: {reason}")
        for delay in p.delays:
            click.echo(f"{p.operation}: {delay}")


def _frames_a_second(detector: str | None) -> float | None:
    """How fast the engine's detector is here; None, with a note, where that cannot be measured."""
    try:
        from rekognition_dagster.engine import open_detector
        from rekognition_dagster.engine.speed import frames_per_second

        return frames_per_second(open_detector(detector))
    except (ImportError, RekognitionDagsterError) as error:
        click.echo(f"note: the local engine is not measured: {error}", err=True)
        return None
