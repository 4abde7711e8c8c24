"""Which deployment a command is about, and where its state is."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import click

from rekognition_dagster.cli.options import DEFAULT_HOME
from rekognition_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from rekognition_dagster.orchestration.names import Deployment
    from rekognition_dagster.state import State

home_option: Callable[[Any], Any] = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="The home of a demo or dev. None is the deployment of REKOGNITION_DAGSTER_STATE or "
    f"DAGSTER_HOME, else {DEFAULT_HOME}.",
)


Missing = Literal["refuse", "make", "empty"]
"""What to do about a state that is not there: refuse, make it, or take an empty one meanwhile."""


@contextmanager
def opened(home: Path | None, *, missing: Missing = "refuse") -> Iterator[tuple[Deployment, State]]:
    """Open the state of a stack's home, or of the deployment that the environment describes.

    Args:
        home: The home of a demo or dev; None finds the deployment.
        missing: What to do where Dagster's home has no state of it.

    Raises:
        ConfigurationError: There is no such deployment, or no state of it.
    """
    if stack := stack_home(home):
        with _of_stack(stack, missing) as found:
            yield found
        return
    from rekognition_dagster.orchestration.names import Deployment
    from rekognition_dagster.orchestration.settings import Settings
    from rekognition_dagster.state import open_state

    deployment = Deployment(Settings.from_env())
    if url := deployment.settings.state:
        yield deployment, open_state(url, deployment.settings.name)
        return
    import dagster as dg

    try:
        instance = dg.DagsterInstance.get()
    except dg.DagsterError as error:
        reason = str(error).splitlines()[0].strip().rstrip(".")
        if not os.environ.get("DAGSTER_HOME"):
            reason = f"{DEFAULT_HOME} is not in this folder, and DAGSTER_HOME is not set"
        raise ConfigurationError(
            f"there is no Dagster instance: {reason}. Name the home of a demo with --home, or set "
            "DAGSTER_HOME to the folder of dagster.yaml or REKOGNITION_DAGSTER_STATE to the "
            "state's database"
        ) from error
    with instance:
        folder = Path(instance.root_directory)
        with _state(folder, deployment.settings.name, missing) as state:
            yield deployment, state


def stack_home(home: Path | None) -> Path | None:
    """Return the home of a stack that is named, or that is here where the environment names no
    deployment."""
    names = ("DAGSTER_HOME", "REKOGNITION_DAGSTER_STATE")
    if home is not None or any(os.environ.get(n) for n in names):
        return home
    return DEFAULT_HOME if (DEFAULT_HOME / "dagster").is_dir() else None


@contextmanager
def _of_stack(home: Path, missing: Missing) -> Iterator[tuple[Deployment, State]]:
    from rekognition_dagster.orchestration.names import Deployment
    from rekognition_dagster.orchestration.settings import Settings
    from rekognition_dagster.state import open_state

    home = home.expanduser().absolute()
    dagster = home / "dagster"
    if not dagster.is_dir():
        raise ConfigurationError(
            f"{home} is no home of a demo or dev: it has no folder dagster. Check --home"
        )
    environment = _environment(home)
    # the stack's S3 is where its videos are
    os.environ.update({k: v for k, v in environment.items() if k.startswith("AWS_")})
    deployment = Deployment(Settings.from_env({**os.environ, **environment}))
    settings = deployment.settings
    if settings.state:
        yield deployment, open_state(settings.state, settings.name)
        return
    with _state(dagster, settings.name, missing) as state:
        yield deployment, state


def _environment(home: Path) -> Mapping[str, str]:
    """Return the settings, also those of AWS, with which a stack last ran in its home."""
    found = {
        "REKOGNITION_DAGSTER_BUCKET": "videos",
        "REKOGNITION_DAGSTER_LAKE": str(home / "lake"),
    }
    written = home / "environment"
    for line in written.read_text().splitlines() if written.exists() else ():
        name, _, value = line.partition("=")
        if name.startswith(("REKOGNITION_DAGSTER_", "AWS_")):
            found[name] = "".join(shlex.split(value))
    return found


@contextmanager
def _state(dagster_home: Path, name: str, missing: Missing) -> Iterator[State]:
    """The state of a deployment in Dagster's home.

    Raises:
        ConfigurationError: There is none; the text names those that are there.
    """
    from rekognition_dagster.database import sqlite_path
    from rekognition_dagster.state import State, open_state
    from rekognition_dagster.state.store import deployments_in, sqlite_url

    url = sqlite_url(dagster_home, name)
    if missing == "make" or sqlite_path(url).exists():
        yield open_state(url, name)
        return
    if missing == "empty":
        with TemporaryDirectory() as folder:
            yield State(sqlite_url(folder, name), name)
        return
    others = ", ".join(deployments_in(dagster_home))
    raise ConfigurationError(
        f"{dagster_home} has no state of the deployment {name} yet"
        + (f", but of {others}: set REKOGNITION_DAGSTER_NAME" if others else "")
        + ". Its sensors make it once Dagster runs"
    )
