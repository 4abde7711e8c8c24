"""Prometheus metrics of one service process, and of the store that it shares with others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from rekognition_dagster.service.health import Health
from rekognition_dagster.service.store import JobStore

_LATE_S = 300.0
"""Age of an announcement, in seconds, that operators should know of."""
_HOUR_S = 3600.0
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """What ``/metrics`` shows.

    Args:
        store: The job store.
        workers_ready: How many workers of this process have loaded their detector.
        health: What is at fault around the service.
    """

    def __init__(self, store: JobStore, workers_ready: Callable[[], int], health: Health):
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "rekognition_request_seconds",
            "Time to answer a request, by operation and error code (OK where there is none).",
            ("operation", "code"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_StoreMetrics(store, workers_ready, health))

    def answered(self, operation: str, code: str, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(operation, code).observe(seconds)

    def text(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self._registry)


def alerts_of(store: JobStore) -> list[str]:
    """Return what operators should look at although the service works: sentences.

    Raises:
        SQLAlchemyError: The database does not work.
    """
    alerts, waiting = [], store.waiting()
    if failed := store.failed_within(_HOUR_S):
        alerts.append(f"{failed} job{'' if failed == 1 else 's'} FAILED in the last hour")
    if waiting.notification_age > _LATE_S:
        minutes = round(waiting.notification_age / 60)
        alerts.append(
            f"{waiting.notifications} completions are not announced, the oldest for {minutes} min"
        )
    return alerts


class _StoreMetrics(Collector):
    """Read from the store on each request, so that every process of a store reports the same."""

    def __init__(self, store: JobStore, workers_ready: Callable[[], int], health: Health):
        self._store, self._workers_ready, self._health = store, workers_ready, health

    def describe(self) -> list[Metric]:
        return []  # keeps registration from reading the store

    def collect(self) -> Iterator[Metric]:
        faults = GaugeMetricFamily(
            "rekognition_fault",
            "1 while this part is at fault.",
            labels=["part"],
        )
        troubles = {t.part for t in self._health.troubles()}
        for part in self._health.probes:
            faults.add_metric([part], float(part in troubles))
        yield faults
        yield GaugeMetricFamily(
            "rekognition_workers", "Worker processes that are ready.", value=self._workers_ready()
        )
        with contextlib.suppress(SQLAlchemyError):  # which is a fault of its own
            yield from self._of_store()

    def _of_store(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("rekognition_jobs", "Jobs by status.", labels=["status"])
        for status, number in self._store.counts().items():
            jobs.add_metric([status], number)
        yield jobs
        waiting = self._store.waiting()
        for name, text, value in (
            (
                "queue_age_seconds",
                "Age of the oldest job that no worker has taken up.",
                waiting.age,
            ),
            ("jobs_waiting", "Jobs that no worker has taken up.", waiting.jobs),
            ("notifications_pending", "Completions not yet published.", waiting.notifications),
            (
                "notification_age_seconds",
                "Age of the oldest completion that is not yet published.",
                waiting.notification_age,
            ),
        ):
            yield GaugeMetricFamily(f"rekognition_{name}", text, value=value)
        ended = CounterMetricFamily(
            "rekognition_jobs_ended",
            "Jobs that ended since the store was made, by status.",
            labels=["status"],
        )
        for status, number in self._store.ended().items():
            ended.add_metric([status], number)
        yield ended
        yield CounterMetricFamily(
            "rekognition_frames_analysed",
            "Frames analysed by all workers; its rate is frames per second.",
            value=self._store.frames(),
        )
