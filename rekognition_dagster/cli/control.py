"""The commands with which a person steers: ``pause``, ``resume``, ``ignore``, ``prioritize``.

Each names the deployment that it steers.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.deployments import home_option, opened

if TYPE_CHECKING:
    from rekognition_dagster.orchestration.names import Deployment

_place = click.argument("place", metavar="PLACE")


@click.command()
@click.argument("place", metavar="[PLACE]", required=False)
@options.operations("Which operations; all by default.")
@home_option
def pause(place: str | None, names: tuple[str, ...], home: Path | None) -> None:
    """Start no more jobs: of the deployment, of some operations, of a PLACE.

    A PLACE is s3://bucket/prefix, or a prefix of keys. Jobs that run go on, and their results are
    fetched. What waits stays where it is, until `resume`.

    \b
      rekognition-dagster pause
      rekognition-dagster pause --operation face-detection s3://videos/lobby/
    """
    from rekognition_dagster.state import control
    from rekognition_dagster.state.rerun import operations_of

    with opened(home) as (deployment, state), state.write() as connection:
        chosen = operations_of(names, deployment.operation_names) if names else []
        control.pause(connection, chosen, _checked(deployment, place), time.time())
        for paused in control.pauses(connection):
            click.echo(f"{state.deployment}: paused: {paused.text}")


@click.command()
@click.argument("place", metavar="[PLACE]", required=False)
@options.operations("The operations that were paused.")
@home_option
def resume(place: str | None, names: tuple[str, ...], home: Path | None) -> None:
    """End a pause: the one of just these operations and PLACE, or every one.

    \b
      rekognition-dagster resume
      rekognition-dagster resume --operation face-detection s3://videos/lobby/
    """
    from rekognition_dagster.state import control
    from rekognition_dagster.state.rerun import operations_of

    with opened(home) as (deployment, state), state.write() as connection:
        chosen = operations_of(names, deployment.operation_names) if names else []
        ended = control.resume(connection, chosen, _checked(deployment, place))
        left = control.pauses(connection)
    for paused in ended:
        click.echo(f"{state.deployment}: resumed: {paused.text}")
    for paused in left:
        click.echo(f"{state.deployment}: paused still: {paused.text}")
    if not ended:
        click.echo(f"{state.deployment}: no pause has ended")


@click.command()
@_place
@click.option("--again", is_flag=True, help="Ignore them no longer.")
@home_option
def ignore(place: str, again: bool, home: Path | None) -> None:
    """Ignore the videos of a PLACE: s3://bucket/key, s3://bucket/prefix, or a prefix of keys.

    They are not started, until they change. Their results stay. --again takes them up again.

    \b
      rekognition-dagster ignore s3://videos/test/
      rekognition-dagster ignore --again s3://videos/test/
    """
    from rekognition_dagster.state import control

    with opened(home) as (deployment, state), state.write() as connection:
        place = _checked(deployment, place)
        count = (control.unignore if again else control.ignore)(connection, place)
    click.echo(
        f"{state.deployment}: {count} videos are {'taken up again' if again else 'ignored now'}"
    )


@click.command()
@_place
@options.operations("Which operations; the deployment's by default.")
@home_option
def prioritize(place: str, names: tuple[str, ...], home: Path | None) -> None:
    """Start what waits of a PLACE before all else: s3://bucket/key, s3://bucket/prefix, a prefix.

    \b
      rekognition-dagster prioritize s3://videos/2026-11-25/
    """
    from rekognition_dagster.state import control
    from rekognition_dagster.state.rerun import operations_of

    with opened(home) as (deployment, state), state.write() as connection:
        chosen = operations_of(names, deployment.operation_names)
        count = control.start_first(connection, chosen, _checked(deployment, place))
    click.echo(f"{state.deployment}: {count} starts come first now")


def _checked(deployment: Deployment, place: str | None) -> str:
    """A place that is named; everywhere where none is."""
    from rekognition_dagster.state.control import check_place

    if place == "":
        raise click.UsageError("PLACE is empty; leave it out to mean all videos")
    check_place(place or "", deployment.settings.source_list)
    return place or ""
