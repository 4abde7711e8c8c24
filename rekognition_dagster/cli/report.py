"""``report``: one page about a day, with charts and pictures, that opens from disk."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.refresh import DAY, check_range, check_that_no_zone_is_lost
from rekognition_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from rekognition_dagster.lake import Lake


@click.command()
@options.lake
@options.zones
@click.option("--camera", default="*", help="The camera; names may have *.")
@click.option("--date", "on", type=DAY, help="The day; by default the last one with a recording.")
@click.option("--from", "since", type=DAY, help="The first day.")
@click.option("--to", "until", type=DAY, help="The last day.")
@click.option("--faces", is_flag=True, help="Also faces by camera.")
@click.option("--labels", is_flag=True, help="Also the most frequent labels.")
@click.option(
    "--blur",
    type=click.Choice(["people", "faces", "none"]),
    default="people",
    show_default=True,
    help="What is covered in stills.",
)
@click.option("--pictures/--no-pictures", default=True, help="Open videos for pictures.")
@click.option("--refresh/--no-refresh", default=True, help="Compute the days' tables if needed.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
)
def report(
    url: str | None,
    zones: str | None,
    camera: str,
    on: datetime | None,
    since: datetime | None,
    until: datetime | None,
    faces: bool,
    labels: bool,
    blur: str,
    pictures: bool,
    refresh: bool,
    output: Path,
) -> None:
    """Make one page about a day: counts, charts, heat maps, flows, stays, busiest moments.

    The page opens from disk, needs no network and has no scripts. Pictures show no people: heat
    maps lie over a frame from which they are removed, and in stills they are covered.

    \b
      rekognition-dagster report --date 2026-01-31 -o report.html
      rekognition-dagster report --from 2026-01-01 --to 2026-01-31 --no-pictures
    """
    from rekognition_dagster.cli.progress import progress_bars
    from rekognition_dagster.cli.query import open_lake
    from rekognition_dagster.outputs import check_writable
    from rekognition_dagster.report import Scope, build_report, write_report
    from rekognition_dagster.report.facts import check_camera, recorded_days

    if on and (since or until):
        raise click.UsageError("name --date, or --from and --to")
    check_range(since, until, "--from", "--to")
    check_writable(output)
    lake = open_lake(url)
    first, last = (d.date() if d else None for d in ((on, on) if on else (since, until)))
    if last is None:
        check_camera(lake, camera)
        known = recorded_days(lake, camera)
        if known is None:
            raise ConfigurationError(f"{lake.url} has no video whose time of recording is known")
        last = known[1]
    scope = Scope(min(first or last, last), last, camera, faces, labels)
    with progress_bars() as progress:
        if refresh:
            _refresh(lake, zones, scope.since, scope.until)
        made = build_report(
            lake,
            scope,
            pictures=pictures,
            blur=None if blur == "none" else blur,  # type: ignore[arg-type]
            progress=lambda done: progress("report", done),
        )
    write_report(made, output)
    for note in made.page.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{output}: {made.page.summary}, {scope.text}")


def _refresh(lake: Lake, zones: str | None, since: date, until: date) -> None:
    """Compute tables of the days that are not up to date, unless zones would be lost."""
    from rekognition_dagster.analytics.refresh import refresh
    from rekognition_dagster.analytics.zones import read_zones

    zones = zones or ("zones.yaml" if Path("zones.yaml").is_file() else None)
    if not zones:
        try:
            check_that_no_zone_is_lost(lake)
        except ConfigurationError:
            click.echo("note: tables are as they were computed: no zones.yaml is here", err=True)
            return
    for _ in refresh(lake, read_zones(zones), since=since, until=until):
        pass
