"""``python -m rekognition_dagster.service``: the service in a process of its own.

Prints the URL on standard output once it listens, and logs to standard error.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from rekognition_dagster.engine.specs import SPECS
from rekognition_dagster.environment import check_environment
from rekognition_dagster.errors import RekognitionDagsterError
from rekognition_dagster.service import DEFAULT_PORT, default_store, serve
from rekognition_dagster.service.logs import configure

_COUNT = click.IntRange(min=1)
_RATE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="TCP port; 0 is a free one.",
)
@click.option("--store", default=default_store, help="Folder or SQLAlchemy URL of the jobs.")
@click.option("--results", help="Folder or s3:// prefix for results; by default in the store.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Jobs worked on at once here; 0 serves the API only.",
)
@click.option("--detector", metavar="SPEC", help=f"What finds people and labels: {SPECS}.")
@click.option("--sample-fps", help="Frames looked at per second of video, or auto.")
@click.option("--ray", metavar="ADDRESS", help="The Ray cluster that does the jobs' work.")
@click.option("--jobs-in-flight", default=20, show_default=True, help="Jobs in progress at once.")
@click.option("--credentials", help="File with the access keys that are accepted.")
@click.option("--no-auth", "anonymous", is_flag=True, help="Serve anyone; on loopback only.")
@click.option("--region", help="The region that callers must sign for.")
@click.option("--tls-cert", help="PEM file with the certificate chain.")
@click.option("--tls-key", help="PEM file with its private key.")
@click.option("--start-per-s", type=_RATE, help="Start requests per second of an account.")
@click.option("--get-per-s", type=_RATE, help="Get requests per second of an account.")
@click.option("--max-pixels", type=_COUNT, help="Pixels that a frame may have.")
@click.option("--max-frames", type=_COUNT, help="Frames of a video that may be looked at.")
@click.option("--max-job-s", type=_RATE, help="Seconds that one attempt at a job may take.")
@click.option("--max-memory-bytes", type=_COUNT, help="Memory that one worker may use, on Linux.")
@click.option("--stall-s", type=_RATE, help="Seconds without progress until a worker is killed.")
@click.option(
    "--min-free-bytes",
    type=click.IntRange(min=0),
    help="Free disk space below which no job is taken up.",
)
@click.option(
    "--drain-s",
    type=click.FloatRange(min=0),
    help="Seconds that jobs under way get to finish on SIGTERM.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
def main(**settings: Any) -> None:
    """Serve the Rekognition Video API until SIGTERM or SIGINT."""
    configure(settings["log_format"])
    try:
        check_environment()
        serve(**settings, on_ready=lambda url: print(url, flush=True))
    except RekognitionDagsterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as mistake:
        print(f"error: {mistake.format_message()}", file=sys.stderr)
        sys.exit(mistake.exit_code)
    except click.Abort:
        sys.exit(130)
