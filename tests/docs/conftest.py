"""The folder in which pages are followed: the demo's lake, some videos, S3 on loopback, a shell."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from clips import write_clip
from docs_shell import Shell
from documents import ROOT

from rekognition_dagster.engine import models
from rekognition_dagster.errors import ModelError
from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import FACE_DETECTION, PERSON_TRACKING
from rekognition_dagster.videos import Video

SAMPLES = ("bikes.mp4", "carphone_pristine.mp4")
NEW_YEAR = datetime(2026, 11, 25, 9, tzinfo=timezone.utc)
_COPIED = ("assets", "definitions.py", "workspace.yaml", "examples")
_MADE_BY = ("engine/**/*", "lake/*.py", "analytics/*", "backfill.py", "operations.py", "videos.py")


@pytest.fixture(scope="session")
def demo_lake(pytestconfig: pytest.Config) -> Path:
    """The lake of the demo's two videos; analyzed anew when the code that makes it has changed."""
    digest = hashlib.sha256()
    package = ROOT / "rekognition_dagster"
    for path in sorted({p for pattern in _MADE_BY for p in package.glob(pattern) if p.is_file()}):
        if "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    assert pytestconfig.cache is not None
    made = pytestconfig.cache.mkdir("demo-lakes") / digest.hexdigest()[:16]
    if not made.exists():
        unfinished = made.with_name(f"{made.name}.{os.getpid()}")
        try:
            _analyze_samples(Lake(unfinished))
        except ModelError as error:
            pytest.skip(f"the embedded models cannot be fetched here: {error}")
        shutil.rmtree(made, ignore_errors=True)
        unfinished.rename(made)
    return made


def _analyze_samples(lake: Lake) -> None:
    from rekognition_dagster.analytics import compute_standard
    from rekognition_dagster.backfill import analyze_into_lake

    for name in SAMPLES:
        path = models.path(name)
        tag = hashlib.md5(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        video = Video("videos", f"2026-11-25/{name}", etag=tag, size=size, last_modified=NEW_YEAR)
        analyze_into_lake(video, path, lake, [PERSON_TRACKING, FACE_DETECTION])
        compute_standard(lake, [video])


@pytest.fixture(scope="session")
def lobby(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of people in a street."""
    return write_clip(tmp_path_factory.mktemp("lobby") / "lobby.mp4", first=85, frames=12)


@pytest.fixture
def place(demo_lake: Path, lobby: Path, tmp_path: Path) -> Path:
    """A folder as a reader of the pages has it: a checkout, the demo's home, videos."""
    for name in _COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / name)
    shutil.copytree(demo_lake, tmp_path / ".rekognition-dagster" / "lake")
    for name in ("lobby.mp4", "gate.mp4", "corridor.mp4", "archive/one.mp4", "archive/two.mp4"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(lobby, target)
        os.utime(target, (NEW_YEAR.timestamp(), NEW_YEAR.timestamp()))
    shutil.copytree(tmp_path / "archive", tmp_path / "mnt" / "archive")
    shutil.copytree(demo_lake, tmp_path / "data" / "lake")
    shutil.copytree(demo_lake, tmp_path / "data" / "lake-yolo11n")
    for name, op in (("backfill", "rekognition_dagster"), ("january", "cameras")):
        config = {"folder": str(tmp_path / "archive"), "operations": ["person_tracking"]}
        ops = {f"{op}_analyze_videos": {"config": config}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"ops": ops}))
    _keep_state(tmp_path / ".rekognition-dagster")
    (tmp_path / "home").mkdir()
    (tmp_path / "models").symlink_to(models.cache_folder())
    return tmp_path


def _keep_state(home: Path) -> None:
    """The state that the demo leaves behind."""
    from rekognition_dagster.state import open_state
    from rekognition_dagster.state.rebuild import rebuild
    from rekognition_dagster.state.store import sqlite_url
    from rekognition_dagster.videos import Partitioning

    (home / "dagster").mkdir()
    name = "rekognition-dagster"
    state = open_state(sqlite_url(str(home / "dagster"), name), name)
    rebuild(state, Lake(home / "lake"), Partitioning(), [])


@pytest.fixture
def shell(place: Path, aws_endpoint: str, lobby: Path) -> Iterator[Shell]:
    """A shell without any settings but AWS on loopback, where there are the pages' buckets."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),  # this checkout's code, whichever is installed
        "HOME": str(place / "home"),
        "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": str(models.cache_folder().parents[1]),
        "AWS_ENDPOINT_URL": aws_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    environment |= {
        name: value
        for name, value in os.environ.items()
        if name in ("REKOGNITION_DAGSTER_MODELS", "SSL_CERT_FILE", "TMPDIR")
    }
    _fill_buckets(aws_endpoint, lobby)
    opened = Shell(place, environment)
    yield opened
    opened.close()


def _fill_buckets(endpoint: str, lobby: Path) -> None:
    s3: Any = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    for bucket in sorted({"cameras", "my-videos", "videos", "footage", "analytics", "my-lake"}):
        s3.create_bucket(Bucket=bucket)
        for key in ("gate.mp4", "lobby.mp4", "entrance/2026-01-31.mp4"):
            s3.upload_file(str(lobby), bucket, key)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
