"""The compaction of the lake: the asset that does what is due, and its nightly schedule."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections import Counter

import dagster as dg
from pydantic import Field

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake.compaction import GRACE_S, MIN_FILES, QUIET_S, due_days
from rekognition_dagster.lake.damage import REMEDY
from rekognition_dagster.orchestration.names import Deployment

_TELL_EVERY_S = 60.0


class CompactionConfig(dg.Config):
    """How eager a compaction is. The nightly one takes the defaults."""

    grace_hours: float = Field(
        default=GRACE_S / 3600,
        ge=0,
        description="How long the small files outlive their merging, for queries that run.",
    )
    quiet_hours: float = Field(
        default=QUIET_S / 3600, ge=0, description="Files younger than this are left alone."
    )
    min_files: int = Field(
        default=MIN_FILES, ge=2, description="A day with fewer small files is left as it is."
    )


def build_compaction_asset(deployment: Deployment) -> dg.AssetsDefinition:
    """The asset ``lake_compaction``. Materializing it takes the step that is due for each day of
    each table; run it again, or twice at once, and nothing is lost or done twice."""
    spec = deployment.asset(
        "upkeep",
        "lake_compaction",
        kinds={"parquet"},
        description="Merges the small files of each table's day into few large ones, sorted by "
        "video. Its metadata says how many days were staged, published, or wait.",
    )

    @dg.multi_asset(
        name=spec.key.to_python_identifier(),
        specs=[spec],
        required_resource_keys=deployment.needs("lake"),
    )
    def lake_compaction(
        context: dg.AssetExecutionContext, config: CompactionConfig
    ) -> dg.MaterializeResult:
        lake = deployment.resource(context, "lake")
        opened = lake.open()
        outcomes: Counter[str] = Counter()
        failures: dict[str, str] = {}
        days = due_days(opened.storage, opened.tables(), config.min_files)
        told = time.monotonic()
        for done, day in enumerate(days):
            if time.monotonic() - told > _TELL_EVERY_S:
                context.log.info(f"{done} of {len(days)} days: {dict(outcomes)}")
                told = time.monotonic()
            try:
                outcome = day.compact(
                    grace_s=config.grace_hours * 3600,
                    quiet_s=config.quiet_hours * 3600,
                    min_files=config.min_files,
                )
            except LakeError as error:
                context.log.error(f"{day.folder}: {error}")
                failures[day.folder] = str(error)
            else:
                outcomes[outcome] += 1
            for path, reason in day.damaged.items():
                failures[path] = f"{opened.storage.uri(path)} is left out: {reason}. {REMEDY}"
                context.log.error(failures[path])
        lake.refresh_catalogue(again=True)
        if failures:
            raise dg.Failure(
                f"{len(failures)} days or files could not be compacted, of {len(days)} days: "
                + "; ".join(list(failures.values())[:20]),
                metadata=dict(list(failures.items())[:50]),
                allow_retries=False,
            )
        return dg.MaterializeResult(metadata={"days": len(days), **outcomes})

    return lake_compaction


def build_compaction_schedule(
    deployment: Deployment, compaction: dg.AssetsDefinition
) -> dg.ScheduleDefinition:
    """Materializes ``lake_compaction`` every night."""
    settings = deployment.settings
    return dg.ScheduleDefinition(
        name=deployment.scoped("compaction"),
        cron_schedule=settings.compaction,
        execution_timezone=settings.timezone,
        target=compaction,
        default_status=settings.schedule_status,
        description="Merges the small files of days that are complete.",
    )
