"""Sensors: discover videos, dispatch their jobs within the quota, take completions off the queue.

A tick that dies anywhere is simply repeated: what a sensor reports is durable before it moves on.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.api import MalformedMessageError, Message, parse_completion
from rekognition_dagster.api.notifications import Completion, CompletionQueue
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.jobs import count_in_flight
from rekognition_dagster.orchestration.names import (
    BATCH_SIZE,
    START_TAG,
    VIDEO_PARTITIONS,
    RekognitionVideoTranslator,
)
from rekognition_dagster.orchestration.resources import (
    CompletionQueueResource,
    VideoBucketResource,
)
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.videos import Video, is_video_key

TICK_S = 15.0
"""A tick stops taking up work after so long; Dagster's own limit is 60 s."""
MOST_DISCOVERED = 1000
"""Videos that one tick reports at most, for each is an event to write."""
_ADD_AT_ONCE = 400  # partitions per request: SQLite has a limit on variables in a statement
_MOST_COMPLETIONS = 200
_STALE_RUN_S = 900  # a run that said nothing for so long does not hold up the next one


def _status(settings: Settings) -> dg.DefaultSensorStatus:
    running = settings.sensors == "running"
    return dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED


# -- discovery ------------------------------------------------------------------------------------


def build_discovery_sensor(
    settings: Settings, names: RekognitionVideoTranslator
) -> dg.SensorDefinition:
    """Lists the bucket under the prefix, over and over; reports videos that are new or changed.

    The cursor is the last key looked at, so a listing of any length goes on where it stopped. What
    is known already is asked of Dagster, not remembered: an upload that began before the last
    listing and ended after it is found all the same.
    """

    @dg.sensor(
        name="video_discovery",
        minimum_interval_seconds=settings.sensor_interval,
        default_status=_status(settings),
        description="Finds new and changed videos in the bucket and adds a partition for each.",
    )
    def discover(
        context: dg.SensorEvaluationContext, video_bucket: VideoBucketResource
    ) -> dg.SensorResult | dg.SkipReason:
        if not video_bucket.bucket:
            return dg.SkipReason("No bucket is configured: set REKOGNITION_DAGSTER_BUCKET")
        started = time.monotonic()
        found: dict[str, Video] = {}
        cursor = context.cursor or ""
        pages = _listing(video_bucket, start_after=cursor)
        looked_at = 0
        for page in pages:
            fresh = _new_or_changed(context.instance, names, page)
            found |= {v.partition_key: v for v in fresh}
            looked_at += len(page.keys)
            cursor = page.last_key if page.more else ""
            if len(found) >= MOST_DISCOVERED or time.monotonic() - started > TICK_S:
                break
        if not found and cursor == (context.cursor or ""):
            return dg.SkipReason(
                f"No new video among {looked_at} keys under {_where(video_bucket)}"
            )
        keys = list(found)
        context.log.info(f"{len(keys)} new or changed videos under {_where(video_bucket)}")
        return dg.SensorResult(
            cursor=cursor,
            asset_events=[events.discovered(names.video(), v) for v in found.values()],
            dynamic_partitions_requests=[
                VIDEO_PARTITIONS.build_add_request(keys[i : i + _ADD_AT_ONCE])
                for i in range(0, len(keys), _ADD_AT_ONCE)
            ],
        )

    return discover


@dataclass(frozen=True)
class _ListingPage:
    keys: list[Mapping[str, Any]]
    last_key: str
    more: bool
    bucket: str


def _said(error: Exception) -> str:
    return str(error).rstrip(".")


def _where(bucket: VideoBucketResource) -> str:
    return f"s3://{bucket.bucket}/{bucket.prefix}"


