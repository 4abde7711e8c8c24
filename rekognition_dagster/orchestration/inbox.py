"""Messages off a queue, none lost: taken, entered into Dagster, and only then deleted.

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

from rekognition_dagster.api import MalformedMessageError, Message, MessageQueue
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.names import TICK_S
from rekognition_dagster.orchestration.resources import said
from rekognition_dagster.orchestration.settings import Settings

AT_ONCE = 100
"""Messages taken, entered and deleted together."""

Content = TypeVar("Content")


@dataclass(frozen=True)
class Inbox:
    """A queue, as one tick of a sensor sees it.

    Args:
        queue: The queue.
        log: The tick's log.
        visibility_s: For how long messages are hidden from others: longer than it takes to enter
            what some of them say.
    """

    queue: MessageQueue
    log: Logger
    visibility_s: int

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """Inside, an error of SQS is told with its remedy."""
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise ConfigurationError(
                f"cannot read the queue {self.queue.url}: {said(error)}. Check its URL, region and "
                "endpoint, and that these credentials have sqs:ReceiveMessage and "
                "sqs:DeleteMessage on it (`rekognition-dagster provision` makes a queue)"
            ) from error

    def taken(self, parse: Callable[[str], Content]) -> Iterator[list[tuple[Message, Content]]]:
        """Messages with what they say, some at a time, until the queue is empty or the tick has
        lasted long enough. Malformed ones go to the dead-letter queue.

        The others are the caller's to :meth:`delete` once Dagster has what they say; until then
        SQS hides them, and shows them again should this process die.
        """
        until, there_may_be_more = time.monotonic() + TICK_S, True
        while there_may_be_more and time.monotonic() < until:
            some: list[tuple[Message, Content]] = []
            while there_may_be_more and len(some) < AT_ONCE and time.monotonic() < until:
                messages = self.queue.receive(visibility_s=self.visibility_s)
                there_may_be_more = bool(messages)
                for message in messages:
                    try:
                        some.append((message, parse(message.body)))
                    except MalformedMessageError as error:
                        self._bury(message, str(error))
            if some:
                yield some

    def delete(self, messages: Iterable[Message]) -> None:
        """Delete messages; Dagster has what they say."""
        for reason in self.queue.delete(m.receipt_handle for m in messages):
            self.log.warning(f"A message was not deleted and will come back: {reason}")

    def _bury(self, message: Message, reason: str) -> None:
        if self.queue.bury(message, reason):
            self.log.error(f"Message {message.message_id} went to the dead-letter queue: {reason}")
        else:
            self.log.error(
                f"Message {message.message_id} is malformed ({reason}) and stays, for "
                f"{self.queue.url} has no dead-letter queue; `rekognition-dagster provision` "
                "makes one"
            )


def opened(queue: MessageQueue, log: Logger, settings: Settings) -> Inbox:
    """The inbox of a tick."""
    return Inbox(queue, log, settings.visibility_seconds)
