"""Announce completions again that the local queue lost when the stack ended.

A real queue keeps its messages for days; moto's keeps them until its process ends. So a start looks
for jobs that the pipeline has in progress and the service has finished, and announces those again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rekognition_dagster.operations import Operation
from rekognition_dagster.service.store import IN_PROGRESS, JobStore, completion_message
from rekognition_dagster.state import State
from rekognition_dagster.state.jobs import overdue


def announce_again(
    state: State, store: JobStore, sns: Any, topic_arn: str, operations: Sequence[Operation]
) -> list[str]:
    """Publish the completions that the pipeline has missed; a duplicate would change nothing.

    The service itself announces a job that it has not finished yet.

    Args:
        state: The pipeline's.
        store: The service's jobs.
        sns: boto3's client of SNS.
        topic_arn: Where completions go.
        operations: Those that run.

    Returns:
        The ids of the jobs that were announced.
    """
    announced: list[str] = []
    with state.read() as connection:
        waiting = overdue(connection, [o.name for o in operations], float("inf"), 0.0, 10**6)
    for entry in waiting:
        job = store.job(entry["job_id"])
        if job is None or job.status == IN_PROGRESS or job.completed_at is None:
            continue
        message = completion_message(job, job.status, job.completed_at)
        sns.publish(TopicArn=topic_arn, Message=json.dumps(message))
        announced.append(job.job_id)
    return announced
