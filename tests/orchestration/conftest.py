"""A deployment for person tracking over the scripted endpoint, on SQLite or on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import dagster as dg
import pytest
import yaml
from alembic.config import Config
from alembic.script import ScriptDirectory
from deployment import Deployment
from postgresql import Cluster
from rekognition_double import RekognitionDouble

from rekognition_dagster import Settings
from rekognition_dagster.api import MessageQueue, inbox, provision
from rekognition_dagster.orchestration import completions, discovery, dispatch, jobs, reports
from rekognition_dagster.state import open_state

_STORAGE = os.environ.get("REKOGNITION_DAGSTER_TEST_STORAGE", "sqlite")
"""Where Dagster keeps its events in tests that do not say it themselves."""


@pytest.fixture
def instance(request: pytest.FixtureRequest, unique: str) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance with nothing in it, opened from its ``dagster.yaml`` as a daemon does.

    On SQLite, or on PostgreSQL for tests with ``parametrize("instance", ["postgres"],
    indirect=True)``; ``REKOGNITION_DAGSTER_TEST_STORAGE=postgres`` takes it for all the others.
    """
    # In memory where there is a disk in memory: SQLite waits for the real one at every event.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as home:
        if getattr(request, "param", _STORAGE) == "postgres":
            template = request.getfixturevalue("dagster_database")
            url = request.getfixturevalue("postgres").create(f"dagster-{unique}", template)
            configure(home, url)
        else:
            shutil.copytree(request.getfixturevalue("dagster_home"), home, dirs_exist_ok=True)
        with dg.DagsterInstance.from_config(home) as instance:
            yield instance


@pytest.fixture
def state_url(
    request: pytest.FixtureRequest, instance: dg.DagsterInstance, unique: str
) -> Iterator[str | None]:
    """Where the pipeline's state is: in a PostgreSQL of its own beside Dagster's, or by default
    in Dagster's home."""
    if type(instance.run_storage).__name__ != "PostgresRunStorage":
        yield None
        return
    url = request.getfixturevalue("postgres").create(f"state-{unique}")
    yield url.replace("postgresql:", "postgresql+psycopg:")
    open_state.cache_clear()


@pytest.fixture(scope="session")
def dagster_home() -> Iterator[str]:
    """A home with Dagster's tables on SQLite, to be copied: making them takes longer."""
    with tempfile.TemporaryDirectory() as home:
        configure(home)
        with dg.DagsterInstance.from_config(home):
            yield home


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Iterator[None]:
    """Alembic reads all of Dagster's migrations whenever an instance or a run's log is opened."""
    read, known = ScriptDirectory.from_config, dict[str, ScriptDirectory]()

    def from_config(config: Config) -> ScriptDirectory:
        name = str(config.config_file_name)
        known[name] = known.get(name) or read(config)
        return known[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture(scope="session")
def dagster_database(postgres: Cluster) -> str:
    """The name of a database with Dagster's tables, to be copied: making them takes longer."""
    with tempfile.TemporaryDirectory() as home:
        configure(home, postgres.create("dagster"))
        with dg.DagsterInstance.from_config(home):
            return "dagster"


def configure(home: str, url: str | None = None) -> None:
    """Write a home's ``dagster.yaml``, for PostgreSQL where its address is given."""
    settings: dict[str, object] = {"telemetry": {"enabled": False}}
    if url:  # psycopg 3, SQLAlchemy's own choice from 2.1 on, does not understand Dagster's NOTIFY
        url = url.replace("postgresql:", "postgresql+psycopg2:")
        settings["storage"] = {"postgres": {"postgres_url": url}}
    (Path(home) / "dagster.yaml").write_text(yaml.safe_dump(settings))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty queue is empty at once: the loopback's has one server, which is asked. And a tick
    does all that there is to do, however slow the machine is."""
    monkeypatch.setattr(inbox, "WAIT_S", 0)
    for module in (dispatch, jobs, completions, reports):
        monkeypatch.setattr(module, "TICK_S", 300.0)
    monkeypatch.setattr(discovery, "LIST_S", 300.0)


@pytest.fixture
def deployment(
    aws: boto3.Session,
    rekognition: RekognitionDouble,
    bucket: str,
    unique: str,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    state_url: str | None,
) -> Deployment:
    """Everything provisioned, nothing in the bucket."""
    provisioned = provision(aws, unique)
    settings = Settings(
        name=unique,
        bucket=bucket,
        lake=str(tmp_path / "lake"),
        operations=["person_tracking"],
        queue_url=provisioned.queue_url,
        topic_arn=provisioned.topic_arn,
        role_arn=provisioned.role_arn,
        state=state_url,
    )
    return Deployment(settings, instance, provisioned, rekognition)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Received messages come back at once, as after the visibility timeout."""
    receive = MessageQueue.receive
    monkeypatch.setattr(MessageQueue, "receive", lambda queue, **_: receive(queue, visibility_s=0))
    monkeypatch.setattr(inbox, "AT_ONCE", 1)
