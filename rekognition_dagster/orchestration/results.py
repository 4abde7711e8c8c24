"""The results assets: page a completed job's results into the lake, and check what was written."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

from collections.abc import Iterator
from datetime import datetime, timezone

import dagster as dg

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.errors import (
    ApiError,
    DelayedError,
    JobExpiredError,
    JobFailedError,
    RekognitionDagsterError,
    TransientError,
)
from rekognition_dagster.lake import TABLES, Lake
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.checks import check_results, results_checks
from rekognition_dagster.orchestration.metadata import column_schema, file_metadata
from rekognition_dagster.orchestration.names import (
    BATCH_SIZE,
    VIDEO_PARTITIONS,
    RekognitionVideoTranslator,
)
from rekognition_dagster.orchestration.resources import LakeResource, RekognitionVideoResource
from rekognition_dagster.videos import Video

_RETRIES = 3
_RETRY_AFTER_S = 30


def when_updated() -> dg.AutomationCondition:
    """Run a partition once one of its dependencies was updated.

    Unlike ``eager()`` it does not wait for dependencies that are missing (a summary of people need
    not wait for faces), and takes up only what is there already, for a run may leave some of its
    partitions undone.
    """
    updated = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated())
    return (updated.since_last_handled() & ~dg.AutomationCondition.in_progress()).with_label(
        "when_updated"
    )


def build_results_asset(
    operation: Operation, names: RekognitionVideoTranslator
) -> dg.AssetsDefinition:
    """The asset of an operation's table: a partition is a video's rows, in one Parquet file."""
    key = names.results(operation)

    @dg.asset(
        key=key,
        partitions_def=VIDEO_PARTITIONS,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        deps=[names.completion(operation)],
        automation_condition=when_updated(),
        group_name=names.group_name(operation.name),
        kinds={"rekognition", "parquet"},
        output_required=False,
        metadata={"dagster/column_schema": column_schema(operation.schema, operation.descriptions)},
        check_specs=results_checks(operation, key),
        description=f"{TABLES[operation.table].row.capitalize()}: the pages of "
        f"{operation.get_api}, as Parquet.",
    )
    def page(
        context: dg.AssetExecutionContext,
        rekognition: RekognitionVideoResource,
        lake: LakeResource,
    ) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
        yield from _page_results(context, rekognition.pager(), lake, operation, names)

    return page


def _page_results(
    context: dg.AssetExecutionContext,
    api: RekognitionVideo,
    lake_resource: LakeResource,
    operation: Operation,
    names: RekognitionVideoTranslator,
) -> Iterator[dg.AssetCheckResult]:
    instance, partitions = context.instance, context.partition_keys
    lake = lake_resource.open()
    key = names.results(operation)
    videos = events.videos(instance, names.video(), partitions)
    jobs = events.latest_events(instance, names.job(operation), partitions)
    completions = events.latest_events(instance, names.completion(operation), partitions)
    earlier = events.latest_events(instance, key, partitions)
    failures: dict[str, RekognitionDagsterError] = {}
    again: dict[str, ApiError] = {}
    done: list[Video] = []
    for partition in partitions:
        video = videos[partition]
        try:
            job_id, rows = _page_video(
                api, lake, operation, video, jobs.get(partition), completions.get(partition)
            )
        except (DelayedError, TransientError) as error:
            context.log.warning(str(error))
            again[partition] = error
            continue
        except RekognitionDagsterError as error:
            context.log.error(str(error))
            failures[partition] = error
            if isinstance(error, JobExpiredError):
                _give_up_job(context, operation, names, partition, completions.get(partition))
            continue
        done.append(video)
        path = lake.path(operation.table, video)
        before = earlier[partition].metadata if partition in earlier else {}
        if before.get("path", path) != path:
            lake.remove(str(before["path"]), video)  # the same video, formerly of another date
        if context.retry_number and before.get("job_id") == job_id:
            continue  # said by an earlier try of this run
        metadata = {**file_metadata(lake, path, rows), "job_id": job_id}
        context.log_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))
    if again and context.retry_number < _RETRIES:
        raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=_RETRY_AFTER_S)
    yield from check_results(lake, operation, key, done)
    lake_resource.refresh_catalogue()
    if failures or again:
        told = {**failures, **again}
        raise dg.Failure(
            f"{len(told)} of {len(partitions)} videos have no results: "
            + "; ".join(str(e) for e in list(told.values())[:20]),
            metadata={k: str(e) for k, e in list(told.items())[:50]},
            allow_retries=False,
        )


def _give_up_job(
    context: dg.AssetExecutionContext,
    operation: Operation,
    names: RekognitionVideoTranslator,
    partition: str,
    completion: events.Event | None,
) -> None:
    """Count a job whose results expired as FAILED, so that starting it again is a new attempt."""
    if completion is not None and completion.metadata["status"] != "FAILED":
        context.log_event(
            events.completion_event(
                names.completion(operation),
                partition,
                job_id=str(completion.metadata["job_id"]),
                status="FAILED",
                completed_at_ms=None,
            )
        )


def _page_video(
    api: RekognitionVideo,
    lake: Lake,
    operation: Operation,
    video: Video,
    job: events.Event | None,
    completion: events.Event | None,
) -> tuple[str, int]:
    """Write a video's rows; returns whose they are and how many. What the lake has of this job
    stays as it is."""
    latest = max(filter(None, (job, completion)), key=lambda e: e.storage_id, default=None)
    if latest is None:
        raise JobExpiredError(
            video.uri,
            "no job was started for it",
            f"Materialize {operation.name}_job first",
            code="NoJob",
        )
    job_id = str(latest.metadata["job_id"])
    written = lake.read_job(video, operation.name)
    if (
        written
        and written["job_id"] == job_id
        and written["status"] == "SUCCEEDED"
        and lake.has(operation.table, video)
    ):
        return job_id, int(written["rows"])
    own = job if job is not None and job.metadata.get("job_id") == job_id else None
    ended = completion.metadata.get("completed_at") if completion is not None else None
    facts = {
        "job_id": job_id,
        "token": own.metadata.get("token") if own else None,
        "started_at": _time(own.timestamp) if own else None,
        "completed_at": _time(ended),
        "backend": "rekognition",
    }
    video_metadata: dict[str, object] = {}
    try:
        with lake.writer(operation.table, video) as writer:
            for page in api.pages(operation, video, job_id):
                video_metadata = video_metadata or page.metadata
                writer.write(operation.to_lake(page.rows, video=video.uri, job_id=job_id))
    except (JobFailedError, JobExpiredError) as error:
        failed = {**facts, "status": "FAILED", "status_message": error.reason, "rows": 0}
        lake.write_job(video, operation.name, failed)
        raise
    lake.write_video(video, video_metadata)
    # Last, for it says that everything else of this job is there.
    lake.write_job(video, operation.name, {**facts, "status": "SUCCEEDED", "rows": writer.rows})
    return job_id, writer.rows


def _time(seconds: object) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(float(str(seconds)), timezone.utc)
