"""The sensor that takes completions off the queue. Results assets follow by themselves.

A tick that dies anywhere is simply repeated: what it reports is durable before a message goes.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.api import MalformedMessageError, Message, parse_completion
from rekognition_dagster.api.notifications import Completion, CompletionQueue
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.orchestration.ledger import Entry
from rekognition_dagster.orchestration.names import TICK_S
from rekognition_dagster.orchestration.resources import CompletionQueueResource, said
from rekognition_dagster.orchestration.standing import Books
from rekognition_dagster.videos import Video

MOST_COMPLETIONS = 200
"""Messages that one tick takes at most."""


@dataclass(frozen=True)
class _Reported:
    """A message whose completion was given to Dagster, to be deleted once it is durable there."""

    receipt_handle: str
    operation: str
    video: str
    job_id: str


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
        context: dg.SensorEvaluationContext, completion_queue: CompletionQueueResource
    ) -> dg.SensorResult | dg.SkipReason:
        queue = completion_queue.queue()
        if queue is None:
            return dg.SkipReason("No queue is configured: set REKOGNITION_DAGSTER_QUEUE_URL")
        try:
            deleted = _delete_durable(context, queue, books)
            received = _receive(
                queue, visibility_s=max(settings.visibility_seconds, 4 * settings.sensor_interval)
            )
        except (ClientError, BotoCoreError) as error:
            raise ConfigurationError(
                f"cannot read the queue {queue.url}: {said(error)}. Check its URL, region and "
                "endpoint, and that these credentials have sqs:ReceiveMessage and "
                "sqs:DeleteMessage on it (`rekognition-dagster provision` makes a queue)"
            ) from error
        fresh: dict[tuple[str, str, str], tuple[Completion, list[Message]]] = {}
        for message in received:
            try:
                completion = parse_completion(message.body)
                video = completion.video.partition_key
            except MalformedMessageError as error:
                _bury(context, queue, message, str(error))
                continue
            if completion.job_tag != settings.name:
                context.log.info(f"Message {message.message_id} is of {completion.job_tag!r}: left")
                continue
            same = (completion.operation.name, video, completion.job_id)
            fresh.setdefault(same, (completion, []))[1].append(message)
        if not fresh and not deleted and not context.cursor:
            return dg.SkipReason("No completions")
        new = _not_yet_known(context.instance, books, list(fresh))
        context.log.info(f"{len(received)} messages, {len(new)} new completions, {deleted} deleted")
        return dg.SensorResult(
            asset_events=completion_events(
                context.instance, books, [c for same, (c, _) in fresh.items() if same in new]
            ),
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
    while len(received) < MOST_COMPLETIONS and time.monotonic() - started < TICK_S:
        messages = queue.receive(visibility_s=visibility_s)
        if not messages:
            break
        received += messages
    return received


def _delete_durable(
    context: dg.SensorEvaluationContext,
    queue: CompletionQueue,
    books: Books,
) -> int:
    """Delete what earlier ticks reported and Dagster has; the rest becomes visible again."""
    reported = [_Reported(**r) for r in json.loads(context.cursor or "[]")]
    asked = [(r.operation, r.video, r.job_id) for r in reported]
    missing = _not_yet_known(context.instance, books, asked)
    durable = [r for r, same in zip(reported, asked, strict=True) if same not in missing]
    for reason in queue.delete(r.receipt_handle for r in durable):
        context.log.warning(f"A message was not deleted and will come back: {reason}")
    return len(durable)


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
    instance: dg.DagsterInstance, books: Books, asked: Sequence[tuple[str, str, str]]
) -> set[tuple[str, str, str]]:
    """Those of (operation, video, job id) whose completion Dagster does not have, or not as the
    latest of its video. A late completion of an earlier job than the one known is not news."""
    unknown: set[tuple[str, str, str]] = set()
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
