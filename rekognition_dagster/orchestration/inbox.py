"""Messages off a queue, none lost: taken, told to Dagster, and deleted once they are durable there.

What the messages of a queue say, and how Dagster is asked for it, is its sensor's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from logging import Logger
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.api import MalformedMessageError, Message, MessageQueue
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.names import TICK_S
from rekognition_dagster.orchestration.resources import said
from rekognition_dagster.orchestration.settings import Settings

MOST_MESSAGES = 500
"""Messages that one tick takes at most."""

Fact = tuple[Any, ...]
"""What a message says, in as few words as Dagster is asked for it; plain JSON."""
Content = TypeVar("Content")


@dataclass(frozen=True)
class Reported:
    """A message whose facts were given to Dagster, to be deleted once they are durable there.

    Args:
        receipt_handle: What deletes it.
        facts: What it says; none where there is nothing to wait for.
    """

    receipt_handle: str
    facts: tuple[Fact, ...]


def dumped(reported: Iterable[Reported]) -> list[dict[str, Any]]:
    """Plain JSON, for a sensor's cursor."""
    return [asdict(r) for r in reported]


def loaded(document: Iterable[Any]) -> list[Reported]:
    """The inverse of :func:`dumped`."""
    return [Reported(r["receipt_handle"], tuple(map(tuple, r["facts"]))) for r in document]


@dataclass(frozen=True)
class Inbox:
    """A queue, as one tick of a sensor sees it.

    Args:
        queue: The queue.
        log: The tick's log.
        visibility_s: For how long messages are hidden from others: longer than this tick and the
            wait for the one that deletes them.
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

    def clear(
        self,
        reported: Sequence[Reported],
        unknown: Callable[[Collection[Fact]], Collection[Fact]],
    ) -> int:
        """Delete what earlier ticks reported and Dagster has; the rest becomes visible again.

        Args:
            reported: Messages of earlier ticks.
            unknown: Those of some facts that Dagster does not have.
        """
        missing = unknown({fact for r in reported for fact in r.facts})
        durable = [r.receipt_handle for r in reported if not set(missing).intersection(r.facts)]
        for reason in self.queue.delete(durable):
            self.log.warning(f"A message was not deleted and will come back: {reason}")
        return len(durable)

    def take(self, parse: Callable[[str], Content]) -> list[tuple[Message, Content]]:
        """Messages with what they say; malformed ones go to the dead-letter queue."""
        started, taken, received = time.monotonic(), [], 0
        while received < MOST_MESSAGES and time.monotonic() - started < TICK_S:
            messages = self.queue.receive(visibility_s=self.visibility_s)
            if not messages:
                break
            received += len(messages)
            for message in messages:
                try:
                    taken.append((message, parse(message.body)))
                except MalformedMessageError as error:
                    self._bury(message, str(error))
        return taken

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
    visibility_s = max(settings.visibility_seconds, 4 * settings.sensor_interval)
    return Inbox(queue, log, visibility_s)
