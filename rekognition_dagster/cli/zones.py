"""``zones``: check zones.yaml, and paint it on a frame."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.endings import fail
from rekognition_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from rekognition_dagster.analytics.zones import Zones
    from rekognition_dagster.lake import Lake


@click.group()
def zones() -> None:
    """Check and draw the zones and lines of zones.yaml."""


@zones.command()
@options.zones
@options.lake
def check(zones: str | None, url: str | None) -> None:
    """Check zones.yaml; with a lake, also against its cameras.

    What is wrong ends the command with status 1 and names the line; what is probably not meant is
    a warning.

    \b
      rekognition-dagster zones check --zones zones.yaml --lake lake
    """
    from rekognition_dagster.analytics.zones import warnings_of

    found, lake = _read(zones), _lake(url)
    cameras = sorted(_cameras(lake)) if lake else []
    warnings = warnings_of(found)
    if not found.shapes and not found.grounds:
        warnings.append(f"{found.source} has no zone, no line and no ground plane")
    if lake:
        warnings += _unmatched(found, cameras, lake.url)
    _check_names(found, cameras or _named(found))
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    kinds = [sum(s.kind == kind for s in found.shapes) for kind in ("zone", "line")]
    click.echo(
        f"{found.source}: {kinds[0]} zones, {kinds[1]} lines, {len(found.grounds)} ground planes"
    )
    for camera in cameras:
        ours = found.of(camera, None)
        names = ", ".join(f"{s.kind} {s.name}" for s in ours.shapes) or "nothing"
        click.echo(f"  {camera}: {names}{', ground plane' if ours.grounds else ''}")


@zones.command()
@options.zones
@options.lake
@click.option("--camera", required=True, help="Whose zones.")
@click.option("--video", help="On a frame of this video; by default the camera's latest.")
@click.option("--at", type=click.FloatRange(min=0), default=0.0, help="Seconds into the video.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), default=Path("zones.png")
)
def draw(
    zones: str | None, url: str | None, camera: str, video: str | None, at: float, output: Path
) -> None:
    """Paint a camera's zones, lines and directions on a frame of its video.

    \b
      rekognition-dagster zones draw --zones zones.yaml --camera north -o zones.png
    """
    from rekognition_dagster.backfill import fetch
    from rekognition_dagster.pictures.shapes import draw_zones
    from rekognition_dagster.videos import Video

    found = _read(zones)
    ours = found.of(camera, None)
    if not ours.shapes:
        raise ConfigurationError(f"{found.source} has no zone or line of the camera {camera}")
    if video is None:
        lake = _lake(url)
        if lake is None:
            raise ConfigurationError("which video? Name it with --video, or the lake with --lake")
        there = _cameras(lake)
        if camera not in there:
            known = ", ".join(sorted(there)) or "none"
            raise ConfigurationError(f"{lake.url} has no video of {camera}; there are {known}")
        video = there[camera]
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(Video.from_uri(video), folder)
        try:
            draw_zones(path, ours.shapes, output, round(at * 1000))
        except ValueError as error:
            fail(str(error))
    click.echo(f"{output}: {', '.join(s.name for s in ours.shapes)} on {video}")


def _read(place: str | None) -> Zones:
    from rekognition_dagster.analytics.zones import read_zones

    if not place and not Path("zones.yaml").is_file():
        raise ConfigurationError(
            "which zones? Name the file with --zones or REKOGNITION_DAGSTER_ZONES; there is no "
            "zones.yaml in this folder"
        )
    return read_zones(place or "zones.yaml")


def _lake(url: str | None) -> Lake | None:
    """The lake that is named, or that is here."""
    from rekognition_dagster.cli.query import existing_lake, open_lake

    try:
        place = existing_lake(url)
    except ConfigurationError:
        if url is not None:
            raise
        return None
    return open_lake(place)


def _cameras(lake: Lake) -> dict[str, str]:
    """The latest video of each camera of a lake."""
    with lake.connect(["videos"]) as connection:
        sql = (
            "SELECT camera, arg_max(video, coalesce(epoch(recorded_at), 0)) FROM videos "
            "WHERE camera IS NOT NULL GROUP BY camera"
        )
        return dict(connection.sql(sql).fetchall())


def _unmatched(zones: Zones, cameras: list[str], lake: str) -> list[str]:
    """Warnings of cameras without videos."""
    import fnmatch

    known = ", ".join(cameras[:10]) or "none; set REKOGNITION_DAGSTER_CAMERA_PATTERN"
    found: dict[str, None] = {}
    named = [(p, one.line) for one in (*zones.shapes, *zones.grounds) for p in one.cameras]
    without = [
        (pattern, line)
        for pattern, line in named
        if pattern != "*" and not any(fnmatch.fnmatchcase(c, pattern) for c in cameras)
    ]
    if named and len(without) == len(named):
        found[f"{zones.source}: it names no camera of the lake {lake}; there are {known}"] = None
    for pattern, line in without:
        found[
            f"{zones.source}:{line}: there is no video of the camera {pattern}; there are {known}"
        ] = None
    return list(found)


def _named(zones: Zones) -> list[str]:
    """The cameras that the file names in full."""
    patterns = {p for one in (*zones.shapes, *zones.grounds) for p in one.cameras}
    return sorted(p for p in patterns if not set(p) & set("*?[")) or ["any"]


def _check_names(zones: Zones, cameras: list[str]) -> None:
    """Refuse names that a camera has twice at the same time.

    Raises:
        ConfigurationError: One has; the text names the lines.
    """
    ours = (*zones.shapes, *zones.grounds)
    for moment in {datetime.min, *(one.since for one in ours if one.since)}:
        for camera in cameras:
            zones.of(camera, moment)
