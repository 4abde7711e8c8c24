"""Make what the pipeline needs in an AWS account: topic, queues, their policies, role.

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
    arrivals_queue_url: str | None = None

    def environment(self) -> dict[str, str]:
        """Settings for the pipeline."""
        found = {
            "REKOGNITION_DAGSTER_TOPIC_ARN": self.topic_arn,
            "REKOGNITION_DAGSTER_ROLE_ARN": self.role_arn,
            "REKOGNITION_DAGSTER_QUEUE_URL": self.queue_url,
            "REKOGNITION_DAGSTER_ARRIVALS_QUEUE_URL": self.arrivals_queue_url,
        }
        return {variable: value for variable, value in found.items() if value}


def provision(
    session: Any,
    name: str = "rekognition-dagster",
    *,
    arrivals: str | None = None,
    prefix: str = "",
) -> Provisioned:
    """Make or update everything, named after ``name``.

    Args:
        session: A boto3 session; its endpoint, region and account are used.
        name: Prefix of every name; 1 to 64 of ``[a-zA-Z0-9-_]``.
        arrivals: A bucket that shall say of each new object, on a queue for that. Its other
            notifications stay as they are.
        prefix: Only of keys that begin so.

    Raises:
        botocore.exceptions.ClientError: AWS refused a step; those before it are made.
    """
    sqs, sns, iam = (session.client(service) for service in ("sqs", "sns", "iam"))
    topic_arn = sns.create_topic(Name=f"{name}-completions")["TopicArn"]
    dead_letter_url, dead_letter_arn = _queue(
        sqs, f"{name}-dead-letters", {"MessageRetentionPeriod": str(_RETENTION_S)}
    )
    redrive = {"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": MAX_RECEIVES}
    attributes = {
        "MessageRetentionPeriod": str(_RETENTION_S),
        "VisibilityTimeout": "120",
        "ReceiveMessageWaitTimeSeconds": "0",
        "RedrivePolicy": json.dumps(redrive),
    }
    queue_url, queue_arn = _queue(sqs, f"{name}-completions", attributes)
    _let_send(sqs, queue_url, queue_arn, "CompletionsFromTopic", "sns.amazonaws.com", topic_arn)
    sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=queue_arn)
    role_arn = _role(iam, name, topic_arn)
    arrivals_url = None
    if arrivals:
        arrivals_url, arrivals_arn = _queue(sqs, f"{name}-arrivals", attributes)
        partition = arrivals_arn.split(":")[1]
        source = f"arn:{partition}:s3:::{arrivals}"
        _let_send(sqs, arrivals_url, arrivals_arn, "ArrivalsFromBucket", "s3.amazonaws.com", source)
        _notify(session.client("s3"), arrivals, f"{name}-arrivals", arrivals_arn, prefix)
    return Provisioned(topic_arn, queue_url, dead_letter_url, role_arn, arrivals_url)


def _queue(sqs: Any, name: str, attributes: dict[str, str]) -> tuple[str, str]:
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, found["Attributes"]["QueueArn"]


def _let_send(sqs: Any, url: str, arn: str, sid: str, service: str, source: str) -> None:
    """Let a service send to a queue on behalf of one source, and nobody else."""
    condition: dict[str, Any] = {"ArnEquals": {"aws:SourceArn": source}}
    if service == "s3.amazonaws.com":  # a bucket's ARN names no account, and buckets change hands
        condition["StringEquals"] = {"aws:SourceAccount": arn.split(":")[4]}
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": condition,
    }
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": _policy(statement)})


def _notify(s3: Any, bucket: str, name: str, queue_arn: str, prefix: str) -> None:
    """Have a bucket tell a queue of new objects; what it tells others is left as it is."""
    wanted: dict[str, Any] = {
        "Id": name,
        "QueueArn": queue_arn,
        "Events": ["s3:ObjectCreated:*"],
    }
    if prefix:
        rules = [{"Name": "prefix", "Value": prefix}]
        wanted["Filter"] = {"Key": {"FilterRules": rules}}
    found = s3.get_bucket_notification_configuration(Bucket=bucket)
    configuration = {k: v for k, v in found.items() if k != "ResponseMetadata"}
    queues = configuration.get("QueueConfigurations", [])
    if any(_is_same(q, wanted) for q in queues):
        return
    configuration["QueueConfigurations"] = [*(q for q in queues if q.get("Id") != name), wanted]
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)


def _is_same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    def told(of: dict[str, Any]) -> tuple[Any, ...]:
        rules = of.get("Filter", {}).get("Key", {}).get("FilterRules", [])
        # S3 gives a rule's name back as Prefix, whatever the case it was given in.
        filters = sorted((r["Name"].lower(), r["Value"]) for r in rules)
        return of.get("Id"), of["QueueArn"], sorted(of["Events"]), filters

    return told(found) == told(wanted)


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
