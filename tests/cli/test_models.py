"""``models`` shows what there is, and fetches it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Command

from rekognition_dagster.engine import models


def test_models_are_listed_with_what_one_wants_to_know(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path))
    result = command("models", "list")
    assert result.exit_code == 0
    head, *lines = result.stdout.splitlines()
    for column in ("name", "for", "licence", "MB", "input", "cost", "fetched"):
        assert column in head
    (people,) = (line for line in lines if line.startswith("person-ssdlite"))
    for told in ("people", "MIT", "12.9", "the video's shape", "1.0", "no", "SSDLite"):
        assert told in people
    assert lines[-1] == f"kept in {tmp_path}"


def test_an_unknown_model_is_told_with_what_there_is(command: Command) -> None:
    result = command("models", "pull", "yolo")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "person-ssdlite" in result.stderr


def test_pull_tells_where_things_are_and_shows_no_bar_in_a_log(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(names, progress):
        for name in names:
            progress(name, 0.5)
            progress(name, 1.0)
        return [Path("/models") / name for name in names]

    monkeypatch.setattr(models, "pull", pull)
    result = command("models", "pull", "bikes.mp4", "face-centerface", "bikes.mp4")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == ["/models/bikes.mp4", "/models/face-centerface"]
    assert result.stderr == ""


def test_the_speed_of_a_detector_is_measured(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rekognition_dagster.engine import speed

    (tmp_path / "slow_detector.py").write_text(
        "import time\n"
        "import supervision as sv\n"
        "from rekognition_dagster.engine.detectors import ScoreScale\n"
        "class Slow:\n"
        "    labels = {0: 'person'}\n"
        "    scores = ScoreScale(0.1, 0.5)\n"
        "    def detect(self, frames):\n"
        "        for frame in frames:\n"
        "            time.sleep(0.1)\n"
        "            yield sv.Detections.empty()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(speed, "_WARM_S", 0.0)
    result = command("models", "list", "--detector", "slow_detector:Slow")
    assert result.exit_code == 0, result.stderr
    name, rate = result.stdout.splitlines()[-1].split()
    assert name == "slow_detector:Slow"
    assert 0 < float(rate) <= 10