def _listing(bucket: VideoBucketResource, start_after: str) -> Iterator[_ListingPage]:
    assert bucket.bucket is not None
    client = bucket.client()
    request: dict[str, Any] = {"Bucket": bucket.bucket, "Prefix": bucket.prefix}
    if start_after:
        request["StartAfter"] = start_after
    while True:
        try:
            response = client.list_objects_v2(**request)
        except (ClientError, BotoCoreError) as error:
            raise ConfigurationError(
                f"cannot list {_where(bucket)}: {_said(error)}. Check the bucket's name, region "
                "and endpoint, and that these credentials have s3:ListBucket on it"
            ) from error
        contents = response.get("Contents", [])
        if not contents:
            return
        last = contents[-1]["Key"]
        yield _ListingPage(contents, last, response["IsTruncated"], bucket.bucket)
        if not response["IsTruncated"]:
            return
        request = {"Bucket": bucket.bucket, "Prefix": bucket.prefix, "StartAfter": last}


def _new_or_changed(
    instance: dg.DagsterInstance, names: RekognitionVideoTranslator, page: _ListingPage
) -> list[Video]:
    videos = [
        Video(
            page.bucket,
            entry["Key"],
            etag=entry["ETag"].strip('"'),
            size=entry["Size"],
            last_modified=entry["LastModified"],
        )
        for entry in page.keys
        if is_video_key(entry["Key"])
    ]
    known = events.known_versions(instance, names.video(), [v.partition_key for v in videos])
    return [v for v in videos if known.get(v.partition_key) != v.version]


# -- dispatch -------------------------------------------------------------------------------------


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
        default_status=_status(settings),
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
                _run_request(names.job(OPERATIONS[name]), name, first, last)
                for name, keys in chosen.items()
                for first, last in ranges(keys, order)
            ]
        )

    return dispatch


def _starting(instance: dg.DagsterInstance) -> str | None:
    """A run that the dispatch sensor launched and that is not over."""
    records = instance.get_run_records(
        dg.RunsFilter(tags={START_TAG: list(OPERATIONS)}, statuses=_NOT_OVER), limit=20
    )
    fresh = (r for r in records if time.time() - r.update_timestamp.timestamp() < _STALE_RUN_S)
    return next((r.dagster_run.run_id for r in fresh), None)


_NOT_OVER = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _run_request(key: dg.AssetKey, operation: str, first: str, last: str) -> dg.RunRequest:
    tags = {START_TAG: operation}
    if first == last:
        return dg.RunRequest(asset_selection=[key], partition_key=first, tags=tags)
    span = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    return dg.RunRequest(asset_selection=[key], tags={**tags, **span})


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


# -- completions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reported:
    """A message whose completion was given to Dagster, to be deleted once it is durable there."""

    receipt_handle: str
    operation: str
    partition: str
    job_id: str


def build_completion_sensor(
    settings: Settings, names: RekognitionVideoTranslator
) -> dg.SensorDefinition:
    """Turns messages on the queue into materializations of ``<operation>_completion``.

    A message is deleted on a later tick than the one that reported it, and only when Dagster has
    the completion: its cursor holds what was reported. A duplicate finds its completion there.
    """

    @dg.sensor(
        name="completions",
        minimum_interval_seconds=settings.sensor_interval,
        default_status=_status(settings),
        description="Takes completions off the SQS queue; results assets follow by themselves.",
    )
    def completions(
        context: dg.SensorEvaluationContext, completion_queue: CompletionQueueResource
    ) -> dg.SensorResult | dg.SkipReason:
        queue = completion_queue.queue()
        if queue is None:
            return dg.SkipReason("No queue is configured: set REKOGNITION_DAGSTER_QUEUE_URL")
        try:
            deleted = _delete_durable(context, queue, names)
            received = _receive(queue, visibility_s=max(120, 4 * settings.sensor_interval))
        except (ClientError, BotoCoreError) as error:
            raise ConfigurationError(
                f"cannot read the queue {queue.url}: {_said(error)}. Check its URL, region and "
                "endpoint, and that these credentials have sqs:ReceiveMessage and "
                "sqs:DeleteMessage on it (`rekognition-dagster provision` makes a queue)"
            ) from error
        fresh: dict[tuple[str, str, str], tuple[Completion, list[Message]]] = {}
        for message in received:
            try:
                completion = parse_completion(message.body)
                partition = completion.video.partition_key
            except MalformedMessageError as error:
                _bury(context, queue, message, str(error))
                continue
            if completion.job_tag != settings.name:
                context.log.info(f"Message {message.message_id} is of {completion.job_tag!r}: left")
                continue
            same = (completion.operation.name, partition, completion.job_id)
            fresh.setdefault(same, (completion, []))[1].append(message)
        if not fresh and not deleted and not context.cursor:
            return dg.SkipReason("No completions")
        new = _not_yet_known(context.instance, names, list(fresh))
        context.log.info(f"{len(received)} messages, {len(new)} new completions, {deleted} deleted")
        return dg.SensorResult(
            asset_events=[
                events.completion_event(
                    names.completion(completion.operation),
                    completion.video.partition_key,
                    job_id=completion.job_id,
                    status=completion.status,
                    completed_at_ms=completion.timestamp_ms,
                )
                for same, (completion, _) in fresh.items()
                if same in new
            ],
            cursor=json.dumps(
                [
                    asdict(_Reported(m.receipt_handle, *same))
                    for same, (_, messages) in fresh.items()
                    for m in messages
                ]
            )
            if fresh
            else "",
        )

    return completions


