"""Many videos in one partition: all that works for a video works for one of a group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deployment import Deployment, put_videos
from rekognition_double import ApiFault

from rekognition_dagster.orchestration import discovery
from rekognition_dagster.state import Phase

DAY = "lobby/2026-01-31"


@pytest.fixture
def grouped(deployment: Deployment) -> Deployment:
    """The deployment, with a partition per camera and day."""
    deployment.set(partition_by="{camera}/{date}", retry_minutes=1e-9)
    return deployment


def phases(deployment: Deployment) -> dict[str, Phase]:
    """What is next for each video, by the end of its key."""
    return {key.rpartition("/")[2]: phase for key, phase in deployment.phases().items()}


def complete(deployment: Deployment, *job_ids: str) -> None:
    deployment.notify(*job_ids)
    deployment.tick("completions")
    deployment.tick("completions")


def events(deployment: Deployment, key: str) -> int:
    return len(deployment.instance.fetch_materializations(dg.AssetKey([key]), limit=99).records)


def test_videos_of_a_group_go_the_whole_way_in_one_partition(grouped: Deployment) -> None:
    keys = [f"{DAY}/{i}.mp4" for i in range(3)]
    day, *_, alone = grouped.discover(*keys, "elsewhere.mp4")
    bucket = grouped.settings.bucket
    assert (day, alone) == (f"{bucket}/{DAY}", f"{bucket}/elsewhere.mp4")
    assert set(grouped.partitions()) == {day, alone}
    assert grouped.dispatch() == 4
    complete(grouped)
    assert grouped.queued() == 0
    for sensor in ("results_refresh", "analytics_refresh"):
        (run,) = grouped.run_requested(sensor)
        assert run.success
        assert grouped.run_requested(sensor) == []
    for name in ("person_detections", "video_summary"):
        assert grouped.materialized(name) == {day, alone}
        assert grouped.rows(f"SELECT count(DISTINCT video) FROM {name}") == [(4,)]
        assert events(grouped, name) == 2
    assert set(phases(grouped).values()) == {Phase.ANALYSED}
    assert grouped.tick("video_discovery").skip_message
    assert grouped.dispatch() == 0


def test_a_group_grows_and_completes_in_parts(grouped: Deployment) -> None:
    grouped.set(max_jobs_in_flight=2)
    grouped.discover(*(f"{DAY}/{i}.mp4" for i in range(3)))
    assert grouped.dispatch() == 2
    complete(grouped, "job-1")
    assert phases(grouped) == {
        "0.mp4": Phase.IN_FLIGHT,
        "1.mp4": Phase.UNPAGED,
        "2.mp4": Phase.WAITING,
    }
    assert [r.success for r in grouped.run_requested("results_refresh")] == [True]
    assert [r.success for r in grouped.run_requested("analytics_refresh")] == [True]
    assert grouped.rows("SELECT count(DISTINCT video) FROM video_summary") == [(1,)]
    grouped.discover(f"{DAY}/3.mp4")
    assert grouped.dispatch() == 1
    complete(grouped, "job-0", "job-2")
    assert grouped.dispatch() == 1
    complete(grouped, "job-3")
    assert [r.success for r in grouped.run_requested("results_refresh")] == [True]
    assert [r.success for r in grouped.run_requested("analytics_refresh")] == [True]
    assert grouped.rows("SELECT count(DISTINCT video) FROM video_summary") == [(4,)]
    assert len(grouped.double.jobs) == 4
    assert all(grouped.double.calls[c] == 4 for c in ("StartPersonTracking", "GetPersonTracking"))


def test_one_bad_video_of_a_group_stops_no_other(grouped: Deployment) -> None:
    (day, *_) = grouped.discover(*(f"{DAY}/{name}.mp4" for name in ("a", "bad", "c")))
    grouped.double.failed.add(f"{DAY}/bad.mp4")
    grouped.dispatch()
    complete(grouped)
    (batch,) = grouped.run_requested("results_refresh")
    assert not batch.success
    assert grouped.failing("person_detections") == {day}
    assert phases(grouped) == {
        "a.mp4": Phase.ANALYSED,
        "bad.mp4": Phase.FAILED,
        "c.mp4": Phase.ANALYSED,
    }
    assert grouped.run_requested("results_refresh") == []
    # By hand, the group's job asset tries again what failed, and nothing else.
    assert grouped.materialize("person_tracking_job", [day]).success
    assert len(grouped.double.jobs) == 4
    assert phases(grouped)["a.mp4"] is Phase.ANALYSED
    grouped.double.failed.clear()
    complete(grouped, "job-3")
    assert [r.success for r in grouped.run_requested("results_refresh")] == [True]
    assert set(phases(grouped).values()) == {Phase.ANALYSED}


def test_a_refused_video_of_a_group_turns_it_red_and_the_others_start(grouped: Deployment) -> None:
    def refuse(request: dict[str, Any]) -> None:
        if request["Video"]["S3Object"]["Name"].endswith("bad.mp4"):
            raise ApiFault("InvalidS3ObjectException")

    grouped.double.on_start = refuse
    (day, *_) = grouped.discover(*(f"{DAY}/{name}.mp4" for name in ("a", "bad", "c")))
    grouped.tick("job_dispatch")
    (shown,) = grouped.run_requested("results_refresh")
    assert not shown.success
    assert grouped.red("person_detections") == {day}
    assert phases(grouped) == {
        "a.mp4": Phase.IN_FLIGHT,
        "bad.mp4": Phase.FAILED,
        "c.mp4": Phase.IN_FLIGHT,
    }
    assert grouped.tick("job_dispatch").skip_message


def test_one_video_of_a_group_is_run_again_by_its_name(grouped: Deployment) -> None:
    day, _ = grouped.discover(f"{DAY}/a.mp4", f"{DAY}/b.mp4")
    grouped.dispatch()
    complete(grouped)
    grouped.run_requested("results_refresh")
    bucket, folder = grouped.settings.bucket, Path(grouped.settings.lake) / "person_detections"
    files = sorted(folder.rglob("*.parquet"))
    files[0].unlink()
    pages = grouped.double.calls["GetPersonTracking"]
    uri = f"s3://{bucket}/{DAY}/a.mp4"
    assert grouped.materialize("person_detections", [day], videos=[uri]).success
    assert grouped.double.calls["GetPersonTracking"] == pages + 1
    assert sorted(folder.rglob("*.parquet")) == files
    unknown = grouped.materialize("person_detections", [day], videos=[f"{bucket}/{DAY}/x.mp4"])
    assert not unknown.success


def test_a_new_version_of_one_video_is_new_work_for_it_alone(grouped: Deployment) -> None:
    grouped.discover(f"{DAY}/a.mp4", f"{DAY}/b.mp4")
    grouped.dispatch()
    complete(grouped)
    grouped.run_requested("results_refresh")
    put_videos(str(grouped.settings.bucket), f"{DAY}/b.mp4", body=b"other content")
    grouped.tick("video_discovery")
    assert phases(grouped) == {"a.mp4": Phase.ANALYSED, "b.mp4": Phase.WAITING}
    assert grouped.dispatch() == 1


def test_a_listing_that_cuts_through_a_group_loses_none_of_it(
    grouped: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "LIST_S", 0)
    put_videos(str(grouped.settings.bucket), f"{DAY}/a.mp4")
    grouped.tick("video_discovery")
    grouped.discover(f"{DAY}/b.mp4")
    grouped.tick("video_discovery")
    assert set(phases(grouped)) == {"a.mp4", "b.mp4"}
