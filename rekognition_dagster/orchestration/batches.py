"""The sensors that launch runs: results for completed jobs, analytics for new results.

One run takes all that has come meanwhile, so many videos share the cost of its process. What is
there is compared with what should be, so nothing is forgotten that a run left undone.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import os
import time
from collections.abc import Callable, Mapping, Sequence

import dagster as dg
import sqlalchemy as sa

from rekognition_dagster.orchestration.names import BATCH_TAG, DEPLOYMENT_TAG, Deployment
from rekognition_dagster.state import batches
from rekognition_dagster.state.results import add_models
from rekognition_dagster.videos import Video

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

        def request(batch: str) -> dg.SensorResult:
            with state.read() as connection:
                about = batches.work_of(connection, batch)
            what = "operations" if kind == batches.RESULTS else "models"
            tags = run_tags(what, about, settings.date_pattern)
            tags |= {BATCH_TAG: batch, DEPLOYMENT_TAG: settings.name}
            # Under one run key, so asking twice launches one run.
            return dg.SensorResult(run_requests=[dg.RunRequest(run_key=batch, tags=tags)])

        with state.read() as connection:
            unfinished = batches.open_batch(connection, kind)
        if unfinished is not None:
            batch, alive_at = unfinished
            status = _status(context.instance, batch)
            if status is None and now - alive_at < settings.stalled_minutes * 60:
                return request(batch)  # the last tick died
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
        return request(chosen)

    return refresh


def run_tags(kind: str, about: Sequence[tuple[str, Video]], date_pattern: str) -> dict[str, str]:
    """What a run is for, as tags that Dagster's list of runs shows.

    Args:
        kind: What its work is called: operations or models.
        about: Each operation or model, with a video.
        date_pattern: The day of recording in a key.
    """
    if not about:
        return {}
    videos = {video.partition_key: video for _, video in about}.values()
    days = sorted({f"{video.recorded_on(date_pattern):%Y-%m-%d}" for video in videos})
    tags = {
        "rekognition/videos": str(len(videos)),
        f"rekognition/{kind}": ", ".join(dict.fromkeys(what for what, _ in about)),
        "rekognition/dates": days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
    }
    uris = [video.uri for video in videos]
    prefix = os.path.commonprefix(uris)  # noqa: RUF071 -- of keys; it is cut at a folder
    folder = prefix[: prefix.rfind("/") + 1]
    return tags | {"rekognition/prefix": prefix if len(uris) == 1 else folder}


def _status(instance: dg.DagsterInstance, batch: str) -> dg.DagsterRunStatus | None:
    runs = instance.get_runs(dg.RunsFilter(tags={BATCH_TAG: batch}), limit=1)
    return runs[0].status if runs else None
