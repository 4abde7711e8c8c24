"""All definitions of a deployment, from its settings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.alerts import build_alerts
from rekognition_dagster.orchestration.analytics import (
    SqlModel,
    build_analytics_assets,
    load_models,
)
from rekognition_dagster.orchestration.compaction import (
    build_compaction_asset,
    build_compaction_schedule,
)
from rekognition_dagster.orchestration.completions import build_completion_sensor
from rekognition_dagster.orchestration.discovery import build_discovery_sensor
from rekognition_dagster.orchestration.dispatch import build_dispatch_sensor
from rekognition_dagster.orchestration.jobs import build_job_asset
from rekognition_dagster.orchestration.local_backfill import build_local_backfill
from rekognition_dagster.orchestration.names import VIDEO_PARTITIONS, RekognitionVideoTranslator
from rekognition_dagster.orchestration.reconciliation import build_reconciliation_sensor
from rekognition_dagster.orchestration.refresh import build_analytics_sensor, build_results_sensor
from rekognition_dagster.orchestration.resources import (
    LakeResource,
    QueueResource,
    RekognitionVideoResource,
    VideoBucketResource,
)
from rekognition_dagster.orchestration.results import build_results_asset
from rekognition_dagster.orchestration.schedules import (
    build_nightly_batch,
    build_nightly_schedule,
    build_status_asset,
    build_status_schedule,
)
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.orchestration.standing import Books


def build_definitions(
    settings: Settings | None = None,
    *,
    models: Sequence[SqlModel] | None = None,
    names: RekognitionVideoTranslator | None = None,
    resources: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """Assets, sensors, schedule, job and resources of a deployment.

    Args:
        settings: What the deployment chooses; from the environment by default.
        models: Analytics; those of the package by default.
        names: Names the assets.
        resources: In place of ``rekognition``, ``completion_queue``, ``arrivals_queue``,
            ``video_bucket``, ``lake``.

    Example:
        .. code-block:: python

            from rekognition_dagster import Settings, build_definitions

            defs = build_definitions(Settings(bucket="cameras", lake="s3://analytics/lake"))
    """
    settings = settings or Settings.from_env()
    names = names or RekognitionVideoTranslator()
    operations = settings.operation_list
    with warnings.catch_warnings():
        # Backfill policies are beta in Dagster, used knowingly; one warning per asset says no more.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _build(settings, names, operations, models, resources)


def _build(
    settings: Settings,
    names: RekognitionVideoTranslator,
    operations: Sequence[Operation],
    models: Sequence[SqlModel] | None,
    resources: Mapping[str, Any] | None,
) -> dg.Definitions:
    books = Books(names, settings)
    jobs = {o.name: build_job_asset(o, books) for o in operations}
    results = {o.name: build_results_asset(o, books) for o in operations}
    chosen = load_models() if models is None else models
    analytics = build_analytics_assets(chosen, operations, books)
    batch = build_nightly_batch(books)
    compaction = build_compaction_asset(names)
    status = build_status_asset(books)
    alerts = build_alerts(books)
    return dg.Definitions(
        assets=[
            *_external_assets(settings, names),
            *jobs.values(),
            *results.values(),
            *(a.definition for a in analytics),
            batch,
            compaction,
            status,
            *alerts.assets,
        ],
        asset_checks=alerts.checks,
        jobs=[build_local_backfill(books)],
        sensors=[
            build_discovery_sensor(books),
            build_dispatch_sensor(books, jobs),
            build_completion_sensor(books),
            build_reconciliation_sensor(books),
            build_results_sensor(books, results),
            build_analytics_sensor(books, analytics),
            _automation(settings),
        ],
        schedules=[
            build_nightly_schedule(settings, batch),
            build_compaction_schedule(settings, compaction),
            build_status_schedule(settings, status),
            alerts.schedule,
        ],
        resources={**default_resources(settings), **(resources or {})},
        # One step a run: a process for it would only cost a second start.
        executor=dg.in_process_executor,
    )


def default_resources(settings: Settings) -> dict[str, Any]:
    """The resources as the settings have them; the rest is boto3's usual environment."""
    return {
        "rekognition": RekognitionVideoResource(
            topic_arn=settings.topic_arn,
            role_arn=settings.role_arn,
            job_tag=settings.name,
            parameters=settings.parameters,
        ),
        "completion_queue": QueueResource(url=settings.queue_url),
        "arrivals_queue": QueueResource(url=settings.arrivals_queue_url),
        "video_bucket": VideoBucketResource(bucket=settings.bucket, prefix=settings.prefix),
        "lake": LakeResource(
            url=settings.lake, date_pattern=settings.date_pattern, catalogue=settings.catalogue
        ),
    }


def _external_assets(settings: Settings, names: RekognitionVideoTranslator) -> list[dg.AssetSpec]:
    """What sensors report and nothing here materializes: the videos, and the completions."""
    return [
        dg.AssetSpec(
            names.video(),
            partitions_def=VIDEO_PARTITIONS,
            group_name=names.group_name("videos"),
            kinds={"s3"},
            description="A video in the bucket, reported by the sensor video_discovery with its "
            "version.",
        ),
        *(
            dg.AssetSpec(
                names.completion(o),
                partitions_def=VIDEO_PARTITIONS,
                deps=[names.job(o)],
                group_name=names.group_name(o.name),
                kinds={"sqs"},
                description=f"A {o.api} job has ended, reported by the sensor completions.",
            )
            for o in settings.operation_list
        ),
    ]


def _automation(settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """For assets that a deployment adds: ours are launched by sensors of their own."""
    return dg.AutomationConditionSensorDefinition(
        name="automation",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description="Evaluates the automation conditions of the assets that you add.",
    )
