"""``analyze``: the engine alone, straight into a lake; what is wrong is told in one line."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from clips import write_bad, write_clip
from command_line import Command, assert_told

from rekognition_dagster.engine import models
from rekognition_dagster.errors import ModelError
from rekognition_dagster.lake import Lake

PEOPLE = ("--operation", "person-tracking")


@pytest.fixture(scope="session")
def film() -> Path:
    """One man in a car, talking."""
    try:
        models.pull()
    except ModelError as error:
        pytest.skip(f"the embedded models cannot be fetched here: {error}")
    return models.path("carphone_pristine.mp4")


def rows(lake: Path, sql: str) -> list[tuple]:
    with Lake(lake).connect() as connection:
        return connection.execute(sql).fetchall()


def files(lake: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(lake)): p.read_bytes()
        for p in sorted(lake.rglob("*.parquet"))
        # Both say when: jobs, and the day's files of what they were computed from.
        if not p.is_relative_to(lake / "jobs") and p.name != "day.parquet"
    }


def test_people_and_faces_of_a_video_become_tables(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    result = command("analyze", clip, *PEOPLE, "--operation", "face-detection", "--output", "lake")
    assert result.exit_code == 0, result.stderr
    assert "rows of person_detections" in result.stdout
    [(video, people)] = rows(
        tmp_path / "lake",
        "SELECT video, count(DISTINCT person_index) FROM person_detections GROUP BY 1",
    )
    assert video == f"file://{clip}"
    assert people >= 1
    empty = "timestamp_ms IS NULL OR bounding_box.width IS NULL"
    assert rows(tmp_path / "lake", f"FROM person_detections WHERE {empty}") == []
    jobs = rows(tmp_path / "lake", "SELECT operation, status, backend FROM jobs ORDER BY 1")
    assert jobs == [
        ("face_detection", "SUCCEEDED", "engine:default"),
        ("person_tracking", "SUCCEEDED", "engine:default"),
    ]
    assert rows(tmp_path / "lake", "SELECT width, height FROM videos") == [(640, 272)]


def test_the_same_work_gives_the_same_files(command: Command, clip: Path, tmp_path: Path) -> None:
    command("analyze", clip, *PEOPLE, "--output", "lake")
    first = files(tmp_path / "lake")
    again = command("analyze", clip, *PEOPLE, "--output", "lake", "--again")
    assert "rows of" in again.stdout
    assert first
    assert files(tmp_path / "lake") == first


def test_a_sample_rate_is_part_of_what_the_job_was(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    assert command("analyze", clip, *PEOPLE, "--sample-fps", 5).exit_code == 0
    assert rows(tmp_path / "lake", "SELECT backend FROM jobs") == [("engine:default@5fps",)]


def test_a_video_is_looked_at_as_often_as_it_needs(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    assert command("analyze", clip, *PEOPLE, "--sample-fps", "auto").exit_code == 0
    assert rows(tmp_path / "lake", "SELECT backend FROM jobs") == [("engine:default@auto",)]


def test_all_face_attributes_are_columns_where_they_are_asked_for(
    command: Command, film: Path, tmp_path: Path
) -> None:
    both = ("--operation", "face-detection", "--operation", "label-detection", "--sample-fps", 1)
    assert command("analyze", film, *both, "--face-attributes", "all").exit_code == 0
    known = "face.gender.value, face.eyes_open.value, len(face.landmarks), len(face.emotions)"
    found = rows(tmp_path / "lake", f"SELECT DISTINCT {known} FROM face_detections")
    assert found == [("Male", True, 30, 7)]
    unknown = "face.eyeglasses IS NULL AND face.beard IS NULL AND face.age_range.low IS NOT NULL"
    assert rows(tmp_path / "lake", f"SELECT bool_and({unknown}) FROM face_detections") == [(True,)]
    jobs = rows(tmp_path / "lake", "SELECT backend FROM jobs ORDER BY operation")
    assert jobs == [("engine:default@1fps+faces",), ("engine:default@1fps",)]

    assert command("analyze", film, *both).exit_code == 0
    sql = "SELECT count(face.gender.value), max(len(face.landmarks)) FROM face_detections"
    assert rows(tmp_path / "lake", sql) == [(0, 5)]


@pytest.mark.parametrize("what", ["empty", "noise", "text"])
def test_a_file_that_is_no_video_is_named(command: Command, tmp_path: Path, what: str) -> None:
    bad = write_bad(tmp_path / f"{what}.mp4", what)
    assert_told(command("analyze", bad, *PEOPLE), str(bad))
    [(status, message)] = rows(tmp_path / "lake", "SELECT status, status_message FROM jobs")
    assert status == "FAILED"
    assert str(bad) in message


def test_a_missing_file_is_named(command: Command) -> None:
    assert_told(command("analyze", "nowhere.mp4", *PEOPLE), "nowhere.mp4", "no such file")


def test_a_folder_without_videos_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    assert_told(command("analyze", "archive", *PEOPLE), "archive", "no video")


def test_a_name_that_is_not_utf_8_does_not_stop_the_others(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "b.mp4").write_bytes(clip.read_bytes())
    (archive / os.fsdecode(b"a\xff.mp4")).write_bytes(clip.read_bytes())
    result = command("analyze", archive, *PEOPLE)
    assert_told(result, "not UTF-8", "1 of 2 videos could not be analyzed")
    assert "b.mp4: " in result.stdout


def test_a_bad_video_does_not_stop_the_others(command: Command, clip: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    write_bad(archive / "a.mp4", "noise")
    (archive / "b.mp4").write_bytes(clip.read_bytes())
    (archive / "notes.txt").write_text("not looked at")
    result = command("analyze", archive, *PEOPLE)
    assert result.exit_code == 1
    assert "archive: files that are no videos: 1 (.txt)" in result.stderr
    assert "a.mp4" in result.stderr
    assert "error: 1 of 2 videos could not be analyzed" in result.stderr
    assert "b.mp4" in result.stdout
    assert rows(tmp_path / "lake", "SELECT count(*) > 0 FROM person_detections") == [(True,)]


def test_what_could_be_decoded_of_a_truncated_video_is_kept_and_told(
    command: Command, tmp_path: Path
) -> None:
    whole = write_clip(tmp_path / "whole.avi", frames=50)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    done = command("analyze", cut, *PEOPLE)
    assert done.exit_code == 0
    assert "warning: " in done.stderr
    assert "cut.avi: is damaged: " in done.stderr
    assert "breaks off after" in done.stderr
    assert command("analyze", cut, *PEOPLE, "--again").exit_code == 0, "its results may be replaced"
    found = "SELECT status, status_message, rows FROM jobs"
    [(status, message, kept)] = rows(tmp_path / "lake", found)
    assert status == "SUCCEEDED"
    assert "breaks off after" in message
    [(lost, warning)] = rows(tmp_path / "lake", "SELECT lost_share, warning FROM videos")
    assert 0.2 < lost < 0.5
    assert warning == message
    assert rows(tmp_path / "lake", "SELECT count(*) FROM person_detections") == [(kept,)]
    assert kept > 0


def test_a_video_of_which_most_is_lost_has_its_facts_beside_its_rows(
    command: Command, tmp_path: Path
) -> None:
    whole = write_clip(tmp_path / "whole.avi", frames=50)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 5])
    assert_told(command("analyze", cut, *PEOPLE), "cut.avi: is damaged: ")
    found = "SELECT status, rows > 0 FROM jobs"
    assert rows(tmp_path / "lake", found) == [("FAILED", True)]
    [(lost, warning)] = rows(tmp_path / "lake", "SELECT lost_share, warning FROM videos")
    assert lost > 0.5
    assert "breaks off after" in warning


def test_a_damaged_copy_does_not_replace_results_that_are_good(
    command: Command, tmp_path: Path
) -> None:
    video = write_clip(tmp_path / "gate.avi", frames=50)
    assert command("analyze", video, *PEOPLE).exit_code == 0
    before = files(tmp_path / "lake")
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    assert_told(command("analyze", video, *PEOPLE), "gate.avi")
    assert files(tmp_path / "lake") == before


def test_a_folder_gives_every_container_that_the_engine_reads(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "archive").mkdir()
    names = ["a.mp4", "b.MKV", "c.ts", "d.webm", "e.mpg"]
    for name in names:
        (tmp_path / "archive" / name).write_bytes(clip.read_bytes())
    for name in ("notes.txt", "cover.jpg", "more.txt"):
        (tmp_path / "archive" / name).write_bytes(b"x")
    result = command("analyze", "archive", *PEOPLE)
    assert result.exit_code == 0, result.output
    assert "note: archive: files that are no videos: 3 (.jpg, .txt)" in result.stderr
    found = rows(tmp_path / "lake", "SELECT video FROM jobs ORDER BY 1")
    assert [Path(video).name for (video,) in found] == names


def test_folders_that_link_to_each_other_are_searched_once(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    (archive / "gate").mkdir(parents=True)
    (archive / "gate" / "a.mp4").write_bytes(clip.read_bytes())
    (archive / "gate" / "loop").symlink_to(archive)
    (archive / "also").symlink_to(archive / "gate")
    result = command("analyze", archive, *PEOPLE)
    assert result.exit_code == 0
    assert rows(tmp_path / "lake", "SELECT count(*) FROM jobs") == [(1,)]


def test_a_video_of_which_most_is_lost_fails_and_what_is_left_is_kept(
    command: Command, tmp_path: Path
) -> None:
    whole = write_clip(tmp_path / "whole.avi", frames=50)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 5])
    assert_told(command("analyze", cut, *PEOPLE), "cut.avi", "MAX_LOST_SHARE")
    [(status, kept)] = rows(tmp_path / "lake", "SELECT status, rows FROM jobs")
    assert status == "FAILED"
    assert rows(tmp_path / "lake", "SELECT count(*) FROM person_detections") == [(kept,)]
    assert kept > 0


@pytest.mark.parametrize(
    ("spec", "told"),
    [("crystal-ball", "unknown detector"), ("onnx:/nowhere/model.onnx", "/nowhere/model.onnx")],
)
def test_a_wrong_detector_is_told_with_what_there_is(
    command: Command, clip: Path, spec: str, told: str
) -> None:
    assert_told(command("analyze", clip, *PEOPLE, "--detector", spec), told)


def test_an_unknown_operation_is_told_with_what_there_is(command: Command, clip: Path) -> None:
    result = command("analyze", clip, "--operation", "mind-reading")
    assert_told(result, "mind-reading", "person-tracking", status=2)


def test_a_sample_rate_of_nothing_is_a_wrong_command_line(command: Command, clip: Path) -> None:
    for wrong in (0, "often"):
        told = command("analyze", clip, *PEOPLE, "--sample-fps", wrong)
        assert_told(told, "--sample-fps", "auto", status=2)


def test_a_lake_that_cannot_be_written_is_named(command: Command, clip: Path) -> None:
    assert_told(command("analyze", clip, *PEOPLE, "--output", "/proc/lake"), "/proc/lake")


def test_a_full_disk_ends_with_one_line_and_loses_nothing(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    assert command("analyze", clip, *PEOPLE, "--output", "lake").exit_code == 0
    before = files(tmp_path / "lake")
    again = ["analyze", str(clip), *PEOPLE, "--sample-fps", "10", "--output", "lake"]
    done = subprocess.run(
        [sys.executable, "-c", "from rekognition_dagster.cli import main; main()", *again],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        # A file that may not grow fails as one on a full disk does.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "street" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(tmp_path / "lake") == before


def test_a_video_in_s3_is_fetched_and_named_by_its_uri(
    command: Command, clip: Path, bucket: str, aws: boto3.Session, tmp_path: Path
) -> None:
    aws.client("s3").upload_file(str(clip), bucket, "gate/2026-01-31.mp4")
    result = command("analyze", f"s3://{bucket}/gate/2026-01-31.mp4", *PEOPLE)
    assert result.exit_code == 0, result.stderr
    found = rows(tmp_path / "lake", "SELECT DISTINCT video, date::VARCHAR FROM person_detections")
    assert found == [(f"s3://{bucket}/gate/2026-01-31.mp4", "2026-01-31")]
    missing = command("analyze", f"s3://{bucket}/gate/gone.mp4", *PEOPLE)
    assert_told(missing, f"s3://{bucket}/gate/gone.mp4", "no such object")


def test_an_s3_uri_without_a_key_is_a_wrong_command_line(command: Command) -> None:
    assert_told(command("analyze", "s3://videos", *PEOPLE), "s3://bucket/key", status=2)


def test_an_unreachable_endpoint_is_named(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-word")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    result = command("analyze", "s3://videos/gate.mp4", *PEOPLE)
    assert_told(result, "s3://videos/gate.mp4", "http://127.0.0.1:9", "AWS_ENDPOINT_URL")
    assert "secret-word" not in result.stderr


def test_missing_credentials_are_told(command: Command) -> None:
    assert_told(command("analyze", "s3://videos/gate.mp4", *PEOPLE), "credentials")


def test_what_is_done_is_skipped_and_analytics_are_there(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    first = command("analyze", clip, *PEOPLE)
    assert "rekognition-dagster query --lake lake 'FROM video_summary'" in first.stdout
    assert rows(tmp_path / "lake", "SELECT people >= 1 FROM video_summary") == [(True,)]
    assert "done before" in command("analyze", clip, *PEOPLE).stdout


def test_a_prefix_is_every_video_below_it(
    command: Command, bucket: str, aws: boto3.Session
) -> None:
    for key in ("gate/a.mp4", "gate/deep/b.mp4", "lobby/c.mp4", "gate/notes.txt"):
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"no video")
    result = command("analyze", f"s3://{bucket}/gate/", *PEOPLE)
    assert_told(result, "gate/a.mp4", "gate/deep/b.mp4", "2 of 2 videos")
    nothing = command("analyze", f"s3://{bucket}/attic/", *PEOPLE)
    assert_told(nothing, f"s3://{bucket}/attic/", "no video under this prefix")


def test_a_folder_leaves_a_deployments_home_alone(command: Command, tmp_path: Path) -> None:
    for name in (".rekognition-dagster/videos", "other-home/videos", "other-home/dagster"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "other-home/dagster/dagster.yaml").write_text("")
    for name in (".rekognition-dagster/videos", "other-home/videos"):
        write_bad(tmp_path / name / "x.mp4", "noise")
    assert_told(command("analyze", ".", *PEOPLE), "no video in this folder")


def test_a_file_has_one_name_whatever_path_leads_to_it(
    command: Command, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    assert command("analyze", "a.mp4", *PEOPLE).exit_code == 0
    again = command("analyze", "elsewhere/../a.mp4", *PEOPLE)
    assert "done before" in again.stdout


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    command: Command, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rekognition_dagster import backfill

    real = backfill.analyze_into_lake

    def interrupted(video, *args, **more):
        if video.key.endswith("z.mp4"):
            os.kill(os.getpid(), signal.SIGINT)
        return real(video, *args, **more)

    monkeypatch.setattr(backfill, "analyze_into_lake", interrupted)
    (tmp_path / "z.mp4").write_bytes(clip.read_bytes())
    result = command("analyze", clip, "z.mp4", *PEOPLE)
    assert result.exit_code == 130
    assert "1 of 2 videos are done" in result.stderr
    assert "The same command goes on" in result.stderr
    assert rows(tmp_path / "lake", "SELECT count(*) FROM jobs") == [(1,)]
