"""Assets per day: one run for all days that are behind, and again only for what changed."""

from __future__ import annotations

import time
from collections import Counter
from datetime import date, datetime, timezone
from pathlib import Path
from unittest.mock import Mock

import boto3
import dagster as dg
import pytest
from deployment import Deployment
from walks import PATTERN

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration import days
from rekognition_dagster.orchestration.daily_report import behind
from rekognition_dagster.state.tables import WORK

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
    deployment.set(
        camera_pattern=PATTERN,
        zones=str(zones),
        timezone="Europe/Zurich",
        days_quiet_minutes=0,
        deleted="forget",
    )
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
    zones = Path(str(watched.settings.zones))
    zones.write_text(f"# A comment.\n{zones.read_text()}")
    assert watched.run_requested("days_refresh") == []
    zones.write_text(ZONES.format(camera="south"))
    watched.set(zones_since="2026-01-31")
    (run,) = watched.run_requested("days_refresh")
    assert run.success
    assert days_of(watched, "zone_visits") == {"2026-01-30": 1, "2026-01-31": 2}
    assert days_of(watched, "heat") == both
    assert watched.run_requested("days_refresh") == []
    # results of an older day count all the same
    watched.complete("north/2026-01-29/120000.mp4")
    watched.run_requested("results_refresh")
    (run,) = watched.run_requested("days_refresh")
    assert run.success
    assert days_of(watched, "zone_visits") == {"2026-01-29": 1, "2026-01-30": 1, "2026-01-31": 2}
    # a backfill in the UI computes what is chosen
    watched.materialize("heat", ["2026-01-30", "2026-01-31"])
    both["2026-01-29"] = 1
    assert days_of(watched, "heat") == {"2026-01-29": 1, "2026-01-30": 2, "2026-01-31": 2}
    assert days_of(watched, "encounters") == both


def test_a_day_shows_its_rows_and_a_run_what_it_is_about(watched: Deployment) -> None:
    (run,) = watched.run_requested("days_refresh")
    record = watched.instance.get_run_record_by_id(run.run_id)
    assert record is not None
    tags = {k: v for k, v in record.dagster_run.tags.items() if k.startswith("rekognition/")}
    assert tags["rekognition/videos"] == "3"
    assert tags["rekognition/dates"] == "2026-01-30 to 2026-01-31"
    assert "heat" in tags["rekognition/models"].split(", ")
    records = watched.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(["activity_by_day"]), asset_partitions=["2026-01-31"]),
        limit=1,
    ).records
    assert records[0].asset_materialization is not None
    shown = records[0].asset_materialization.metadata
    assert str(shown["first_rows"].value).splitlines()[0].startswith("| camera | day |")
    assert len(str(shown["first_rows"].value).splitlines()) == 2 + 2
    query = str(shown["query"].value).removeprefix("```sql\n").removesuffix("\n```")
    assert len(watched.rows(query)) == 2
    assert Path(str(shown["file"].value)).is_file()


