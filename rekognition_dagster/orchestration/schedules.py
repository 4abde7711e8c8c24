"""The nightly batch: a schedule, and the asset that says what was still to do that night."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import dagster as dg

from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.names import RekognitionVideoTranslator
from rekognition_dagster.orchestration.settings import Settings

_EXPIRES_AFTER_DAYS = 7


def build_nightly_batch(
    settings: Settings, names: RekognitionVideoTranslator
) -> dg.AssetsDefinition:
    """The asset ``nightly_batch``. Materializing it asks again for all that is not analysed:
    videos discovered before it (where jobs start nightly), starts that were refused, and jobs that
    FAILED, up to their last attempt. The dispatch sensor then starts them as slots become free.
    """

    @dg.asset(
        key=names.nightly_batch(),
        deps=[names.video()],
        group_name=names.group_name("nightly"),
        description="Opens a batch: what is not yet analysed is asked (again). Its metadata says "
        "how every operation stood then.",
    )
    def nightly_batch(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        counts: dict[str, int] = {}
        for operation in settings.operation_list:
            standing = events.standing(
                context.instance,
                operation,
                names,
                on_arrival=True,
                max_attempts=settings.max_attempts,
            )
            for name in ("waiting", "in_flight", "failed", "unpaged"):
                counts[f"{operation.name}/{name}"] = len(getattr(standing, name))
            counts[f"{operation.name}/analysed"] = standing.analysed
            if standing.unpaged:
                context.log.warning(
                    f"{len(standing.unpaged)} completed {operation.api} jobs have no results in "
                    f"the lake yet. The service keeps results {_EXPIRES_AFTER_DAYS} days: "
                    f"materialize {operation.table} for them. First: {standing.unpaged[:5]}"
                )
        return dg.MaterializeResult(metadata=counts)

    return nightly_batch


def build_nightly_schedule(settings: Settings, batch: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    """Materializes ``nightly_batch`` every night."""
    return dg.ScheduleDefinition(
        name="nightly",
        cron_schedule=settings.nightly,
        execution_timezone=settings.timezone,
        target=batch,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if settings.sensors == "running"
        else dg.DefaultScheduleStatus.STOPPED,
        description="Asks (again) for every video that is not yet analysed.",
    )
