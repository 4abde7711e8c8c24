"""The sensor that takes completions off the queue.

A tick that dies anywhere is simply repeated: what a message says is durable before it goes.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time

import dagster as dg

from rekognition_dagster.api import Completion, parse_completion
from rekognition_dagster.api.inbox import Inbox
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.names import TICK_S, Deployment
from rekognition_dagster.state.jobs import Ending, complete


def build_completion_sensor(deployment: Deployment) -> dg.SensorDefinition:
    """Enters what the messages on the queue say of jobs that have ended.

    A message is deleted once the state has its completion. A duplicate finds it there; one of a
    job that is not known yet is kept until its start is entered.
    """
    settings = deployment.settings

    @dg.sensor(
        name=deployment.scoped("completions"),
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        required_resource_keys=deployment.needs("completion_queue"),
        description="Takes completions off the SQS queue.",
    )
    def completions(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        queue = deployment.resource(context, "completion_queue").queue()
        if queue is None:
            return dg.SkipReason("No queue is configured: set REKOGNITION_DAGSTER_QUEUE_URL")
        state = deployment.state(context.instance)
        inbox = Inbox(queue, context.log, settings.visibility_seconds)
        received = entered = 0
        foreign: dict[str | None, int] = {}
        with inbox.reachable():
            for messages in inbox.take(parse_completion, time.monotonic() + TICK_S):
                ours = {m: c for m, c in messages if c.job_tag == settings.name}
                with state.write() as connection:
                    entered += complete(
                        connection, [_ending(c) for c in ours.values()], time.time()
                    )
                inbox.delete(ours)
                received += len(messages)
                for tag in (c.job_tag for m, c in messages if m not in ours):
                    foreign[tag] = foreign.get(tag, 0) + 1
        if foreign:  # once all of ours are entered
            others = ", ".join(f"{n} of {tag!r}" for tag, n in foreign.items())
            raise ConfigurationError(
                f"the queue {queue.url} has completions of other deployments: {others}; this one "
                f"is {settings.name!r}. They stay on the queue. Give each deployment its own: "
                f"`rekognition-dagster provision --name {settings.name}` makes one that gets no "
                "others"
            )
        if not received:
            return dg.SkipReason("No completions")
        text = f"{entered} new completions in {received} messages"
        context.log.info(text)
        return dg.SkipReason(text)

    return completions


def _ending(completion: Completion) -> Ending:
    at = completion.timestamp_ms
    return Ending(completion.job_id, completion.status, None if at is None else at / 1000)