def test_a_day_is_computed_when_its_videos_have_come_or_once_an_hour(
    watched: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    clock = {"minutes": 0.0}
    monkeypatch.setattr(days, "time", Mock(time=lambda: now + clock["minutes"] * 60))
    watched.set(days_quiet_minutes=10)

    def requested(minutes: float) -> int:
        clock["minutes"] = minutes
        return len(watched.tick("days_refresh").run_requests)

    def come(minutes: float) -> int:
        with watched.state.write() as connection:
            connection.execute(WORK.update().values(results_at=now + minutes * 60))
        return requested(minutes)

    assert [requested(m) for m in (5, 11, 12)] == [0, 1, 0]
    # they keep coming
    assert [come(m) for m in (20, 29, 79, 81)] == [0, 0, 0, 1]
    assert [come(82), requested(91), requested(93)] == [0, 0, 1]
    # an edit of the zones does not wait
    assert come(111) == 0
    Path(str(watched.settings.zones)).write_text(ZONES.format(camera="south"))
    assert requested(111) == 1


def test_a_deleted_video_alone_makes_its_day_computed_again(watched: Deployment) -> None:
    watched.run_requested("days_refresh")
    sql = "SELECT camera, day::VARCHAR FROM activity_by_day ORDER BY ALL"
    assert len(watched.rows(sql)) == 3
    s3 = boto3.client("s3")
    for keys, left in ((KEYS[1:2], 2), (KEYS[:1] + KEYS[2:], 0)):
        for key in keys:
            s3.delete_object(Bucket=str(watched.settings.bucket), Key=key)
        watched.tick("video_discovery")
        (run,) = watched.run_requested("days_refresh")
        assert run.success
        assert len(watched.rows(sql)) == left
        assert watched.run_requested("days_refresh") == []


def test_zones_in_s3_are_read_every_few_minutes_only(
    watched: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, bucket = boto3.client("s3"), str(watched.settings.bucket)
    s3.put_object(Bucket=bucket, Key="z/zones.yaml", Body=ZONES.format(camera="north").encode())
    watched.set(zones=f"s3://{bucket}/z/zones.yaml")
    (run,) = watched.run_requested("days_refresh")
    assert run.success
    assert watched.rows("SELECT DISTINCT zone FROM occupancy WHERE zone IS NOT NULL") == [("all",)]
    s3.put_object(Bucket=bucket, Key="z/zones.yaml", Body=ZONES.format(camera="south").encode())
    assert watched.tick("days_refresh").skip_message == "Nothing is behind"
    now = time.time()
    monkeypatch.setattr(days, "time", Mock(time=lambda: now + 200))
    (run,) = watched.run_requested("days_refresh")
    assert run.success
    sql = "SELECT DISTINCT camera FROM occupancy WHERE zone IS NOT NULL"
    assert watched.rows(sql) == [("south",)]


def test_a_mistake_in_the_zones_is_shown_by_the_sensor(watched: Deployment) -> None:
    Path(str(watched.settings.zones)).write_text("cameras: 3")
    with pytest.raises(ConfigurationError, match=r"zones.yaml:1: cameras is 3; write a list"):
        watched.tick("days_refresh")


def test_without_results_there_is_nothing_to_compute(deployment: Deployment) -> None:
    assert deployment.tick("days_refresh").skip_message == "There are no results yet"


def test_without_people_there_are_no_assets_per_day(deployment: Deployment) -> None:
    deployment.set(operations=["face_detection"])
    names = {key.to_user_string() for key in deployment.repository.asset_graph.get_all_asset_keys()}
    assert "zone_visits" not in names


def test_a_report_is_written_for_days_whose_tables_are_newer(watched: Deployment) -> None:
    watched.run_requested("days_refresh")
    lake = watched.settings.open_lake()
    assert [str(day) for day in behind(lake, date(2026, 2, 1))] == ["2026-01-30", "2026-01-31"]
    assert list(behind(lake, date(2026, 3, 1))) == []
    watched.materialize("daily_report", ["2026-01-31"])
    page = lake.storage.read("reports/2026-01-31.html")
    assert page is not None
    assert b"Saturday, 31 January 2026" in page
    assert [str(day) for day in behind(lake, date(2026, 2, 1))] == ["2026-01-30"]
    key = dg.AssetKey(["daily_report"])
    (record,) = watched.instance.fetch_materializations(key, limit=9).records
    metadata = record.asset_materialization.metadata  # type: ignore[union-attr]
    assert metadata["people"].value == 4  # two at each of two cameras
    summary = str(metadata["summary"].value)
    assert "| north |" in summary
    assert len(summary) < 1000
    schedule = watched.definitions.resolve_schedule_def(watched.ours.scoped("daily_report"))
    when = datetime(2026, 2, 1, 6, tzinfo=timezone.utc)
    with dg.build_schedule_context(
        watched.instance,
        scheduled_execution_time=when,
        repository_def=watched.definitions.get_repository_def(),
    ) as context:
        (request,) = schedule.evaluate_tick(context).run_requests or []
    assert request.partition_key == "2026-01-30"
