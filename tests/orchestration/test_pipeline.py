"""From a bucket to rows: what happens in order, and what happens when it does not."""

from __future__ import annotations

import dagster as dg
import pytest
from deployment import Deployment, put_videos
from rekognition_double import RekognitionDouble

pytestmark = pytest.mark.parametrize("instance", ["sqlite", "postgres"], indirect=True)


def test_a_video_in_the_bucket_becomes_rows_and_an_empty_queue(deployment: Deployment) -> None:
    partitions = deployment.discover("cam/2026/01/31/a b.mp4", "cam/ü+%....mov", "cam/readme.txt")[
        :2
    ]
    assert set(deployment.partitions()) == set(partitions)

    assert deployment.dispatch() == 2
    assert deployment.materialized("person_tracking_job") == set(partitions)

    deployment.notify()
    deployment.tick("completions")
    assert deployment.materialized("person_tracking_completion") == set(partitions)
    deployment.tick("completions")
    assert deployment.queued() == 0

    for sensor in ("results_refresh", "analytics_refresh"):
        (run,) = deployment.run_requested(sensor)
        assert run.success
        assert deployment.run_requested(sensor) == []
    for key in ("person_detections", "person_paths", "video_summary", "activity_by_minute"):
        assert deployment.materialized(key) == set(partitions)
    assert deployment.rows(
        "SELECT video, count(*) FROM person_detections GROUP BY 1 ORDER BY 1"
    ) == [
        (f"s3://{deployment.settings.bucket}/cam/2026/01/31/a b.mp4", 10),
        (f"s3://{deployment.settings.bucket}/cam/ü+%....mov", 10),
    ]
    assert deployment.rows(
        "SELECT DISTINCT dwell_ms, detections, path_length FROM person_paths"
    ) == [(160, 5, 0.0)]
    assert deployment.rows(
        "SELECT DISTINCT people, most_people_at_once, busiest_ms, face_detections"
        " FROM video_summary"
    ) == [(2, 2, 0, None)], "nobody looked for faces"
    assert deployment.rows("SELECT DISTINCT minute, people, faces FROM activity_by_minute") == [
        (0, 2, None)
    ]
    assert (
        deployment.rows("SELECT status, rows, backend FROM jobs")
        == [("SUCCEEDED", 10, "rekognition")] * 2
    )


def test_a_finished_video_is_not_started_again(deployment: Deployment) -> None:
    deployment.discover("a.mp4")
    deployment.dispatch()
    assert deployment.dispatch() == 0
    deployment.notify()
    deployment.tick("completions")
    assert deployment.dispatch() == 0
    assert deployment.double.calls["StartPersonTracking"] == 1


def test_a_new_version_is_new_work(deployment: Deployment) -> None:
    (partition,) = deployment.discover("a.mp4")
    deployment.dispatch()
    deployment.notify()
    deployment.tick("completions")
    deployment.materialize("person_detections", [partition])

    put_videos(str(deployment.settings.bucket), "a.mp4", body=b"other content")
    deployment.tick("video_discovery")
    assert deployment.dispatch() == 1
    assert len(deployment.double.jobs) == 2


def test_the_same_content_again_is_not(deployment: Deployment) -> None:
    deployment.discover("a.mp4")
    put_videos(str(deployment.settings.bucket), "a.mp4")
    result = deployment.tick("video_discovery")
    assert result.skip_message


def test_a_job_that_failed_shows_its_reason_on_the_partition(deployment: Deployment) -> None:
    partitions = deployment.discover("a.mp4", "bad.mp4", "c.mp4")
    deployment.double.failed.add("bad.mp4")
    deployment.dispatch()
    deployment.notify()
    deployment.tick("completions")
    (result,) = deployment.run_requested("results_refresh")
    assert not result.success, "a batch with a failed video is not green"
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    assert "bad.mp4" in str(failure.step_failure_data.error)
    assert "the video has no frames" in str(failure.step_failure_data.error)
    assert deployment.materialized("person_detections") == {partitions[0], partitions[2]}
    assert deployment.rows("SELECT status, status_message FROM jobs WHERE status = 'FAILED'") == [
        ("FAILED", "job job-1 failed: the video has no frames")
    ]


def test_materializing_a_failed_job_again_is_another_attempt(deployment: Deployment) -> None:
    (partition,) = deployment.discover("bad.mp4")
    deployment.double.failed.add("bad.mp4")
    deployment.dispatch()
    deployment.notify()
    deployment.tick("completions")
    assert deployment.dispatch() == 0

    deployment.materialize("person_tracking_job", [partition])
    assert len(deployment.double.jobs) == 2
    deployment.materialize("person_tracking_job", [partition])
    assert len(deployment.double.jobs) == 2, "the second attempt still runs: the same token"


def test_the_nightly_batch_asks_a_failed_job_again_up_to_its_last_attempt(
    deployment: Deployment,
) -> None:
    deployment.discover("bad.mp4")
    deployment.double.failed.add("bad.mp4")
    for _ in range(5):
        deployment.materialize("nightly_batch")
        deployment.dispatch()
        deployment.notify(f"job-{len(deployment.double.jobs) - 1}")
        deployment.tick("completions")
        deployment.tick("completions")
    assert len(deployment.double.jobs) == deployment.settings.max_attempts == 3


def test_what_was_lost_of_a_video_is_in_its_jobs_row_and_on_its_partition(
    deployment: Deployment, rekognition: RekognitionDouble
) -> None:
    rekognition.warnings["cam/a.mp4"] = "breaks off after 8.00 s"
    deployment.discover("cam/a.mp4", "cam/b.mp4")
    deployment.dispatch()
    deployment.notify()
    deployment.tick("completions")
    (run,) = deployment.run_requested("results_refresh")
    assert run.success
    assert deployment.rows(
        "SELECT split_part(video, '/', -1), status, status_message FROM jobs ORDER BY ALL"
    ) == [("a.mp4", "SUCCEEDED", "breaks off after 8.00 s"), ("b.mp4", "SUCCEEDED", None)]
    deployment.tick("reports")
    found = deployment.instance.fetch_materializations(dg.AssetKey("person_detections"), limit=9)
    events = [r.asset_materialization for r in found.records]
    assert sorted(
        (str(e.partition)[-5:], e.metadata["warning"].value if "warning" in e.metadata else None)
        for e in events
        if e is not None
    ) == [("a.mp4", "breaks off after 8.00 s"), ("b.mp4", None)]
