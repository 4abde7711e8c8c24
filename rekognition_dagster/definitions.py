"""The package's own code location, configured by the environment alone.

For `dagster dev -m rekognition_dagster.definitions`, and for the demo.
"""

from __future__ import annotations

from rekognition_dagster.orchestration.definitions import build_definitions

defs = build_definitions()
