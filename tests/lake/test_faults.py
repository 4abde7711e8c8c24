"""A disk that is full, a lake that may not be written: told with the video and the remedy, nothing
is half written, and the next call goes on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rekognition_dagster.errors import LakeError
from rekognition_dagster.lake import Lake, Storage
from rekognition_dagster.lake.compaction import Day
from rekognition_dagster.videos import Video

VIDEO = Video("cameras", "2026-01-31/gate.mp4")
OTHERS = [Video("cameras", f"2026-01-31/{i}.mp4") for i in range(4)]
FOLDER = "person_detections/date=2026-01-31"


def write(lake: Lake, video: Video, rows: int) -> None:
    with lake.writer("person_detections", video) as writer:
        writer.write({"video": video.uri, "job_id": os.urandom(16).hex()} for _ in range(rows))


def counts(lake: Lake) -> dict[str, int]:
    with lake.connect(["person_detections"]) as connection:
        sql = "SELECT video, count(*) FROM person_detections GROUP BY video"
        return dict(connection.sql(sql).fetchall())


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process that may lose rights for ever."""
    setup = (
        "import duckdb, os, resource, signal, sys\nfrom rekognition_dagster.lake import storage\n"
    )
    setup += "from test_faults import *\n"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", setup + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


# -- a full disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = Path(tempfile.mkdtemp())
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=1m"):
        folder.rmdir()
        pytest.skip("a file system can be mounted by root only")
    yield folder
    libc.umount2(bytes(folder), 2)
    folder.rmdir()


def test_a_full_disk_names_the_video_and_leaves_what_was_there(small_disk: Path) -> None:
    lake = Lake(small_disk / "lake")
    write(lake, VIDEO, 1000)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 64 * 1024))
    for video in (VIDEO, OTHERS[0]):
        with pytest.raises(
            LakeError,
            match=rf"{lake.url}/.* of {video.uri}: .*No space left.* free some space and run this",
        ):
            write(lake, video, 50_000)
        assert lake.storage.files() == [lake.path("person_detections", VIDEO)]
        assert counts(lake) == {VIDEO.uri: 1000}
    ballast.unlink()
    write(lake, OTHERS[0], 1100)
    assert counts(lake) == {VIDEO.uri: 1000, OTHERS[0].uri: 1100}


def test_a_disk_that_is_full_while_a_day_is_merged_loses_nothing(small_disk: Path) -> None:
    lake = Lake(small_disk / "lake")
    for video in OTHERS:
        write(lake, video, 3000)
    day = Day(lake.storage, FOLDER)
    before = lake.storage.files(FOLDER)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 32 * 1024))
    with pytest.raises(LakeError, match=r"date=2026-01-31.*The disk is full: free some space"):
        day.compact(grace_s=0, quiet_s=0, min_files=2)
    assert lake.storage.files(FOLDER) == before
    assert counts(lake) == {v.uri: 3000 for v in OTHERS}
    ballast.unlink()
    for outcome in ("staged", "published"):
        assert day.compact(grace_s=0, quiet_s=0, min_files=2) == outcome
    assert counts(lake) == {v.uri: 3000 for v in OTHERS}


def test_a_file_larger_than_allowed_is_told_and_the_next_one_goes_on(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    write(lake, VIDEO, 500)
    done = child(
        """
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
lake = Lake(sys.argv[1])
try:
    write(lake, VIDEO, 200_000)
except LakeError as error:
    print(error)
write(lake, OTHERS[0], 600)
""",
        tmp_path,
    )
    assert f"of {VIDEO.uri}: [Errno 27] File too large" in done.stdout, done.stderr
    assert counts(lake) == {VIDEO.uri: 500, OTHERS[0].uri: 600}
    assert all(f.endswith(".parquet") for f in lake.storage.files())


# -- no permission --------------------------------------------------------------------------------


def test_a_folder_that_may_not_be_written_is_told() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        lake = Lake(folder)
        write(lake, VIDEO, 10)
        os.chmod(f"{folder}/{FOLDER}", 0o555)
        done = child(
            """
if os.geteuid() == 0:
    os.setuid(65534)
lake = Lake(sys.argv[1])
for video in (VIDEO, OTHERS[0]):
    try:
        write(lake, video, 20)
    except LakeError as error:
        print(error)
print(counts(lake))
""",
            folder,
        )
        told = done.stdout.splitlines()
        assert len(told) == 3, done.stderr
        for video, line in zip((VIDEO, OTHERS[0]), told, strict=False):
            assert f" of {video.uri}: [Errno 13] Permission denied" in line
            assert line.endswith("No permission: let this user write there")
        assert told[2] == str({VIDEO.uri: 10})
        os.chmod(f"{folder}/{FOLDER}", 0o755)
        write(lake, OTHERS[0], 20)
        assert counts(lake) == {VIDEO.uri: 10, OTHERS[0].uri: 20}


def test_a_catalogue_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match=r"cannot write the catalogue .*lake\.duckdb.*not touched"):
        Lake(tmp_path).save_catalogue(tmp_path / "file" / "lake.duckdb")


