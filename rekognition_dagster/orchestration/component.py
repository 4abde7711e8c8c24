"""The component, for a deployment that is written in YAML."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import Field

from rekognition_dagster.orchestration.analytics import STANDARD_MODELS, load_models
from rekognition_dagster.orchestration.definitions import build_definitions
from rekognition_dagster.orchestration.settings import Settings


class RekognitionVideoComponent(Settings, dg.Component):
    """People, faces and labels of every video in a bucket, as tables.

    Each attribute has a default; one that is not given comes from its environment variable.

    Example:
        .. code-block:: yaml

            type: rekognition_dagster.RekognitionVideoComponent
            attributes:
              bucket: cameras
              prefix: lobby/
              lake: s3://analytics/lake
              operations: [person_tracking]
    """

    analytics: str | None = Field(
        default=None,
        description="A folder of .sql files, beside this one, in place of the standard ones.",
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The deployment's definitions."""
        given = self.model_dump(exclude_unset=True, exclude={"analytics"})
        folder = Path(context.path) / self.analytics if self.analytics else STANDARD_MODELS
        return build_definitions(Settings.from_env(**given), models=load_models(folder))
