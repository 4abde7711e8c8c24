"""What the tests of the service share: its process, the cloud beside it, and ways to wait."""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

HERE = Path(__file__).parent
BUCKET = "footage"
ENV = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
ROLE = "arn:aws:iam::123456789012:role/rekognition"


def until(condition: Callable[[], Any], seconds: float = 60.0, every: float = 0.02) -> Any:
    """What ``condition`` answers once that is true; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s")


@functools.cache
def cloud_client(name: str, url: str) -> Any:
    """A client of the cloud on loopback; making one takes longer than most calls."""
    return client(name, url)


def client(name: str, url: str, **more: Any) -> Any:
    """A boto3 client of ``url`` that tries once, so that tests see each answer."""
    settings = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": 5,
        "read_timeout": 30,
        "max_pool_connections": 60,
        **more.pop("config", {}),
    }
    session = boto3.Session(
        ENV["AWS_ACCESS_KEY_ID"], ENV["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
    )
    return session.client(name, endpoint_url=url, config=Config(**settings), **more)


@dataclass
class Cloud:
    """S3, SNS and SQS on loopback: a bucket, and a topic with a queue behind it."""

    url: str
    topic: str = ""
    queue: str = ""
    _names: Iterator[int] = field(default_factory=itertools.count)

    @property
    def s3(self) -> Any:
        return cloud_client("s3", self.url)

    @property
    def sqs(self) -> Any:
        return cloud_client("sqs", self.url)

    @property
    def channel(self) -> dict[str, str]:
        return {"SNSTopicArn": self.topic, "RoleArn": ROLE}

    def video(self, key: str | None = None, **script: Any) -> dict[str, Any]:
        """Put a scripted video into the bucket; its ``Video`` for a Start request."""
        key = key or f"clip-{next(self._names)}.mp4"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=mp4(json.dumps(script).encode()))
        return {"S3Object": {"Bucket": BUCKET, "Name": key}}

    def completions(self) -> list[dict[str, Any]]:
        """Completion messages in the queue; they are taken off it."""
        answer = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
        found = []
        for message in answer.get("Messages", []):
            self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
            found.append(json.loads(json.loads(message["Body"])["Message"]))
        return found


def mp4(payload: bytes) -> bytes:
    """``payload`` behind the first bytes of an MP4 file."""
    return b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom\n" + payload


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json.get("__type", "OK")


_pool = urllib3.PoolManager(maxsize=20, retries=False, cert_reqs="CERT_NONE")


def post(
    url: str,
    operation: str,
    body: bytes,
    *,
    sign: bool = True,
    keys: tuple[str, ...] = (ENV["AWS_ACCESS_KEY_ID"], ENV["AWS_SECRET_ACCESS_KEY"]),
    service: str = "rekognition",
    **headers: str,
) -> Answer:
    """POST ``body`` as ``operation``, signed by botocore."""
    request = AWSRequest(
        "POST",
        url + "/",
        data=body,
        headers={
            "X-Amz-Target": f"RekognitionService.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        },
    )
    if sign:
        SigV4Auth(Credentials(*keys), service, "us-east-1").add_auth(request)
    prepared = request.prepare()
    answer = _pool.request("POST", url + "/", body=body, headers=dict(prepared.headers.items()))
    return Answer(answer.status, answer.data, {k.lower(): v for k, v in answer.headers.items()})


@dataclass
class Service:
    """The service in a process of its own; stopped and started again over the same store."""

    store: str
    environment: dict[str, str]
    settings: dict[str, Any]
    log: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> Service:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "run_service.py"), json.dumps(self.settings)],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.log.read_text()[-4000:]
        return self

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(how)
        code = self.process.wait(60)
        self.process = None
        return code

    def children(self) -> list[int]:
        """Process ids of its workers."""
        assert self.process is not None
        # Each thread has the children that it started.
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(p) for children in lists for p in children.read_text().split()]

    def client(self, **more: Any) -> Any:
        """boto3's client of this service; see :func:`client`."""
        return client("rekognition", self.url, **more)

    def post(self, operation: str, body: bytes, *, sign: bool = True, **headers: Any) -> Answer:
        """A request as it is given, valid or not; see :func:`post`."""
        return post(self.url, operation, body, sign=sign, **headers)

    def status(self, path: str) -> int:
        """The HTTP status of one of the pages for operators."""
        return self.page(path).status

    def page(self, path: str, **headers: str) -> Answer:
        """One of the pages for operators."""
        answer = _pool.request("GET", self.url + path, headers=headers)
        return Answer(answer.status, answer.data, dict(answer.headers.items()))

    def logged(self) -> str:
        return self.log.read_text()


def starter(folder: Path, aws_endpoint: str, started: list[Service]) -> Callable[..., Service]:
    def make(**settings: Any) -> Service:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
            **ENV,
            "AWS_ENDPOINT_URL": aws_endpoint,
            "PYTHONPATH": os.pathsep.join((str(HERE), *sys.path)),
            **settings.pop("environment", {}),
        }
        settings = {
            "port": 0,
            "store": str(folder / "store"),
            "analyzer": "scripted_engine:analyze",
            "poll_s": 0.05,
            "log_format": "json",
            "drain_s": 5.0,
            **settings,
        }
        log = folder / f"service-{len(started)}.log"
        service = Service(settings["store"], environment, settings, log)
        started.append(service)
        return service.start()

    return make


def ended(
    rekognition: Any, operation: str, job_id: str, seconds: float = 60.0, **more: Any
) -> dict:
    """The first page of a job once it is no longer in progress."""

    def look() -> dict | None:
        answer = getattr(rekognition, f"get_{operation}")(JobId=job_id, **more)
        return answer if answer["JobStatus"] != "IN_PROGRESS" else None

    return until(look, seconds)


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str, int]:
    """The error code, message and HTTP status of a call that must be refused."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return (
        response["Error"]["Code"],
        response["Error"]["Message"],
        response["ResponseMetadata"]["HTTPStatusCode"],
    )
