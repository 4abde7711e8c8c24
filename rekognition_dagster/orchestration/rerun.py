"""The job that has videos analysed again."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import dagster as dg
from pydantic import Field

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.local_backfill import LocalBackfillConfig, run_backfill
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.state.rerun import (
    Choice,
    ask_again,
    choose,
    operations_of,
    uri_of,
)


class RerunConfig(dg.Config):
    """Which videos to analyse again: those for which everything holds that is configured."""

    failed: bool = Field(default=False, description="Whose job FAILED or was refused.")
    prefix: str | None = Field(default=None, description="Whose S3 keys begin so.")
    date: str | None = Field(default=None, description="Recorded on that day: 2026-01-31.")
    operations: list[str] = Field(
        default=[], description="Which operations; the deployment's by default."
    )
    detector: str | None = Field(
        default=None,
        description="Analyse them in this run, with the local engine and this detector.",
    )


def build_rerun_job(deployment: Deployment) -> dg.JobDefinition:
    """The job ``rerun``, which asks for new attempts as ``rekognition-dagster rerun`` does; or,
    with a detector, analyses the chosen videos itself."""

    @dg.op(
        name=deployment.scoped("ask_again"),
        required_resource_keys=deployment.needs("lake", "video_bucket"),
        description="Asks for a new job of each chosen video; job_dispatch starts them.",
    )
    def ask(context: dg.OpExecutionContext, config: RerunConfig) -> None:
        if not (config.failed or config.prefix is not None or config.date is not None):
            raise dg.Failure("nothing is chosen: configure failed, prefix or date")
        state, pattern = deployment.state(context.instance), deployment.settings.date_pattern
        try:
            names = operations_of(config.operations, deployment.operation_names)
            choice = Choice(names, config.failed, config.prefix, config.date)
            if config.detector is None:
                for line in ask_again(state, choice, pattern):
                    context.log.info(line)
                return
            chosen = choose(state, choice, pattern)
        except ConfigurationError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        for name, keys in chosen.items():
            analysed = LocalBackfillConfig(
                videos=[uri_of(k) for k in keys],
                operations=[name],
                detector=config.detector,
                again=True,
            )
            run_backfill(context, analysed, deployment)

    @dg.job(
        name=deployment.scoped("rerun"),
        executor_def=dg.in_process_executor,
        description="Analyses videos again: what failed, a prefix, a day.",
    )
    def rerun() -> None:
        ask()  # pyright: ignore[reportCallIssue] -- Dagster fills its arguments in

    return rerun
