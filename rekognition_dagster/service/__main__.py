"""``python -m rekognition_dagster.service``: the service in a process of its own.

Prints the URL on standard output once it listens, and logs to standard error.
"""

from __future__ import annotations

import logging
import sys

import click

from rekognition_dagster.errors import RekognitionDagsterError
from rekognition_dagster.service import DEFAULT_PORT, default_store, serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, help="TCP port; 0 takes a free one."
)
@click.option("--store", default=default_store, help="Folder or SQLAlchemy URL of the jobs.")
@click.option("--workers", default=1, show_default=True, help="Jobs worked on at once here.")
@click.option("--detector", default=None, help="The engine's detector spec.")
@click.option(
    "--sample-fps", type=float, default=None, help="Frames looked at per second of video."
)
def main(**settings: object) -> None:
    """Serve the Rekognition Video API until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        serve(**settings, on_ready=lambda url: print(url, flush=True))  # type: ignore[arg-type]
    except RekognitionDagsterError as error:
        print(f"rekognition-dagster: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
