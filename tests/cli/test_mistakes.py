"""The twenty likeliest mistakes: what a person reads, and the exit status."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from clips import write_bad
from command_line import Command

from rekognition_dagster.environment import KNOWN, PREFIX
from rekognition_dagster.lake import Lake
from rekognition_dagster.orchestration.settings import Settings, check_names
from rekognition_dagster.videos import Video

PEOPLE = "--operation person_tracking"

MISTAKES = [
    # command line, exit status, parts of the message
    ("demoo", 2, ["No such command 'demoo'", "--help"]),
    ("analyze", 2, ["VIDEO", "--help"]),
    ("analyze lobby.mp4", 2, ["--operation", "person_tracking"]),
    ("analyze lobby.mp4 --operation people", 2, ["'people' is no operation", "person_tracking"]),
    (f"analyze nowhere.mp4 {PEOPLE}", 1, ["nowhere.mp4", "no such file", "Check the path"]),
    (f"analyze empty.mp4 {PEOPLE}", 1, ["empty.mp4", "empty"]),
    (f"analyze folder {PEOPLE}", 1, ["folder", "no video in this folder", "Check the path"]),
    (f"analyze s3://videos {PEOPLE}", 2, ["s3://bucket/key", "s3://bucket/prefix/"]),
    (f"analyze s3://no-such-bucket/x/ {PEOPLE}", 1, ["NoSuchBucket", "Check the bucket's name"]),
    (f"analyze noise.mp4 {PEOPLE} --detector magic", 1, ["unknown detector 'magic'", "embedded"]),
    (f"analyze noise.mp4 {PEOPLE} --sample-fps fast", 2, ["fast", "auto", "--sample-fps"]),
    (f"analyze https://example.com/a.mp4 {PEOPLE}", 2, ["https://", "s3://bucket/key"]),
    (f"analyze noise.mp4 {PEOPLE} --output notes.txt", 1, ["notes.txt is a file", "s3://bucket"]),
    (f"analyze noise.mp4 {PEOPLE} --output home", 1, ["home of a demo", "home/lake"]),
    ("query", 2, ["SQL", "--help"]),
    ("query --lake nowhere x", 1, ["no lake in nowhere", "no such folder"]),
    ("query --lake folder x", 1, ["no lake in", "folder", "Check the address"]),
    ("query --lake others x", 1, ["no lake in", "others", "Check the address"]),
    ("query --lake s3://no-such-bucket/lake x", 1, ["s3://no-such-bucket/lake", "bucket"]),
    ("query --lake home x", 1, ["home is no lake", "--lake home/lake"]),
    ("query --lake notes.txt x", 1, ["notes.txt is a file", "folder"]),
    ("query --lake home/lake/jobs x", 1, ["jobs is a table", "--lake home/lake?"]),
    ("query --lake home/lake FROM_peoples", 1, ["FROM_peoples", "syntax error"]),
    ("serve --port 99999", 2, ["99999", "--port", "65535"]),
    ("serve --start-per-s 0", 2, ["--start-per-s", "x>0"]),
    ("serve --drain-s -3", 2, ["--drain-s", "x>=0"]),
    ("dev --port 99999", 2, ["99999", "--port", "65535"]),
    ("serve --tls-cert cert.pem", 1, ["certificate", "key"]),
    ("demo --video notes.txt", 1, ["notes.txt", "not that of a video", ".mp4"]),
    ("status", 1, ["DAGSTER_HOME", "REKOGNITION_DAGSTER_STATE"]),
    ("status --home folder", 1, ["folder", "no home of a demo or dev", "--home"]),
    ("status a.mp4 --failed", 2, ["VIDEO", "--failed"]),
    ("rerun", 2, ["--failed", "--prefix", "--date"]),
    ("provision --prefix x", 2, ["--prefix goes with --arrivals"]),
    ("models pull face", 1, ["face", "face-yunet"]),
    ("completion tcsh", 2, ["tcsh", "bash"]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the mistakes are made: files that are no videos, a home with a lake."""
    write_bad(tmp_path / "empty.mp4", "empty")
    write_bad(tmp_path / "noise.mp4", "noise")
    write_bad(tmp_path / "notes.txt", "text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "others" / "pictures" / "2026").mkdir(parents=True)
    video = Video("videos", "gate/2026-01-31.mp4", etag="e1")
    lake = Lake(tmp_path / "home" / "lake")
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    (tmp_path / "home" / "dagster" / "dagster.yaml").write_text("")
    lake.write_job(video, "person_tracking", {"job_id": "j1", "status": "SUCCEEDED", "rows": 3})
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("line", "status", "parts"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_remedy(
    command: Command, aws: boto3.Session, line: str, status: int, parts: list[str]
) -> None:
    result = command(*line.split())
    assert result.exit_code == status, result.output
    [last] = [x for x in result.stderr.splitlines() if x.startswith("error: ")]
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr
    print(f"{status}  {line}\n   {last}")


@pytest.mark.parametrize("line", ["", "models", "state"])
def test_a_group_without_a_command_shows_its_help(command: Command, line: str) -> None:
    result = command(*line.split())
    assert result.exit_code == 2
    assert result.stdout == command(*line.split(), "--help").stdout
    assert "error:" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "line", ["status", "query x", "analyze lobby.mp4", "serve", "demo", "models list", "provision"]
)
def test_a_misspelled_setting_is_named_with_the_nearest(
    command: Command, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("REKOGNITION_DAGSTER_BUCKETT", "cameras")
    result = command(*line.split())
    assert result.exit_code == 1
    assert result.stderr == (
        "error: REKOGNITION_DAGSTER_BUCKETT is no setting; "
        "did you mean REKOGNITION_DAGSTER_BUCKET?\n"
    )
    assert command(*line.split(), "--help").exit_code == 0


def test_every_setting_is_known_without_loading_dagster() -> None:
    settings = {PREFIX + name.upper(): "" for name in Settings.model_fields}
    check_names({PREFIX + name: "" for name in KNOWN}, Settings.model_fields)
    assert {name.removeprefix(PREFIX) for name in settings} <= KNOWN
