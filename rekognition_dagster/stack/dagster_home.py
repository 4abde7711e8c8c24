"""Dagster's home in the local stack: its settings, and what a killed stack left in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

DEFINITIONS = "rekognition_dagster.definitions"
"""The module that the code server loads, and the name of its code location."""

_SETTINGS = """\
# Written by rekognition-dagster for its local stack; written again at each start.
telemetry:
  enabled: false
nux:
  enabled: false
run_queue:
  max_concurrent_runs: 2
  dequeue_interval_seconds: 1
sensors:
  use_threads: true
  num_workers: 4
schedules:
  use_threads: true
  num_workers: 1
# A run whose process was killed runs again; one that failed for a reason does not.
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
"""

_WORKSPACE = """\
# Written by rekognition-dagster for its local stack; written again at each start.
load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: {location}
"""


def workspace(port: int) -> str:
    """The text of a workspace file that names the code server at a port."""
    return _WORKSPACE.format(port=port, location=DEFINITIONS)


def prepare(home: Path) -> bool:
    """Write the settings, and settle runs whose processes are gone; whether it was there before.

    Only to be called while no daemon runs in this home: a run that counts as going on would else
    hold its place in the queue for ever.
    """
    settings = home / "dagster.yaml"
    had_runs = settings.exists()
    home.mkdir(parents=True, exist_ok=True)
    settings.write_text(_SETTINGS)
    if had_runs:
        _settle(home)
    return had_runs


def instance(home: Path) -> DagsterInstance:
    """The Dagster instance in this home; close it after use (it is a context manager)."""
    import dagster as dg

    return dg.DagsterInstance.from_config(str(home))


def _settle(home: Path) -> None:
    import dagster as dg

    going_on = [
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    with instance(home) as stored:
        for run in stored.get_runs(dg.RunsFilter(statuses=going_on)):
            stored.report_run_failed(run, "The local stack was stopped while this run went on.")
