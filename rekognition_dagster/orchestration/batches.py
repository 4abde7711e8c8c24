"""The sensors that launch runs: results for completed jobs, analytics for new results.

One run takes all that has come meanwhile, so many videos share the cost of its process. What is
there is compared with what should be, so nothing is forgotten that a run left undone.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Callable, Mapping

import dagster as dg
import sqlalchemy as sa

from rekognition_dagster.orchestration.names import BATCH_TAG, Deployment
from rekognition_dagster.state import batches
from rekognition_dagster.state.results import add_models

MAX_VIDEOS = 1000
"""Videos of an operation or a model in a run at most."""
_IS_OVER = {
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
}
_WAITS = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}

Launch = Callable[[sa.Connection, float], tuple[str | None, Mapping[str, int]]]


def build_results_sensor(deployment: Deployment, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Launches ``job`` for jobs that have completed, and to show those that FAILED."""
    settings = deployment.settings

    def launch(connection: sa.Connection, now: float) -> tuple[str | None, Mapping[str, int]]:
        return batches.launch_results(
            connection,
            deployment.operation_names,
            now,
            limit=MAX_VIDEOS,
            patience_s=settings.retry_minutes * 60,
        )

    return _build(
        deployment,
        batches.RESULTS,
        "Launches a run for jobs that have completed; again where a run did not fetch results.",
        job,
        launch,
    )


def build_analytics_sensor(deployment: Deployment, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Launches ``job`` for videos whose analytics are older than their results or their SQL."""
    models = deployment.state_models
    names = {m.name for m in models}
    order = [(m.name, [r for r in m.reads if r in names]) for m in models]

    def launch(connection: sa.Connection, now: float) -> tuple[str | None, Mapping[str, int]]:
        add_models(connection, models)
        patience_s = deployment.settings.retry_minutes * 60
        return batches.launch_analytics(
            connection, order, now, limit=MAX_VIDEOS, patience_s=patience_s
        )

    return _build(
        deployment,
        batches.DERIVED,
        "Launches a run for analytics that are behind; again where a run did not compute them.",
        job,
        launch,
    )


def _build(
    deployment: Deployment, kind: str, description: str, job: dg.JobDefinition, launch: Launch
) -> dg.SensorDefinition:
    """A sensor that launches one run at a time, for the videos of a batch.

    A run that fails is followed by another after ``retry_minutes``, then after twice that, and so
    on, :data:`batches.TRIES` times for a video between two nightly batches.
    """
    settings = deployment.settings

    @dg.sensor(
        name=deployment.scoped(f"{kind}_refresh"),
        job=job,
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description=description,
    )
    def refresh(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        state, now = deployment.state(context.instance), time.time()
        with state.read() as connection:
            unfinished = batches.open_batch(connection, kind)
        if unfinished is not None:
            batch, alive_at = unfinished
            status = _status(context.instance, batch)
            if status is None and now - alive_at < settings.stalled_minutes * 60:
                return dg.SensorResult(run_requests=[_request(batch)])  # the last tick died
            if status in _WAITS or (
                status not in (None, *_IS_OVER) and now - alive_at < settings.stalled_minutes * 60
            ):
                return dg.SkipReason(f"The run of {batch} is at work")
        with state.write() as connection:
            if unfinished is not None:
                batches.break_off(connection, unfinished[0])
            chosen, counts = launch(connection, now)
        if chosen is None:
            return dg.SkipReason("Nothing is behind")
        context.log.info(", ".join(f"{name}: {n}" for name, n in counts.items()))
        return dg.SensorResult(run_requests=[_request(chosen)])

    return refresh


def _request(batch: str) -> dg.RunRequest:
    """The run of a batch; asking for it twice launches one."""
    return dg.RunRequest(run_key=batch, tags={BATCH_TAG: batch})


def _status(instance: dg.DagsterInstance, batch: str) -> dg.DagsterRunStatus | None:
    runs = instance.get_runs(dg.RunsFilter(tags={BATCH_TAG: batch}), limit=1)
    return runs[0].status if runs else None
