"""Messages off a queue, none lost: taken, entered into the state, and only then deleted.

What the messages of a queue say, and where that is entered, is its sensor's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import Logger
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.api.queue import MalformedMessageError, Message, MessageQueue
from rekognition_dagster.aws import reason_of
from rekognition_dagster.errors import ConfigurationError

AT_ONCE = 100
"""Messages taken, entered and deleted together."""
WAIT_S = 1
"""Seconds to wait for a message. Without a wait, SQS asks only some of its servers."""

Content = TypeVar("Content")


@dataclass(frozen=True)
class Inbox:
    """A queue, as one tick of a sensor sees it.

    Args:
        queue: The queue.
        log: The tick's log.
        visibility_s: For how long messages are hidden from others: longer than it takes to enter
            what a batch of them says.
    """

    queue: MessageQueue
    log: Logger
    visibility_s: int

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """Inside, an error of SQS names its remedy."""
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise ConfigurationError(
                f"cannot read the queue {self.queue.url}: {reason_of(error)}. Check its URL, region"
                " and endpoint, and that these credentials have sqs:ReceiveMessage and "
                "sqs:DeleteMessage on it (`rekognition-dagster provision` makes a queue)"
            ) from error

    def take(
        self, parse: Callable[[str], Content], until: float
    ) -> Iterator[list[tuple[Message, Content]]]:
        """Messages with what they say, a batch at a time, until the queue is empty or the tick has
        lasted long enough. Malformed ones go to the dead-letter queue.

        The others are the caller's to :meth:`delete` once the state has what they say; until then
        SQS hides them, and shows them again should this process die.
        """
        there_may_be_more = True
        while there_may_be_more and time.monotonic() < until:
            batch: list[tuple[Message, Content]] = []
            while there_may_be_more and len(batch) < AT_ONCE and time.monotonic() < until:
                messages = self.queue.receive(wait_s=WAIT_S, visibility_s=self.visibility_s)
                there_may_be_more = bool(messages)
                for message in messages:
                    try:
                        batch.append((message, parse(message.body)))
                    except MalformedMessageError as error:
                        self._bury(message, str(error))
            if batch:
                yield batch

    def delete(self, messages: Iterable[Message]) -> None:
        """Delete messages; the state has what they say."""
        for reason in self.queue.delete(m.receipt_handle for m in messages):
            self.log.warning(f"A message was not deleted and will come back: {reason}")

    def _bury(self, message: Message, reason: str) -> None:
        what = f"Message {message.message_id} is malformed ({reason})"
        try:
            is_buried = self.queue.bury(message, reason)
        except (ClientError, BotoCoreError) as error:
            # The good messages beside it must go on.
            self.log.error(
                f"{what} and stays: its dead-letter queue cannot be written: {reason_of(error)}. "
                "Allow sqs:SendMessage, sqs:GetQueueUrl and sqs:GetQueueAttributes on it"
            )
            return
        if is_buried:
            self.log.error(f"{what} and went to the dead-letter queue")
        else:
            self.log.error(
                f"{what} and stays, for {self.queue.url} has no dead-letter queue; "
                "`rekognition-dagster provision` makes one"
            )
