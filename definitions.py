"""The code location: settings in, Definitions out, nothing else."""

from __future__ import annotations

from assets import ANALYTICS, settings
from rekognition_dagster import build_definitions

defs = build_definitions(settings(), models=ANALYTICS)
