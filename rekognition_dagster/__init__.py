"""People, faces and labels in an archive of video, as tables.

The plugin's public names; the engine, the service and the command line are in modules of their own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import OPERATIONS, Operation
from rekognition_dagster.videos import Video

if TYPE_CHECKING:
    from rekognition_dagster.analytics import PythonModel, SqlModel, load_models
    from rekognition_dagster.orchestration.component import RekognitionVideoComponent
    from rekognition_dagster.orchestration.definitions import (
        build_analytics,
        build_checks,
        build_definitions,
        build_local_backfill,
        build_operation,
        build_resources,
        build_schedules,
        build_sensors,
    )
    from rekognition_dagster.orchestration.local_backfill import LocalBackfillConfig
    from rekognition_dagster.orchestration.resources import (
        LakeResource,
        QueueResource,
        RekognitionVideoResource,
        VideoBucketResource,
    )
    from rekognition_dagster.orchestration.settings import OperationService, Settings, VideoSource
    from rekognition_dagster.orchestration.translator import (
        RekognitionVideoAssetData,
        RekognitionVideoTranslator,
    )

__all__ = [
    "OPERATIONS",
    "Lake",
    "LakeResource",
    "LocalBackfillConfig",
    "Operation",
    "OperationService",
    "PythonModel",
    "QueueResource",
    "RekognitionVideoAssetData",
    "RekognitionVideoComponent",
    "RekognitionVideoResource",
    "RekognitionVideoTranslator",
    "Settings",
    "SqlModel",
    "Video",
    "VideoBucketResource",
    "VideoSource",
    "build_analytics",
    "build_checks",
    "build_definitions",
    "build_local_backfill",
    "build_operation",
    "build_resources",
    "build_schedules",
    "build_sensors",
    "load_models",
]

_MODULES = {
    "analytics": ("PythonModel", "SqlModel", "load_models"),
    "orchestration.component": ("RekognitionVideoComponent",),
    "orchestration.definitions": (
        "build_analytics",
        "build_checks",
        "build_definitions",
        "build_local_backfill",
        "build_operation",
        "build_resources",
        "build_schedules",
        "build_sensors",
    ),
    "orchestration.local_backfill": ("LocalBackfillConfig",),
    "orchestration.resources": (
        "QueueResource",
        "LakeResource",
        "RekognitionVideoResource",
        "VideoBucketResource",
    ),
    "orchestration.settings": ("OperationService", "Settings", "VideoSource"),
    "orchestration.translator": ("RekognitionVideoAssetData", "RekognitionVideoTranslator"),
}


def __getattr__(name: str) -> object:
    """Import Dagster only for those who use the plugin: the service and the engine do not."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """All public names: Dagster's `dg` looks for components here."""
    return sorted({*globals(), *__all__})
