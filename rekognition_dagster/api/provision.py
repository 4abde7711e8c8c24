"""Make what the pipeline needs in an AWS account: topic, queue, dead-letter queue, policy, role.

Every step can be repeated: what is there is left as it is, or brought up to date.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_RECEIVES = 20
"""After so many receives SQS itself moves a message to the dead-letter queue."""
_RETENTION_S = 14 * 24 * 3600


@dataclass(frozen=True)
class Provisioned:
    """What there is now; :meth:`environment` is what the pipeline wants to know of it."""

    topic_arn: str
    queue_url: str
    dead_letter_url: str
    role_arn: str

    def environment(self) -> dict[str, str]:
        """Settings for the pipeline."""
        return {
            "REKOGNITION_DAGSTER_TOPIC_ARN": self.topic_arn,
            "REKOGNITION_DAGSTER_ROLE_ARN": self.role_arn,
            "REKOGNITION_DAGSTER_QUEUE_URL": self.queue_url,
        }


def provision(session: Any, name: str = "rekognition-dagster") -> Provisioned:
    """Make or update everything, named after ``name``.

    Args:
        session: A boto3 session; its endpoint, region and account are used.
        name: Prefix of every name; 1 to 64 of ``[a-zA-Z0-9-_]``.

    Raises:
        botocore.exceptions.ClientError: AWS refused a step; those before it are made.
    """
    sqs, sns, iam = (session.client(service) for service in ("sqs", "sns", "iam"))
    topic_arn = sns.create_topic(Name=f"{name}-completions")["TopicArn"]
    dead_letter_url, dead_letter_arn = _queue(
        sqs, f"{name}-dead-letters", {"MessageRetentionPeriod": str(_RETENTION_S)}
    )
    redrive = {"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": MAX_RECEIVES}
    queue_url, queue_arn = _queue(
        sqs,
        f"{name}-completions",
        {
            "MessageRetentionPeriod": str(_RETENTION_S),
            "VisibilityTimeout": "120",
            "ReceiveMessageWaitTimeSeconds": "0",
            "RedrivePolicy": json.dumps(redrive),
        },
    )
    statement = {
        "Sid": "CompletionsFromTopic",
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }
    sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": _policy(statement)})
    sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=queue_arn)
    return Provisioned(topic_arn, queue_url, dead_letter_url, _role(iam, name, topic_arn))


def _queue(sqs: Any, name: str, attributes: dict[str, str]) -> tuple[str, str]:
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, found["Attributes"]["QueueArn"]


def _role(iam: Any, name: str, topic_arn: str) -> str:
    role = f"{name}-publish"
    trust = _policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": "rekognition.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    )
    try:
        arn = iam.get_role(RoleName=role)["Role"]["Arn"]
    except iam.exceptions.NoSuchEntityException:
        arn = iam.create_role(
            RoleName=role,
            AssumeRolePolicyDocument=trust,
            Description="Lets Rekognition Video publish completions of rekognition-dagster's jobs",
        )["Role"]["Arn"]
    publish = {"Effect": "Allow", "Action": "sns:Publish", "Resource": topic_arn}
    iam.put_role_policy(RoleName=role, PolicyName="publish", PolicyDocument=_policy(publish))
    return arn


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
