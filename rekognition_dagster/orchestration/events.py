"""Where each video stands, read from Dagster's own events and from nowhere else.

A video is discovered (``video`` materialized), started (``<operation>_job`` materialized, or
observed as refused), completed (``<operation>_completion``) and analysed (the results table). What
came later has the larger storage id; comparing ids says what is still to do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.names import (
    RekognitionVideoTranslator,
    is_on_s3,
)
from rekognition_dagster.videos import Video

_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
_OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION
_VERSION_TAG = "dagster/data_version"
_VERSION_IS_OURS_TAG = "dagster/data_version_is_user_provided"


@dataclass(frozen=True)
class Event:
    """The latest materialization of one partition of an asset: its order and its metadata."""

    storage_id: int
    timestamp: float
    metadata: Mapping[str, Any]


def latest_ids(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Collection[str] | None = None
) -> Mapping[str, int]:
    """The storage id of each partition's latest materialization; one query."""
    if partitions is not None and not partitions:
        return {}  # Dagster takes an empty set for all of them
    wanted = None if partitions is None else set(partitions)
    return instance.get_latest_storage_id_by_partition(key, _MATERIALIZED, wanted)


def latest_events(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Collection[str]
) -> dict[str, Event]:
    """Each partition's latest materialization with its metadata; two queries."""
    ids = latest_ids(instance, key, partitions)
    if not ids:
        return {}
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, storage_ids=list(ids.values())), limit=len(ids)
    )
    return {
        record.partition_key: Event(
            record.storage_id,
            record.timestamp,
            {k: v.value for k, v in record.asset_materialization.metadata.items()},
        )
        for record in found.records
        if record.partition_key is not None and record.asset_materialization is not None
    }


def discovered(key: dg.AssetKey, video: Video) -> dg.AssetMaterialization:
    """The event that says: this version of the object is there."""
    facts = {
        "uri": dg.MetadataValue.text(video.uri),
        "etag": video.etag,
        "version_id": video.version_id,
        "size": video.size,
        "last_modified": dg.MetadataValue.timestamp(video.last_modified.timestamp())
        if video.last_modified
        else None,
    }
    return dg.AssetMaterialization(
        key,
        partition=video.partition_key,
        metadata={k: v for k, v in facts.items() if v is not None},
        tags=_version_tags(video.version or "unknown"),
    )


def _version_tags(version: str) -> dict[str, str]:
    return {_VERSION_TAG: version, _VERSION_IS_OURS_TAG: "true"}


def known_versions(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Collection[str] | None = None
) -> dict[str, str]:
    """The data version that each partition was last materialized with; one query."""
    if partitions is not None and not partitions:
        return {}
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        key, _MATERIALIZED, [_VERSION_TAG], None if partitions is None else list(partitions)
    )
    return {k: t[_VERSION_TAG] for k, t in tags.items() if _VERSION_TAG in t}


def videos(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Collection[str]
) -> dict[str, Video]:
    """The videos of some partitions, with what discovery learned of them."""
    events = latest_events(instance, key, partitions)
    return {k: _video(k, events[k].metadata if k in events else {}) for k in partitions}


def _video(partition_key: str, metadata: Mapping[str, Any]) -> Video:
    seconds = metadata.get("last_modified")
    return Video.from_partition_key(
        partition_key,
        etag=metadata.get("etag"),
        version_id=metadata.get("version_id"),
        size=metadata.get("size"),
        last_modified=None
        if seconds is None
        else datetime.fromtimestamp(float(seconds), timezone.utc),
    )


def job_event(
    key: dg.AssetKey, partition_key: str, *, job_id: str, token: str, attempt: int, version: str
) -> dg.AssetMaterialization:
    """The event that says: a job runs for this version of the video."""
    return dg.AssetMaterialization(
        key,
        partition=partition_key,
        metadata={"job_id": job_id, "token": token, "attempt": attempt, "version": version},
    )


def completion_event(
    key: dg.AssetKey, partition_key: str, *, job_id: str, status: str, completed_at_ms: int | None
) -> dg.AssetMaterialization:
    """The event that says: the job has ended, well or not. Its data version is which and how."""
    metadata: dict[str, Any] = {"job_id": job_id, "status": status}
    if completed_at_ms is not None:
        metadata["completed_at"] = dg.MetadataValue.timestamp(completed_at_ms / 1000)
    return dg.AssetMaterialization(
        key,
        partition=partition_key,
        metadata=metadata,
        tags=_version_tags(f"{job_id}:{status}"),
    )


@dataclass(frozen=True)
class Standing:
    """Where an operation stands: partition keys, in the order of discovery.

    Args:
        waiting: To be started.
        in_flight: Started and not completed.
        failed: Completed as FAILED, or refused, for the version that is there now.
        unpaged: Completed as SUCCEEDED, and without results yet.
        analysed: How many have results for the version that is there now.
    """

    waiting: list[str]
    in_flight: list[str]
    failed: list[str]
    unpaged: list[str]
    analysed: int


def standing(
    instance: dg.DagsterInstance,
    operation: Operation,
    names: RekognitionVideoTranslator,
    *,
    on_arrival: bool,
    max_attempts: int,
) -> Standing:
    """Where every video stands for an operation; a handful of queries, however many videos.

    Args:
        on_arrival: Whether a video waits from its discovery on, or only from the nightly batch
            that follows it.
        max_attempts: A job that FAILED waits again after a nightly batch, up to so many attempts.
    """
    found = latest_ids(instance, names.video())
    started = latest_ids(instance, names.job(operation))
    completed = latest_ids(instance, names.completion(operation))
    results = latest_ids(instance, names.results(operation))
    refused = instance.get_latest_storage_id_by_partition(names.job(operation), _OBSERVED)
    outcomes = known_versions(instance, names.completion(operation))
    batches = instance.fetch_materializations(names.nightly_batch(), limit=1).records
    batch_id = batches[0].storage_id if batches else 0
    waiting: list[str] = []
    in_flight: list[str] = []
    failed: list[str] = []
    unpaged: list[str] = []
    analysed = 0
    for key, seen in sorted(found.items(), key=lambda item: item[1]):
        start, end = started.get(key, 0), completed.get(key, 0)
        if results.get(key, 0) > max(seen, start):
            analysed += 1
        elif start < seen:
            if refused.get(key, 0) > seen:
                failed.append(key)
                if batch_id > refused[key]:
                    waiting.append(key)
            elif (on_arrival or batch_id > seen) and is_on_s3(key):
                waiting.append(key)
        elif end < start:
            in_flight.append(key)
        elif outcomes.get(key, "").endswith(":FAILED"):
            failed.append(key)
            if batch_id > end:
                waiting.append(key)
        else:
            unpaged.append(key)
    if again := set(waiting) & set(failed):
        attempts = latest_events(instance, names.job(operation), again)
        spent = {k for k, e in attempts.items() if e.metadata.get("attempt", 1) >= max_attempts}
        waiting = [k for k in waiting if k not in spent]
    return Standing(waiting, in_flight, failed, unpaged, analysed)
