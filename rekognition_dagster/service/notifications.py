"""Completion notifications: what lies in the outbox goes to SNS, at least once.

A topic that does not work is tried again, later and later, for as long as the job lives; it delays
no other topic.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

from rekognition_dagster.service.backoff import backoff_s
from rekognition_dagster.service.store import JobStore, Notification

log = logging.getLogger(__name__)

_HOLD_S = 60.0
"""Seconds that others leave announcements alone which one process is about to make."""
_TOPICS_AT_ONCE = 8


def publish_to_sns(notification: Notification) -> None:
    """Publish one completion with the credentials of the usual AWS environment.

    Raises:
        ClientError, BotoCoreError: As boto3 raises them.
    """
    region = notification.topic_arn.split(":")[3]
    _sns_client(region).publish(TopicArn=notification.topic_arn, Message=notification.message)


@functools.lru_cache(maxsize=32)
def _sns_client(region: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.Session().client(
        "sns",
        region_name=region,
        config=Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1}),
    )


class Publisher:
    """Publishes what is due in the outbox of a store, each topic apart.

    Args:
        store: The store with the outbox.
        publish: Sends one, or raises.
        life_s: Seconds after which an announcement is given up.
        poll_s: Seconds between two looks at the outbox.
        clock: Seconds, rising.
    """

    def __init__(
        self,
        store: JobStore,
        publish: Callable[[Notification], None] = publish_to_sns,
        *,
        life_s: float,
        poll_s: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._publish, self._clock = store, publish, clock
        self._life_s, self._poll_s = life_s, poll_s
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._failures: dict[str, int] = {}
        self._again_at: dict[str, float] = {}
        self._threads = ThreadPoolExecutor(_TOPICS_AT_ONCE, thread_name_prefix="publish")

    def run(self, stop: threading.Event) -> None:
        """Publish until ``stop`` is set, and what the jobs left that ended last."""
        stopped = False
        while not stopped:
            stopped = stop.is_set()
            try:
                started = self.publish_due()
            except Exception:
                log.exception("the outbox cannot be read; trying again")
                started = 0
                stop.wait(5.0)
            if not started:
                stop.wait(self._poll_s)
        self._threads.shutdown(wait=True)

    def publish_due(self) -> int:
        """Begin to publish what is due; return how many announcements that are."""
        with self._lock:
            now = self._clock()
            for topic in [t for t, at in self._again_at.items() if at <= now]:
                del self._again_at[topic]
            left_alone = self._busy | self._again_at.keys()
        due = self._store.due_notifications(_HOLD_S, except_topics=left_alone)
        due.sort(key=lambda n: n.topic_arn)
        for topic, group in groupby(due, lambda n: n.topic_arn):
            with self._lock:
                self._busy.add(topic)
            self._threads.submit(self._publish_topic, topic, list(group))
        return len(due)

    def wait(self) -> None:
        """Return once no topic is being published to."""
        while self._busy:
            time.sleep(0.005)

    def _publish_topic(self, topic: str, notifications: Sequence[Notification]) -> None:
        try:
            self._publish_each(topic, notifications)
        except Exception:  # of the store: they are due again once their hold is over
            log.exception("what was announced is not recorded", extra={"topic": topic})
        finally:
            with self._lock:
                self._busy.discard(topic)

    def _publish_each(self, topic: str, notifications: Sequence[Notification]) -> None:
        for number, notification in enumerate(notifications):
            about = {"job_id": notification.job_id, "topic": topic}
            try:
                self._publish(notification)
            except Exception as error:
                self._fail(topic, notifications[number:], error)
                return
            # A crash before the next line sends it again: at least once, never not at all.
            self._store.announced(notification)
            log.info("announced", extra=about)
        with self._lock:
            self._failures.pop(topic, None)

    def _fail(self, topic: str, left: Sequence[Notification], error: Exception) -> None:
        """Give up what is too old, and leave the topic alone for a while."""
        with self._lock:
            number = self._failures[topic] = self._failures.get(topic, 0) + 1
            delay_s = backoff_s(number)
            self._again_at[topic] = self._clock() + delay_s
        again = [n.job_id for n in left if n.age_s <= self._life_s]
        about = {"topic": topic, "error": error}
        log.warning(
            "announcement failed", extra={**about, "job_id": left[0].job_id, "again_s": delay_s}
        )
        for notification in left:
            if notification.age_s > self._life_s:
                log.error("announcement given up", extra={**about, "job_id": notification.job_id})
                self._store.announced(notification)
        if again:
            self._store.announce_later(again, delay_s)
        else:
            with self._lock:
                del self._failures[topic]
