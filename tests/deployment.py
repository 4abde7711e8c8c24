"""A deployment without a daemon: ticks and runs happen when a test says so, on a real instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import dagster as dg
import pytest
from rekognition_double import RekognitionDouble

from rekognition_dagster import Lake, Settings, build_definitions
from rekognition_dagster.api import MessageQueue, Provisioned
from rekognition_dagster.orchestration.names import RekognitionVideoTranslator
from rekognition_dagster.videos import Video


@dataclass
class Deployment:
    """Definitions, an instance, and what the daemon would do with them."""

    settings: Settings
    instance: dg.DagsterInstance
    provisioned: Provisioned
    double: RekognitionDouble
    names: RekognitionVideoTranslator = field(default_factory=RekognitionVideoTranslator)
    cursors: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.definitions = build_definitions(self.settings)
        self.repository = self.definitions.get_repository_def()

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake)

    @property
    def queue(self) -> MessageQueue:
        return MessageQueue(boto3.client("sqs"), self.provisioned.queue_url)

    def evaluate(self, sensor: str) -> Any:
        """One tick's evaluation, without its consequences."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor),
            repository_def=self.repository,
            resources={
                k: v for k, v in self.repository.get_top_level_resources().items() if k != "none"
            },
        )
        return self.definitions.resolve_sensor_def(sensor)(context)

    def apply(self, sensor: str, result: Any) -> Any:
        """The consequences of a tick; runs are left to the test."""
        if isinstance(result, dg.SensorResult) and result.cursor is not None:
            self.cursors[sensor] = result.cursor
        return result

    def tick(self, sensor: str) -> Any:
        """One whole tick."""
        return self.apply(sensor, self.evaluate(sensor))

    def materialize(
        self,
        key: str,
        partitions: Sequence[str] = (),
        *,
        videos: Sequence[str] = (),
        **tags: str,
    ) -> dg.ExecuteInProcessResult:
        """Run an asset for consecutive partitions, as a backfill does; or for some videos."""
        span = (
            {
                "dagster/asset_partition_range_start": partitions[0],
                "dagster/asset_partition_range_end": partitions[-1],
            }
            if len(partitions) > 1
            else {}
        )
        return self._run(
            [dg.AssetKey([key])],
            partitions[0] if len(partitions) == 1 else None,
            {**span, **tags},
            {"ops": {key: {"config": {"videos": list(videos)}}}} if videos else {},
        )

    def _run(
        self,
        assets: Sequence[dg.AssetKey],
        partition: str | None,
        tags: Mapping[str, str],
        config: Mapping[str, Any],
    ) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=list(assets),
            partition_key=partition,
            tags=dict(tags),
            run_config=dict(config),
            instance=self.instance,
            raise_on_error=False,
        )

    def discover(self, *keys: str) -> list[str]:
        """Upload videos, tick discovery; their partitions."""
        put_videos(str(self.settings.bucket), *keys)
        self.tick("video_discovery")
        bucket = str(self.settings.bucket)
        return [self.settings.partitioning.partition_of(Video(bucket, k)) for k in keys]

    def complete(self, *keys: str) -> list[str]:
        """Upload videos, and let their jobs be started, end and be told of; their partitions."""
        partitions = self.discover(*keys)
        self.dispatch()
        self.notify()
        self.tick("completions")
        return partitions

    def run_requested(self, sensor: str) -> list[dg.ExecuteInProcessResult]:
        """Tick a sensor, and run what it asks for."""
        result = self.tick(sensor)
        requests = result.run_requests or [] if isinstance(result, dg.SensorResult) else []
        return [
            self._run(r.asset_selection or [], r.partition_key, r.tags, r.run_config)
            for r in requests
        ]

    def dispatch(self) -> int:
        """Tick the dispatch sensor, and run what it asks for; how many jobs were started."""
        before = len(self.double.jobs)
        self.run_requested("job_dispatch")
        return len(self.double.jobs) - before

    def notify(self, *job_ids: str) -> None:
        """Put the completions of jobs on the queue, enveloped by SNS."""
        sns: Any = boto3.client("sns")
        for job_id in job_ids or self.double.jobs:
            sns.publish(
                TopicArn=self.provisioned.topic_arn, Message=self.double.notification(job_id)
            )

    def materialized(self, key: str) -> set[str]:
        """Partitions of an asset that are materialized."""
        return self.instance.get_materialized_partitions(dg.AssetKey([key]))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """An answer from the lake."""
        return self.lake.connect().sql(sql).fetchall()

    def queued(self) -> int:
        """Messages on the queue, seen or not."""
        found = self.queue.client.get_queue_attributes(
            QueueUrl=self.queue.url, AttributeNames=["All"]
        )["Attributes"]
        return int(found["ApproximateNumberOfMessages"]) + int(
            found["ApproximateNumberOfMessagesNotVisible"]
        )


def put_videos(bucket: str, *keys: str, body: bytes = b"video") -> None:
    """Upload a few bytes under each key."""
    s3: Any = boto3.client("s3")
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=body)


class Killed(BaseException):
    """Ends a tick where a kill would."""


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> Iterator[None]:
    """Inside, a tick dies when it comes to call that method."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):  # noqa: PT012
        patch.setattr(owner, name, die)
        yield
