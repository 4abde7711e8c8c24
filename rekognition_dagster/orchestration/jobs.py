"""The job assets: materializing one starts (or finds again) the job for each of its videos."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

from collections.abc import Collection, Iterator, Sequence

import dagster as dg

from rekognition_dagster.errors import ApiError, DelayedError, TransientError
from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.names import (
    BATCH_SIZE,
    VIDEO_PARTITIONS,
    RekognitionVideoTranslator,
)
from rekognition_dagster.orchestration.resources import RekognitionVideoResource
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.videos import Video


def build_job_asset(
    operation: Operation, settings: Settings, names: RekognitionVideoTranslator
) -> dg.AssetsDefinition:
    """The asset ``<operation>_job``: a partition is materialized once its job runs.

    A video for which no slot or rate is left stays unmaterialized and is asked again by the
    dispatch sensor; one that the service refuses fails, and the others of its run go on.
    """

    @dg.asset(
        key=names.job(operation),
        partitions_def=VIDEO_PARTITIONS,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=BATCH_SIZE),
        deps=[names.video()],
        group_name=names.group_name(operation.name),
        kinds={"rekognition"},
        output_required=False,
        description=f"A {operation.start_api} job, started for the version of the video that is "
        "there. Materialize it again to retry a job that FAILED.",
    )
    def start(
        context: dg.AssetExecutionContext, rekognition: RekognitionVideoResource
    ) -> Iterator[dg.Output[None]]:
        _start_jobs(context, rekognition, operation, settings, names)
        yield from ()

    return start


def _start_jobs(
    context: dg.AssetExecutionContext,
    rekognition: RekognitionVideoResource,
    operation: Operation,
    settings: Settings,
    names: RekognitionVideoTranslator,
) -> None:
    instance, partitions = context.instance, context.partition_keys
    key = names.job(operation)
    api = rekognition.starter()
    videos = events.videos(instance, names.video(), partitions)
    earlier = events.latest_events(instance, key, partitions)
    completions = events.latest_events(instance, names.completion(operation), partitions)
    free = settings.max_jobs_in_flight - count_in_flight(instance, settings, names, partitions)
    refused: dict[str, ApiError] = {}
    started: list[str] = []
    delayed: list[str] = []
    for position, partition in enumerate(partitions):
        if len(started) >= free:
            delayed += partitions[position:]
            break
        video = videos[partition]
        attempt = _attempt(video, earlier.get(partition), completions.get(partition))
        try:
            job = api.start(operation, video, attempt=attempt)
        except DelayedError as error:
            # The quota or the rate is used up for every video, so asking for the rest is no use.
            context.log.info(str(error))
            delayed += partitions[position:]
            break
        except TransientError as error:
            context.log.warning(str(error))
            delayed.append(partition)
            continue
        except ApiError as error:
            context.log.error(str(error))
            refused[partition] = error
            context.log_event(
                dg.AssetObservation(
                    key, partition=partition, metadata={"refused": str(error), "code": error.code}
                )
            )
            continue
        context.log_event(
            events.job_event(
                key,
                partition,
                job_id=job.job_id,
                token=job.token,
                attempt=attempt,
                version=video.version,
            )
        )
        started.append(partition)
    _repeat_completions(context, operation, names, started)
    context.log.info(
        f"{operation.start_api}: {len(started)} started, {len(delayed)} delayed until slots are "
        f"free, {len(refused)} refused"
    )
    if refused:
        raise dg.Failure(
            f"{len(refused)} of {len(partitions)} videos were refused: "
            + "; ".join(str(e) for e in list(refused.values())[:20]),
            metadata={k: str(e) for k, e in list(refused.items())[:50]},
            allow_retries=False,
        )


def count_in_flight(
    instance: dg.DagsterInstance,
    settings: Settings,
    names: RekognitionVideoTranslator,
    without: Collection[str] = (),
) -> int:
    """Jobs in flight over all operations, for they share one quota.

    Args:
        without: Partitions that are about to be started (again) and so take no further slot.
    """
    count = 0
    for operation in settings.operation_list:
        started = events.latest_ids(instance, names.job(operation))
        completed = events.latest_ids(instance, names.completion(operation))
        count += sum(
            1 for k, s in started.items() if completed.get(k, 0) < s and k not in set(without)
        )
    return count


def _attempt(video: Video, job: events.Event | None, completion: events.Event | None) -> int:
    """Which attempt this is: one more than the last where that FAILED for this same version."""
    if job is None or job.metadata.get("version") != video.version:
        return 1
    attempt = int(job.metadata.get("attempt", 1))
    failed = (
        completion is not None
        and completion.metadata.get("job_id") == job.metadata.get("job_id")
        and completion.metadata.get("status") == "FAILED"
    )
    return attempt + 1 if failed else attempt


def _repeat_completions(
    context: dg.AssetExecutionContext,
    operation: Operation,
    names: RekognitionVideoTranslator,
    started: Sequence[str],
) -> None:
    """Say again that a job has ended, where its completion is older than its start.

    That is so when the service knew the work already, or when a run died between starting the job
    and saying so. Looked up after the start is durable: what ends later is in order by itself.
    """
    jobs = events.latest_events(context.instance, names.job(operation), started)
    ended = events.latest_events(context.instance, names.completion(operation), started)
    for partition, end in ended.items():
        job = jobs[partition]
        if end.metadata["job_id"] == job.metadata["job_id"] and end.storage_id < job.storage_id:
            seconds = end.metadata.get("completed_at")
            context.log_event(
                events.completion_event(
                    names.completion(operation),
                    partition,
                    job_id=end.metadata["job_id"],
                    status=end.metadata["status"],
                    completed_at_ms=None if seconds is None else round(float(seconds) * 1000),
                )
            )
