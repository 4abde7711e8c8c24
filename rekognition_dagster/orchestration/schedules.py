"""The nightly batch: a schedule, and the asset that says what was still to do that night."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import dagster as dg

from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.orchestration.standing import Books, Phase, told_counts

_EXPIRES_AFTER_DAYS = 7


def build_nightly_batch(books: Books) -> dg.AssetsDefinition:
    """The asset ``nightly_batch``. Materializing it asks again for all that is not analysed:
    videos discovered before it (where jobs start nightly), starts that were refused, and jobs that
    FAILED, up to their last attempt. The dispatch sensor then starts them as slots become free.
    """
    names = books.names

    @dg.asset(
        key=names.nightly_batch(),
        deps=[names.video()],
        group_name=names.group_name("nightly"),
        description="Opens a batch: what is not yet analysed is asked (again). Its metadata says "
        "how every operation stood then.",
    )
    def nightly_batch(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        told: dict[str, int] = {}
        for operation in books.settings.operation_list:
            counts = books.board(context.instance, operation).counts()
            told |= {f"{operation.name}/{k}": n for k, n in told_counts(counts).items()}
            if counts[Phase.UNPAGED]:
                context.log.warning(
                    f"{counts[Phase.UNPAGED]} completed {operation.api} jobs have no results in "
                    f"the lake yet. The service keeps results {_EXPIRES_AFTER_DAYS} days: "
                    f"materialize {operation.table} for them"
                )
        return dg.MaterializeResult(metadata=told)

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
