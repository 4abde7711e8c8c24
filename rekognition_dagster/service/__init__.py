"""The Rekognition Video endpoint: AWS's own protocol in front of the local engine.

``serve`` runs it in this process, ``python -m rekognition_dagster.service`` in one of its own.
Importing this package loads neither the engine nor anything that decodes video.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rekognition_dagster.service.settings import DEFAULT_PORT, Settings, default_store

if TYPE_CHECKING:
    from rekognition_dagster.service.server import serve

__all__ = ["DEFAULT_PORT", "Settings", "default_store", "serve"]


def __getattr__(name: str) -> Any:
    if name == "serve":
        try:
            from rekognition_dagster.service.server import serve
        except ImportError as error:
            from rekognition_dagster.errors import ConfigurationError

            raise ConfigurationError(
                f"the service needs {error.name}: pip install 'rekognition-dagster[service]'"
            ) from error
        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
