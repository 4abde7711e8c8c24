"""The nightly batch: a schedule, and the asset that says what was still to do that night."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

from typing import Any

import dagster as dg

from rekognition_dagster.orchestration.alerts import nightly_freshness
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.orchestration.standing import RESULTS_LIVE_DAYS, Books, Phase


def build_nightly_batch(books: Books) -> dg.AssetsDefinition:
    """The asset ``nightly_batch``. Materializing it asks again for all that is not analysed:
    videos discovered before it (where jobs start nightly), starts that were refused, and jobs that
    FAILED, up to their last attempt. The dispatch sensor then starts them as slots become free.
    """
    names = books.names

    @dg.asset(
        key=names.nightly_batch(),
        deps=[names.video()],
        freshness_policy=nightly_freshness(books.settings),
        group_name=names.group_name("nightly"),
        description="Opens a batch: what is not yet analysed is asked (again). Its metadata says "
        "how every operation stood then.",
    )
    def nightly_batch(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=_standing(context, books))

    return nightly_batch


def build_nightly_schedule(settings: Settings, batch: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    """Materializes ``nightly_batch`` every night."""
    return dg.ScheduleDefinition(
        name="nightly",
        cron_schedule=settings.nightly,
        execution_timezone=settings.timezone,
        target=batch,
        default_status=settings.schedule_status,
        description="Asks (again) for every video that is not yet analysed.",
    )


def build_status_asset(books: Books) -> dg.AssetsDefinition:
    """The asset ``pipeline_status``: its metadata is what ``rekognition-dagster status`` prints,
    over the hours."""
    names = books.names

    @dg.asset(
        key=names.asset_key("pipeline_status"),
        deps=[names.video()],
        group_name=names.group_name("nightly"),
        description="How many videos wait, run, are completed and not paged, failed and are "
        "analysed, by operation, each hour.",
    )
    def pipeline_status(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=_standing(context, books))

    return pipeline_status


def build_status_schedule(settings: Settings, asset: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    """Materializes ``pipeline_status`` every hour."""
    return dg.ScheduleDefinition(
        name="hourly_status",
        cron_schedule="17 * * * *",
        target=asset,
        default_status=settings.schedule_status,
        description="Says every hour where all videos stand.",
    )


def _standing(context: dg.AssetExecutionContext, books: Books) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for operation in books.settings.operation_list:
        summary = books.board(context.instance, operation).summary()
        told |= summary.metadata()
        if unpaged := summary.counts[Phase.UNPAGED]:
            context.log.warning(
                f"{unpaged} completed {operation.api} jobs have no results in the lake yet, of "
                f"{summary.expiring} the service forgets them within two days (it keeps results "
                f"{RESULTS_LIVE_DAYS} days): materialize {operation.table} for them"
            )
    return told
