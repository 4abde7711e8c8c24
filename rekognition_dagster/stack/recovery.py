"""Say completions again that the local queue took with it when the stack ended.

A real queue keeps its messages for days; moto's keeps them until its process ends. So a start looks
for jobs that Dagster waits for and the service has finished, and announces those once more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.names import RekognitionVideoTranslator
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.orchestration.standing import Books, Phase
from rekognition_dagster.stack import dagster_home
from rekognition_dagster.videos import Video


def announce_again(
    home: Path, session: Any, topic_arn: str, operations: Sequence[Operation]
) -> list[str]:
    """Publish the completions that Dagster has missed; a duplicate would change nothing.

    Args:
        home: Dagster's home, without a daemon.
        session: A boto3 session on the stack.
        topic_arn: Where completions go.
        operations: Those that run.

    Returns:
        The ids of the jobs that were announced.
    """
    from botocore.exceptions import ClientError

    rekognition, sns = session.client("rekognition"), session.client("sns")
    books = Books(RekognitionVideoTranslator(), Settings())
    announced: list[str] = []
    with dagster_home.instance(home) as instance:
        for operation in operations:
            for standing in books.board(instance, operation).find(Phase.IN_FLIGHT):
                job_id = str(standing.job_id)
                try:
                    answer = getattr(rekognition, operation.get_method)(JobId=job_id, MaxResults=1)
                except ClientError:  # a job that the service has forgotten is not to be announced
                    continue
                if answer["JobStatus"] == "IN_PROGRESS":
                    continue
                message = _completion(operation, job_id, standing.video, answer)
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
