"""``refresh``: analytics that are missing or out of date are computed."""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rekognition_dagster.cli import options
from rekognition_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from rekognition_dagster.lake import Lake

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@options.lake
@options.zones
@click.option("--no-zones", is_flag=True, help="There are no zones: remove what the lake has.")
@click.option(
    "--since",
    type=DAY,
    help="The first day; as far back as there are videos "
    "by default. [env: REKOGNITION_DAGSTER_ZONES_SINCE]",
)
@click.option("--until", type=DAY, help="The last day.")
def refresh(
    url: str | None,
    zones: str | None,
    no_zones: bool,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Compute analytics that are missing or out of date; no video is analyzed.

    Tables per video are computed where they lack a video or are older than its results; tables per
    day for the days and cameras that a change concerns. Zones are those of --zones, else of
    zones.yaml in this folder. Run it after a change of them, of REKOGNITION_DAGSTER_CAMERA_PATTERN
    or of a time zone.

    \b
      rekognition-dagster refresh --lake lake --zones zones.yaml --since 2026-01-01
    """
    from rekognition_dagster.analytics.refresh import ComputedVideos
    from rekognition_dagster.analytics.refresh import refresh as compute
    from rekognition_dagster.analytics.zones import read_zones, warnings_of
    from rekognition_dagster.cli.progress import counter
    from rekognition_dagster.cli.query import open_lake

    lake = open_lake(url)
    lake.name_foreign_files()
    setting = os.environ.get("REKOGNITION_DAGSTER_ZONES_SINCE")
    if since is None and setting:
        since = datetime.fromisoformat(setting)
    check_range(since, until)
    _check_cameras(lake)
    if not zones and not no_zones:
        zones = "zones.yaml" if Path("zones.yaml").is_file() else None
    if not zones and not no_zones:
        check_that_no_zone_is_lost(lake)
    days: Counter[str] = Counter()
    videos: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    first, last = (moment.date() if moment else None for moment in (since, until))
    ours = read_zones(None if no_zones else zones)
    for warning in warnings_of(ours):
        click.echo(f"warning: {warning}", err=True)
    with counter("tables computed") as progress:
        for number, done in enumerate(compute(lake, ours, since=first, until=last), 1):
            rows[done.model.name] += done.rows
            if isinstance(done, ComputedVideos):
                videos[done.model.name] += done.videos
            else:
                days[done.model.name] += 1
            progress(number)
    for name in sorted(videos):
        click.echo(f"{name}: {rows[name]} rows of {videos[name]} videos")
    for name in sorted(days):
        click.echo(f"{name}: {rows[name]} rows of {days[name]} days")
    if not rows:
        click.echo("everything is up to date")


def check_range(
    since: datetime | None,
    until: datetime | None,
    first: str = "--since",
    last: str = "--until",
) -> None:
    """Refuse days that end before they begin; ``first`` and ``last`` are the options' names."""
    if since and until and until < since:
        raise click.UsageError(f"{last} {until:%Y-%m-%d} is before {first} {since:%Y-%m-%d}")


def _check_cameras(lake: Lake) -> None:
    """Refuse a pattern that fits no video, which would leave every table empty."""
    pattern = lake.cameras.pattern
    if pattern is None:
        return
    with lake.connect() as connection:
        query = "SELECT count(*), count(camera), min(video) FROM videos"
        ((videos, fitting, one),) = connection.execute(query).fetchall()
    if videos and not fitting:
        raise ConfigurationError(
            f"the camera pattern {pattern} fits none of {videos} videos, e.g. {one}. "
            "Correct REKOGNITION_DAGSTER_CAMERA_PATTERN"
        )


def check_that_no_zone_is_lost(lake: Lake) -> None:
    """Refuse to compute without zones where the lake has rows of some."""
    found: list[str] = []
    tables = set(lake.tables())
    with lake.connect() as connection:
        for table, column in (("zone_visits", "zone"), ("line_crossings", "line")):
            if table in tables:
                query = f"SELECT DISTINCT {column} FROM {table} ORDER BY 1"
                found += [str(name) for (name,) in connection.execute(query).fetchall()]
    if found:
        raise ConfigurationError(
            f"which zones? The lake has rows of {', '.join(found[:10])}, which would be removed. "
            "Name the file with --zones or REKOGNITION_DAGSTER_ZONES, or say --no-zones"
        )
