"""The sensor that takes completions off the queue. Results assets follow by themselves.

A tick that dies anywhere is simply repeated: what it reports is durable before a message goes.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Collection, Sequence
from functools import partial

import dagster as dg

from rekognition_dagster.api import Completion, parse_completion
from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.orchestration.inbox import Fact, Reported, dumped, loaded, opened
from rekognition_dagster.orchestration.ledger import Entry
from rekognition_dagster.orchestration.resources import QueueResource
from rekognition_dagster.orchestration.standing import Books
from rekognition_dagster.videos import Video


def build_completion_sensor(books: Books) -> dg.SensorDefinition:
    """Turns messages on the queue into materializations of ``<operation>_completion``.

    A message is deleted on a later tick than the one that reported it, and only when Dagster has
    the completion: its cursor holds what was reported. A duplicate finds its completion there.
    """
    settings = books.settings

    @dg.sensor(
        name="completions",
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description="Takes completions off the SQS queue; results assets follow by themselves.",
    )
    def completions(
        context: dg.SensorEvaluationContext, completion_queue: QueueResource
    ) -> dg.SensorResult | dg.SkipReason:
        queue = completion_queue.queue()
        if queue is None:
            return dg.SkipReason("No queue is configured: set REKOGNITION_DAGSTER_QUEUE_URL")
        inbox = opened(queue, context.log, settings)
        unknown = partial(_not_yet_known, context.instance, books)
        with inbox.reachable():
            deleted = inbox.clear(loaded(json.loads(context.cursor or "[]")), unknown)
            received = inbox.take(_parse)
        fresh: dict[Fact, Completion] = {}
        reported: list[Reported] = []
        for message, (fact, completion) in received:
            if completion.job_tag != settings.name:
                context.log.info(f"Message {message.message_id} is of {completion.job_tag!r}: left")
                continue
            fresh.setdefault(fact, completion)
            reported.append(Reported(message.receipt_handle, (fact,)))
        if not fresh and not deleted and not context.cursor:
            return dg.SkipReason("No completions")
        new = unknown(fresh)
        context.log.info(f"{len(received)} messages, {len(new)} new completions, {deleted} deleted")
        return dg.SensorResult(
            asset_events=completion_events(
                context.instance, books, [c for fact, c in fresh.items() if fact in new]
            ),
            cursor=json.dumps(dumped(reported)) if reported else "",
        )

    return completions


def _parse(body: str) -> tuple[Fact, Completion]:
    completion = parse_completion(body)
    return (
        completion.operation.name,
        completion.video.partition_key,
        completion.job_id,
    ), completion


def completion_events(
    instance: dg.DagsterInstance, books: Books, completions: Sequence[Completion]
) -> list[dg.AssetMaterialization]:
    """The events that say so: these jobs have ended."""
    ended: dict[Operation, dict[Video, Entry]] = {}
    for completion in completions:
        entry = {
            "at": time.time(),
            "job_id": completion.job_id,
            "status": completion.status,
            "completed_at": None
            if completion.timestamp_ms is None
            else completion.timestamp_ms / 1000,
        }
        ended.setdefault(completion.operation, {})[completion.video] = entry
    return [
        event
        for operation, entries in ended.items()
        for event in books.completions(operation).entered(instance, books.by_partition(entries))
    ]


def _not_yet_known(
    instance: dg.DagsterInstance, books: Books, asked: Collection[Fact]
) -> set[Fact]:
    """Those of (operation, video, job id) whose completion Dagster does not have, or not as the
    latest of its video. A late completion of an earlier job than the one known is not news."""
    unknown: set[Fact] = set()
    for name in {operation for operation, _, _ in asked}:
        operation = OPERATIONS[name]
        videos = {v for o, v, _ in asked if o == name}
        where = {v: books.partition_of(Video.from_partition_key(v)) for v in videos}
        known = books.completions(operation).read(instance, set(where.values()))
        jobs = books.jobs(operation).read(instance, set(where.values()))
        for _, video, job_id in (a for a in asked if a[0] == name):
            ended, job = (
                ledgers[where[video]].entries.get(video) if where[video] in ledgers else None
                for ledgers in (known, jobs)
            )
            if ended is not None and ended["job_id"] == job_id:
                continue
            is_current = job is not None and ended is not None and ended["job_id"] == job["job_id"]
            if not is_current:
                unknown.add((name, video, job_id))
    return unknown
