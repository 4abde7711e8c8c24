"""Analytics per day: an asset partitioned by day for each model, their job, and its sensor.

What is stale is found in the lake, by comparing what each day's rows were computed from with what
is there. One run computes all days that are stale, all tables of a day together.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
import sqlalchemy as sa

from rekognition_dagster.analytics import AnalyticsModel
from rekognition_dagster.analytics.daily import Computed, Stale, compute_stale, find_stale
from rekognition_dagster.analytics.zones import read_zones
from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.names import literal
from rekognition_dagster.operations import PERSON_TRACKING
from rekognition_dagster.orchestration.highlights import markdown_table
from rekognition_dagster.orchestration.metadata import column_schema, file_metadata
from rekognition_dagster.orchestration.names import BATCH_SIZE, DEPLOYMENT_TAG, Deployment
from rekognition_dagster.state.store import slug
from rekognition_dagster.state.tables import WORK

_TRIES = 5
_LONGEST_WAIT_S = 3600.0
"""Results that keep coming delay a run for so long."""
_ZONES_S = 180.0
"""Zones in S3 are read again after so long."""
_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build_days(deployment: Deployment) -> dg.Definitions:
    """The assets, the job and the sensor; nothing where no people are tracked."""
    place = deployment.settings.zones
    if place and not place.startswith("s3://"):
        read_zones(place)  # a wrong file is refused here, with its line
    if not deployment.daily_models or PERSON_TRACKING not in deployment.settings.operation_list:
        return dg.Definitions()
    job = _build_job(deployment)
    return dg.Definitions(
        assets=[_build_assets(deployment)], jobs=[job], sensors=[_build_sensor(deployment, job)]
    )


def _build_assets(deployment: Deployment) -> dg.AssetsDefinition:
    models = {_key(deployment, m): m for m in deployment.daily_models}
    results = dg.AssetDep(
        deployment.table_key(PERSON_TRACKING.name), partition_mapping=dg.AllPartitionMapping()
    )
    specs = [
        deployment.asset(
            "analytics",
            model,
            deps=[results, *(key for key, m in models.items() if m.name in _reads(model, models))],
        )
        for model in models.values()
    ]

    @dg.multi_asset(
        name=deployment.scoped("analytics_by_day"),
        specs=specs,
        partitions_def=deployment.days,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        required_resource_keys=deployment.needs("lake"),
        can_subset=True,
    )
    def analytics_by_day(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        lake = deployment.resource(context, "lake").open()
        chosen = {models[key].name for key in context.selected_asset_keys}
        days = {date.fromisoformat(day) for day in context.partition_keys}
        found = _stale(deployment, lake, days=days, every=True)
        stale = Stale({name: units for name, units in found.digests.items() if name in chosen})
        done = list(_computed(deployment, lake, stale))
        deployment.resource(context, "lake").refresh_catalogue()
        for key in context.selected_asset_keys:
            ours = [c for c in done if c.model.name == models[key].name]
            if ours:
                yield dg.MaterializeResult(asset_key=key, metadata=_metadata(ours, lake))

    return analytics_by_day


def _build_job(deployment: Deployment) -> dg.JobDefinition:
    @dg.op(
        name=deployment.scoped("compute_days"),
        required_resource_keys=deployment.needs("lake"),
        description="Computes the days that are behind.",
    )
    def compute_days(context: dg.OpExecutionContext) -> None:
        lake = deployment.resource(context, "lake").open()
        since = deployment.settings.zones_since
        stale = _stale(deployment, lake, rules_since=date.fromisoformat(since) if since else None)
        names = [day.isoformat() for day in stale.days]
        context.instance.add_run_tags(context.run_id, _tags(stale))
        for start in range(0, len(names), 400):
            some = names[start : start + 400]
            context.instance.add_dynamic_partitions(str(deployment.days.name), some)
        count = 0
        for done in _computed(deployment, lake, stale):
            count += 1
            context.log_event(
                dg.AssetMaterialization(
                    _key(deployment, done.model),
                    partition=done.day.isoformat(),
                    metadata=_metadata([done], lake),
                )
            )
        deployment.resource(context, "lake").refresh_catalogue()
        context.log.info(f"{count} tables of {len(names)} days computed")

    @dg.job(
        name=deployment.scoped("analytics_by_day_refresh"),
        executor_def=dg.in_process_executor,
        description="Computes analytics per day that are behind. Launched by days_refresh.",
    )
    def days() -> None:
        compute_days()  # pyright: ignore[reportCallIssue] -- Dagster fills its arguments in

    return days


def _build_sensor(deployment: Deployment, job: dg.JobDefinition) -> dg.SensorDefinition:
    settings = deployment.settings

    @dg.sensor(
        name=deployment.scoped("days_refresh"),
        job=job,
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description="Launches a run for days whose results, zones or SQL have changed; one run "
        "for all of them, again where a run failed.",
    )
    def refresh(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now = time.time()
        before: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
        results = _results(deployment, context.instance)
        if not results.count and not before:
            return dg.SkipReason("There are no results yet")
        zones = _zones(settings.zones, before.get("zones"), now)
        rules = _rules(deployment, zones)
        cursor = {**before, "zones": zones}
        runs = context.instance.get_runs(dg.RunsFilter(job_name=job.name), limit=1)
        if runs and runs[0].status in _ACTIVE:
            return _skipped("A run is at work", cursor)
        wanted = _digest([results.text, rules])
        tries = 0
        if before.get("wanted") == wanted:
            failed = bool(runs) and runs[0].status is not dg.DagsterRunStatus.SUCCESS
            if not failed:
                return _skipped("Nothing is behind", cursor)
            tries = int(before["tries"]) + 1
            if tries >= _TRIES or now < before["at"] + settings.retry_minutes * 60 * 2 ** (
                tries - 1
            ):
                text = f"The last run failed; try {tries} of {_TRIES} comes later"
                return _skipped(text, cursor)
        elif before.get("rules", rules) == rules:
            cursor.setdefault("waits_since", now)
            quiet_at = results.latest + settings.days_quiet_minutes * 60
            due_at = min(quiet_at, cursor["waits_since"] + _LONGEST_WAIT_S)
            if now < due_at:
                text = f"Results keep coming; a run comes in {(due_at - now) / 60:.0f} minutes"
                return _skipped(text, {**cursor, "rules": rules})
        tags = {DEPLOYMENT_TAG: slug(settings.name), "rekognition/videos": str(results.count)}
        request = dg.RunRequest(run_key=f"{wanted}-{now:.0f}-{tries}", tags=tags)
        launched = {"wanted": wanted, "rules": rules, "zones": zones, "tries": tries, "at": now}
        return dg.SensorResult(run_requests=[request], cursor=json.dumps(launched))

    return refresh


def _skipped(text: str, cursor: dict[str, Any]) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=text, cursor=json.dumps(cursor))


@dataclass(frozen=True)
class _Results:
    """Which results of people there are.

    Args:
        count: Videos that have some.
        latest: When the latest came, in seconds since 1970.
    """

    count: int
    latest: float

    @property
    def text(self) -> str:
        """Changes when results come, are replaced, or go."""
        return f"{self.count} {self.latest}"


def _results(deployment: Deployment, instance: dg.DagsterInstance) -> _Results:
    is_ours = sa.and_(WORK.c.operation == PERSON_TRACKING.name, WORK.c.results_job_id.is_not(None))
    with deployment.state(instance).read() as connection:
        query = sa.select(sa.func.count(), sa.func.max(WORK.c.results_at)).where(is_ours)
        count, latest = connection.execute(query).one()
    return _Results(count, latest or 0.0)


def _rules(deployment: Deployment, zones: Sequence[Any]) -> str:
    """A text that changes when zones, cameras or models do."""
    settings = deployment.settings
    return _digest(
        [
            zones[:2],
            repr(settings.cameras),
            settings.zones_since,
            [m.code_version for m in deployment.daily_models],
        ]
    )


def _zones(place: str | None, before: Sequence[Any] | None, now: float) -> list[Any]:
    """The place of the zones, a digest of them, and when they were read.

    They are read from S3 every few minutes only: a request in each tick of each deployment costs
    money.
    """
    is_remote = str(place).startswith("s3://")
    if is_remote and before and before[0] == place and now < before[2] + _ZONES_S:
        return list(before)
    return [place, _digest(repr(read_zones(place))), now]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _stale(
    deployment: Deployment,
    lake: Lake,
    *,
    rules_since: date | None = None,
    days: Collection[date] | None = None,
    every: bool = False,
) -> Stale:
    zones = read_zones(deployment.settings.zones)
    chosen = {"rules_since": rules_since, "days": days, "every": every}
    return find_stale(lake, deployment.daily_models, zones, **chosen)


def _computed(deployment: Deployment, lake: Lake, stale: Stale) -> Iterator[Computed]:
    zones = read_zones(deployment.settings.zones)
    return compute_stale(lake, deployment.daily_models, zones, stale)


def _metadata(done: Sequence[Computed], lake: Lake) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": sum(c.rows for c in done),
        "dagster/column_schema": column_schema(done[0].schema, done[0].model.column_descriptions),
        "cameras": len({camera for c in done for camera in c.cameras}),
    }
    if len(done) == 1:
        table, day = done[0].model.name, done[0].day.isoformat()
        query = f"```sql\nSELECT * FROM {table} WHERE date = {literal(day)}\n```"
        metadata["query"] = dg.MetadataValue.md(query)
        if first := markdown_table(done[0].schema.names, done[0].first_rows):
            metadata["first_rows"] = dg.MetadataValue.md(first)
        metadata |= file_metadata(lake, done[0].path)
        if done[0].model.name == "heat" and done[0].rows:
            metadata |= _heat_maps(lake, done[0].day)
    return metadata


def _tags(stale: Stale) -> dict[str, str]:
    """What a run computes, as tags that Dagster's list of runs shows."""
    days = stale.days
    if not days:
        return {}
    return {
        "rekognition/dates": f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}",
        "rekognition/models": ", ".join(stale.digests),
    }


def _heat_maps(lake: Lake, day: date) -> dict[str, Any]:
    """Heat maps of the day's busiest cameras; none without the extra that paints them."""
    try:
        from rekognition_dagster.report.build import heat_pictures
    except ImportError:
        return {}
    return {
        f"heat map/{camera}": dg.MetadataValue.md(picture.markdown(f"Heat map of {camera}"))
        for camera, picture in heat_pictures(lake, day).items()
    }


def _key(deployment: Deployment, model: AnalyticsModel) -> dg.AssetKey:
    return deployment.key("analytics", model)


def _reads(model: AnalyticsModel, models: dict[dg.AssetKey, AnalyticsModel]) -> list[str]:
    names = [m.name for m in models.values() if m.name != model.name]
    return model.mentions(names)
