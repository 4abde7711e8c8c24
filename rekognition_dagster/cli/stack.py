"""``demo``, ``dev`` and ``serve``: the local stack, and the service alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.endings import ended_by_sigterm


@click.command()
@options.videos
@options.home
def demo(videos: Sequence[Path], home: Path) -> None:
    """Run the whole pipeline on this machine, then print its findings.

    Puts videos into a local bucket. Dagster's daemon discovers them, starts jobs at a local
    Rekognition service, pages their results into Parquet and summarizes them in SQL. What is
    already analyzed in the same home is not analyzed again.

    \b
      rekognition-dagster demo
      rekognition-dagster demo --video lobby.mp4 --video gate.mp4
    """
    from rich.console import Console

    from rekognition_dagster.stack.demo import run_demo

    with ended_by_sigterm():
        failed = run_demo(home, videos, Console(highlight=False))
    if failed:
        sys.exit(1)


@click.command()
@options.videos
@options.home
@click.option(
    "--port",
    type=options.PORT,
    default=3000,
    show_default=True,
    help="Of Dagster's UI; 0 takes a free one.",
)
def dev(videos: Sequence[Path], home: Path, port: int) -> None:
    """Run the demo's stack with Dagster's UI, until Ctrl-C.

    Drop a video into HOME/videos and the pipeline processes it. After a restart everything is
    still there: lake, runs, jobs, and the bucket, which is filled again from that folder.

    \b
      rekognition-dagster dev
      cp lobby.mp4 .rekognition-dagster/videos/
    """
    from rich.console import Console

    from rekognition_dagster.stack.demo import run_dev

    with ended_by_sigterm():
        run_dev(home, videos, port, Console(highlight=False))


@click.command(
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

    # The options are the service's own; its purpose is described here.
    service.help = serve.help
    service.main(
        list(arguments),
        prog_name="rekognition-dagster serve",
        standalone_mode=False,
        help_option_names=["-h", "--help"],
    )
