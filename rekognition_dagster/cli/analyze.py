"""``analyze``: the engine alone, straight into a lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.console import progress_bars
from rekognition_dagster.cli.endings import fail
from rekognition_dagster.engine import FaceAttributes, SampleFps
from rekognition_dagster.errors import ConfigurationError, VideoError

if TYPE_CHECKING:
    from rekognition_dagster.operations import Operation
    from rekognition_dagster.videos import Video


@click.command()
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True)
@options.operations("What to look for; repeated, all in one pass over the video.", required=True)
@options.detector
@options.sample_fps
@click.option(
    "--face-attributes",
    type=click.Choice(["default", "all"], case_sensitive=False),
    default="default",
    show_default=True,
    help="all: also guess age, gender, expression and more of each face.",
)
@click.option(
    "--output",
    metavar="DIR",
    envvar="REKOGNITION_DAGSTER_LAKE",
    default="lake",
    show_default=True,
    help="The lake to write: a folder or s3://bucket/prefix. [env: REKOGNITION_DAGSTER_LAKE]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that share the work on one video, and on several. None is this one; "
    "with --ray, one for each core or GPU of the cluster.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="The Ray cluster that does the work: auto, host:6379, ray://host:10001.",
)
def analyze(
    videos: Sequence[str],
    names: Sequence[str],
    detector: str | None,
    sample_fps: SampleFps,
    face_attributes: FaceAttributes,
    output: str,
    workers: int | None,
    ray: str | None,
) -> None:
    """Analyse videos with the local engine, straight into a lake.

    A VIDEO is a file, a folder (the videos in it, at any depth) or s3://bucket/key. A video that
    cannot be analysed does not stop the others; the exit status tells at the end.

    \b
      rekognition-dagster analyze lobby.mp4 --operation person-tracking
      rekognition-dagster analyze archive/ s3://videos/gate.mp4 --sample-fps 5 \\
          --operation person-tracking --operation face-detection --output lake
    """
    import time

    from rekognition_dagster.backfill import analyze_many, locate, workers_for
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.operations import operation

    operations = [operation(name) for name in dict.fromkeys(names)]
    found = list(dict.fromkeys(v for text in videos for v in _videos_at(text)))
    begun: dict[str, float] = {}
    bad = 0

    def told(error: VideoError) -> None:
        nonlocal bad
        bad += 1
        click.echo(f"error: {error}", err=True)

    def located() -> Iterator[tuple[Video, list[Operation]]]:
        for video in found:
            begun[video.uri] = time.monotonic()
            try:
                yield locate(video), operations
            except VideoError as error:
                told(error)

    with ExitStack() as stack:
        pool = stack.enter_context(workers_for(workers, ray, detector))
        progress = stack.enter_context(progress_bars())
        analyses = analyze_many(
            located(),
            Lake(output),
            detector=detector,
            sample_fps=sample_fps,
            face_attributes=face_attributes,
            workers=pool,
        )
        for video, what in stack.enter_context(closing(analyses)):
            progress(video.uri, what if isinstance(what, float) else 1.0)
            if isinstance(what, VideoError):
                told(what)
            elif isinstance(what, dict):
                counts = ", ".join(f"{what[o.name]} rows of {o.table}" for o in operations)
                seconds = time.monotonic() - begun[video.uri]
                click.echo(f"{video.uri}: {counts} in {seconds:.1f} s")
    if bad:
        fail(f"{bad} of {len(found)} videos could not be analysed" if len(found) > 1 else None)


def _videos_at(text: str) -> Iterator[Video]:
    from rekognition_dagster.videos import Video, is_video_key

    try:
        video = Video.from_uri(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="VIDEO") from None
    if not video.is_local or not Path(video.key).is_dir():
        yield video
        return
    files = [p for p in sorted(Path(video.key).rglob("*")) if p.is_file() and is_video_key(p.name)]
    if not files:
        raise ConfigurationError(f"{text}: there is no video in this folder. Check the path")
    yield from (Video.from_uri(str(p)) for p in files)
