"""A deployment for person tracking over the scripted endpoint."""

from __future__ import annotations

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
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield Deployment(settings, instance, provisioned, rekognition)
