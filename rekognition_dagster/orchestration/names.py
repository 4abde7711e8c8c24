"""A deployment: what its partitions, assets, groups and resources are called in Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import dagster as dg

from rekognition_dagster.analytics import AnalyticsModel, in_order, load_models
from rekognition_dagster.analytics.daily import daily_models
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.orchestration.metadata import as_schema
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.orchestration.translator import (
    AssetKind,
    RekognitionVideoAssetData,
    RekognitionVideoTranslator,
)
from rekognition_dagster.state import State, open_state
from rekognition_dagster.state.results import Model
from rekognition_dagster.state.store import slug, sqlite_url
from rekognition_dagster.state.videos import Plan

BATCH_TAG = "rekognition/batch"
"""On a run that a sensor launched: the batch that it is for."""
DEPLOYMENT_TAG = "rekognition/deployment"
"""On assets and on runs that a sensor launched: the deployment's name."""
BATCH_SIZE = 100
"""Partitions in one run of a backfill at most; a run for each would cost a process start each."""
TICK_S = 8.0
"""A sensor's tick takes up no more work after so long; Dagster's own limit is 60 s."""
About: TypeAlias = Operation | AnalyticsModel | str | None
"""What an asset is about: see :meth:`Deployment.asset`."""
RESOURCES = ("rekognition", "completion_queue", "arrivals_queue", "video_bucket", "lake")
"""The resources of a deployment, before its name is put before theirs."""


@dataclass(frozen=True)
class Deployment:
    """A deployment: its settings, its names, and where its state and resources are.

    Everything that Dagster knows by a name of ours carries the deployment's, so that several fit
    into one instance and one code location.

    Args:
        settings: What it chooses.
        translator: Describes its assets.
        models: Its analytics.
    """

    settings: Settings
    translator: RekognitionVideoTranslator = field(default_factory=RekognitionVideoTranslator)
    models: Sequence[AnalyticsModel] = field(default_factory=load_models)

    # -- assets -------------------------------------------------------------------------------

    def asset(
        self,
        kind: AssetKind,
        about: About = None,
        **attributes: Any,
    ) -> dg.AssetSpec:
        """The description of an asset, as the translator has it.

        Args:
            kind: What it is.
            about: The operation of a job, a completion or results; the model of analytics; the
                name of upkeep.
            attributes: More of a :class:`dagster.AssetSpec`.
        """
        operation = about if isinstance(about, Operation) else None
        model = about if isinstance(about, AnalyticsModel) else None
        name = _asset_name(kind, about)
        prefix = [self.settings.asset_prefix] if self.settings.asset_prefix else []
        if model:
            attributes = {**_of_model(model), **attributes}
        spec = dg.AssetSpec(
            dg.AssetKey([*prefix, name]),
            **{
                "group_name": operation.name if operation else _GROUPS.get(name, "analytics"),
                "tags": {DEPLOYMENT_TAG: slug(self.settings.name)},
                "owners": self.settings.owners,
                **attributes,
            },
        )
        data = RekognitionVideoAssetData(name, kind, spec, operation, model)
        return self.translator.get_asset_spec(data)

    def key(self, kind: AssetKind, about: About = None) -> dg.AssetKey:
        """The key of an asset; arguments as for :meth:`asset`."""
        return self.asset(kind, about).key

    def table_key(self, name: str) -> dg.AssetKey:
        """The key of what makes a table: of an operation, or of a model, by either's name."""
        if name in OPERATIONS:
            return self.key("results", OPERATIONS[name])
        return self.key("analytics", next(m for m in self.models if m.name == name))

    @cached_property
    def ordered_models(self) -> list[tuple[AnalyticsModel, Model]]:
        """Analytics in the order in which they are computed, with what the state knows of each;
        without those of operations that do not run."""
        operation_of = {o.table: o.name for o in self.settings.operation_list}
        return [
            (m, Model(m.name, self._code(m), tuple(operation_of.get(r, r) for r in reads)))
            for m, reads in in_order(self.models, self.settings.operation_list)
        ]

    def _code(self, model: AnalyticsModel) -> str:
        """The model's version, and what it reads of the settings of cameras."""
        uses_cameras = bool(model.mentions(["videos"])) and self.settings.cameras != Cameras()
        return (
            f"{model.code_version} {self.settings.cameras}" if uses_cameras else model.code_version
        )

    @cached_property
    def daily_models(self) -> list[AnalyticsModel]:
        """Analytics per day, in the order in which they are computed."""
        return daily_models(self.models)

    @property
    def days(self) -> dg.DynamicPartitionsDefinition:
        """A partition per day of the cameras' clocks."""
        return dg.DynamicPartitionsDefinition(name=self.scoped("days"))

    @property
    def state_models(self) -> list[Model]:
        """What the state knows of the analytics, in the order in which they are computed."""
        return [model for _, model in self.ordered_models]

    # -- names and places ---------------------------------------------------------------------

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
    def plan(self) -> Plan:
        """What a discovered video is to have."""
        settings = self.settings
        return Plan(
            self.operation_names,
            settings.start == "arrival",
            settings.source_list,
            settings.order,
            settings.first,
        )


_GROUPS = {
    "video": "videos",
    "nightly_batch": "nightly",
    "pipeline_status": "nightly",
    "daily_report": "nightly",
    "dead_letters": "nightly",
    "lake_compaction": "lake",
}


def _of_model(model: AnalyticsModel) -> dict[str, Any]:
    """What is known of a model before it runs, as members of a :class:`dagster.AssetSpec`."""
    texts = model.column_descriptions
    columns = [(name, type_, texts.get(name)) for name, type_ in model.columns.items()]
    return {
        "kinds": {"duckdb", "parquet"},
        "code_version": model.code_version,
        "skippable": True,
        "description": model.description,
        "metadata": {"dagster/column_schema": as_schema(columns)} if columns else {},
    }


def _asset_name(kind: AssetKind, about: About) -> str:
    match about:
        case None:
            return kind
        case str():
            return about
        case AnalyticsModel():
            return about.name
        case _:
            return about.table if kind == "results" else f"{about.name}_{kind}"
