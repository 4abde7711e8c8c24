"""``status``, ``state`` and ``rerun``, over a state without any Dagster."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from command_line import Command

from rekognition_dagster import Lake
from rekognition_dagster.state import State, jobs
from rekognition_dagster.state.videos import Found, Plan, register
from rekognition_dagster.videos import Video

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
            jobs.Coverage("cameras"),
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
    order = ("present", "job j1", "  discovered", "tracking started")
    found = [result.stdout.index(words) for words in order]
    assert found == sorted(found)
    assert json.loads(command("state", "show", URI, "--format", "json").stdout)["jobs"]
    unknown = command("state", "show", "s3://cameras/none.mp4")
    assert unknown.exit_code == 1
    assert "not known" in unknown.stderr


def test_rerun_asks_again_for_what_failed(command: Command, state: State) -> None:
    result = command("rerun", "--failed", "--prefix", "lobby/", "--date", "2026-01-31")
    assert "person_tracking: 1 asked for" in result.stdout
    with state.read() as connection:
        [work] = connection.exec_driver_sql("SELECT phase, attempt FROM work").fetchall()
    assert tuple(work) == ("waiting", 2)
    assert "0 asked for" in command("rerun", "--date", "2026-02-01").stdout
    assert command("rerun").exit_code == 2


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
