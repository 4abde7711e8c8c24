"""A deployment for person tracking over the scripted endpoint."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import dagster as dg
import pytest
from deployment import Deployment
from rekognition_double import RekognitionDouble

from rekognition_dagster import Settings
from rekognition_dagster.api import provision


@pytest.fixture
def deployment(
    aws: boto3.Session, rekognition: RekognitionDouble, bucket: str, unique: str, tmp_path: Path
) -> Iterator[Deployment]:
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
    )
    # In memory where there is a disk in memory: SQLite waits for the real one at every event.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(dir=memory) as home,
        dg.DagsterInstance.local_temp(home) as instance,
    ):
        yield Deployment(settings, instance, provisioned, rekognition)
