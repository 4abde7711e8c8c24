"""Completion notifications: what lies in the outbox goes to SNS, at least once.

A topic that cannot be reached is tried again, later and later, for as long as the job lives.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from rekognition_dagster.service.store import JobStore, Notification

log = logging.getLogger(__name__)

_HOLD_S = 30.0
"""Seconds that others leave an announcement alone which one process is about to make."""
_MAX_DELAY_S = 300.0


def publish_to_sns(notification: Notification) -> None:
    """Publish one completion with the credentials of the usual AWS environment.

    Raises:
        ClientError, BotoCoreError: As boto3 raises them.
    """
    region = notification.topic_arn.split(":")[3]
    _sns_client(region).publish(TopicArn=notification.topic_arn, Message=notification.message)


@functools.cache
def _sns_client(region: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.Session().client(
        "sns",
        region_name=region,
        config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}),
    )


def publish_due(
    store: JobStore,
    publish: Callable[[Notification], None] = publish_to_sns,
    *,
    life_s: float,
    now: Callable[[], float],
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Publish what is due; how many went out.

    Args:
        store: The store with the outbox.
        publish: Sends one, or raises.
        life_s: Seconds after which an announcement is given up.
        now: Seconds since 1970.
        stopping: Whether the first failure should be the last try.
    """
    sent = 0
    for notification in store.due_notifications(_HOLD_S):
        about = {"job_id": notification.job_id, "topic": notification.topic_arn}
        try:
            publish(notification)
        except Exception as error:
            if now() - notification.created_at > life_s:
                log.error("announcement given up", extra={**about, "error": error})
                store.announced(notification.job_id)
                continue
            delay = min(2.0 ** min(notification.attempts - 1, 20), _MAX_DELAY_S)
            log.warning("announcement failed", extra={**about, "again_s": delay, "error": error})
            store.announce_later(notification.job_id, delay)
            if stopping():
                break
        else:
            # A crash before the next line sends it again: at least once, never not at all.
            store.announced(notification.job_id)
            log.info("announced", extra=about)
            sent += 1
    return sent


def publish_forever(
    store: JobStore,
    stop: threading.Event,
    *,
    poll_s: float,
    life_s: float,
    now: Callable[[], float],
) -> None:
    """Publish what is due until ``stop`` is set, and what jobs left that ended last."""
    stopped = False
    while not stopped:
        stopped = stop.is_set()
        try:
            sent = publish_due(store, life_s=life_s, now=now, stopping=stop.is_set)
        except Exception:
            log.exception("the outbox cannot be read; trying again")
            sent = 0
            stop.wait(5.0)
        if not sent:
            stop.wait(poll_s)
