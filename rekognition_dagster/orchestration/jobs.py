"""The job assets: materializing one asks for jobs by hand. What waits starts in ``dispatch``."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Iterator

import dagster as dg

from rekognition_dagster.errors import AccessError
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.dispatch import starter
from rekognition_dagster.orchestration.names import BATCH_SIZE, TICK_S, Deployment
from rekognition_dagster.orchestration.selection import JobConfig, failure, selected
from rekognition_dagster.state.jobs import request
from rekognition_dagster.state.results import stands
from rekognition_dagster.state.tables import Phase
from rekognition_dagster.videos import Video


def build_job_asset(operation: Operation, deployment: Deployment) -> dg.AssetsDefinition:
    """The asset ``<operation>_job``: a partition is materialized once its jobs run.

    The dispatch sensor starts jobs by itself. Materializing asks for them by hand: a new job where
    the last one has ended, now if slots are free, else as soon as they are, before all others.
    """
    spec = deployment.asset(
        "job",
        operation,
        deps=[deployment.key("video")],
        kinds={"rekognition"},
        skippable=True,
        description=f"A {operation.start_api} job, started by the sensor job_dispatch for the "
        "version of the video that is there. Materialize it to analyse a video again.",
    )

    @dg.multi_asset(
        name=spec.key.to_python_identifier(),
        specs=[spec],
        partitions_def=deployment.partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        required_resource_keys=deployment.needs("rekognition", "lake"),
    )
    def start(
        context: dg.AssetExecutionContext, config: JobConfig
    ) -> Iterator[dg.MaterializeResult]:
        _start(context, config, operation, deployment)
        yield from ()  # the sensor reports materializes the partitions whose jobs run

    return start


def _start(
    context: dg.AssetExecutionContext,
    config: JobConfig,
    operation: Operation,
    deployment: Deployment,
) -> None:
    state = deployment.state(context.instance)
    keys = selected(context, config, state)
    again = config.again or bool(config.videos) or len(keys) == 1
    with state.write() as connection:
        asked = request(connection, operation.name, keys, time.time(), again=again)
    refused = {Video.from_partition_key(k).uri: r for k, r in asked.refused.items()}
    denied: AccessError | None = None
    if asked.waiting:
        starting = starter(context, deployment, context.log.warning)
        try:
            starting.run([operation.name], time.monotonic() + TICK_S, asked.waiting)
        except AccessError as error:
            denied = error
    with state.read() as connection:
        left = stands(connection, operation.name, asked.waiting)
    waiting = [s.video.uri for s in left if s.phase is Phase.WAITING]
    failed = {s.video.uri: str(s.work["reason"]) for s in left if s.phase is Phase.FAILED}
    refused |= failed
    context.log.info(
        f"{operation.start_api}: {len(left) - len(waiting) - len(failed)} started, "
        f"{len(asked.running)} running already, {len(waiting)} waiting, {len(refused)} refused"
    )
    if waiting:
        context.log.warning(
            f"{len(waiting)} jobs wait and start before all others, as soon as slots are free: "
            + ", ".join(waiting[:20])
        )
    if denied is not None:
        raise dg.Failure(str(denied), allow_retries=False) from denied
    if refused:
        shown = {uri: f"{uri}: {r}" if uri not in r else r for uri, r in refused.items()}
        raise failure("were refused", len(keys), shown)
