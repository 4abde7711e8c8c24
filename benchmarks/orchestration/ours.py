"""The package's pipeline from discovery to results, without analytics."""

from rekognition_dagster import build_definitions

defs = build_definitions(models=[])
