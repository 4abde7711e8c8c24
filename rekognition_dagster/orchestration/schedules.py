"""The nightly batch: a schedule, and the asset that says what was still to do that night."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from typing import Any

import dagster as dg

from rekognition_dagster.orchestration.alerts import nightly_freshness
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.state import budget
from rekognition_dagster.state.jobs import open_night
from rekognition_dagster.state.queries import RESULTS_LIVE_DAYS, Summary, summary
from rekognition_dagster.state.tables import Phase


def build_nightly_batch(deployment: Deployment) -> dg.AssetsDefinition:
    """The asset ``nightly_batch``. Materializing it asks again for all that is not analysed:
    videos discovered before it (where jobs start nightly), starts that were refused, and jobs that
    FAILED, up to their last attempt. The dispatch sensor then starts them as slots become free.
    """
    spec = deployment.asset(
        "upkeep",
        "nightly_batch",
        deps=[deployment.key("video")],
        freshness_policy=nightly_freshness(deployment.settings),
        description="Opens a batch: what is not yet analysed is asked (again). Its metadata says "
        "how every operation stood then.",
    )

    @dg.multi_asset(name=spec.key.to_python_identifier(), specs=[spec])
    def nightly_batch(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        metadata = _counts(context, deployment)
        with deployment.state(context.instance).write() as connection:
            open_night(
                connection,
                deployment.operation_names,
                deployment.settings.max_attempts,
                time.time(),
                deployment.settings.history_days,
            )
        return dg.MaterializeResult(metadata=metadata)

    return nightly_batch


def build_nightly_schedule(
    deployment: Deployment, batch: dg.AssetsDefinition
) -> dg.ScheduleDefinition:
    """Materializes ``nightly_batch`` every night."""
    settings = deployment.settings
    return dg.ScheduleDefinition(
        name=deployment.scoped("nightly"),
        cron_schedule=settings.nightly,
        execution_timezone=settings.timezone,
        target=batch,
        default_status=settings.schedule_status,
        description="Asks (again) for every video that is not yet analysed.",
    )


def build_status_asset(deployment: Deployment) -> dg.AssetsDefinition:
    """The asset ``pipeline_status``: its metadata is what ``rekognition-dagster status`` prints,
    over the hours."""
    spec = deployment.asset(
        "upkeep",
        "pipeline_status",
        deps=[deployment.key("video")],
        description="How many videos wait, run, are completed and not paged, failed and are "
        "analysed, by operation, each hour.",
    )

    @dg.multi_asset(name=spec.key.to_python_identifier(), specs=[spec])
    def pipeline_status(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=_counts(context, deployment))

    return pipeline_status


def build_status_schedule(
    deployment: Deployment, asset: dg.AssetsDefinition
) -> dg.ScheduleDefinition:
    """Materializes ``pipeline_status`` every hour."""
    return dg.ScheduleDefinition(
        name=deployment.scoped("hourly_status"),
        cron_schedule="17 * * * *",
        target=asset,
        default_status=deployment.settings.schedule_status,
        description="Says every hour where all videos stand.",
    )


def _counts(context: dg.AssetExecutionContext, deployment: Deployment) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    now, limits = time.time(), deployment.settings.limits
    with deployment.state(context.instance).read() as connection:
        standing = budget.spent(connection, limits, now)
    for s in standing:
        limit = s.limit
        metadata[f"budget/{' and '.join(limit.operations) or 'all'}, a {limit.period}"] = (
            f"{s.text}; {s.forecast(now):.0f} minutes by its end, if it goes on so"
        )
    for operation in deployment.settings.operation_list:
        with deployment.state(context.instance).read() as connection:
            found = summary(connection, operation.name, deployment.settings.source_list)
        metadata |= _metadata(found)
        if unpaged := found.counts[Phase.UNPAGED]:
            context.log.warning(
                f"{unpaged} completed {operation.api} jobs have no results in the lake yet; "
                f"{found.expiring} of them expire within two days (the service keeps results "
                f"{RESULTS_LIVE_DAYS} days): materialize {operation.table} for them"
            )
    return metadata


def _metadata(found: Summary) -> dict[str, Any]:
    """A summary for an event, by names that begin with the operation's."""
    values: dict[str, Any] = {p.value: found.counts[p] for p in Phase}
    values |= dict(found.left_out) | {"expiring": found.expiring}
    values |= {f"{p.value}_since": dg.MetadataValue.timestamp(t) for p, t in found.since.items()}
    if reasons := {**found.failed, **found.unpaged}:
        values["reasons"] = dg.MetadataValue.json(reasons)
    return {f"{found.operation}/{name}": value for name, value in values.items()}
