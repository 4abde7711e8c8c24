"""The job with which a person steers from Dagster's UI, as the command line does."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from typing import Literal

import dagster as dg
import sqlalchemy as sa
from pydantic import Field

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.state import control
from rekognition_dagster.state.rerun import operations_of

Action = Literal["pause", "resume", "ignore", "unignore", "prioritize"]


class SteeringConfig(dg.Config):
    """What to do, and about which videos and operations."""

    action: Action = Field(
        description="pause: start no more jobs. resume: end that pause, or every one. ignore,"
        " unignore: leave videos out, or no longer. prioritize: start what waits before all else."
    )
    place: str = Field(
        default="", description="s3://bucket/prefix, or a prefix of keys; all videos if empty."
    )
    operations: list[str] = Field(default=[], description="Which operations; all if empty.")


def build_steering_job(deployment: Deployment) -> dg.JobDefinition:
    """The job ``steering``, which does what ``rekognition-dagster pause`` and its like do."""

    @dg.op(name=deployment.scoped("steer"), description="Writes a decision to the state.")
    def steer(context: dg.OpExecutionContext, config: SteeringConfig) -> None:
        try:
            operations = operations_of(config.operations, deployment.operation_names)
            control.check_place(config.place, deployment.settings.source_list)
        except ConfigurationError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        if config.action in ("ignore", "unignore") and not config.place:
            raise dg.Failure("name the place whose videos to ignore", allow_retries=False)
        with deployment.state(context.instance).write() as connection:
            chosen = operations if config.operations else []
            context.log.info(_do(connection, config, chosen, operations))
            for paused in control.pauses(connection):
                context.log.info(f"paused: {paused.text}")

    @dg.job(
        name=deployment.scoped("steering"),
        executor_def=dg.in_process_executor,
        description="Pauses and resumes, ignores videos, and starts some of them first.",
    )
    def steering() -> None:
        steer()  # pyright: ignore[reportCallIssue] -- Dagster fills its arguments in

    return steering


def _do(
    connection: sa.Connection, config: SteeringConfig, chosen: list[str], all_of_them: list[str]
) -> str:
    """Do what a config says; return a line about it."""
    match config.action:
        case "pause":
            control.pause(connection, chosen, config.place, time.time())
            return "paused"
        case "resume":
            return f"{len(control.resume(connection, chosen, config.place))} pauses have ended"
        case "ignore":
            return f"{control.ignore(connection, config.place)} videos are ignored now"
        case "unignore":
            return f"{control.unignore(connection, config.place)} videos are taken up again"
        case "prioritize":
            count = control.start_first(connection, all_of_them, config.place)
            return f"{count} starts come first now"