@contextlib.contextmanager
def refusing(endpoint: str, *methods: str) -> Iterator[str]:
    """An S3 that allows all but some HTTP methods."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, answer = 403, {}, b"<Error><Code>AccessDenied</Code></Error>"
            if self.command not in methods:
                headers = {k: v for k, v in self.headers.items() if k != "Host"}
                request = urllib.request.Request(
                    endpoint + self.path, body or None, headers, method=self.command
                )
                try:
                    with urllib.request.urlopen(request) as response:
                        status, headers, answer = (
                            response.status,
                            dict(response.headers),
                            response.read(),
                        )
                except urllib.error.HTTPError as error:
                    status, headers, answer = error.code, dict(error.headers), error.read()
            self.send_response(status)
            kept = {k: v for k, v in headers.items() if k.lower() not in _HOP_BY_HOP}
            for name, value in {**kept, "Content-Length": str(len(answer))}.items():
                self.send_header(name, headers.get(name, value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


_HOP_BY_HOP = {"connection", "transfer-encoding", "server", "date"}


def test_an_s3_that_refuses_is_told_and_gone_on_with(
    bucket: str, aws_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(f"s3://{bucket}/lake")
    write(lake, VIDEO, 10)
    with refusing(aws_endpoint, "PUT", "POST") as endpoint, monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", endpoint)
        refused = Lake(f"s3://{bucket}/lake")
        for video in (VIDEO, OTHERS[0]):
            with pytest.raises(
                LakeError, match=rf"cannot write s3://.* of {video.uri}: .*s3:PutObject"
            ):
                write(refused, video, 20)
        assert counts(refused) == {VIDEO.uri: 10}
    write(lake, OTHERS[0], 20)
    assert counts(lake) == {VIDEO.uri: 10, OTHERS[0].uri: 20}


INTERRUPTED = """
storage._CHUNK_BYTES = 6 * 1024 * 1024

class Interrupting:
    def __init__(self, file):
        self._file, self._reads = file, 0

    def read(self, size):
        self._reads += 1
        if self._reads == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return self._file.read(size)

    def __getattr__(self, name):
        return getattr(self._file, name)

place = Storage.at(sys.argv[1])
with place.spool("a.bin") as file:
    file.write(open(sys.argv[2], "rb").read())
    place.publish(Interrupting(file), "a.bin")
"""


def test_an_interrupted_upload_is_whole_or_not_there(bucket: str, tmp_path: Path) -> None:
    content, address = os.urandom(13 * 1024 * 1024), f"s3://{bucket}/lake"
    (tmp_path / "content").write_bytes(content)
    done = child(INTERRUPTED, address, tmp_path / "content")
    assert "KeyboardInterrupt" in done.stderr
    assert Storage.at(address).read("a.bin") in (None, content)


# -- two names ------------------------------------------------------------------------------------

KILLED_AT_RENAMES = """
storage.os.replace = lambda *_: os._exit(9)
write(Lake(sys.argv[1]), VIDEO, int(sys.argv[2]))
"""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / FOLDER).iterdir())


def test_who_is_killed_while_replacing_a_file_leaves_no_second_name_for_long(tmp_path):
    assert child(KILLED_AT_RENAMES, tmp_path, 3).returncode == 0  # nothing to replace, no rename
    (name,) = names(tmp_path)
    assert child(KILLED_AT_RENAMES, tmp_path, 4).returncode == 9
    assert names(tmp_path) == [name, f"{name}.partial"]
    assert counts(Lake(tmp_path)) == {VIDEO.uri: 3}
    write(Lake(tmp_path), VIDEO, 5)
    assert names(tmp_path) == [name]
    assert counts(Lake(tmp_path)) == {VIDEO.uri: 5}


def test_a_copy_of_a_file_can_be_made_again(tmp_path):
    store = Storage.at(tmp_path)
    store.write("one", b"content")
    for _ in range(2):
        store.copy("one", "other")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "other"]
    assert store.read("other") == b"content"


def test_a_file_that_many_write_at_once_is_always_one_of_theirs_whole(tmp_path):
    store = Storage.at(tmp_path)
    said = [bytes([65 + i]) * 4096 for i in range(6)]
    seen = []

    def work(content: bytes) -> None:
        for _ in range(40):
            store.write("shared.json", content)
            seen.append(store.read("shared.json"))

    threads = [threading.Thread(target=work, args=(content,)) for content in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 240
    assert set(seen) <= set(said)
    assert [p.name for p in tmp_path.iterdir()] == ["shared.json"]
