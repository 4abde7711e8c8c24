"""Assets per day: one run for all days that are behind, and again only for what changed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from deployment import Deployment
from walks import PATTERN

from rekognition_dagster.errors import ConfigurationError

ZONES = """
cameras:
  - camera: {camera}
    zones:
      all: [[0, 0], [1, 0], [1, 1], [0, 1]]
"""
KEYS = ("north/2026-01-30/120000.mp4", "north/2026-01-31/120000.mp4", "south/2026-01-31/120000.mp4")


def days_of(deployment: Deployment, table: str) -> dict[str, int]:
    """How often each day of an asset was materialized."""
    records = deployment.instance.fetch_materializations(dg.AssetKey([table]), limit=100).records
    return dict(Counter(str(record.partition_key) for record in records))


@pytest.fixture
def watched(deployment: Deployment, tmp_path: Path) -> Deployment:
    """A deployment with results of two cameras and two days."""
    zones = tmp_path / "zones.yaml"
    zones.write_text(ZONES.format(camera="north"))
    deployment.set(camera_pattern=PATTERN, zones=str(zones), timezone="Europe/Zurich")
    deployment.complete(*KEYS)
    deployment.run_requested("results_refresh")
    return deployment


def test_one_run_computes_all_days_and_then_only_those_of_changed_zones(
    watched: Deployment,
) -> None:
    (run,) = watched.run_requested("days_refresh")
    assert run.success
    both = {"2026-01-30": 1, "2026-01-31": 1}
    assert days_of(watched, "activity_by_day") == both
    assert days_of(watched, "heat") == both
    found = watched.rows("SELECT camera, day::VARCHAR, people FROM activity_by_day ORDER BY ALL")
    assert [row[:2] for row in found] == [
        ("north", "2026-01-30"),
        ("north", "2026-01-31"),
        ("south", "2026-01-31"),
    ]
    assert watched.run_requested("days_refresh") == []
    Path(str(watched.settings.zones)).write_text(ZONES.format(camera="south"))
    watched.set(zones_since="2026-01-31")
    (run,) = watched.run_requested("days_refresh")
    assert run.success
    assert days_of(watched, "zone_visits") == {"2026-01-30": 1, "2026-01-31": 2}
    assert days_of(watched, "heat") == both
    assert watched.run_requested("days_refresh") == []
    # a backfill in the UI computes what is chosen
    watched.materialize("heat", ["2026-01-30", "2026-01-31"])
    assert days_of(watched, "heat") == {"2026-01-30": 2, "2026-01-31": 2}
    assert days_of(watched, "encounters") == both


def test_a_mistake_in_the_zones_is_shown_by_the_sensor(watched: Deployment) -> None:
    Path(str(watched.settings.zones)).write_text("cameras: 3")
    with pytest.raises(ConfigurationError, match=r"zones.yaml:1: cameras must be a list"):
        watched.tick("days_refresh")


def test_without_results_there_is_nothing_to_compute(deployment: Deployment) -> None:
    assert deployment.tick("days_refresh").skip_message == "There are no results yet"


def test_without_people_there_are_no_assets_per_day(deployment: Deployment) -> None:
    deployment.set(operations=["face_detection"])
    names = {key.to_user_string() for key in deployment.repository.asset_graph.get_all_asset_keys()}
    assert "zone_visits" not in names
