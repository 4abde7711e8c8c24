"""Builders of a deployment's definitions: piece by piece, and all of them together.

Each piece is a :class:`dagster.Definitions`, so a team takes those that it wants and merges them
with its own. All names carry the deployment's, and jobs carry their executors, so pieces of several
deployments, and a team's own assets, resources and executor, go together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import dagster as dg

from rekognition_dagster.analytics import AnalyticsModel, load_models
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.operations import Operation, operation
from rekognition_dagster.orchestration.alert_sensors import build_alert_sensors
from rekognition_dagster.orchestration.alerts import build_alerts
from rekognition_dagster.orchestration.analytics import build_analytics_job, build_model_asset
from rekognition_dagster.orchestration.batches import build_analytics_sensor, build_results_sensor
from rekognition_dagster.orchestration.compaction import (
    build_compaction_asset,
    build_compaction_schedule,
)
from rekognition_dagster.orchestration.completions import build_completion_sensor
from rekognition_dagster.orchestration.daily_report import build_daily_report
from rekognition_dagster.orchestration.days import build_days
from rekognition_dagster.orchestration.discovery import build_discovery_sensor
from rekognition_dagster.orchestration.dispatch import build_dispatch_sensor
from rekognition_dagster.orchestration.jobs import build_job_asset
from rekognition_dagster.orchestration.local_backfill import build_local_backfill_job
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.orchestration.planning import build_plan_job
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
from rekognition_dagster.orchestration.steering import build_steering_job
from rekognition_dagster.orchestration.translator import RekognitionVideoTranslator

_P = ParamSpec("_P")


def _quiet(build: Callable[_P, dg.Definitions]) -> Callable[_P, dg.Definitions]:
    """Backfill policies and partitioned checks are beta in Dagster, used knowingly."""

    @wraps(build)
    def quietly(*args: _P.args, **kwargs: _P.kwargs) -> dg.Definitions:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return build(*args, **kwargs)

    return quietly


def build_definitions(
    settings: Settings | None = None,
    *,
    models: Sequence[AnalyticsModel] | None = None,
    translator: RekognitionVideoTranslator | None = None,
    resources: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """Assets, checks, sensors, schedules, jobs and resources of a deployment.

    It is the sum of :func:`build_operation` for each operation, :func:`build_analytics`,
    :func:`build_sensors`, :func:`build_schedules`, :func:`build_checks`,
    :func:`build_local_backfill` and :func:`build_resources`.

    Args:
        settings: What the deployment chooses; from the environment by default.
        models: Analytics; those of the package by default.
        translator: Describes the assets.
        resources: In place of ``rekognition``, ``completion_queue``, ``arrivals_queue``,
            ``video_bucket``, ``lake``. In Dagster, the deployment's name is before theirs.

    Example:
        .. code-block:: python

            from rekognition_dagster import Settings, build_definitions

            defs = build_definitions(Settings(bucket="cameras", lake="s3://analytics/lake"))
    """
    settings = _checked(settings)
    how: dict[str, Any] = {"models": models, "translator": translator}
    return dg.Definitions.merge(
        *(build_operation(o, settings, **how) for o in settings.operation_list),
        build_analytics(settings, **how),
        build_sensors(settings, **how),
        build_schedules(settings, translator=translator),
        build_checks(settings, translator=translator),
        build_local_backfill(settings, **how),
        build_resources(settings, resources),
    )


@_quiet
def build_operation(
    name: str | Operation,
    settings: Settings | None = None,
    *,
    models: Sequence[AnalyticsModel] | None = None,
    translator: RekognitionVideoTranslator | None = None,
) -> dg.Definitions:
    """The assets of one operation: its jobs, their completions, and the table of results.

    Args:
        name: ``person_tracking``, ``face_detection``, ...
        settings: As for :func:`build_definitions`, as all the others.
        models: Analytics, which follow when results are there.
        translator: Describes the assets.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import (
                Settings, build_operation, build_resources, build_sensors
            )

            settings = Settings(bucket="cameras", operations=["face_detection"])
            defs = dg.Definitions.merge(
                build_operation("face_detection", settings, models=[]),
                build_sensors(settings, models=[]),
                build_resources(settings),
            )
    """
    deployment = _deployment(settings, models, translator)
    try:
        chosen = operation(name) if isinstance(name, str) else name
    except KeyError as error:
        raise ConfigurationError(error.args[0]) from None
    if not isinstance(chosen, Operation):
        raise ConfigurationError(f"{name!r} is no operation; pass the name of one")
    completion = deployment.asset(
        "completion",
        chosen,
        partitions_def=deployment.partitions,
        deps=[deployment.key("job", chosen)],
        kinds={"sqs"},
        description=f"A {chosen.api} job has ended, as the sensor completions learned.",
    )
    return dg.Definitions(
        assets=[
            build_job_asset(chosen, deployment),
            completion,
            build_results_asset(chosen, deployment),
        ]
    )


@_quiet
def build_analytics(
    settings: Settings | None = None,
    *,
    models: Sequence[AnalyticsModel] | None = None,
    translator: RekognitionVideoTranslator | None = None,
) -> dg.Definitions:
    """An asset for each model, and the job and sensor that compute what is behind, twice: for
    models per video and for models per day.

    Args:
        settings: As for :func:`build_definitions`.
        models: The models; those of the package by default. Those of operations that do not run
            are left out.
        translator: Describes the assets.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import Settings, SqlModel, build_analytics, build_resources

            settings = Settings(bucket="cameras")
            people = SqlModel(
                "people", "SELECT video, count(DISTINCT person_index) AS people"
                " FROM person_detections GROUP BY video"
            )
            defs = dg.Definitions.merge(
                build_analytics(settings, models=[people]), build_resources(settings)
            )
    """
    deployment = _deployment(settings, models, translator)
    by_day = dg.Definitions.merge(build_days(deployment), build_daily_report(deployment))
    if not deployment.ordered_models:
        return by_day
    job = build_analytics_job(deployment)
    by_video = dg.Definitions(
        assets=[build_model_asset(*each, deployment) for each in deployment.ordered_models],
        jobs=[job],
        sensors=[build_analytics_sensor(deployment, job)],
    )
    return dg.Definitions.merge(by_video, by_day)


@_quiet
def build_sensors(
    settings: Settings | None = None,
    *,
    models: Sequence[AnalyticsModel] | None = None,
    translator: RekognitionVideoTranslator | None = None,
) -> dg.Definitions:
    """The sensors that move videos on, the asset of the videos, and the jobs beside them.

    They find videos, start jobs, take completions off the queue, ask for overdue jobs, have results
    paged, and report to Dagster. One job pages results; with the others, people plan, pause,
    ignore and prioritize.

    Args:
        settings: As for :func:`build_definitions`.
        models: Analytics, which follow when results are there.
        translator: Describes the assets.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import Settings, build_resources, build_sensors

            settings = Settings(bucket="cameras", sensors="stopped")
            defs = dg.Definitions.merge(build_sensors(settings), build_resources(settings))
    """
    deployment = _deployment(settings, models, translator)
    job = build_results_job(deployment)
    video = deployment.asset(
        "video",
        partitions_def=deployment.partitions,
        kinds={"s3"},
        description="A video in the bucket, found by the sensor video_discovery, with its version.",
    )
    return dg.Definitions(
        assets=[video],
        jobs=[job, build_steering_job(deployment), build_plan_job(deployment)],
        sensors=[
            build_discovery_sensor(deployment),
            build_dispatch_sensor(deployment),
            build_completion_sensor(deployment),
            build_reconciliation_sensor(deployment),
            build_results_sensor(deployment, job),
            build_report_sensor(deployment),
        ],
    )


@_quiet
def build_schedules(
    settings: Settings | None = None, *, translator: RekognitionVideoTranslator | None = None
) -> dg.Definitions:
    """The nightly batch, the nightly compaction of the lake and the hourly status.

    Args:
        settings: As for :func:`build_definitions`.
        translator: Describes the assets.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import Settings, build_resources, build_schedules

            settings = Settings(bucket="cameras", nightly="30 1 * * *")
            defs = dg.Definitions.merge(build_schedules(settings), build_resources(settings))
    """
    deployment = _deployment(settings, [], translator)
    batch = build_nightly_batch(deployment)
    compaction = build_compaction_asset(deployment)
    status = build_status_asset(deployment)
    return dg.Definitions(
        assets=[batch, compaction, status],
        schedules=[
            build_nightly_schedule(deployment, batch),
            build_compaction_schedule(deployment, compaction),
            build_status_schedule(deployment, status),
        ],
    )


@_quiet
def build_checks(
    settings: Settings | None = None, *, translator: RekognitionVideoTranslator | None = None
) -> dg.Definitions:
    """The hourly checks of what is about to be lost, their schedule, and the sensors of alerts.

    Where the setting ``alerts`` says so, a failed run and a failed hourly check are sent on.
    Checks of the results themselves belong to the assets of :func:`build_operation`.

    Args:
        settings: As for :func:`build_definitions`.
        translator: Describes the assets.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import Settings, build_checks, build_resources

            settings = Settings(bucket="cameras")
            defs = dg.Definitions.merge(build_checks(settings), build_resources(settings))
    """
    deployment = _deployment(settings, [], translator)
    alerts = build_alerts(deployment)
    return dg.Definitions(
        assets=alerts.assets,
        asset_checks=alerts.checks,
        schedules=[alerts.schedule],
        sensors=build_alert_sensors(deployment),
    )


@_quiet
def build_local_backfill(
    settings: Settings | None = None,
    *,
    models: Sequence[AnalyticsModel] | None = None,
    translator: RekognitionVideoTranslator | None = None,
) -> dg.Definitions:
    """The jobs ``local_backfill`` and ``rerun``, which analyse with the local engine, or again.

    Args:
        settings: As for :func:`build_definitions`.
        models: Analytics, which follow when results are there.
        translator: Describes the assets.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import Settings, build_local_backfill, build_resources

            settings = Settings(bucket="cameras", detector="embedded:fine")
            defs = dg.Definitions.merge(build_local_backfill(settings), build_resources(settings))
    """
    deployment = _deployment(settings, models, translator)
    return dg.Definitions(jobs=[build_local_backfill_job(deployment), build_rerun_job(deployment)])


def build_resources(
    settings: Settings | None = None, replaced: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """The resources that the pieces need, under names that carry the deployment's.

    Args:
        settings: As for :func:`build_definitions`; what they do not say is boto3's environment.
        replaced: In place of ``rekognition``, ``completion_queue``, ``arrivals_queue``,
            ``video_bucket``, ``lake``.

    Example:
        .. code-block:: python

            from rekognition_dagster import RekognitionVideoResource, Settings, build_resources

            at_home = RekognitionVideoResource(endpoint_url="http://127.0.0.1:8722")
            defs = build_resources(Settings(bucket="cameras"), {"rekognition": at_home})
    """
    settings = _checked(settings)
    made = {
        "rekognition": RekognitionVideoResource(
            topic_arn=settings.topic_arn,
            role_arn=settings.role_arn,
            job_tag=settings.name,
            parameters=settings.request_parameters,
            operations=settings.service_fields,
            assume_role=settings.assume_role,
        ),
        "completion_queue": QueueResource(url=settings.queue_url, assume_role=settings.assume_role),
        "arrivals_queue": QueueResource(
            url=settings.arrivals_queue_url, assume_role=settings.assume_role
        ),
        "video_bucket": VideoBucketResource(
            bucket=settings.bucket, prefix=settings.prefix, assume_role=settings.assume_role
        ),
        "lake": LakeResource(
            url=settings.lake,
            date_pattern=settings.date_pattern,
            catalogue=settings.catalogue,
            camera_pattern=settings.camera_pattern,
            camera_timezones=settings.camera_timezones,
            timezone=settings.timezone,
        ),
    }
    scoped = Deployment(settings, models=[]).scoped
    if unknown := sorted(set(replaced or {}) - set(made)):
        raise ConfigurationError(f"no resource {', '.join(unknown)}; there are {', '.join(made)}")
    resources = {**made, **(replaced or {})}
    return dg.Definitions(resources={scoped(name): each for name, each in resources.items()})


def _deployment(
    settings: Settings | None,
    models: Sequence[AnalyticsModel] | None,
    translator: RekognitionVideoTranslator | None,
) -> Deployment:
    for model in models or ():
        if not isinstance(model, AnalyticsModel):
            raise ConfigurationError(
                f"{model!r} is no model; pass SqlModel, PythonModel, or what load_models(FOLDER)"
                " returns"
            )
    if translator is not None and not isinstance(translator, RekognitionVideoTranslator):
        raise ConfigurationError(
            f"{translator!r} is no translator; pass an instance of a RekognitionVideoTranslator"
        )
    return Deployment(
        _checked(settings),
        translator or RekognitionVideoTranslator(),
        load_models() if models is None else models,
    )


def _checked(settings: Settings | None) -> Settings:
    if settings is not None and not isinstance(settings, Settings):
        raise ConfigurationError(f"{settings!r} are no settings; pass Settings(bucket=...)")
    return settings or Settings.from_env()
