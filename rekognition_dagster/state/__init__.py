"""The pipeline's own state: which video stands where, in a small SQL store.

Dagster's events are reports of it, written from its outbox. No Dagster here, and no AWS.
"""

from __future__ import annotations

from rekognition_dagster.state.store import State, open_state
from rekognition_dagster.state.tables import Phase

__all__ = ["Phase", "State", "open_state"]
