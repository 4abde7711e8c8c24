"""The compaction asset: what is due is done, and results go on as if nothing had been merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from deployment import Deployment, put_videos

from rekognition_dagster import Lake, LakeResource, Settings, build_definitions
from rekognition_dagster.orchestration import names
from rekognition_dagster.orchestration.compaction import build_compaction_asset
from rekognition_dagster.videos import Video

OURS = names.Deployment(Settings())
AT_ONCE = {"grace_hours": 0, "quiet_hours": 0, "min_files": 2}


def compact(lake: Lake) -> dict[str, Any]:
    result = dg.materialize(
        [build_compaction_asset(OURS)],
        resources={OURS.scoped("lake"): LakeResource(url=lake.url)},
        run_config={"ops": {"lake_compaction": {"config": AT_ONCE}}},
        raise_on_error=False,
    )
    if not result.success:
        (failure,) = [e for e in result.all_events if e.is_step_failure]
        return {"failed": str(failure.step_failure_data.user_failure_data)}
    (done,) = result.asset_materializations_for_node("lake_compaction")
    return {k: v.value for k, v in done.metadata.items() if k != "dagster/code_version"}


def files(lake: Lake, table: str) -> list[str]:
    return [p.name for p in sorted(Path(lake.url).glob(f"{table}/*/*.parquet"))]


def test_results_that_were_compacted_are_skipped_and_written_again(
    deployment: Deployment,
) -> None:
    bucket = str(deployment.settings.bucket)
    put_videos(bucket, "cam/2026-01-31/a.mp4", "cam/2026-01-31/b.mp4")

    def analyse() -> list[tuple[Any, ...]]:
        deployment.tick("video_discovery")
        deployment.dispatch()
        deployment.notify()
        deployment.tick("completions")
        deployment.tick("reports")
        partitions = deployment.partitions()
        assert deployment.materialize("person_detections", partitions).success
        return deployment.rows("SELECT * FROM person_detections ORDER BY ALL")

    first = analyse()
    asked = deployment.double.calls["GetPersonTracking"]
    for outcome in ("staged", "published"):
        assert compact(deployment.lake) == {"days": 3, outcome: 3}
        partitions = deployment.partitions()
        assert deployment.materialize("person_detections", partitions).success
        assert deployment.rows("SELECT * FROM person_detections ORDER BY ALL") == first
    assert deployment.double.calls["GetPersonTracking"] == asked
    assert deployment.materialize("video_summary", partitions).success
    assert deployment.rows("SELECT people FROM video_summary") == [(2,), (2,)]
    (merged,) = files(deployment.lake, "person_detections")
    assert merged.startswith("compacted.")

    put_videos(bucket, "cam/2026-01-31/a.mp4", body=b"another version")
    second = analyse()
    assert files(deployment.lake, "person_detections") == [merged]
    assert len(second) == len(first) == 20
    assert {row[0] for row in second if row not in first} == {f"s3://{bucket}/cam/2026-01-31/a.mp4"}


def test_a_day_that_cannot_be_merged_is_named_and_stops_no_other(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for day in ("2026-01-30", "2026-01-31"):
        for name in ("a", "b"):
            lake.write_video(Video("cameras", f"{day}/{name}.mp4"), {"codec": "h264"})
    broken = tmp_path / lake.path("videos", Video("cameras", "2026-01-30/a.mp4"))
    content = broken.read_bytes()
    broken.write_bytes(b"no")
    told = compact(lake)["failed"]
    assert "1 days or files could not be compacted, of 2 days" in told
    assert f"{broken} is left out: " in told
    broken.write_bytes(content)
    assert compact(lake) == {"days": 2, "staged": 1, "published": 1}


def test_the_schedule_follows_its_setting() -> None:
    definitions = build_definitions(Settings(compaction="15 6 * * *", timezone="Europe/Zurich"))
    schedule = definitions.resolve_schedule_def(OURS.scoped("compaction"))
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("15 6 * * *", "Europe/Zurich")
