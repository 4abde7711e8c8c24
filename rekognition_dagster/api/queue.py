"""An SQS queue, and what every message on one has in common. No Dagster here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

BATCH = 10
"""Messages in one SQS request; the most that SQS allows."""


class MalformedMessageError(ValueError):
    """A message that is not what its queue is for; the text says why."""


@dataclass(frozen=True)
class Message:
    """A message as received.

    Args:
        body: Its text.
        receipt_handle: What deletes it.
        message_id: What names it in logs.
    """

    body: str
    receipt_handle: str
    message_id: str


def unwrapped(body: str) -> dict[str, Any]:
    """The JSON object in a message's body, out of the envelope where SNS put it into one.

    Raises:
        MalformedMessageError: There is none.
    """
    document = _object(body, "the body")
    if isinstance(document.get("Message"), str):
        document = _object(document["Message"], "the SNS envelope's Message")
    return document


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(f"{what} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedMessageError(f"{what} is no JSON object")
    return document


def text_member(document: Mapping[str, Any], name: str) -> str:
    """A member that is a text and not empty.

    Raises:
        MalformedMessageError: It is missing, empty or no Unicode text.
    """
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedMessageError(f"it has no {name}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise MalformedMessageError(f"its {name} is no Unicode text")
    return value


@dataclass(frozen=True)
class DeadLetters:
    """A dead-letter queue.

    Args:
        url: Its URL.
        messages: How many lie in it, about.
    """

    url: str
    messages: int


@dataclass(frozen=True)
class MessageQueue:
    """An SQS queue.

    Args:
        client: A boto3 ``sqs`` client.
        url: The queue's URL.
    """

    client: Any
    url: str

    def receive(self, *, wait_s: int = 0, visibility_s: int = 120) -> list[Message]:
        """Up to ten messages, hidden from other receivers for ``visibility_s`` seconds."""
        response = self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=wait_s,
            VisibilityTimeout=visibility_s,
        )
        return [
            Message(m["Body"], m["ReceiptHandle"], m["MessageId"])
            for m in response.get("Messages", [])
        ]

    def delete(self, receipt_handles: Iterable[str]) -> list[str]:
        """Delete messages; returns why those that SQS would not delete stay (they come back)."""
        handles, failed = list(receipt_handles), []
        for start in range(0, len(handles), BATCH):
            entries = [
                {"Id": str(i), "ReceiptHandle": handle}
                for i, handle in enumerate(handles[start : start + BATCH])
            ]
            response = self.client.delete_message_batch(QueueUrl=self.url, Entries=entries)
            failed += [f.get("Message") or f["Code"] for f in response.get("Failed", [])]
        return failed

    def dead_letter_url(self) -> str | None:
        """The URL of the queue's dead-letter queue, from its redrive policy."""
        response = self.client.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["RedrivePolicy"]
        )
        policy = json.loads(response.get("Attributes", {}).get("RedrivePolicy") or "{}")
        if not (arn := policy.get("deadLetterTargetArn")):
            return None
        *_, account, name = arn.split(":")
        found = self.client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
        return found["QueueUrl"]

    def dead_letters(self) -> DeadLetters | None:
        """The queue's dead-letter queue; None where it has none."""
        url = self.dead_letter_url()
        if url is None:
            return None
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return DeadLetters(url, sum(int(found[n]) for n in names))

    def bury(self, message: Message, reason: str) -> bool:
        """Move a message to the dead-letter queue with the reason as an attribute.

        Sent first and deleted then: a crash between the two leaves it in both, never in none.
        Returns False where there is no dead-letter queue; the message then stays.
        """
        target = self.dead_letter_url()
        if target is None:
            return False
        self.client.send_message(
            QueueUrl=target,
            MessageBody=message.body,
            MessageAttributes={"Reason": {"DataType": "String", "StringValue": reason[:1000]}},
        )
        self.delete([message.receipt_handle])
        return True
