"""``refresh``: analytics that zones, cameras or models have overtaken are computed again."""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime

import click

from rekognition_dagster.cli import options

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@options.lake
@options.zones
@click.option("--since", type=DAY, help="The first day; as far as there are videos by default.")
@click.option("--until", type=DAY, help="The last day.")
def refresh(
    url: str | None, zones: str | None, since: datetime | None, until: datetime | None
) -> None:
    """Compute analytics again that are out of date; no video is analyzed.

    After a change of zones.yaml, of REKOGNITION_DAGSTER_CAMERA_PATTERN or of a time zone. Only the
    days and cameras that it concerns are computed.

    \b
      rekognition-dagster refresh --lake lake --zones zones.yaml --since 2026-01-01
    """
    from rekognition_dagster.analytics.refresh import refresh as compute
    from rekognition_dagster.analytics.zones import read_zones
    from rekognition_dagster.cli.query import existing_lake
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.lake.cameras import Cameras

    lake = Lake(existing_lake(url), cameras=Cameras.from_env(os.environ))
    days: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    first, last = (moment.date() if moment else None for moment in (since, until))
    for done in compute(lake, read_zones(zones), since=first, until=last):
        days[done.model.name] += 1
        rows[done.model.name] += done.rows
    for name in sorted(days):
        click.echo(f"{name}: {rows[name]} rows of {days[name]} days")
    if not days:
        click.echo("everything is up to date")
