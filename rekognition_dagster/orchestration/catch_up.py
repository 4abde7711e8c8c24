"""The sensor that catches up: it launches what is behind and what nobody else launched.

Automation conditions act on changes. A change that they did not see (the sensor was off, its code
changed, the run failed) would be forgotten; here, what is there is compared with what should be.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Mapping, Sequence

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.dispatch import NOT_OVER, ranges, run_request
from rekognition_dagster.orchestration.names import VIDEO_PARTITIONS, RekognitionVideoTranslator
from rekognition_dagster.orchestration.settings import Settings

TRIES = 5
"""A partition is launched so often for the same change above it, at growing intervals."""
_MOST_TRACKED = 1000  # partitions that the cursor holds; the rest follows when these are done
_MOST_RUNS = 20


def build_catch_up_sensor(
    settings: Settings,
    names: RekognitionVideoTranslator,
    assets: Sequence[dg.AssetsDefinition],
) -> dg.SensorDefinition:
    """Launches partitions of ``assets`` that are older than what they are made from.

    The first time after ``catch_up_minutes``, which is long enough for the automation; then after
    twice that, and so on, :data:`TRIES` times. The cursor holds when, by asset and partition.
    """

    @dg.sensor(
        name="catch_up",
        target=list(assets),
        minimum_interval_seconds=max(60, round(settings.catch_up_minutes * 60 / 5)),
        default_status=settings.sensor_status,
        description="Launches results and analytics that are behind, again if their run failed.",
    )
    def catch_up(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        plan = json.loads(context.cursor or "{}")
        now = time.time()
        requests: list[dg.RunRequest] = []
        kept: dict[str, dict[str, list[float]]] = {}
        order = _order(context.instance)
        for asset in assets:
            name = asset.key.to_user_string()
            behind = _behind(context.instance, asset, settings.operation_list, names)
            due, kept[name] = _due(behind, plan.get(name, {}), now, settings.catch_up_minutes * 60)
            busy = _in_progress(context.instance, asset.key, due)
            for first, last in ranges([k for k in due if k not in busy], order):
                if len(requests) < _MOST_RUNS:
                    requests.append(run_request(asset.key, first, last))
        cursor = json.dumps(kept)
        if not requests and cursor == context.cursor:
            return dg.SkipReason("Nothing is behind")
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return catch_up


def _order(instance: dg.DagsterInstance) -> dict[str, int]:
    partitions = instance.get_dynamic_partitions(str(VIDEO_PARTITIONS.name))
    return {k: i for i, k in enumerate(partitions)}


def _behind(
    instance: dg.DagsterInstance,
    asset: dg.AssetsDefinition,
    operations: Sequence[Operation],
    names: RekognitionVideoTranslator,
) -> dict[str, int]:
    """Partitions older than what they are made from, with the storage id of what is newer."""
    own = events.latest_ids(instance, asset.key)
    newest: dict[str, int] = {}
    for key in asset.asset_deps[asset.key]:
        for partition, storage_id in events.latest_ids(instance, key).items():
            newest[partition] = max(newest.get(partition, 0), storage_id)
    behind = {k: i for k, i in newest.items() if own.get(k, 0) < i}
    for operation in operations:
        if asset.key == names.results(operation):
            outcomes = events.known_versions(instance, names.completion(operation))
            # A job that FAILED has no results to fetch; the nightly batch decides on it.
            behind = {k: i for k, i in behind.items() if not outcomes[k].endswith(":FAILED")}
    return behind


def _due(
    behind: Mapping[str, int], plan: Mapping[str, Sequence[float]], now: float, patience: float
) -> tuple[list[str], dict[str, list[float]]]:
    """Which partitions to launch now, and the new plan: (newer event, tries, not before)."""
    due: list[str] = []
    kept: dict[str, list[float]] = {}
    for partition, newer in sorted(behind.items(), key=lambda item: item[1])[:_MOST_TRACKED]:
        event, tries, not_before = plan.get(partition, (0, 0, 0.0))
        if event != newer:
            tries, not_before = 0, now + patience
        elif now >= not_before and tries < TRIES:
            due.append(partition)
            tries, not_before = tries + 1, now + patience * 2 ** (tries + 1)
        kept[partition] = [newer, tries, not_before]
    return due, kept


def _in_progress(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str]
) -> set[str]:
    """Those that a run is working on right now."""
    storage = instance.event_log_storage
    attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(
        key
    )
    runs = {attempts[p][0] for p in partitions if p in attempts}
    if not runs:
        return set()
    going = {
        run.run_id
        for run in instance.get_runs(dg.RunsFilter(run_ids=list(runs), statuses=NOT_OVER))
    }
    return {p for p in partitions if p in attempts and attempts[p][0] in going}
