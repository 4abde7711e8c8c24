"""This deployment's assets: which operations run, and which analytics follow.

Edit here what your deployment does differently; where things are comes from the environment.
"""

from __future__ import annotations

from pathlib import Path

from rekognition_dagster import Settings, load_models

ANALYTICS = [*load_models(), *load_models(Path(__file__).parent / "analytics")]
"""The standard models, and every .sql file in the folder ``analytics``."""


def settings() -> Settings:
    """The deployment's settings: from the environment; pass overrides to fix one for good."""
    return Settings.from_env()
