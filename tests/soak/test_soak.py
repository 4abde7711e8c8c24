"""Everything around the service fails by a seed, while clients start, page and break off.

At the end every accepted job ended once, as its video deserves, was announced, and can be paged.
``make soak`` runs for ten minutes, ``make soak SEED=n`` with the faults of an earlier run;
``make outages`` has each thing around the service away for a quarter of an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from fault_proxy import FaultProxy
from service.serving import BUCKET, ENV, HERE, ROLE, Service, cloud_client, mp4, starter, until

SECONDS = float(os.environ.get("REKOGNITION_DAGSTER_TEST_SOAK_S") or 15)
SEED = int(os.environ.get("REKOGNITION_DAGSTER_TEST_SOAK_SEED") or secrets.randbelow(10**6))
OUTAGES_S = float(os.environ.get("REKOGNITION_DAGSTER_TEST_OUTAGES_S") or 8)
LEAST_JOBS = 6
SETTLE_S = 420.0
"""The longest back-off of a job, and some more."""
BATCH_S = 4.0
"""Seconds, on average, between two videos of a client."""

DESERVED: dict[str, tuple[dict[str, Any], str]] = {
    "good": ({"rows": 1200, "seconds": 0.3}, "SUCCEEDED"),
    "long": ({"rows": 2500, "seconds": 2.0}, "SUCCEEDED"),
    "empty": ({"rows": 0}, "SUCCEEDED"),
    "crashes once": ({"rows": 300}, "SUCCEEDED"),
    "bad": ({"error": "is damaged"}, "FAILED"),
    "crashes": ({"crash": True}, "FAILED"),
    "too long": ({"duration_ms": 7 * 3600 * 1000}, "FAILED"),
}
FAULTS = ("s3", "sns", "disk", "database", "clock", "worker", "stopped worker", "service")


@dataclass
class Started:
    """A video that a client asked for."""

    name: str
    kind: str
    rows: int
    job_id: str = ""


@dataclass
class Soak:
    """Two services over one store, the cloud beside them, clients before them, and faults."""

    folder: Path
    endpoint: str
    proxy: FaultProxy
    services: list[Service]
    clock: Path
    topic: str
    queue: str
    dice: random.Random
    over: threading.Event = field(default_factory=threading.Event)
    started: list[Started] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    paged: Counter[str] = field(default_factory=Counter)
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    # -- clients ----------------------------------------------------------------------------------

    def client(self, number: int) -> None:
        """Start videos, page what ended, and now and then break a request off."""
        dice = random.Random(f"{SEED} client {number}")
        while not self.over.is_set():
            self._start(dice, number)
            for _ in range(dice.randint(1, 3)):
                self._page(dice)
            if dice.random() < 0.3:
                self._break_off(dice)
            self.over.wait(dice.uniform(0, 2 * BATCH_S))

    def _start(self, dice: random.Random, number: int) -> None:
        kind = dice.choice(list(DESERVED))
        self.start(dice, kind, f"{number}-{len(self.started)}-{kind}.mp4".replace(" ", "-"))

    def start(self, dice: random.Random, kind: str, name: str) -> None:
        """Start a video's job, however often a service must be asked."""
        script = dict(DESERVED[kind][0])
        if kind == "crashes once":
            script["crash_once"] = str(self.folder / f"{name}.crashed")
        s3 = cloud_client("s3", self.endpoint)
        s3.put_object(Bucket=BUCKET, Key=name, Body=mp4(json.dumps(script).encode()))
        asked = Started(name, kind, script.get("rows", 10))
        while not self.over.is_set():
            job_id = self._call(
                dice,
                "start_face_detection",
                Video={"S3Object": {"Bucket": BUCKET, "Name": name}},
                ClientRequestToken=name.removesuffix(".mp4"),
                NotificationChannel={"SNSTopicArn": self.topic, "RoleArn": ROLE},
            )
            if job_id is not None:
                asked.job_id = job_id["JobId"]
                with self.lock:
                    self.started.append(asked)
                return
            self.over.wait(dice.uniform(0.1, 0.5))

    def _page(self, dice: random.Random) -> None:
        with self.lock:
            known = list(self.started)
        if known:
            asked = dice.choice(known)
            page = self._call(dice, "get_face_detection", JobId=asked.job_id)
            if page is not None:
                self.paged[page["JobStatus"]] += 1

    def _break_off(self, dice: random.Random) -> None:
        url = dice.choice(self.services).url
        with contextlib.suppress(OSError):
            host, _, port = url.removeprefix("http://").partition(":")
            with socket.create_connection((host, int(port)), timeout=2) as connection:
                connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{")
            self.happened["request broken off"] += 1

    def _call(self, dice: random.Random, method: str, **arguments: Any) -> dict[str, Any] | None:
        """What a service answers; None where it cannot, which a client must live with."""
        try:
            rekognition = cloud_client("rekognition", dice.choice(self.services).url)
            return getattr(rekognition, method)(**arguments)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in ("InternalServerError", "LimitExceededException", "ThrottlingException"):
                raise
            self.happened[code] += 1
        except (BotoCoreError, OSError) as error:
            self.happened[type(error).__name__] += 1
        return None

    # -- faults -----------------------------------------------------------------------------------

    def fail(self, seconds: float) -> None:
        """Let one thing after another fail for a while, as the seed says."""
        end, number = time.monotonic() + seconds, 0
        latest = end + SETTLE_S
        order = list(FAULTS)
        self.dice.shuffle(order)
        # A short run has each kind of fault and a few jobs, however slow the machine is.
        while (
            time.monotonic() < end
            or number < len(order)
            or (len(self.started) < LEAST_JOBS and time.monotonic() < latest)
        ):
            # Each kind once, then by chance.
            fault = order[number] if number < len(order) else self.dice.choice(FAULTS)
            number += 1
            how = self.dice.choice(("refused", "lost", "cut", "hang"))
            with self.failing(fault, how):
                self.happened[fault] += 1
                time.sleep(self.dice.uniform(0.2, 2.0))
            time.sleep(self.dice.uniform(0.0, 1.0))

    @contextlib.contextmanager
    def failing(self, fault: str, how: str) -> Iterator[None]:
        """Let one thing fail; ``how`` is what becomes of calls of S3 and SNS."""
        service = self.dice.choice(self.services)
        if fault in ("s3", "sns"):
            self.proxy.outage = {fault: how}
            yield
            self.proxy.outage = {}
        elif fault == "disk":
            with self._no_disk():
                yield
        elif fault == "database":
            with self._no_database():
                yield
        elif fault == "clock":
            self.clock.write_text(str(self.dice.uniform(-60, 60)))
            yield
            self.clock.write_text("0")
        elif fault == "service":
            service.stop(signal.SIGKILL)
            yield
            service.start()
        else:
            with self._worker(service, fault):
                yield

    @contextlib.contextmanager
    def _no_disk(self) -> Iterator[None]:
        scratch = Path(self.services[0].store, "scratch")
        while not scratch.is_file():
            shutil.rmtree(scratch, ignore_errors=True)
            with contextlib.suppress(OSError):  # a worker made it again
                scratch.touch(exist_ok=False)
        yield
        scratch.unlink()

    @contextlib.contextmanager
    def _no_database(self) -> Iterator[None]:
        def run(statement: str) -> None:
            path = Path(self.services[0].store, "jobs.sqlite")
            with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
                database.execute(statement)
                database.commit()

        run(
            "CREATE TRIGGER broken BEFORE UPDATE ON jobs "
            "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        )
        yield
        run("DROP TRIGGER broken")

    @contextlib.contextmanager
    def _worker(self, service: Service, fault: str) -> Iterator[None]:
        workers = service.children()
        if not workers:
            yield
            return
        pid = self.dice.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if fault == "worker" else signal.SIGSTOP)
        yield
        if fault == "stopped worker":
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # -- the end ----------------------------------------------------------------------------------

    def collect(self) -> None:
        """Take completions off the queue until all that was started is announced."""
        sqs = cloud_client("sqs", self.endpoint)
        answer = sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
            body = json.loads(json.loads(message["Body"])["Message"])
            self.messages.setdefault(body["JobId"], []).append(body)

    def check(self) -> None:
        """Hold every accepted job against what its video deserves."""
        rekognition = self.services[0].client()
        for asked in self.started:
            pages, token = [], ""
            while True:
                page = rekognition.get_face_detection(JobId=asked.job_id, NextToken=token)
                pages.append(page)
                if not (token := page.get("NextToken", "")):
                    break
            rows, status = sum(len(p["Faces"]) for p in pages), DESERVED[asked.kind][1]
            about = (asked, pages[0].get("StatusMessage"))
            assert pages[0]["JobStatus"] == status, about
            assert rows == (asked.rows if status == "SUCCEEDED" else 0), about
            announced = self.messages[asked.job_id]
            assert {m["Status"] for m in announced} == {status}, about
            assert len({m["Timestamp"] for m in announced}) == 1, "it ended more than once"
        tokens = {a.name for a in self.started}
        assert len({a.job_id for a in self.started}) == len(tokens)


@pytest.fixture
def soak(tmp_path: Path, aws_endpoint: str, unique: str, monkeypatch: Any) -> Iterator[Soak]:
    """Services, cloud and proxy, all of them working."""
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    s3, sns, sqs = (cloud_client(name, aws_endpoint) for name in ("s3", "sns", "sqs"))
    s3.create_bucket(Bucket=BUCKET)
    topic = sns.create_topic(Name=unique)["TopicArn"]
    queue = sqs.create_queue(QueueName=unique)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"])
    clock, made = tmp_path / "clock", []
    clock.write_text("0")
    paths = os.pathsep.join(
        (str(Path(__file__).parent), str(HERE), os.environ.get("PYTHONPATH", ""))
    )
    with FaultProxy(aws_endpoint, seed=SEED, shares={}) as proxy:
        make = starter(tmp_path, aws_endpoint, made)
        for number in range(2):
            # Only one of the two has the clock that goes wrong.
            more = {"SOAK_CLOCK": str(clock)} if number else {}
            environment = {"AWS_ENDPOINT_URL": proxy.url, "PYTHONPATH": paths, **more}
            make(environment=environment, attempts=2, lease_s=15.0, jobs_in_flight=1000)
        dice = random.Random(SEED)
        yield Soak(tmp_path, aws_endpoint, proxy, made, clock, topic, queue, dice)
        proxy.outage = {}
        for service in made:
            service.stop()


def test_every_accepted_job_ends_once_as_its_video_deserves_and_is_announced(soak: Soak) -> None:
    print(f"seed {SEED}")
    began, errors = time.monotonic(), []

    def work(number: int) -> None:
        try:
            soak.client(number)
        except BaseException as error:
            errors.append(error)

    clients = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in clients:
        thread.start()
    try:
        soak.fail(SECONDS)
    finally:
        soak.over.set()
        for thread in clients:
            thread.join()
    assert not errors, errors
    calm = time.monotonic()
    wanted = {a.job_id for a in soak.started}
    until(lambda: soak.collect() or wanted <= soak.messages.keys(), SETTLE_S, every=0.1)
    settled = time.monotonic()
    soak.check()
    until(lambda: all(s.status("/ready") == 200 for s in soak.services))
    kinds = Counter(DESERVED[a.kind][1] for a in soak.started)
    print(
        f"seed {SEED}: {len(soak.started)} jobs in {calm - began:.0f} s ({dict(kinds)}), "
        f"all ended {settled - calm:.0f} s later; {dict(soak.happened)}"
    )
    assert len(soak.started) >= LEAST_JOBS


def test_long_outages_in_turn_fail_no_job(soak: Soak) -> None:
    long = OUTAGES_S > 60
    dice = random.Random(SEED)
    for number in range(100 if long else 8):
        soak.start(dice, "good", f"outage-{number}.mp4")
    began = time.monotonic()
    for fault in ("s3", "disk", "sns", "database"):
        with soak.failing(fault, "refused"):
            time.sleep(OUTAGES_S / 4)
    failing = time.monotonic() - began
    wanted = {a.job_id for a in soak.started}
    until(lambda: soak.collect() or wanted <= soak.messages.keys(), 2 * SETTLE_S, every=0.1)
    soak.check()
    print(
        f"{len(wanted)} jobs, {failing:.0f} s of outages in turn, all SUCCEEDED and announced "
        f"{time.monotonic() - began - failing:.0f} s later"
    )
