"""The contract of Dagster's private names: a batch of events reads like single ones."""

# No postponed annotations here: Dagster reads those of the op as they stand.

from typing import Any

import dagster as dg
import pytest

from rekognition_dagster.orchestration import adapter

pytestmark = pytest.mark.parametrize("instance", ["sqlite", "postgres"], indirect=True)

KEY = dg.AssetKey(["person_detections"])
TAGS = {"dagster/data_version": "1", "dagster/data_version_is_user_provided": "true"}


def events(count: int) -> list[adapter.Event]:
    made: list[adapter.Event] = [
        dg.AssetMaterialization(KEY, partition=f"v{i}", metadata={"rows": i}, tags=TAGS)
        for i in range(count)
    ]
    made += [dg.AssetObservation(KEY, partition="v0", metadata={"status": "gone"})]
    made += [
        dg.AssetCheckEvaluation(
            asset_key=KEY,
            check_name="has_results",
            passed=i % 2 == 0,
            metadata={},
            partition=f"v{i}",
        )
        for i in range(count)
    ]
    return made


def stored(instance: dg.DagsterInstance) -> dict[str, Any]:
    """All that anyone can ask of these events, without ids and times."""
    materialized = instance.fetch_materializations(KEY, limit=99).records
    observed = instance.fetch_observations(KEY, limit=99).records
    storage = instance.event_log_storage
    checks = storage.get_asset_check_partition_info([dg.AssetCheckKey(KEY, "has_results")])
    latest = instance.get_latest_materialization_event(KEY)
    assert latest is not None
    assert latest.asset_materialization is not None
    return {
        "materialized": [
            (r.partition_key, r.asset_materialization.metadata["rows"].value, r.run_id)
            for r in materialized
            if r.asset_materialization is not None
        ],
        "partitions": instance.get_materialized_partitions(KEY),
        "latest": latest.asset_materialization.partition,
        "versions": storage.get_latest_tags_by_partition(
            KEY, dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
        ),
        "observed": [r.partition_key for r in observed],
        "checks": sorted((c.partition_key, c.latest_execution_status.value) for c in checks),
        "known": instance.has_asset_key(KEY),
    }


def test_a_batch_reads_like_single_events(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the batch was not taken")

    with monkeypatch.context() as patched:
        patched.setattr(adapter, "store_publicly", refuse)
        adapter.store(instance, events(3))
    batched = stored(instance)
    assert batched["partitions"] == {"v0", "v1", "v2"}
    assert batched["checks"] == [("v0", "SUCCEEDED"), ("v1", "FAILED"), ("v2", "SUCCEEDED")]
    again = dg.AssetCheckEvaluation(
        asset_key=KEY, check_name="has_results", passed=True, metadata={}, partition="v1"
    )
    adapter.store(instance, [again])
    assert ("v1", "SUCCEEDED") in stored(instance)["checks"]
    instance.wipe_assets([KEY])
    adapter.store_publicly(instance, events(3))
    single = stored(instance)
    assert batched == {**single, "checks": batched["checks"]}


def test_without_the_private_names_the_public_way_is_taken(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> bool:
        raise AttributeError("store_event_batch")

    monkeypatch.setattr(adapter, "_batched", gone)
    adapter.store(instance, events(2))
    assert stored(instance)["partitions"] == {"v0", "v1"}
    adapter.store(instance, events(2))
    assert stored(instance)["observed"] != []


def test_partitions_of_a_failed_run_count_as_failed_until_they_are_materialized(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.storage.partition_status_cache import (
        get_and_update_asset_status_cache_value,
    )

    partitions = dg.DynamicPartitionsDefinition(name="videos")
    instance.add_dynamic_partitions("videos", ["v0", "v1", "v2"])

    @dg.op
    def page(context: dg.OpExecutionContext) -> None:
        adapter.plan_failures(context, KEY, ["v0", "v1"])
        raise dg.Failure("two have no results")

    @dg.job
    def results() -> None:
        page()

    def red() -> set[str]:
        status = get_and_update_asset_status_cache_value(instance, KEY, partitions)
        assert status is not None
        subset = status.deserialize_failed_partition_subsets(partitions)
        return set(subset.get_partition_keys())

    adapter.store(instance, [dg.AssetMaterialization(KEY, partition="v0")])
    results.execute_in_process(instance=instance, raise_on_error=False)
    assert red() == {"v0", "v1"}
    adapter.store(instance, [dg.AssetMaterialization(KEY, partition="v1")])
    assert red() == {"v0"}
