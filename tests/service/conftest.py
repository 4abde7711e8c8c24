"""A real service on loopback with S3, SNS and SQS beside it, and a scripted engine behind it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy
from service.serving import BUCKET, ENV, Cloud, Service, cloud_client, starter


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def cloud(aws_endpoint: str) -> Cloud:
    """The bucket, and a topic and queue of this test's own."""
    cloud = Cloud(aws_endpoint)
    cloud.s3.create_bucket(Bucket=BUCKET)
    name = f"AmazonRekognition-{time.monotonic_ns()}"
    sns = cloud_client("sns", aws_endpoint)
    cloud.topic = sns.create_topic(Name=name)["TopicArn"]
    cloud.queue = cloud.sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = cloud.sqs.get_queue_attributes(QueueUrl=cloud.queue, AttributeNames=["QueueArn"])
    sns.subscribe(TopicArn=cloud.topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"])
    return cloud


@pytest.fixture
def make_service(tmp_path: Path, aws_endpoint: str) -> Iterator[Callable[..., Service]]:
    """Starts services of this test's own, and stops them when it is over."""
    started: list[Service] = []
    yield starter(tmp_path, aws_endpoint, started)
    for service in started:
        service.stop()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, aws_endpoint: str) -> Iterator[Service]:
    """A service with one worker, for all tests that leave it as it is."""
    started: list[Service] = []
    yield starter(tmp_path_factory.mktemp("service"), aws_endpoint, started)()
    for service in started:
        service.stop()


@pytest.fixture(scope="session")
def rekognition(service: Service) -> Any:
    """boto3's client of the service."""
    return service.client()


@pytest.fixture
def proxy(aws_endpoint: str) -> Iterator[FaultProxy]:
    """AWS on loopback that can be made to fail."""
    with FaultProxy(aws_endpoint, seed=0, shares={}) as proxy:
        yield proxy


@pytest.fixture
def http_stub() -> Iterator[Callable[..., str]]:
    """An HTTP server that answers every request with one status, after so many seconds."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, seconds: float = 0.0) -> str:
        class Answers(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                time.sleep(seconds)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD = do_POST = do_PUT = _answer

            def log_request(self, code: Any = "-", size: Any = "-") -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
