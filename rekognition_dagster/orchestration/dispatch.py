"""The sensor that dispatches: it launches job assets for videos that wait, within the quota."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import dagster as dg

from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.jobs import count_in_flight
from rekognition_dagster.orchestration.names import (
    BATCH_SIZE,
    START_TAG,
    RekognitionVideoTranslator,
)
from rekognition_dagster.orchestration.settings import Settings

NOT_OVER = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Statuses of a run that may yet do something."""
_STALE_RUN_S = 900  # a run that said nothing for so long does not hold up the next one


def build_dispatch_sensor(
    settings: Settings,
    names: RekognitionVideoTranslator,
    job_assets: Sequence[dg.AssetsDefinition],
) -> dg.SensorDefinition:
    """Launches the job assets for videos that wait, never for more than the quota has room.

    A sensor and not an automation condition: a condition cannot know how many slots are free, and
    would launch runs that only learn that there are none.
    """

    @dg.sensor(
        name="job_dispatch",
        target=list(job_assets),
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description="Starts jobs for videos that wait, within the quota of jobs in flight.",
    )
    def dispatch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        if busy := _starting(instance):
            return dg.SkipReason(f"Run {busy} is still starting jobs")
        free = settings.max_jobs_in_flight - count_in_flight(instance, settings, names)
        if free <= 0:
            return dg.SkipReason(f"All {settings.max_jobs_in_flight} jobs are in flight")
        waiting = {
            operation.name: events.standing(
                instance,
                operation,
                names,
                on_arrival=settings.start == "arrival",
                max_attempts=settings.max_attempts,
            ).waiting
            for operation in settings.operation_list
        }
        chosen = share(waiting, free)
        if not any(chosen.values()):
            return dg.SkipReason("No video waits")
        order = {k: i for i, k in enumerate(instance.get_dynamic_partitions("videos"))}
        return dg.SensorResult(
            run_requests=[
                run_request(names.job(OPERATIONS[name]), first, last, {START_TAG: name})
                for name, keys in chosen.items()
                for first, last in ranges(keys, order)
            ]
        )

    return dispatch


def _starting(instance: dg.DagsterInstance) -> str | None:
    """A run that the dispatch sensor launched and that is not over."""
    records = instance.get_run_records(
        dg.RunsFilter(tags={START_TAG: list(OPERATIONS)}, statuses=NOT_OVER), limit=20
    )
    fresh = (r for r in records if time.time() - r.update_timestamp.timestamp() < _STALE_RUN_S)
    return next((r.dagster_run.run_id for r in fresh), None)


def run_request(
    key: dg.AssetKey, first: str, last: str, tags: Mapping[str, str] | None = None
) -> dg.RunRequest:
    """One run of an asset for the partitions from ``first`` to ``last``."""
    if first == last:
        return dg.RunRequest(asset_selection=[key], partition_key=first, tags=tags)
    span = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    return dg.RunRequest(asset_selection=[key], tags={**(tags or {}), **span})


def share(waiting: Mapping[str, Sequence[str]], slots: int) -> dict[str, list[str]]:
    """Give out slots fairly: in turn to each operation, in each the longest waiting video first."""
    turns = zip_longest(*([(name, k) for k in keys] for name, keys in waiting.items()))
    given = [one for turn in turns for one in turn if one is not None][:slots]
    return {name: [k for n, k in given if n == name] for name in waiting}


def ranges(keys: Sequence[str], order: Mapping[str, int]) -> list[tuple[str, str]]:
    """Runs of partitions that follow each other: one run each, of ``BATCH_SIZE`` at most.

    Args:
        keys: Partition keys; those without a partition yet are left for the next tick.
        order: Each partition's position.
    """
    spans: list[list[str]] = []
    for key in sorted((k for k in keys if k in order), key=order.__getitem__):
        follows = spans and order[spans[-1][-1]] + 1 == order[key]
        if follows and len(spans[-1]) < BATCH_SIZE:
            spans[-1].append(key)
        else:
            spans.append([key])
    return [(s[0], s[-1]) for s in spans]
