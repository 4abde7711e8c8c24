"""Translator: what each asset of a deployment is called, and how Dagster shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import dagster as dg

from rekognition_dagster.analytics import AnalyticsModel
from rekognition_dagster.operations import Operation

AssetKind = Literal["video", "job", "completion", "results", "analytics", "upkeep"]
"""What an asset is: a video, a started job, its completion, a table of results, a table computed
from those, or the pipeline's own upkeep."""


@dataclass(frozen=True)
class RekognitionVideoAssetData:
    """What a translator knows of an asset.

    Args:
        name: Its name without a prefix: ``video``, ``person_tracking_job``,
            ``person_tracking_completion``, ``person_detections``, ``person_paths``, ...
        kind: What it is.
        spec: How the package describes it.
        operation: The operation of a job, a completion or results.
        model: The model of analytics.
    """

    name: str
    kind: AssetKind
    spec: dg.AssetSpec
    operation: Operation | None = None
    model: AnalyticsModel | None = None


class RekognitionVideoTranslator:
    """Describes the assets: key, group, owners, tags, kinds, automation condition, and so on.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import RekognitionVideoTranslator, Settings, build_definitions


            class InTheArchive(RekognitionVideoTranslator):
                def get_asset_spec(self, data):
                    spec = super().get_asset_spec(data)
                    spec = spec.replace_attributes(
                        key=spec.key.with_prefix("archive"), owners=["team:video"]
                    )
                    return spec.merge_attributes(tags={"kind_of_asset": data.kind})


            defs = build_definitions(Settings(bucket="cameras"), translator=InTheArchive())
    """

    def get_asset_spec(self, data: RekognitionVideoAssetData) -> dg.AssetSpec:
        """Return the description of an asset; the package's own by default.

        It is asked for keys alone, too, where an asset depends on another: ``data.spec`` then has
        no description. The same data has to give the same key.
        """
        return data.spec
