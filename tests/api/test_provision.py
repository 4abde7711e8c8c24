"""Provisioning makes a working path from a topic to a queue, any number of times."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from rekognition_dagster.api import CompletionQueue, provision


def test_a_published_message_arrives_on_the_queue(aws: boto3.Session, unique: str) -> None:
    made = provision(aws, unique)
    aws.client("sns").publish(TopicArn=made.topic_arn, Message="hello")
    (message,) = CompletionQueue(aws.client("sqs"), made.queue_url).receive()
    assert json.loads(message.body)["Message"] == "hello"


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
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": made.topic_arn}}
    iam: Any = aws.client("iam")
    name = made.role_arn.rsplit("/", 1)[1]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {"Service": "rekognition.amazonaws.com"}
    policy = iam.get_role_policy(RoleName=name, PolicyName="publish")["PolicyDocument"]
    assert policy["Statement"][0]["Resource"] == made.topic_arn


def test_the_dead_letter_queue_is_found_and_takes_the_reason(
    aws: boto3.Session, unique: str
) -> None:
    made = provision(aws, unique)
    queue = CompletionQueue(aws.client("sqs"), made.queue_url)
    assert queue.dead_letter_url() == made.dead_letter_url
    queue.client.send_message(QueueUrl=queue.url, MessageBody="x")
    (message,) = queue.receive()
    assert queue.bury(message, "it is no completion")
    assert queue.receive() == []


@pytest.mark.usefixtures("aws")
def test_a_queue_without_dead_letters_keeps_the_message(unique: str) -> None:
    sqs: Any = boto3.client("sqs")
    queue = CompletionQueue(sqs, sqs.create_queue(QueueName=unique)["QueueUrl"])
    sqs.send_message(QueueUrl=queue.url, MessageBody="x")
    (message,) = queue.receive()
    assert not queue.bury(message, "it is no completion")


def test_many_messages_are_deleted_in_batches(aws: boto3.Session, unique: str) -> None:
    made = provision(aws, unique)
    queue = CompletionQueue(aws.client("sqs"), made.queue_url)
    for i in range(23):
        queue.client.send_message(QueueUrl=queue.url, MessageBody=str(i))
    received = [m for _ in range(3) for m in queue.receive()]
    assert len(received) == 23
    assert queue.delete(m.receipt_handle for m in received) == []
