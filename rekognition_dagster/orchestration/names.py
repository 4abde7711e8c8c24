"""What things are called in Dagster: a deployment's partitions, assets, groups and resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from rekognition_dagster.operations import Operation
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.state import State, open_state
from rekognition_dagster.state.jobs import Coverage
from rekognition_dagster.state.store import slug, sqlite_url
from rekognition_dagster.state.videos import Plan

BATCH_TAG = "rekognition/batch"
"""On a run that a sensor launched: the batch that it is for."""
BATCH_SIZE = 100
"""Partitions in one run of a backfill at most; a run for each would cost a process start each."""
TICK_S = 8.0
"""A sensor's tick takes up no more work after so long; Dagster's own limit is 60 s."""
RESOURCES = ("rekognition", "completion_queue", "arrivals_queue", "video_bucket", "lake")
"""The resources of a deployment, before its name is put before theirs."""


class RekognitionVideoTranslator:
    """Names the assets. Subclass it to fit them into a deployment's own naming.

    Args:
        prefix: The first part of each asset's key, where there is to be one.

    Example:
        .. code-block:: python

            class InTheArchive(RekognitionVideoTranslator):
                def asset_key(self, name: str) -> dg.AssetKey:
                    return dg.AssetKey(["archive", name])
    """

    def __init__(self, prefix: str | None = None):
        self._prefix = [prefix] if prefix else []

    def asset_key(self, name: str) -> dg.AssetKey:
        """The asset key for a name of this package: ``video``, ``person_tracking_job``,
        ``person_tracking_completion``, ``person_detections``, ``person_paths``, ..."""
        return dg.AssetKey([*self._prefix, name])

    def group_name(self, name: str) -> str:
        """The group for a name: ``videos``, the operation's, or ``analytics``."""
        return name

    def video(self) -> dg.AssetKey:
        """The video objects themselves."""
        return self.asset_key("video")

    def job(self, operation: Operation) -> dg.AssetKey:
        """The started jobs of an operation."""
        return self.asset_key(f"{operation.name}_job")

    def completion(self, operation: Operation) -> dg.AssetKey:
        """The completions of an operation's jobs."""
        return self.asset_key(f"{operation.name}_completion")

    def results(self, operation: Operation) -> dg.AssetKey:
        """The results of an operation: its table."""
        return self.asset_key(operation.table)

    def dead_letters(self) -> dg.AssetKey:
        """The dead-letter queue."""
        return self.asset_key("dead_letters")

    def nightly_batch(self) -> dg.AssetKey:
        """The nightly batches."""
        return self.asset_key("nightly_batch")


@dataclass(frozen=True)
class Deployment:
    """A deployment: its settings, its names, and where its state and resources are.

    Everything that Dagster knows by a name of ours carries the deployment's, so that several fit
    into one instance and one code location.
    """

    settings: Settings
    names: RekognitionVideoTranslator = field(default_factory=RekognitionVideoTranslator)

    def scoped(self, name: str) -> str:
        """A name for a sensor, schedule, job, resource or partition set of this deployment."""
        return f"{slug(self.settings.name)}_{name}"

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """A partition per video, or per group of videos."""
        return dg.DynamicPartitionsDefinition(name=self.scoped("videos"))

    def needs(self, *resources: str) -> set[str]:
        """Keys of resources, to be declared as required."""
        return {self.scoped(r) for r in resources}

    def resource(self, context: Any, name: str) -> Any:
        """A resource of a run or a tick, by its name without the deployment's."""
        return getattr(context.resources, self.scoped(name))

    def state(self, instance: dg.DagsterInstance) -> State:
        """The deployment's state: where the setting ``state`` says, or in Dagster's home."""
        url = self.settings.state or sqlite_url(instance.root_directory, self.settings.name)
        return open_state(url, self.settings.name)

    @property
    def operation_names(self) -> list[str]:
        """The operations that run."""
        return [o.name for o in self.settings.operation_list]

    @property
    def coverage(self) -> Coverage:
        """Which videos the settings cover."""
        return Coverage(self.settings.bucket, self.settings.prefix)

    @property
    def plan(self) -> Plan:
        """What a discovered video is to have."""
        return Plan(self.operation_names, self.settings.start == "arrival")