def _receive(queue: CompletionQueue, visibility_s: int) -> list[Message]:
    """Messages, hidden from others for longer than this tick and the wait for the next take."""
    started, received = time.monotonic(), []
    while len(received) < _MOST_COMPLETIONS and time.monotonic() - started < TICK_S:
        messages = queue.receive(visibility_s=visibility_s)
        if not messages:
            break
        received += messages
    return received


def _delete_durable(
    context: dg.SensorEvaluationContext,
    queue: CompletionQueue,
    names: RekognitionVideoTranslator,
) -> int:
    """Delete what earlier ticks reported and Dagster has; the rest becomes visible again."""
    reported = [_Reported(**r) for r in json.loads(context.cursor or "[]")]
    asked = [(r.operation, r.partition, r.job_id) for r in reported]
    missing = _not_yet_known(context.instance, names, asked)
    durable = [r for r, same in zip(reported, asked, strict=True) if same not in missing]
    for reason in queue.delete(r.receipt_handle for r in durable):
        context.log.warning(f"A message was not deleted and will come back: {reason}")
    return len(durable)


def _not_yet_known(
    instance: dg.DagsterInstance,
    names: RekognitionVideoTranslator,
    asked: Sequence[tuple[str, str, str]],
) -> set[tuple[str, str, str]]:
    """Those of (operation, partition, job id) whose completion Dagster does not have, or not as the
    latest of its partition. A late completion of an earlier job than the one known is not news."""
    unknown: set[tuple[str, str, str]] = set()
    for name in {operation for operation, _, _ in asked}:
        operation = OPERATIONS[name]
        partitions = {p for o, p, _ in asked if o == name}
        known = events.latest_events(instance, names.completion(operation), partitions)
        jobs = events.latest_events(instance, names.job(operation), partitions)
        for _, partition, job_id in (a for a in asked if a[0] == name):
            ended, job = known.get(partition), jobs.get(partition)
            if ended is not None and ended.metadata["job_id"] == job_id:
                continue
            current = (
                job is not None
                and ended is not None
                and (ended.metadata["job_id"] == job.metadata["job_id"])
            )
            if not current:
                unknown.add((name, partition, job_id))
    return unknown


def _bury(
    context: dg.SensorEvaluationContext, queue: CompletionQueue, message: Message, reason: str
) -> None:
    if queue.bury(message, reason):
        context.log.error(f"Message {message.message_id} went to the dead-letter queue: {reason}")
    else:
        context.log.error(
            f"Message {message.message_id} is malformed ({reason}) and stays, for {queue.url} has "
            "no dead-letter queue; `rekognition-dagster provision` makes one"
        )
