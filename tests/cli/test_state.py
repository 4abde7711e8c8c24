"""``status``, ``state`` and ``rerun``, over a state without any Dagster."""

from __future__ import annotations

import csv
import io
import json
import shlex
import time
from pathlib import Path

import dagster as dg
import pytest
from command_line import Command

from rekognition_dagster import Lake, Settings, build_definitions
from rekognition_dagster.state import State, jobs
from rekognition_dagster.state.store import sqlite_url
from rekognition_dagster.state.videos import Found, Plan, register
from rekognition_dagster.videos import Source, Video

VIDEO = Video("cameras", "lobby/2026-01-31/a.mp4", etag="e1")
URI = VIDEO.uri


@pytest.fixture
def state(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """A state with one video, whose job FAILED; ``command`` clears the environment first."""
    url = f"sqlite:///{tmp_path / 'state.sqlite'}"
    for name, value in {
        "STATE": url,
        "NAME": "cameras",
        "BUCKET": "cameras",
        "OPERATIONS": "person_tracking",
        "LAKE": str(tmp_path / "lake"),
    }.items():
        monkeypatch.setenv(f"REKOGNITION_DAGSTER_{name}", value)
    opened, plan = State(url, "cameras"), Plan(["person_tracking"])
    with opened.write() as connection:
        register(connection, [Found(VIDEO, VIDEO.partition_key)], time.time(), plan)
        [work] = jobs.reserve(
            connection,
            plan.operations,
            [Source("cameras")],
            most=1,
            limit=1,
            now=time.time(),
            lease_s=60.0,
        )
        jobs.started(connection, [jobs.Started(work, "j1", "t")], time.time())
        jobs.complete(connection, [jobs.Ending("j1", "FAILED", time.time())], time.time())
    return opened


@pytest.mark.usefixtures("state")
def test_status_counts_videos(command: Command) -> None:
    result = command("status", "--format", "json")
    assert result.exit_code == 0, result.stderr
    [summary] = json.loads(result.stdout)
    assert (summary["failed"], summary["waiting"]) == (1, 0)
    assert URI in summary["reasons"]


@pytest.mark.usefixtures("state")
def test_show_prints_everything_in_order(command: Command) -> None:
    result = command("state", "show", URI)
    assert result.exit_code == 0, result.stderr
    order = ("present", "job j1", "FAILED", "what to do: mend", "  discovered", "tracking started")
    found = [result.stdout.index(words) for words in order]
    assert found == sorted(found)
    assert json.loads(command("state", "show", URI, "--format", "json").stdout)["jobs"]
    unknown = command("state", "show", "s3://cameras/none.mp4")
    assert unknown.exit_code == 1
    assert "no video of the pipeline has this URI" in unknown.stderr


def test_rerun_asks_again_for_what_failed(command: Command, state: State) -> None:
    result = command("rerun", "--failed", "--prefix", "lobby/", "--date", "2026-01-31")
    assert "person_tracking: 1 asked for" in result.stdout
    with state.read() as connection:
        [work] = connection.exec_driver_sql("SELECT phase, attempt FROM work").fetchall()
    assert tuple(work) == ("waiting", 2)
    none = command("rerun", "--date", "2026-02-01")
    assert none.exit_code == 1
    assert "no video in the bucket was recorded on 2026-02-01" in none.stderr
    other = command("rerun", "--failed", "--operation", "label-detection")
    assert other.exit_code == 1
    assert "does not run label_detection; it runs person_tracking" in other.stderr
    wrong = command("rerun", "--failed", "--detector", "magic")
    assert wrong.exit_code == 1
    assert "unknown detector 'magic'" in wrong.stderr
    assert command("rerun").exit_code == 2


@pytest.mark.usefixtures("state")
def test_rerun_with_a_detector_prints_a_launch_that_dagster_accepts(
    command: Command, tmp_path: Path
) -> None:
    choice = ("rerun", "--prefix", "lobby/", "--detector", "embedded")
    _, launch, _, chosen = command(*choice).stdout.splitlines()
    assert chosen == f"person_tracking {URI}"
    *_, job, _, config = shlex.split(launch)
    defs = build_definitions(Settings.from_env())
    assert dg.validate_run_config(defs.get_job_def(job), json.loads(config))
    stack = tmp_path / "a home"
    (stack / "dagster").mkdir(parents=True)
    with_home = command(*choice, "--home", stack)
    assert f"set -a; . '{stack}/environment'; set +a" in with_home.stdout + with_home.stderr
    other_day = command(*choice, "--date", "2026-02-01")
    assert other_day.exit_code == 1
    assert "was recorded on 2026-02-01" in other_day.stderr
    none_failed = command(
        *choice, "--failed", "--operation", "person-tracking", "--date", "2026-02-01"
    )
    assert none_failed.exit_code == 0
    assert none_failed.stdout.startswith("no video in the bucket has a job that FAILED")


def test_rebuild_enters_what_the_lake_has(
    command: Command, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake")
    lake.write_job(VIDEO, "person_tracking", {"job_id": "j0", "status": "SUCCEEDED", "rows": 1})
    monkeypatch.setenv("REKOGNITION_DAGSTER_STATE", f"sqlite:///{tmp_path / 'lost.sqlite'}")
    result = command("state", "rebuild")
    assert "person_tracking: 1 results entered" in result.stdout, result.stderr
    [summary] = json.loads(command("status", "--format", "json").stdout)
    assert summary["analysed"] == 1


def test_rebuild_leaves_what_the_state_has(command: Command, state: State, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.write_job(VIDEO, "person_tracking", {"job_id": "j0", "status": "SUCCEEDED", "rows": 1})
    command("rerun", "--failed")
    result = command("state", "rebuild")
    assert "there are no results to enter that the state does not have" in result.stdout
    with state.read() as connection:
        [work] = connection.exec_driver_sql("SELECT phase, attempt FROM work").fetchall()
    assert tuple(work) == ("waiting", 2)
    missing = command("state", "rebuild", "--lake", tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert f"there is no lake in {tmp_path / 'nowhere'}" in missing.stderr


def test_without_a_state_and_an_instance_it_says_what_to_set(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    result = command("status")
    assert result.exit_code == 1
    assert "REKOGNITION_DAGSTER_STATE" in result.stderr


@pytest.mark.usefixtures("state")
def test_no_column_of_a_piped_status_is_cut(command: Command) -> None:
    heading, line = command("status").stdout.splitlines()[:2]
    for name in ("operation", "in flight", "unpaged", "analysed", "not covered", "expiring"):
        assert name in heading
    assert line.startswith("person_tracking ")


@pytest.mark.usefixtures("state")
def test_the_story_of_a_video_has_its_error_and_what_to_do(command: Command) -> None:
    story = command("status", "a.mp4").stdout
    assert story == command("state", "show", URI).stdout
    assert "job j1  attempt 1" in story
    retry = "rekognition-dagster rerun --prefix lobby/2026-01-31/a.mp4 --operation person_tracking"
    assert retry in story
    facts = json.loads(command("status", URI, "--format", "json").stdout)
    assert retry in facts["work"][0]["what_to_do"]
    assert command("status", "b.mp4").exit_code == 1
    assert command("status", "a.mp4", "--failed").exit_code == 2


@pytest.mark.usefixtures("state")
def test_failed_videos_are_listed_whole(command: Command) -> None:
    [row] = csv.DictReader(io.StringIO(command("status", "--failed", "--format", "csv").stdout))
    assert (row["video"], row["phase"], row["attempt"]) == (URI, "failed", "1")
    [listed] = json.loads(command("status", "--failed", "--format", "json").stdout)
    assert listed["error"] == row["error"]
    _, line = command("status", "--failed").stdout.splitlines()
    assert row["error"] in line
    assert line.endswith(row["what_to_do"])
    none = command("status", "--failed", "--operation", "label_detection")
    assert none.stdout == "nothing failed\n"


@pytest.mark.usefixtures("state")
def test_counts_are_csv_too(command: Command) -> None:
    [row] = csv.DictReader(io.StringIO(command("status", "--format", "csv").stdout))
    assert (row["operation"], row["failed"], row["analysed"]) == ("person_tracking", "1", "0")


def test_the_home_of_a_stack_is_found(command: Command, tmp_path: Path) -> None:
    home = tmp_path / "the home"
    assert "no home of a demo" in command("status", "--home", home).stderr
    (home / "dagster").mkdir(parents=True)
    assert "no state of the deployment" in command("status", "--home", home).stderr
    (home / "environment").write_text(
        "REKOGNITION_DAGSTER_NAME=gates\nREKOGNITION_DAGSTER_OPERATIONS='label_detection'\n"
    )
    state = State(sqlite_url(home / "dagster", "gates"), "gates")
    with state.write() as connection:
        video = Video("videos", "2026-01-31/a.mp4", etag="e1")
        register(connection, [Found(video, video.partition_key)], 0.0, Plan(["label_detection"]))
    [counts] = json.loads(command("status", "--home", home, "--format", "json").stdout)
    assert (counts["operation"], counts["waiting"]) == ("label_detection", 1)
    home.rename(tmp_path / ".rekognition-dagster")
    assert "label_detection" in command("status").stdout


# -- steering -------------------------------------------------------------------------------------


def test_a_pause_is_shown_until_it_is_resumed(command: Command, state: State) -> None:
    paused = command("pause", "--operation", "person-tracking", "lobby/")
    assert paused.stdout == "cameras: paused: person_tracking of lobby/\n"
    assert "paused: person_tracking of lobby/; go on with" in command("status").stdout
    assert command("resume", "yard/").stdout == (
        "cameras: paused still: person_tracking of lobby/\ncameras: no pause has ended\n"
    )
    assert command("resume").stdout == "cameras: resumed: person_tracking of lobby/\n"
    assert "paused" not in command("status").stdout
    refused = command("pause", "--operation", "face-detection")
    assert refused.exit_code == 1
    assert "this deployment does not run face_detection" in refused.stderr


def test_a_command_about_a_deployment_without_a_state_names_those_that_have_one(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").touch()
    State(sqlite_url(tmp_path, "north-gate"), "north-gate")
    planned = command("plan", "--no-engine")
    assert planned.exit_code == 1
    assert "For a deployment in YAML, launch its job plan in Dagster" in planned.stderr
    paused = command("pause")
    assert paused.exit_code == 1
    assert (
        "has no state of the deployment rekognition-dagster yet, but of north-gate: "
        "set REKOGNITION_DAGSTER_NAME" in paused.stderr
    )
    monkeypatch.setenv("REKOGNITION_DAGSTER_NAME", "north-gate")
    assert command("pause").stdout == "north-gate: paused: all operations\n"


def test_videos_are_ignored_and_taken_up_again(command: Command, state: State) -> None:
    assert command("ignore", URI).stdout == "cameras: 1 videos are ignored now\n"
    assert (
        command("ignore", "--again", "s3://cameras/").stdout
        == "cameras: 1 videos are taken up again\n"
    )
    assert (
        command("prioritize", "lobby/").stdout == "cameras: 0 starts come first now\n"
    )  # its job ended


def test_status_shows_what_was_spent(
    command: Command, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = '[{"per": "day", "minutes": 600, "money": 5}]'
    monkeypatch.setenv("REKOGNITION_DAGSTER_BUDGET", budget)
    shown = command("status").stdout
    assert "budget: 0 of 600 minutes and 0.00 of 5 money this day; 0 minutes by its end" in shown
    monkeypatch.setenv("REKOGNITION_DAGSTER_BUDGET", '[{"per": "day"}]')
    assert "a limit needs minutes or money" in command("status").stderr


@pytest.mark.parametrize("name", ["pause", "resume", "ignore", "prioritize"])
def test_a_place_that_cannot_be_is_refused(command: Command, state: State, name: str) -> None:
    elsewhere = command(name, "s3://nowhere/a")
    assert elsewhere.exit_code == 1
    assert "is of no bucket of this deployment, which has cameras" in elsewhere.stderr
    assert command(name, "").exit_code == 2
    assert "paused" not in command("status").stdout
