"""Say completions again that the local queue took with it when the stack ended.

A real queue keeps its messages for days; moto's keeps them until its process ends. So a start looks
for jobs in progress that the service has finished, and announces those once more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.state import State
from rekognition_dagster.state.jobs import overdue
from rekognition_dagster.videos import Video


def announce_again(
    state: State, session: Any, topic_arn: str, operations: Sequence[Operation]
) -> list[str]:
    """Publish the completions that the pipeline has missed; a duplicate would change nothing.

    Args:
        state: The pipeline's.
        session: A boto3 session on the stack.
        topic_arn: Where completions go.
        operations: Those that run.

    Returns:
        The ids of the jobs that were announced.
    """
    from botocore.exceptions import ClientError

    rekognition, sns = session.client("rekognition"), session.client("sns")
    announced: list[str] = []
    with state.read() as connection:
        jobs = overdue(connection, [o.name for o in operations], float("inf"), 0.0, 10**6)
    for job in jobs:
        job_id, operation = job["job_id"], OPERATIONS[job["operation"]]
        try:
            answer = getattr(rekognition, operation.get_method)(JobId=job_id, MaxResults=1)
        except ClientError:  # a job that the service has forgotten is not to be announced
            continue
        if answer["JobStatus"] == "IN_PROGRESS":
            continue
        message = _completion(operation, job_id, Video.from_partition_key(job["key"]), answer)
        sns.publish(TopicArn=topic_arn, Message=json.dumps(message))
        announced.append(job_id)
    return announced


def _completion(
    operation: Operation, job_id: str, video: Video, answer: Mapping[str, Any]
) -> dict[str, Any]:
    tag = {"JobTag": answer["JobTag"]} if "JobTag" in answer else {}
    return {
        "JobId": job_id,
        "Status": answer["JobStatus"],
        "API": operation.start_api,
        **tag,
        "Video": {"S3Bucket": video.bucket, "S3ObjectName": video.key},
    }
