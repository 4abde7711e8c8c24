"""``draw``: a video with what the lake's rows say of it, as a video or a sheet of frames."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.endings import ended_by_sigterm
from rekognition_dagster.cli.progress import progress_bars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rekognition_dagster.lake import Lake
    from rekognition_dagster.pictures.overlay import Look
    from rekognition_dagster.pictures.timeline import Blur
    from rekognition_dagster.videos import Video

_SUFFIXES = (".mp4", ".png")


@click.command()
@click.argument("video", metavar="VIDEO")
@options.lake
@click.option("--from", "from_ms", type=options.Clock(), default=0, help="Where it begins: 1:30.")
@click.option("--to", "until_ms", type=options.Clock(), help="Where it ends: 90, 1:30, 0:01:30.")
@options.zones
@click.option("--faces", is_flag=True, help="Also faces and their landmarks.")
@click.option("--labels", is_flag=True, help="Also labels.")
@options.blur
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="out.mp4: the video. out.png: a sheet of twelve frames.",
)
def draw(
    video: str,
    url: str | None,
    from_ms: int,
    until_ms: int | None,
    zones: str | None,
    faces: bool,
    labels: bool,
    blur: Blur | None,
    output: Path,
) -> None:
    """Draw people on a video: boxes, numbers, trails; zones and counters, faces, labels.

    VIDEO is a file or s3://bucket/key. It is analyzed first if the lake has no rows of it. Zones
    are those of --zones, else of zones.yaml in this folder; the counters are those of the tables
    zone_visits and line_crossings.

    \b
      rekognition-dagster draw lobby.mp4 -o drawn.mp4
      rekognition-dagster draw lobby.mp4 --to 0:30 --blur faces -o drawn.png
    """
    from rekognition_dagster.backfill import fetch, locate
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.lake.cameras import Cameras
    from rekognition_dagster.outputs import check_writable
    from rekognition_dagster.pictures.drawing import Filmed, tables_for
    from rekognition_dagster.pictures.drawing import draw as paint
    from rekognition_dagster.pictures.overlay import Look
    from rekognition_dagster.videos import Video

    if output.suffix.lower() not in _SUFFIXES:
        raise click.BadParameter(f"{output}: write a .mp4 or a .png", param_hint="--output")
    if until_ms is not None and until_ms <= from_ms:
        raise click.UsageError("--to is not after --from")
    try:
        named = Video.from_uri(video)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="VIDEO") from None
    found = locate(named)
    if found.is_local and output.absolute() == Path(found.key):
        raise click.BadParameter(f"{output} is the video itself", param_hint="--output")
    check_writable(output)
    lake = Lake(_lake_to_use(url), cameras=Cameras.from_env(os.environ))
    look = Look(faces=faces, labels=labels, blur=blur)
    with (
        tempfile.TemporaryDirectory(prefix="rekognition-dagster-") as folder,
        ended_by_sigterm(),
        progress_bars() as progress,
    ):
        path = fetch(found, folder)
        _analyze(found, path, lake, tables_for(look), lambda done: progress("analyze", done))
        look = _with_zones(look, lake, found, zones)
        paint(
            Filmed(found, path, lake),
            look,
            output,
            from_ms=from_ms,
            until_ms=until_ms,
            progress=lambda done: progress("draw", done),
        )
    click.echo(f"{output}: {found.uri}")


def _lake_to_use(url: str | None) -> str:
    """The lake that is named or here, else the one that analyze makes."""
    from rekognition_dagster.cli.query import existing_lake
    from rekognition_dagster.errors import ConfigurationError

    try:
        return existing_lake(url)
    except ConfigurationError:
        is_new = url is None or ("://" not in url and not Path(url).expanduser().exists())
        if not is_new:
            raise
        return url or "lake"


def _analyze(
    video: Video,
    path: Path,
    lake: Lake,
    tables: Sequence[str],
    progress: Callable[[float], None],
) -> None:
    """Analyze a video for the tables that have no rows of it."""
    from rekognition_dagster.analytics import compute_standard
    from rekognition_dagster.backfill import analyze_into_lake
    from rekognition_dagster.operations import OPERATIONS

    missing = [o for o in OPERATIONS.values() if o.table in tables and not lake.has(o.table, video)]
    if missing:
        names = ", ".join(o.table for o in missing)
        click.echo(f"{video.uri}: {lake.url} has no {names} of it yet; analyzing", err=True)
        analyze_into_lake(video, path, lake, missing, progress=progress)
        compute_standard(lake, [video])


def _with_zones(look: Look, lake: Lake, video: Video, place: str | None) -> Look:
    """Add the zones and lines of a video's camera, and who was in them."""
    from dataclasses import replace

    from rekognition_dagster.analytics.zones import read_zones
    from rekognition_dagster.pictures.shapes import counts_of

    here = "zones.yaml" if Path("zones.yaml").is_file() else None
    zones = read_zones(place or here)
    if not zones.shapes:
        return look
    with lake.connect(["videos"], [video]) as connection:
        rows = connection.execute("SELECT camera, recorded_local FROM videos").fetchall()
    camera, at = rows[0] if rows else (None, None)
    ours = zones.of(camera, at)
    if not ours.shapes and not place:
        return look
    if not ours.shapes:
        known = ", ".join(sorted({c for s in zones.shapes for c in s.cameras}))
        whose = f"the camera {camera}" if camera else "this video, which has no known camera"
        click.echo(
            f"note: {zones.source} has no zone or line of {whose}; it has some of {known}",
            err=True,
        )
        return look
    counts = counts_of(lake, video, zones)
    if counts is None:
        click.echo(f"note: {video.uri}: no counters, for its time is not known", err=True)
    return replace(look, shapes=ours.shapes, counts=counts)
