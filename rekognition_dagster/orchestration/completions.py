"""The sensor that takes completions off the queue. Results assets follow by themselves.

A tick that dies anywhere is simply repeated: what a message says is durable before it goes.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections import Counter
from collections.abc import Collection, Iterable

import dagster as dg

from rekognition_dagster.api import Completion, parse_completion
from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.orchestration.inbox import opened
from rekognition_dagster.orchestration.ledger import Entry
from rekognition_dagster.orchestration.resources import QueueResource
from rekognition_dagster.orchestration.standing import Books


def build_completion_sensor(books: Books) -> dg.SensorDefinition:
    """Turns messages on the queue into materializations of ``<operation>_completion``.

    A message is deleted once Dagster has its completion. A duplicate finds it there.
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
    ) -> dg.SkipReason:
        queue = completion_queue.queue()
        if queue is None:
            return dg.SkipReason("No queue is configured: set REKOGNITION_DAGSTER_QUEUE_URL")
        inbox = opened(queue, context.log, settings)
        received = entered = 0
        with inbox.reachable():
            for messages in inbox.taken(parse_completion):
                received += len(messages)
                ours = {m: c for m, c in messages if c.job_tag == settings.name}
                for message, completion in messages:
                    if message not in ours:
                        context.log.info(
                            f"Message {message.message_id} is of {completion.job_tag!r}: left"
                        )
                entered += enter_completions(context.instance, books, ours.values())
                inbox.delete(ours)
        if not received:
            return dg.SkipReason("No completions")
        return dg.SkipReason(f"{entered} new completions in {received} messages")

    return completions


def enter_completions(
    instance: dg.DagsterInstance, books: Books, completions: Iterable[Completion]
) -> int:
    """Enter those that are news to Dagster; how many they are. The rest is there already."""
    by_operation: dict[str, dict[str, Completion]] = {}
    for completion in completions:
        ours = by_operation.setdefault(completion.operation.name, {})
        ours[completion.job_id] = completion
    entered = 0
    for name, ended in by_operation.items():
        fresh = _news(instance, books, OPERATIONS[name], ended.values())
        entries = {c.video: _entry(c) for c in fresh}
        books.completions(OPERATIONS[name]).enter(instance, books.by_partition(entries))
        entered += len(fresh)
    return entered


def _entry(completion: Completion) -> Entry:
    ms = completion.timestamp_ms
    return {
        "at": time.time(),
        "job_id": completion.job_id,
        "status": completion.status,
        "completed_at": None if ms is None else ms / 1000,
    }


def _news(
    instance: dg.DagsterInstance,
    books: Books,
    operation: Operation,
    completions: Collection[Completion],
) -> list[Completion]:
    """Those that Dagster does not have, or not as the latest of their video; the one to be kept of
    each video last. A late completion of an earlier job than the one known is not news."""
    where = {c.job_id: books.partition_of(c.video) for c in completions}
    known = books.completions(operation).read(instance, set(where.values()))
    ambiguous = {p for p, count in Counter(where.values()).items() if count > 1}
    jobs = books.jobs(operation).read(instance, ambiguous | known.keys())
    news: list[tuple[bool, int, Completion]] = []
    for completion in completions:
        partition, key = where[completion.job_id], completion.video.partition_key
        ended, job = (
            ledgers[partition].entries.get(key) if partition in ledgers else None
            for ledgers in (known, jobs)
        )
        current = None if job is None else job["job_id"]
        if ended is None or ended["job_id"] not in (completion.job_id, current):
            order = completion.job_id == current, completion.timestamp_ms or 0
            news.append((*order, completion))
    return [completion for *_, completion in sorted(news, key=lambda n: n[:2])]
