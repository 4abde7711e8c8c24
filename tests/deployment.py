"""A deployment without a daemon: ticks and runs happen when a test says so, on a real instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from rekognition_double import RekognitionDouble

from rekognition_dagster import Lake, Settings, build_definitions
from rekognition_dagster.api import MessageQueue, Provisioned
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.names import Deployment as Names
from rekognition_dagster.state import Phase, State
from rekognition_dagster.state.results import Stand, stands
from rekognition_dagster.state.tables import WORK
from rekognition_dagster.videos import Video


class Killed(BaseException):
    """Ends a tick where a kill would."""


@dataclass(frozen=True)
class Tick:
    """What a tick of a sensor asks for."""

    run_requests: list[dg.RunRequest]
    skip_message: str | None
    cursor: str | None


@dataclass
class Deployment:
    """Definitions, an instance, and what the daemon would do with them."""

    settings: Settings
    instance: dg.DagsterInstance
    provisioned: Provisioned
    double: RekognitionDouble
    cursors: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.definitions = build_definitions(self.settings)
        self.repository = self.definitions.get_repository_def()
        self.ours = Names(self.settings)

    def set(self, **settings: Any) -> None:
        """Change settings, as a restart with another environment does."""
        self.settings = self.settings.model_copy(update=settings)
        self.__post_init__()

    @property
    def state(self) -> State:
        return self.ours.state(self.instance)

    def stands(self, operation: str = "person_tracking") -> dict[str, Stand]:
        """How each video stands, by its S3 key."""
        with self.state.read() as connection:
            keys = list(connection.scalars(sa.select(WORK.c.key).distinct()))
            return {s.video.key: s for s in stands(connection, operation, keys)}

    def phases(self, operation: str = "person_tracking") -> dict[str, Phase]:
        """What is next for each video, by its S3 key."""
        return {key: s.phase for key, s in self.stands(operation).items()}

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake)

    @property
    def queue(self) -> MessageQueue:
        return MessageQueue(boto3.client("sqs"), self.provisioned.queue_url)

    def evaluate(self, sensor: str) -> Tick:
        """One tick's evaluation, without its consequences."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor),
            repository_def=self.repository,
            resources={
                k: v for k, v in self.repository.get_top_level_resources().items() if k != "none"
            },
        )
        definition = self.definitions.resolve_sensor_def(self.ours.scoped(sensor))
        try:
            data = definition.evaluate_tick(context)
        except dg.DagsterError as error:
            if isinstance(error.__cause__, Killed | ConfigurationError):
                raise error.__cause__ from None
            raise
        return Tick(list(data.run_requests or []), data.skip_message, data.cursor)

    def apply(self, sensor: str, result: Tick) -> Tick:
        """The consequences of a tick; runs are left to the test."""
        if result.cursor is not None:
            self.cursors[sensor] = result.cursor
        return result

    def tick(self, sensor: str) -> Tick:
        """One whole tick."""
        return self.apply(sensor, self.evaluate(sensor))

    def materialize(
        self,
        *keys: str | Sequence[str],
        videos: Sequence[str] = (),
        **tags: str,
    ) -> dg.ExecuteInProcessResult:
        """Run assets for consecutive partitions, as a backfill does; or for some videos.

        Args:
            keys: Names of assets, and last the partitions.
            videos: Named in the first asset's config.
            tags: More tags of the run.
        """
        assets = [k for k in keys if isinstance(k, str)]
        partitions = next((list(k) for k in keys if not isinstance(k, str)), [])
        span = (
            {
                "dagster/asset_partition_range_start": partitions[0],
                "dagster/asset_partition_range_end": partitions[-1],
            }
            if len(partitions) > 1
            else {}
        )
        return self._run(
            [dg.AssetKey([key]) for key in assets],
            partitions[0] if len(partitions) == 1 else None,
            {**span, **tags},
            {"ops": {assets[0]: {"config": {"videos": list(videos)}}}} if videos else {},
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
        self.tick("reports")
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
        requests = self.tick(sensor).run_requests
        (job,) = self.definitions.resolve_sensor_def(self.ours.scoped(sensor)).jobs
        return [
            self.definitions.resolve_job_def(job.name).execute_in_process(
                tags=dict(r.tags), instance=self.instance, raise_on_error=False
            )
            for r in requests
        ]

    def dispatch(self) -> int:
        """Tick the dispatch sensor; how many jobs were started."""
        before = len(self.double.jobs)
        self.tick("job_dispatch")
        return len(self.double.jobs) - before

    def notify(self, *job_ids: str) -> None:
        """Put the completions of jobs on the queue, enveloped by SNS."""
        sns: Any = boto3.client("sns")
        for job_id in job_ids or self.double.jobs:
            sns.publish(
                TopicArn=self.provisioned.topic_arn, Message=self.double.notification(job_id)
            )

    def partitions(self) -> list[str]:
        """The deployment's partitions in Dagster."""
        name = str(self.ours.partitions.name)
        return list(self.instance.get_dynamic_partitions(name))

    def materialized(self, key: str) -> set[str]:
        """Partitions of an asset that are materialized, once all reports are made."""
        self.tick("reports")
        return self.instance.get_materialized_partitions(dg.AssetKey([key]))

    def red(self, key: str) -> set[str]:
        """Partitions of an asset that count as failed in Dagster's UI."""
        asset, partitions = dg.AssetKey([key]), self.ours.partitions
        status = get_and_update_asset_status_cache_value(self.instance, asset, partitions)
        assert status is not None
        subset = status.deserialize_failed_partition_subsets(partitions)
        return set(subset.get_partition_keys())

    def failing(self, key: str, check: str = "has_results") -> set[str]:
        """Partitions whose check fails, once all reports are made."""
        self.tick("reports")
        storage = self.instance.event_log_storage
        found = storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(dg.AssetKey([key]), check)]
        )
        return {str(i.partition_key) for i in found if i.latest_execution_status.value == "FAILED"}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """An answer from the lake."""
        with self.lake.connect() as connection:
            return connection.sql(sql).fetchall()

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


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Iterator[None]:
    """Inside, a tick dies when it comes to call that method."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):  # noqa: PT012
        patch.setattr(owner, name, die)
        yield
