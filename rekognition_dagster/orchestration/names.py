"""What things are called in Dagster: partitions, assets, groups, and the keys of their metadata."""

from __future__ import annotations

import dagster as dg

from rekognition_dagster.operations import Operation

VIDEO_PARTITIONS = dg.DynamicPartitionsDefinition(name="videos")
"""A partition per video, or per group of videos; :class:`rekognition_dagster.videos.Partitioning`
makes the keys."""

LAUNCHED_TAG = "rekognition/launched"
"""On a run that a sensor launched: for what."""
FAILURE = "failure"
"""Value of that tag where the run only shows why something cannot be done."""
BATCH_SIZE = 100
"""Partitions in one run of a backfill at most; a run for each would cost a process start each."""

TICK_S = 10.0
"""A sensor's tick takes up no more work after so long; Dagster's own limit is 60 s."""


class RekognitionVideoTranslator:
    """Names the assets. Subclass it to fit them into a deployment's own naming.

    Example:
        .. code-block:: python

            class InTheArchive(RekognitionVideoTranslator):
                def asset_key(self, name: str) -> dg.AssetKey:
                    return dg.AssetKey(["archive", name])
    """

    def asset_key(self, name: str) -> dg.AssetKey:
        """The asset key for a name of this package: ``video``, ``person_tracking_job``,
        ``person_tracking_completion``, ``person_detections``, ``person_paths``, ..."""
        return dg.AssetKey([name])

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
