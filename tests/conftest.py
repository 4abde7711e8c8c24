"""What every folder of tests may build on: AWS on loopback, and a scripted Rekognition endpoint."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from hypothesis import HealthCheck, settings
from postgresql import Cluster, cluster
from rekognition_double import RekognitionDouble, serve

# How fast a machine is has nothing to do with what is right.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_numbers = itertools.count()
SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"
"""Real videos and models for those who have them; nothing rests on them alone."""


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """The address of S3, SNS, SQS and IAM on loopback, from moto's server."""
    from moto.server import ThreadedMotoServer

    # moto's own calls need credentials too, whatever they are.
    os.environ.update({k: v for k, v in _CREDENTIALS.items() if k not in os.environ})
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """A boto3 session that talks to the loopback, as does everything else in the test."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "REKOGNITION_DAGSTER_")) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    for name, value in _CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
    return boto3.Session()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A real PostgreSQL; the test is skipped where none is installed."""
    with cluster() as started:
        yield started


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def bucket(aws: boto3.Session, unique: str) -> str:
    """A new bucket."""
    aws.client("s3").create_bucket(Bucket=f"videos-{unique}")
    return f"videos-{unique}"


@pytest.fixture
def rekognition(aws: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[RekognitionDouble]:
    """A scripted Rekognition endpoint, which boto3 finds by itself."""
    double = RekognitionDouble()
    server = serve(double)
    monkeypatch.setenv(
        "AWS_ENDPOINT_URL_REKOGNITION", f"http://127.0.0.1:{server.server_address[1]}"
    )
    yield double
    server.shutdown()
    server.server_close()


@pytest.fixture
def shared_file() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"no {name} beside the checkout")
        return path

    return find
