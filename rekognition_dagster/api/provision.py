"""Make what the pipeline needs in an AWS account: topic, queues, their policies, role.

Every step can be repeated: what is there is left as it is.
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
    job_tag: str | None = None,
    kms_key: str | None = None,
) -> Provisioned:
    """Make what is missing, named after ``name``; leave what is there as it is.

    Of what exists, only what the pipeline cannot do without is added: a policy statement, a
    dead-letter queue where there is none, a subscription and its filter.

    Args:
        session: A boto3 session; its endpoint, region and account are used.
        name: Prefix of every name; 1 to 64 of ``[a-zA-Z0-9-_]``.
        arrivals: A bucket that shall report each new object, on a queue for that. Its other
            notifications stay as they are.
        prefix: Only of keys that begin so.
        job_tag: The deployment's name, whose completions the queue gets; ``name`` by default.
        kms_key: The KMS key that a new topic and new queues are encrypted with. Its policy must
            let ``sns.amazonaws.com`` and the role use it.

    Raises:
        botocore.exceptions.ClientError: AWS refused a step; those before it are made.
    """
    sqs, sns, iam = (session.client(service) for service in ("sqs", "sns", "iam"))
    encryption = {"KmsMasterKeyId": kms_key} if kms_key else {}
    topic_arn = sns.create_topic(
        Name=f"{name}-completions", **({"Attributes": encryption} if encryption else {})
    )["TopicArn"]
    kept = {"MessageRetentionPeriod": str(_RETENTION_S), **encryption}
    dead_letter_url, dead_letter_arn = _queue(sqs, f"{name}-dead-letters", kept)
    redrive = {"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": MAX_RECEIVES}
    attributes = {
        **kept,
        "VisibilityTimeout": "120",
        "RedrivePolicy": json.dumps(redrive),
    }
    queue_url, queue_arn = _queue(sqs, f"{name}-completions", attributes)
    account = queue_arn.split(":")[4]
    _let_send(sqs, queue_url, queue_arn, "CompletionsFromTopic", "sns.amazonaws.com", topic_arn)
    _subscribe(sns, topic_arn, queue_arn, job_tag or name)
    role_arn = _role(iam, name, topic_arn, account, kms_key)
    arrivals_url = None
    if arrivals:
        arrivals_url, arrivals_arn = _queue(sqs, f"{name}-arrivals", attributes)
        partition = arrivals_arn.split(":")[1]
        source = f"arn:{partition}:s3:::{arrivals}"
        _let_send(sqs, arrivals_url, arrivals_arn, "ArrivalsFromBucket", "s3.amazonaws.com", source)
        _notify(session.client("s3"), arrivals, f"{name}-arrivals", arrivals_arn, prefix)
    return Provisioned(topic_arn, queue_url, dead_letter_url, role_arn, arrivals_url)


def _queue(sqs: Any, name: str, attributes: dict[str, str]) -> tuple[str, str]:
    """A queue's URL and ARN. One that exists keeps its attributes; where it has no dead-letter
    queue, it gets ours."""
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    names = ["QueueArn", "RedrivePolicy"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    if "RedrivePolicy" in attributes and not found.get("RedrivePolicy"):
        redrive = {"RedrivePolicy": attributes["RedrivePolicy"]}
        sqs.set_queue_attributes(QueueUrl=url, Attributes=redrive)
    return url, found["QueueArn"]


def _let_send(sqs: Any, url: str, arn: str, sid: str, service: str, source: str) -> None:
    """Let a service send to a queue on behalf of one source; other statements stay."""
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {
            "ArnEquals": {"aws:SourceArn": source},
            # A bucket's ARN names no account, and buckets change hands.
            "StringEquals": {"aws:SourceAccount": arn.split(":")[4]},
        },
    }
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
    text = found.get("Attributes", {}).get("Policy")
    policy = json.loads(text) if text else {"Version": "2012-10-17", "Statement": []}
    if statement in policy["Statement"]:
        return
    others = [s for s in policy["Statement"] if s.get("Sid") != sid]
    policy["Statement"] = [*others, statement]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})


def _subscribe(sns: Any, topic_arn: str, queue_arn: str, job_tag: str) -> None:
    """Have the queue get the completions of one deployment, whoever else uses the topic."""
    subscription = sns.subscribe(
        TopicArn=topic_arn, Protocol="sqs", Endpoint=queue_arn, ReturnSubscriptionArn=True
    )["SubscriptionArn"]
    found = sns.get_subscription_attributes(SubscriptionArn=subscription)["Attributes"]
    if found.get("FilterPolicy"):
        return
    wanted = {
        "FilterPolicyScope": "MessageBody",
        "FilterPolicy": json.dumps({"JobTag": [job_tag]}),
    }
    for name, value in wanted.items():
        sns.set_subscription_attributes(
            SubscriptionArn=subscription, AttributeName=name, AttributeValue=value
        )


def _notify(s3: Any, bucket: str, name: str, queue_arn: str, prefix: str) -> None:
    """Have a bucket report new objects to a queue; its other notifications stay."""
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


def _role(iam: Any, name: str, topic_arn: str, account: str, kms_key: str | None) -> str:
    """The role that publishes completions. One that exists keeps its trust and its policies."""
    role = f"{name}-publish"
    trust = _policy(
        [
            {
                "Effect": "Allow",
                "Principal": {"Service": "rekognition.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"aws:SourceAccount": account}},
            }
        ]
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
    allowed: list[dict[str, Any]] = [publish]
    if kms_key:
        actions = ["kms:GenerateDataKey", "kms:Decrypt"]
        allowed.append({"Effect": "Allow", "Action": actions, "Resource": kms_key})
    iam.put_role_policy(RoleName=role, PolicyName="publish", PolicyDocument=_policy(allowed))
    return arn


def _policy(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
