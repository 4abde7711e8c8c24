"""The command line, a module per command or group of commands.

Heavy libraries load inside the commands that use them, so that ``--help`` is quick. A mistake of
the user ends as one line on standard error, with status 1, or 2 for a wrong command line.
"""

from __future__ import annotations

import click

from rekognition_dagster.cli.analyze import analyze
from rekognition_dagster.cli.completion import completion
from rekognition_dagster.cli.control import ignore, pause, prioritize, resume
from rekognition_dagster.cli.draw import draw
from rekognition_dagster.cli.endings import Commands
from rekognition_dagster.cli.find import find
from rekognition_dagster.cli.jobs import jobs
from rekognition_dagster.cli.models import models
from rekognition_dagster.cli.plan import plan
from rekognition_dagster.cli.provision import provision
from rekognition_dagster.cli.query import query
from rekognition_dagster.cli.refresh import refresh
from rekognition_dagster.cli.report import report
from rekognition_dagster.cli.stack import demo, dev, serve
from rekognition_dagster.cli.state import rerun, state
from rekognition_dagster.cli.status import status
from rekognition_dagster.cli.zones import zones

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rekognition-dagster")
def main() -> None:
    """People, faces and labels in an archive of video, as tables.

    \b
    Run the whole pipeline on this machine:
      rekognition-dagster demo
    Analyze a file, then query its tables:
      rekognition-dagster analyze lobby.mp4 --operation person_tracking --output lake
      rekognition-dagster query --lake lake "SELECT count(*) FROM person_detections"
    """


for _command in (
    *(demo, dev, serve, analyze, query, find, draw, report, zones, refresh),
    *(
        provision,
        models,
        completion,
        plan,
        status,
        state,
        rerun,
        pause,
        resume,
        ignore,
        prioritize,
        jobs,
    ),
):
    main.add_command(_command)
