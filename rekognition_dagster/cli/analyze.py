"""``analyze``: the engine alone, straight into a lake."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.endings import INTERRUPTED, fail
from rekognition_dagster.cli.progress import progress_bars
from rekognition_dagster.engine import FaceAttributes, SampleFps, open_detector
from rekognition_dagster.errors import ConfigurationError, VideoError
from rekognition_dagster.terminal import command

if TYPE_CHECKING:
    from rekognition_dagster.analytics.zones import Zones
    from rekognition_dagster.lake import Lake
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
    "--lake",
    "output",
    metavar="DIR",
    envvar="REKOGNITION_DAGSTER_LAKE",
    default="lake",
    show_default=True,
    help="The lake to write: a folder or s3://bucket/prefix. [env: REKOGNITION_DAGSTER_LAKE]",
)
@options.zones
@click.option("--again", is_flag=True, help="Analyze also what this detector has already done.")
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
    zones: str | None,
    again: bool,
    workers: int | None,
    ray: str | None,
) -> None:
    """Analyze videos with the local engine, straight into a lake, analytics included.

    A VIDEO is a file, a folder (the videos in it, at any depth), s3://bucket/key or
    s3://bucket/prefix/. Videos that are done are skipped. A video that cannot be analyzed does not
    stop the others; the exit status reports it at the end. After Ctrl-C, the same command goes on.

    \b
      rekognition-dagster analyze lobby.mp4 --operation person_tracking
      rekognition-dagster analyze archive/ s3://videos/entrance/ --sample-fps 5 \\
          --operation person_tracking --operation face_detection --output lake
    """
    from rekognition_dagster.analytics.zones import read_zones
    from rekognition_dagster.backfill import analyze_many, workers_for
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.lake.cameras import Cameras
    from rekognition_dagster.operations import operation

    how: Any = {
        "detector": detector,
        "sample_fps": sample_fps,
        "face_attributes": face_attributes,
    }
    _check_output(output)
    found = list(dict.fromkeys(v for text in videos for v in _videos_at(text)))
    operations = [operation(name) for name in dict.fromkeys(names)]
    if detector and not ray:
        open_detector(detector)  # a wrong one is no fault of the first video
    lake = Lake(output, cameras=Cameras.from_env(os.environ))
    work = _Work(found, operations, lake, how, again, read_zones(zones))
    try:
        with ExitStack() as stack:
            pool = stack.enter_context(workers_for(workers, ray, detector))
            progress = stack.enter_context(progress_bars())
            analyses = analyze_many(work.todo(), work.lake, workers=pool, **how)
            for video, what in stack.enter_context(closing(analyses)):
                progress(video.uri, what if isinstance(what, float) else 1.0)
                work.settle(video, what)
        work.compute_days()
    except KeyboardInterrupt:
        work.interrupted()
    finally:
        work.remove_empty_folders()
    work.sum_up(output)


@dataclass
class _Work:
    """The videos of one command line, and what became of each."""

    found: list[Video]
    operations: list[Operation]
    lake: Lake
    how: dict[str, Any]
    again: bool
    zones: Zones
    begun: dict[Video, float] = field(default_factory=dict)
    done: list[Video] = field(default_factory=list)
    skipped: int = 0
    bad: int = 0

    def todo(self) -> Iterator[tuple[Video, list[Operation]]]:
        """The videos that are not done yet, with the operations that are missing."""
        from rekognition_dagster.backfill import backend_name, is_done, locate

        for video in self.found:
            try:
                located = locate(video)
            except VideoError as error:
                self._report(error)
                continue
            missing = [
                o
                for o in self.operations
                if self.again or not is_done(located, o, self.lake, backend_name(o, **self.how))
            ]
            if missing:
                self.begun[located] = time.monotonic()
                yield located, missing
            else:
                self.skipped += 1
                click.echo(f"{located.uri}: done before")

    def settle(self, video: Video, what: Any) -> None:
        """Print what became of a video; compute the analytics of one that is analyzed."""
        if isinstance(what, VideoError):
            self._report(what)
        elif isinstance(what, dict):
            from rekognition_dagster.analytics import compute_standard

            compute_standard(self.lake, [video])
            self.done.append(video)
            tables = {o.name: o.table for o in self.operations}
            counts = ", ".join(f"{rows} rows of {tables[name]}" for name, rows in what.items())
            seconds = time.monotonic() - self.begun[video]
            if warning := self._warning(video):
                click.echo(f"warning: {video.uri}: {warning}", err=True)
            click.echo(f"{video.uri}: {counts} in {seconds:.1f} s")

    def compute_days(self) -> None:
        """Compute the analytics per day of the days that the videos touch."""
        from rekognition_dagster.analytics import load_models
        from rekognition_dagster.analytics.daily import compute_stale, find_stale, recordings_of

        if not self.done or not any(o.name == "person_tracking" for o in self.operations):
            return
        done = {v.uri for v in self.done}
        recordings = recordings_of(self.lake)
        days = {day for r in recordings if r.video.uri in done for day in r.days}
        models, zones = load_models(), self.zones
        stale = find_stale(self.lake, models, zones, recordings=recordings, days=days)
        for _ in compute_stale(self.lake, models, zones, stale, recordings=recordings):
            pass

    def _warning(self, video: Video) -> str | None:
        """Return what was lost of a video, as the lake has it now."""
        jobs = (self.lake.read_job(video, o.name) for o in self.operations)
        return next((job["status_message"] for job in jobs if job), None)

    def _report(self, error: VideoError) -> None:
        self.bad += 1
        click.echo(f"error: {error}", err=True)

    def interrupted(self) -> None:
        """Print how far it came and how to go on; exit."""
        ready, all_of_them = len(self.done) + self.skipped, len(self.found)
        where = f" and stay in {self.lake.url}" if ready else ""
        click.echo(
            f"error: interrupted; {ready} of {all_of_them} videos are done{where}. "
            "The same command goes on with the rest",
            err=True,
        )
        sys.exit(INTERRUPTED)

    def remove_empty_folders(self) -> None:
        """Remove folders that were made for files that never came."""
        if not self.lake.storage.is_local:
            return
        root = Path(self.lake.url)
        days = {
            (root / self.lake.path(o.table, v)).parent for v in self.begun for o in self.operations
        }
        for folder in [*days, *{day.parent for day in days}, root]:
            try:
                folder.rmdir()
            except OSError:  # not empty, or not there
                continue

    def sum_up(self, output: str) -> None:
        """Print where the tables are and a query to try; fail where a video was bad."""
        if self.done:
            click.echo(f"tables: {self.lake.url}")
            click.echo(f"try: {command('query', '--lake', output, f'FROM {self._table_to_try()}')}")
        if self.bad:
            many = len(self.found) > 1
            fail(f"{self.bad} of {len(self.found)} videos could not be analyzed" if many else None)

    def _table_to_try(self) -> str:
        """Return the summary of the videos, or the results where no operation is in it."""
        from rekognition_dagster.analytics import in_order, load_models

        computed = [model.name for model, _ in in_order(load_models(), self.operations)]
        return "video_summary" if "video_summary" in computed else self.operations[0].table


def _check_output(output: str) -> None:
    """Refuse what cannot be a lake.

    Raises:
        ConfigurationError: A file, or the home of a demo or dev, which has its lake inside.
    """
    folder = Path(output).expanduser()
    if "://" in output:
        return
    if folder.is_file():
        raise ConfigurationError(
            f"--output {output} is a file. Name a folder or s3://bucket/prefix"
        )
    if (folder / "dagster" / "dagster.yaml").exists():
        raise ConfigurationError(
            f"--output {output} is the home of a demo or dev. Its lake is {folder / 'lake'}"
        )


def _videos_at(text: str) -> Iterator[Video]:
    from rekognition_dagster.videos import LOCAL_SUFFIXES, Video, is_video_key

    bucket, _, key = text.removeprefix("s3://").partition("/")
    is_prefix = "/" in text[5:] and not is_video_key(key, LOCAL_SUFFIXES)
    if text.startswith("s3://") and bucket and is_prefix:
        yield from _videos_under(text)
        return
    try:
        video = Video.from_uri(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{error}, or s3://bucket/prefix/ for every video below it", param_hint="VIDEO"
        ) from None
    if not video.is_local or not Path(video.key).is_dir():
        yield video
        return
    root = Path(video.key)
    every = list(_files(root))
    files = [p for p in every if is_video_key(p.name, LOCAL_SUFFIXES)]
    if not files:
        raise ConfigurationError(f"{text}: there is no video in this folder. Check the path")
    if others := len(every) - len(files):
        ends = ", ".join(sorted({p.suffix or p.name for p in set(every).difference(files)})[:5])
        click.echo(f"note: {text}: files that are no videos: {others} ({ends})", err=True)
    yield from (Video.from_uri(str(p)) for p in files)


def _files(folder: Path, searched: set[Path] | None = None) -> Iterator[Path]:
    """Files at any depth, but not of hidden folders or of a deployment's home.

    Links to folders are followed, and each folder is searched once.
    """
    searched = set() if searched is None else searched
    if (place := folder.resolve()) in searched:
        return
    searched.add(place)
    folders = []
    for path in sorted(folder.iterdir(), key=lambda p: (p.is_symlink(), p)):
        if path.is_file():
            yield path
            continue
        is_home = (path / "dagster" / "dagster.yaml").exists()
        if path.is_dir() and not path.name.startswith(".") and not is_home:
            folders.append(path)
    for path in folders:
        yield from _files(path, searched)


def _videos_under(prefix: str) -> Iterator[Video]:
    from rekognition_dagster import aws
    from rekognition_dagster.choice import VideoChoice
    from rekognition_dagster.videos import DATE_PATTERN

    found = False
    for video in VideoChoice(prefix=prefix).find(DATE_PATTERN, lambda: aws.client("s3")):
        found = True
        yield video
    if not found:
        raise ConfigurationError(f"{prefix}: there is no video under this prefix. Check it")
