"""All definitions of a deployment, from its settings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from rekognition_dagster.orchestration.alerts import build_alerts
from rekognition_dagster.orchestration.analytics import SqlModel, build_analytics, load_models
from rekognition_dagster.orchestration.batches import build_analytics_sensor, build_results_sensor
from rekognition_dagster.orchestration.compaction import (
    build_compaction_asset,
    build_compaction_schedule,
)
from rekognition_dagster.orchestration.completions import build_completion_sensor
from rekognition_dagster.orchestration.discovery import build_discovery_sensor
from rekognition_dagster.orchestration.dispatch import build_dispatch_sensor
from rekognition_dagster.orchestration.jobs import build_job_asset
from rekognition_dagster.orchestration.local_backfill import build_local_backfill
from rekognition_dagster.orchestration.names import Deployment, RekognitionVideoTranslator
from rekognition_dagster.orchestration.reconciliation import build_reconciliation_sensor
from rekognition_dagster.orchestration.reports import build_report_sensor
from rekognition_dagster.orchestration.rerun import build_rerun_job
from rekognition_dagster.orchestration.resources import (
    LakeResource,
    QueueResource,
    RekognitionVideoResource,
    VideoBucketResource,
)
from rekognition_dagster.orchestration.results import build_results_asset, build_results_job
from rekognition_dagster.orchestration.schedules import (
    build_nightly_batch,
    build_nightly_schedule,
    build_status_asset,
    build_status_schedule,
)
from rekognition_dagster.orchestration.settings import Settings


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
            ``video_bucket``, ``lake``. In Dagster, the deployment's name is before theirs.

    All names carry the deployment's, and executors stay with their jobs, so the result can be
    merged with a team's own definitions, or with another deployment's.

    Example:
        .. code-block:: python

            from rekognition_dagster import Settings, build_definitions

            defs = build_definitions(Settings(bucket="cameras", lake="s3://analytics/lake"))
    """
    settings = settings or Settings.from_env()
    names = names or RekognitionVideoTranslator(settings.asset_prefix)
    with warnings.catch_warnings():
        # Backfill policies and partitioned checks are beta in Dagster, used knowingly.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return _build(Deployment(settings, names), models, resources)


def _build(
    deployment: Deployment,
    models: Sequence[SqlModel] | None,
    resources: Mapping[str, Any] | None,
) -> dg.Definitions:
    settings = deployment.settings
    operations = settings.operation_list
    chosen = load_models() if models is None else models
    analytics = build_analytics(chosen, operations, deployment)
    follow = analytics.state_models
    results_job = build_results_job(deployment, follow)
    batch = build_nightly_batch(deployment)
    compaction = build_compaction_asset(deployment)
    status = build_status_asset(deployment)
    alerts = build_alerts(deployment)
    sensors = [
        build_discovery_sensor(deployment),
        build_dispatch_sensor(deployment, follow),
        build_completion_sensor(deployment),
        build_reconciliation_sensor(deployment),
        build_results_sensor(deployment, results_job),
        build_report_sensor(deployment, [m.name for m in analytics.models]),
    ]
    if analytics.job is not None:
        sensors.append(build_analytics_sensor(deployment, analytics.job, follow))
    return dg.Definitions(
        assets=[
            *_external_assets(deployment),
            *(build_job_asset(o, deployment, follow) for o in operations),
            *(build_results_asset(o, deployment, follow) for o in operations),
            *analytics.assets,
            batch,
            compaction,
            status,
            *alerts.assets,
        ],
        asset_checks=alerts.checks,
        jobs=[
            build_local_backfill(deployment, follow),
            build_rerun_job(deployment, follow),
            results_job,
            *([analytics.job] if analytics.job else []),
        ],
        sensors=sensors,
        schedules=[
            build_nightly_schedule(deployment, batch),
            build_compaction_schedule(deployment, compaction),
            build_status_schedule(deployment, status),
            alerts.schedule,
        ],
        resources={
            deployment.scoped(name): resource
            for name, resource in {**default_resources(settings), **(resources or {})}.items()
        },
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


def _external_assets(deployment: Deployment) -> list[dg.AssetSpec]:
    """What sensors report and nothing here materializes: the videos, and the completions."""
    names, partitions = deployment.names, deployment.partitions
    return [
        dg.AssetSpec(
            names.video(),
            partitions_def=partitions,
            group_name=names.group_name("videos"),
            kinds={"s3"},
            description="A video in the bucket, found by the sensor video_discovery, with its "
            "version.",
        ),
        *(
            dg.AssetSpec(
                names.completion(o),
                partitions_def=partitions,
                deps=[names.job(o)],
                group_name=names.group_name(o.name),
                kinds={"sqs"},
                description=f"A {o.api} job has ended, as the sensor completions learned.",
            )
            for o in deployment.settings.operation_list
        ),
    ]
