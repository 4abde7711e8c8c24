"""The processes of a deployment, each supervised by itself, so that any of them can be killed.

What a production host has: a code server, Dagster's daemon, the service with its workers, and the
processes of runs. A supervisor starts again what has died, as systemd or Kubernetes would.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import dagster as dg

from rekognition_dagster import Lake, Settings, build_definitions
from rekognition_dagster.api import MessageQueue, provision
from rekognition_dagster.stack import dagster_home

TESTS = Path(__file__).parent.parent
QUOTA = 20
_DAGSTER_SETTINGS = """\
telemetry: {{enabled: false}}
nux: {{enabled: false}}
run_queue: {{max_concurrent_runs: 2, dequeue_interval_seconds: 1}}
sensors: {{use_threads: true, num_workers: 4}}
schedules: {{use_threads: true, num_workers: 1}}
run_retries: {{enabled: true, max_retries: 2, retry_on_asset_or_op_failure: false}}
# Runs of a code server that was killed with them: nobody else says that they are over.
run_monitoring:
  enabled: true
  start_timeout_seconds: {patience}
  max_runtime_seconds: {patience}
  poll_interval_seconds: 2
"""
_WORKSPACE = """\
load_from:
  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: rekognition_dagster}}
"""
GOING_ON = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass
class Supervised:
    """A process that is started again some time after it has died."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    due: float = 0.0
    starts: int = 0
    groups: list[int] = field(default_factory=list)
    died_by_itself: list[int] = field(default_factory=list)

    def look_after(self, delay_s: float) -> None:
        """Start it if that is due; where it has just died, ``delay_s`` later."""
        if self.process is not None and (code := self.process.poll()) is not None:
            if code != -signal.SIGKILL:
                self.died_by_itself.append(code)
            self.process, self.due = None, time.monotonic() + delay_s
        if self.process is None and time.monotonic() >= self.due:
            # No process outlives the tests, however these end.
            leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [*leash, *self.command],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.groups.append(self.process.pid)
            self.starts += 1

    def kill(self, *, with_children: bool) -> bool:
        """SIGKILL; whether it was alive."""
        if self.process is None or self.process.poll() is not None:
            return False
        (os.killpg if with_children else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return True

    def children(self, of: str) -> list[int]:
        """Process ids of its children whose command line has ``of`` in it."""
        if self.process is None:
            return []
        found = []
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        for pid in itertools.chain.from_iterable(_read(p).split() for p in lists):
            if of.encode() in _read(Path(f"/proc/{int(pid)}/cmdline")):
                found.append(int(pid))
        return found

    def stop(self) -> None:
        """Kill it and everything that any start of it has left."""
        for group in self.groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process is not None:
            self.process.wait()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process is gone
        return b""


@dataclass
class Stack:
    """A deployment over a bucket: its own queue, lake, service and Dagster.

    Args:
        name: The deployment's name.
        home: Where all of it lies.
        bucket: The videos.
        aws_url: S3, SNS and SQS as the test sees them.
        through: The endpoints as the deployment sees them: AWS, and the service.
        port: Where the service listens.
        pace: How much longer than on a quiet machine things may take; see :func:`pace`.
        more: More settings of the pipeline, by environment variable.
        databases: Addresses of PostgreSQL databases for Dagster and for the pipeline's state;
            SQLite where there are none.
    """

    name: str
    home: Path
    bucket: str
    aws_url: str
    through: tuple[str, str]
    port: int
    pace: float
    more: Mapping[str, str] = field(default_factory=dict)
    databases: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        self.session = _session()
        self.provisioned = provision(self.client_session, self.name)
        dagster = self.home / "dagster"
        dagster.mkdir(parents=True)
        settings = _DAGSTER_SETTINGS.format(patience=round(45 * self.pace))
        if self.databases:
            settings += f"storage: {{postgres: {{postgres_url: '{self.databases[0]}'}}}}\n"
        (dagster / "dagster.yaml").write_text(settings)
        with dagster_home.instance(dagster) as instance:  # processes that race to make it may fail
            instance.get_runs_count()
            instance.all_instigator_state()
        self.code_port = code_port = free_port()
        (dagster / "workspace.yaml").write_text(_WORKSPACE.format(port=code_port))
        scripts = Path(sysconfig.get_path("scripts"))
        self.code_server = self._supervise(
            "code server",
            str(scripts / "dagster"),
            *("api", "grpc", "-h", "127.0.0.1", "-p", str(code_port)),
            *("-m", dagster_home.DEFINITIONS, "--location-name", "rekognition_dagster"),
        )
        self.daemon = self._supervise(
            "daemon",
            str(scripts / "dagster-daemon"),
            *("run", "-w", str(dagster / "workspace.yaml")),
        )
        settings = {
            "port": self.port,
            "store": str(self.home / "service"),
            "analyzer": "scripted_engine:analyze",
            "workers": 2,
            "jobs_in_flight": 1000,  # so that keeping to the quota is the pipeline's doing
            "poll_s": 0.1,
            "lease_s": 5.0,
            "attempts": 20,
        }
        run_service = str(TESTS / "service" / "run_service.py")
        self.service = self._supervise("service", sys.executable, run_service, json.dumps(settings))
        self.processes = [self.service, self.code_server, self.daemon]
        self.settings = Settings.from_env(self.environment())
        self.definitions = build_definitions(self.settings)

    def _supervise(self, name: str, *command: str) -> Supervised:
        log = self.home / f"{name.replace(' ', '-')}.log"
        kept = ("AWS_", "REKOGNITION_DAGSTER_", "DAGSTER_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(kept)}
        return Supervised(name, command, {**inherited, **self.environment()}, log)

    @property
    def client_session(self) -> Any:
        return _Direct(self.session, self.aws_url)

    @property
    def lake(self) -> Lake:
        return Lake(self.home / "lake")

    @property
    def queue_url(self) -> str:
        return self.provisioned.queue_url

    def environment(self) -> dict[str, str]:
        aws, rekognition = self.through
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ENDPOINT_URL": aws,
            "AWS_ENDPOINT_URL_REKOGNITION": rekognition,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "service")]),
            **self.provisioned.environment(),
            "REKOGNITION_DAGSTER_NAME": self.name,
            "REKOGNITION_DAGSTER_BUCKET": self.bucket,
            "REKOGNITION_DAGSTER_LAKE": str(self.home / "lake"),
            "REKOGNITION_DAGSTER_MAX_JOBS_IN_FLIGHT": str(QUOTA),
            "REKOGNITION_DAGSTER_SENSOR_INTERVAL": "2",
            "REKOGNITION_DAGSTER_DAYS_QUIET_MINUTES": "0",
            "REKOGNITION_DAGSTER_DAILY_REPORT": "off",  # of a schedule
            "REKOGNITION_DAGSTER_OVERDUE_MINUTES": str(0.5 * self.pace),
            "REKOGNITION_DAGSTER_RETRY_MINUTES": "0.1",
            "REKOGNITION_DAGSTER_STALLED_MINUTES": str(0.5 * self.pace),
            "REKOGNITION_DAGSTER_VISIBILITY_SECONDS": "20",
            **({"REKOGNITION_DAGSTER_STATE": self.databases[1]} if self.databases else {}),
            **self.more,
            "DAGSTER_HOME": str(self.home / "dagster"),
        }

    # -- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.stop()

    def look_after(self, dice: random.Random) -> None:
        """Do what a supervisor does, once. The daemon's first start waits for the code server's."""
        for process in self.processes:
            if process is self.daemon and not self.daemon.starts and not self._has_code():
                continue
            process.look_after(dice.uniform(0.1, 1.5))

    def _has_code(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.code_port)) == 0

    def run_workers(self) -> list[int]:
        """Process ids of runs, of this code server and of those before it."""
        return self.code_server.children("spawn_main")

    # -- what is there -------------------------------------------------------------------------

    def jobs(self) -> list[dict[str, Any]]:
        """Every job that the service was ever asked for."""
        return self._stored("SELECT * FROM jobs")

    def announcements(self) -> int:
        """Completions that the service has yet to publish."""
        return len(self._stored("SELECT job_id FROM outbox"))

    def _stored(self, sql: str) -> list[dict[str, Any]]:
        path = self.home / "service" / "jobs.sqlite"
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
            ) as store:
                store.row_factory = sqlite3.Row
                return [dict(row) for row in store.execute(sql)]
        except sqlite3.OperationalError:  # the service has not made it yet
            return []

    def messages(self) -> dict[str, int]:
        """Messages on the queue and on its dead-letter queue, hidden ones too."""
        sqs = self.client_session.client("sqs")
        queue = MessageQueue(sqs, self.queue_url)
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return {
            what: sum(
                int(v)
                for v in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)[
                    "Attributes"
                ].values()
            )
            for what, url in (("completions", queue.url), ("dead", queue.dead_letter_url()))
        }

    def unfinished(self, videos: int) -> list[str]:
        """What is still to do before ``videos`` videos have been through; empty at the end."""
        if len(jobs := self.jobs()) < videos * len(self.settings.operations):
            return [f"{len(jobs)} jobs were started"]
        told = Counter(j["status"] for j in jobs)
        found = [f"{told['IN_PROGRESS']} jobs in progress"] if told["IN_PROGRESS"] else []
        if left := self.announcements():
            found.append(f"{left} announcements in the outbox")
        found += [f"{n} messages on the queue: {q}" for q, n in self.messages().items() if n]
        with dagster_home.instance(self.home / "dagster") as instance:
            if runs := instance.get_runs_count(dg.RunsFilter(statuses=GOING_ON)):
                found.append(f"{runs} runs going on")
            found += self._missing(instance)
        return found

    def _missing(self, instance: dg.DagsterInstance) -> Iterator[str]:
        for spec in self.definitions.resolve_all_asset_specs():
            if isinstance(spec.partitions_def, dg.DynamicPartitionsDefinition):
                wanted = set(instance.get_dynamic_partitions(str(spec.partitions_def.name)))
                if missing := wanted - instance.get_materialized_partitions(spec.key):
                    yield f"{len(missing)} partitions of {spec.key.to_user_string()} missing"


@dataclass(frozen=True)
class _Direct:
    """A boto3 session that goes past any proxy."""

    session: Any
    url: str

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.url)


def _session() -> Any:
    return boto3.Session("test", "test", region_name="us-east-1")


def pace() -> float:
    """How much longer than on a quiet machine things take now: by the start of a process."""
    began = time.monotonic()
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", f"import {dagster_home.DEFINITIONS}"],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    return min(max(1.0, (time.monotonic() - began) / 4.0), 4.0)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
