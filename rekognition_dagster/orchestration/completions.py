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
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.orchestration import events
from rekognition_dagster.orchestration.names import TICK_S, RekognitionVideoTranslator
from rekognition_dagster.orchestration.resources import CompletionQueueResource, said
from rekognition_dagster.orchestration.settings import Settings

MOST_COMPLETIONS = 200
"""Messages that one tick takes at most."""


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
            deleted = _delete_durable(context, queue, names)
            received = _receive(queue, visibility_s=max(120, 4 * settings.sensor_interval))
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
    while len(received) < MOST_COMPLETIONS and time.monotonic() - started < TICK_S:
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
