"""The backfill job: the same tables and partitions, without the API."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from deployment import Deployment
from made_videos import make_video

from rekognition_dagster import Lake
from rekognition_dagster.state import Phase
from rekognition_dagster.state.queries import summary

WALKER = "scripted_people:Walker"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


def backfill(deployment: Deployment, **config: Any) -> dg.ExecuteInProcessResult:
    chosen = {"detector": WALKER, "operations": ["person_tracking"], **config}
    job, op = (deployment.ours.scoped(n) for n in ("local_backfill", "analyze_videos"))
    return deployment.definitions.resolve_job_def(job).execute_in_process(
        run_config={"ops": {op: {"config": chosen}}},
        instance=deployment.instance,
        raise_on_error=False,
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [e for e in result.all_events if e.is_step_failure]
    return str(event.step_failure_data.error)


def upload(deployment: Deployment, clip: Path, *keys: str) -> None:
    s3: Any = boto3.client("s3")
    for key in keys:
        s3.upload_file(str(clip), deployment.settings.bucket, key)


def test_a_prefix_becomes_rows_and_materialized_partitions(
    deployment: Deployment, clip: Path
) -> None:
    upload(deployment, clip, "cam/a.mp4", "cam/b.mp4", "cam/notes.txt", "else/c.mp4")
    assert backfill(deployment, prefix="cam/").success
    bucket = deployment.settings.bucket
    partitions = {f"{bucket}/cam/a.mp4", f"{bucket}/cam/b.mp4"}
    assert deployment.materialized("person_detections") == partitions
    assert deployment.materialized("video") == partitions
    assert deployment.rows(
        "SELECT video, count(DISTINCT person_index), max(timestamp_ms)"
        " FROM person_detections GROUP BY 1 ORDER BY 1"
    ) == [(f"s3://{p}", 1, 1900) for p in sorted(partitions)]
    assert deployment.rows("SELECT DISTINCT status, backend FROM jobs") == [
        ("SUCCEEDED", f"engine:{WALKER}")
    ]
    # What is analysed needs no job.
    deployment.tick("video_discovery")
    assert deployment.dispatch() == 1
    assert [j["Video"]["S3Object"]["Name"] for j in deployment.double.jobs.values()] == [
        "else/c.mp4"
    ]


def test_what_is_done_is_skipped_for_this_version_and_detector(
    deployment: Deployment, clip: Path
) -> None:
    upload(deployment, clip, "a.mp4")
    backfill(deployment, prefix="")
    (path,) = Path(deployment.settings.lake).glob("person_detections/*/*.parquet")
    before = path.stat().st_ino
    assert backfill(deployment, prefix="").success
    assert path.stat().st_ino == before
    deployment.tick("reports")
    key = dg.AssetKey("person_detections")
    assert len(deployment.instance.fetch_materializations(key, limit=10).records) == 1
    assert backfill(deployment, prefix="", sample_fps=5).success
    assert path.stat().st_ino != before
    assert deployment.rows("SELECT max(timestamp_ms) FROM person_detections") == [(1800,)]
    assert backfill(deployment, prefix="", sample_fps="auto").success
    backends = "SELECT DISTINCT backend FROM jobs WHERE operation = 'person_tracking'"
    assert deployment.rows(backends)[0][0].endswith("@auto")


def test_face_attributes_are_part_of_the_work(deployment: Deployment, clip: Path) -> None:
    upload(deployment, clip, "a.mp4")
    both = ["person_tracking", "label_detection"]
    backends = "SELECT operation, backend FROM jobs ORDER BY 1"
    assert backfill(deployment, prefix="", operations=both).success
    before = deployment.rows("SELECT completed_at FROM jobs ORDER BY operation")
    assert backfill(deployment, prefix="", operations=both, face_attributes="ALL").success
    assert deployment.rows(backends) == [
        ("label_detection", f"engine:{WALKER}"),
        ("person_tracking", f"engine:{WALKER}+faces"),
    ]
    after = deployment.rows("SELECT completed_at FROM jobs ORDER BY operation")
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]


def test_the_deployments_face_attributes_reach_the_engine(
    deployment: Deployment, clip: Path
) -> None:
    upload(deployment, clip, "a.mp4")
    settings = deployment.settings.model_copy(update={"face_attributes": "ALL"})
    everything = replace(deployment, settings=settings)
    assert backfill(everything, prefix="").success
    assert deployment.rows("SELECT backend FROM jobs") == [(f"engine:{WALKER}+faces",)]


def test_one_bad_video_stops_no_other_and_is_named_at_the_end(
    deployment: Deployment, clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    data = clip.read_bytes()
    (folder / "a.mp4").write_bytes(data)
    (folder / "b empty.mp4").write_bytes(b"")
    (folder / "c text.mp4").write_text("this is no video")
    (folder / "d.mp4").write_bytes(data)
    result = backfill(deployment, folder=str(folder), videos=[str(tmp_path / "missing.mp4")])
    assert not result.success
    told = failure(result)
    assert "3 videos could not be analysed (2 analysed" in told
    for name in ("b empty.mp4", "c text.mp4", "missing.mp4"):
        assert name in told
    assert deployment.materialized("person_detections") == {
        f"file:{folder}/a.mp4",
        f"file:{folder}/d.mp4",
    }
    with deployment.state.read() as connection:
        rows = connection.exec_driver_sql("SELECT key, reason FROM work WHERE phase = 'failed'")
        failed = {Path(key).name: reason for key, reason in rows}
    assert set(failed) == {"b empty.mp4", "c text.mp4"}
    (folder / "c text.mp4").write_bytes(data)
    assert "1 videos could not be analysed (1 analysed, 2 done before)" in failure(
        backfill(deployment, folder=str(folder))
    )
    with deployment.state.read() as connection:
        rows = connection.exec_driver_sql("SELECT key FROM work WHERE phase = 'failed'")
        assert [Path(key).name for (key,) in rows] == ["b empty.mp4"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "configure videos, prefix, folder, or dates"),
        ({"folder": "/no/such/folder"}, "/no/such/folder is not a folder"),
        ({"videos": ["x.mp4"], "operations": ["celebrities"]}, "there are person-tracking"),
        ({"videos": ["x.mp4"], "face_attributes": "MOST"}, "write DEFAULT or ALL"),
    ],
)
def test_a_wrong_request_is_told(deployment: Deployment, config: dict[str, Any], told: str) -> None:
    assert told in failure(backfill(deployment, **config))


def test_a_prefix_that_matches_nothing_fails_and_names_what_was_looked_for(
    deployment: Deployment, clip: Path
) -> None:
    upload(deployment, clip, "entrance/2026-01-31/a.mp4")
    text = failure(backfill(deployment, prefix="entrance/2026-01-31..2026-02-02"))
    assert "nothing was found to analyse" in text
    assert f"s3://{deployment.settings.bucket}/entrance/2026-01-31..2026-02-02" in text
    assert "from and to" in text


def test_dates_choose_by_the_day_of_recording(deployment: Deployment, clip: Path) -> None:
    days = ("2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02")
    upload(deployment, clip, *(f"entrance/{day}.mp4" for day in days))
    chosen = {"from": "2026-01-31", "to": "2026-02-01"}
    assert backfill(deployment, prefix="entrance/", **chosen).success
    bucket = deployment.settings.bucket
    assert deployment.materialized("person_detections") == {
        f"{bucket}/entrance/{day}.mp4" for day in days[1:3]
    }
    assert "not a date" in failure(backfill(deployment, prefix="", **{"from": "yesterday"}))


def test_a_backfill_of_one_operation_starts_no_other(deployment: Deployment, clip: Path) -> None:
    deployment.set(operations=["person_tracking", "face_detection"], prefix="lobby/")
    upload(deployment, clip, "elsewhere/a.mp4")
    assert backfill(deployment, prefix="elsewhere/").success
    deployment.tick("video_discovery")
    assert deployment.dispatch() == 0


def test_a_backfill_inside_the_prefix_leaves_the_other_operations_to_discovery(
    deployment: Deployment, clip: Path
) -> None:
    deployment.set(operations=["person_tracking", "face_detection"])
    upload(deployment, clip, "a.mp4")
    assert backfill(deployment, prefix="", operations=["person_tracking"]).success
    assert deployment.dispatch() == 0, "the backfill was asked for one operation"
    deployment.tick("video_discovery")
    assert deployment.dispatch() == 1, "the deployment analyses faces of all that it discovers"
    (job,) = deployment.double.jobs.values()
    assert job["API"] == "StartFaceDetection"
    assert deployment.phases() == {"a.mp4": Phase.ANALYSED}


def test_local_files_that_are_analysed_are_counted_so(
    deployment: Deployment, clip: Path, tmp_path: Path
) -> None:
    deployment.set(operations=["person_tracking", "face_detection"])
    (tmp_path / "archive").mkdir()
    path = tmp_path / "archive" / "a.mp4"
    path.write_bytes(clip.read_bytes())
    for time_of_change in (1e9, 2e9):
        os.utime(path, (time_of_change, time_of_change))
        assert backfill(deployment, folder=str(path.parent)).success
        deployment.tick("video_discovery")
        for operation, analysed in (("person_tracking", 1), ("face_detection", 0)):
            with deployment.state.read() as connection:
                found = summary(connection, operation, deployment.settings.source_list)
            assert (found.counts[Phase.ANALYSED], found.counts[Phase.HELD]) == (analysed, 0)


def test_another_detectors_results_are_kept_beside(
    deployment: Deployment, clip: Path, tmp_path: Path
) -> None:
    upload(deployment, clip, "a.mp4")
    assert backfill(deployment, prefix="").success
    other = Lake(tmp_path / "other")
    assert backfill(deployment, prefix="", sample_fps=5, lake=other.url).success
    backends = "SELECT backend FROM jobs"
    assert deployment.rows(backends) == [(f"engine:{WALKER}",)]
    assert other.connect().sql(backends).fetchall() == [(f"engine:{WALKER}@5fps",)]
    assert deployment.stands()["a.mp4"].work["backend"] == f"engine:{WALKER}"


def test_a_wrong_detector_stops_at_once(deployment: Deployment, clip: Path) -> None:
    told = failure(backfill(deployment, videos=[str(clip)], detector="yolo12:best"))
    assert "openvino:PATH, onnx:PATH, ultralytics:WEIGHTS" in told
    assert "0 videos were analysed" in told
