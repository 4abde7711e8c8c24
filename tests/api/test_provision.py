"""Provisioning makes a working path from a topic to a queue, any number of times."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from rekognition_dagster.api import MessageQueue, parse_arrivals, provision


def test_a_published_message_arrives_on_the_queue(aws: boto3.Session, unique: str) -> None:
    made = provision(aws, unique)
    message = json.dumps({"JobTag": unique, "Status": "SUCCEEDED"})
    aws.client("sns").publish(TopicArn=made.topic_arn, Message=message)
    (received,) = MessageQueue(aws.client("sqs"), made.queue_url).receive()
    assert json.loads(received.body)["Message"] == message


def test_a_shared_topic_gives_each_queue_its_own_deployments_completions(
    aws: boto3.Session, unique: str
) -> None:
    sns: Any = aws.client("sns")
    made = provision(aws, unique, job_tag="lobby")
    for tag in ("lobby", "gate", None):
        message = {"Status": "SUCCEEDED", **({"JobTag": tag} if tag else {})}
        sns.publish(TopicArn=made.topic_arn, Message=json.dumps(message))
    received = MessageQueue(aws.client("sqs"), made.queue_url).receive()
    tags = [json.loads(json.loads(m.body)["Message"]).get("JobTag") for m in received]
    assert tags == ["lobby"]


def test_what_exists_is_left_as_it_is(aws: boto3.Session, unique: str) -> None:
    sqs: Any = aws.client("sqs")
    made = provision(aws, unique)
    arn = sqs.get_queue_attributes(QueueUrl=made.queue_url, AttributeNames=["QueueArn"])
    theirs = {
        "Sid": "Theirs",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "sqs:SendMessage",
        "Resource": arn["Attributes"]["QueueArn"],
    }
    changed = {
        "VisibilityTimeout": "300",
        "Policy": json.dumps({"Version": "2012-10-17", "Statement": [theirs]}),
    }
    sqs.set_queue_attributes(QueueUrl=made.queue_url, Attributes=changed)
    provision(aws, unique)
    found = sqs.get_queue_attributes(QueueUrl=made.queue_url, AttributeNames=["All"])["Attributes"]
    assert found["VisibilityTimeout"] == "300"
    statements = json.loads(found["Policy"])["Statement"]
    assert [s["Sid"] for s in statements] == ["Theirs", "CompletionsFromTopic"]


def test_a_key_encrypts_what_is_new(aws: boto3.Session, unique: str) -> None:
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    made = provision(aws, unique, kms_key=key)
    sqs: Any = aws.client("sqs")
    found = sqs.get_queue_attributes(QueueUrl=made.queue_url, AttributeNames=["All"])["Attributes"]
    assert found["KmsMasterKeyId"] == key
    topic = aws.client("sns").get_topic_attributes(TopicArn=made.topic_arn)["Attributes"]
    assert topic["KmsMasterKeyId"] == key
    name = made.role_arn.rsplit("/", 1)[1]
    policy = aws.client("iam").get_role_policy(RoleName=name, PolicyName="publish")
    assert policy["PolicyDocument"]["Statement"][1]["Resource"] == key


def test_it_can_be_repeated(aws: boto3.Session, unique: str) -> None:
    assert provision(aws, unique) == provision(aws, unique)
    topic = provision(aws, unique).topic_arn
    subscriptions = aws.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert len(subscriptions) == 1


def test_only_the_topic_may_write_and_only_rekognition_may_publish(
    aws: boto3.Session, unique: str
) -> None:
    made = provision(aws, unique)
    sqs: Any = aws.client("sqs")
    attributes = sqs.get_queue_attributes(QueueUrl=made.queue_url, AttributeNames=["All"])
    (statement,) = json.loads(attributes["Attributes"]["Policy"])["Statement"]
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": made.topic_arn},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
    iam: Any = aws.client("iam")
    name = made.role_arn.rsplit("/", 1)[1]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {"Service": "rekognition.amazonaws.com"}
    assert trust["Statement"][0]["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"}
    }
    policy = iam.get_role_policy(RoleName=name, PolicyName="publish")["PolicyDocument"]
    assert policy["Statement"][0]["Resource"] == made.topic_arn


def test_the_dead_letter_queue_is_found_and_takes_the_reason(
    aws: boto3.Session, unique: str
) -> None:
    made = provision(aws, unique)
    queue = MessageQueue(aws.client("sqs"), made.queue_url)
    assert queue.dead_letter_url() == made.dead_letter_url
    queue.client.send_message(QueueUrl=queue.url, MessageBody="x")
    (message,) = queue.receive()
    assert queue.bury(message, "it is no completion")
    assert queue.receive() == []


@pytest.mark.usefixtures("aws")
def test_a_queue_without_dead_letters_keeps_the_message(unique: str) -> None:
    sqs: Any = boto3.client("sqs")
    queue = MessageQueue(sqs, sqs.create_queue(QueueName=unique)["QueueUrl"])
    sqs.send_message(QueueUrl=queue.url, MessageBody="x")
    (message,) = queue.receive()
    assert not queue.bury(message, "it is no completion")


def test_many_messages_are_deleted_in_batches(aws: boto3.Session, unique: str) -> None:
    made = provision(aws, unique)
    queue = MessageQueue(aws.client("sqs"), made.queue_url)
    for i in range(23):
        queue.client.send_message(QueueUrl=queue.url, MessageBody=str(i))
    received = [m for _ in range(3) for m in queue.receive()]
    assert len(received) == 23
    assert queue.delete(m.receipt_handle for m in received) == []


# -- arrivals -------------------------------------------------------------------------------------


def notifications(bucket: str) -> dict[str, Any]:
    """What a bucket tells whom."""
    s3: Any = boto3.client("s3")
    found = s3.get_bucket_notification_configuration(Bucket=bucket)
    return {k: v for k, v in found.items() if k != "ResponseMetadata"}


def test_a_bucket_tells_the_queue_of_new_objects(
    aws: boto3.Session, bucket: str, unique: str
) -> None:
    made = provision(aws, unique, arrivals=bucket, prefix="a ü/")
    assert made.environment()["REKOGNITION_DAGSTER_ARRIVALS_QUEUE_URL"] == made.arrivals_queue_url
    queue = MessageQueue(aws.client("sqs"), str(made.arrivals_queue_url))
    assert queue.dead_letter_url() == made.dead_letter_url
    s3: Any = aws.client("s3")
    etag = s3.put_object(Bucket=bucket, Key="a ü/x+y.mp4", Body=b"video")["ETag"].strip('"')
    s3.put_object(Bucket=bucket, Key="b.mp4", Body=b"video")
    told = [a for m in queue.receive() for a in parse_arrivals(m.body)]
    assert [(a.video.bucket, a.video.key, a.video.version, a.video.size) for a in told] == [
        (bucket, "a ü/x+y.mp4", etag, 5)
    ]


def test_what_a_bucket_tells_others_stays(aws: boto3.Session, bucket: str, unique: str) -> None:
    sns: Any = aws.client("sns")
    topic = {
        "Id": "theirs",
        "TopicArn": sns.create_topic(Name=unique)["TopicArn"],
        "Events": ["s3:ObjectRemoved:*"],
    }
    aws.client("s3").put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={"TopicConfigurations": [topic], "EventBridgeConfiguration": {}},
    )
    theirs = notifications(bucket)
    provision(aws, unique, arrivals=bucket)
    both = notifications(bucket)
    (ours,) = both.pop("QueueConfigurations")
    assert both == theirs
    assert (ours["Id"], ours["Events"]) == (f"{unique}-arrivals", ["s3:ObjectCreated:*"])


def test_arrivals_are_left_or_brought_up_to_date(
    aws: boto3.Session, bucket: str, unique: str
) -> None:
    provision(aws, unique, arrivals=bucket, prefix="a/")
    before = notifications(bucket)
    provision(aws, unique, arrivals=bucket, prefix="a/")
    assert notifications(bucket) == before
    provision(aws, unique, arrivals=bucket, prefix="b/")
    (ours,) = notifications(bucket)["QueueConfigurations"]
    assert [r["Value"] for r in ours["Filter"]["Key"]["FilterRules"]] == ["b/"]


def test_only_the_bucket_may_tell_of_arrivals(aws: boto3.Session, bucket: str, unique: str) -> None:
    made = provision(aws, unique, arrivals=bucket)
    sqs: Any = aws.client("sqs")
    found = sqs.get_queue_attributes(QueueUrl=made.arrivals_queue_url, AttributeNames=["Policy"])
    (statement,) = json.loads(found["Attributes"]["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
