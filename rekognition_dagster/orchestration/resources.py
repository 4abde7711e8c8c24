"""Dagster resources: the Rekognition API, the completion queue, S3 and the lake.

The AWS ones take endpoint, region, profile and credentials as dagster-aws's resources do. That
package is not imported: loading it costs each run most of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from rekognition_dagster import aws
from rekognition_dagster.api import MessageQueue, NotificationChannel, RekognitionVideo
from rekognition_dagster.api.quotas import quota
from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.videos import DATE_PATTERN

if TYPE_CHECKING:
    import duckdb

TICK_READ_S = 10.0
"""Seconds that a call of a sensor's tick waits for an answer: the tick itself has a limit."""
_TICK_ATTEMPTS = 2


_CLIENT_OPTIONS = ("region_name", "endpoint_url", "use_ssl", "verify", "aws_access_key_id")
_CLIENT_OPTIONS += ("aws_secret_access_key", "aws_session_token")


class AwsResource(dg.ConfigurableResource):
    """How a boto3 client is made; what is not set comes from boto3's usual environment."""

    region_name: str | None = Field(default=None, description="The region.")
    endpoint_url: str | None = Field(default=None, description="The service's URL, unless AWS's.")
    max_attempts: int = Field(default=5, description="How often a call is made at most.")
    profile_name: str | None = Field(default=None, description="A profile of the AWS files.")
    use_ssl: bool = Field(default=True, description="Whether to use TLS.")
    verify: bool | None = Field(
        default=None, description="Whether to verify TLS certificates; AWS_CA_BUNDLE holds."
    )
    aws_access_key_id: str | None = Field(default=None, description="The access key's id.")
    aws_secret_access_key: str | None = Field(default=None, description="The access key.")
    aws_session_token: str | None = Field(default=None, description="The session's token.")
    assume_role: str | None = Field(
        default=None, description="The role to take on, with the credentials that there are."
    )

    def boto3_client(self, service: str, attempts: int, read_s: float = aws.READ_S) -> Any:
        """A boto3 client, whose calls are made ``attempts`` times at most."""
        options = {name: getattr(self, name) for name in _CLIENT_OPTIONS}
        profile = self.profile_name
        return aws.client(
            service,
            profile=profile,
            attempts=attempts,
            read_s=read_s,
            assume_role=self.assume_role,
            **options,
        )


class RekognitionVideoResource(AwsResource):
    """The Rekognition Video API: AWS's, or ``rekognition-dagster serve`` by its endpoint.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import RekognitionVideoResource

            defs = dg.Definitions(
                resources={"rekognition": RekognitionVideoResource(
                    endpoint_url="http://127.0.0.1:8722", region_name="eu-central-1"
                )}
            )
    """

    topic_arn: str | None = Field(
        default=None, description="The SNS topic that completions are published to."
    )
    role_arn: str | None = Field(
        default=None, description="The role that lets Rekognition publish to the topic."
    )
    job_tag: str | None = Field(
        default=None, description="Names this deployment on its jobs and their completions."
    )
    parameters: dict[str, dict[str, Any]] = Field(
        default={}, description="Members of Start requests by operation name."
    )
    operations: dict[str, dict[str, Any]] = Field(
        default={},
        description="By operation name what differs for its jobs: fields of this resource, such as"
        " endpoint_url, region_name, assume_role, topic_arn and role_arn.",
    )

    def starter(self) -> RekognitionVideo:
        """The API for calls of a tick, which are made once: the next tick makes them again."""
        return self._api(1, TICK_READ_S)

    def pager(self) -> RekognitionVideo:
        """The API for Get calls of a run, which are made up to ``max_attempts`` times."""
        return self._api(self.max_attempts, aws.READ_S)

    def most_in_flight(self, configured: int | str, warn: Callable[[str], Any]) -> int:
        """The jobs that may be in flight: ``configured``, or the account's quota if that is
        ``service-quotas``; ``warn`` is told where the quota cannot be had."""
        if isinstance(configured, int):
            return configured
        # A few seconds at most: a sensor's tick waits for it.
        of_the_account = self.model_copy(update={"endpoint_url": None})
        return quota(of_the_account.boto3_client("service-quotas", 2, 3.0), warn)

    def _api(self, attempts: int, read_s: float) -> RekognitionVideo:
        others = {
            name: self.model_copy(update={**fields, "operations": {}})._api(attempts, read_s)
            for name, fields in self.operations.items()
        }
        channel = (
            NotificationChannel(self.topic_arn, self.role_arn)
            if self.topic_arn and self.role_arn
            else None
        )
        client = self.boto3_client("rekognition", attempts, read_s)
        return RekognitionVideo(client, channel, self.job_tag, self.parameters, others)


class QueueResource(AwsResource):
    """An SQS queue: that of completions, or that of arrivals.

    Example:
        .. code-block:: python

            from rekognition_dagster import QueueResource

            QueueResource(url="https://sqs.eu-central-1.amazonaws.com/1234/completions")
    """

    url: str | None = Field(default=None, description="The queue's URL.")

    def queue(self) -> MessageQueue | None:
        """The queue, or None where no URL is configured."""
        if not self.url:
            return None
        attempts = min(_TICK_ATTEMPTS, self.max_attempts)
        return MessageQueue(self.boto3_client("sqs", attempts, TICK_READ_S), self.url)


class VideoBucketResource(AwsResource):
    """The S3 bucket that holds the videos."""

    bucket: str | None = Field(default=None, description="The bucket's name.")
    prefix: str = Field(default="", description="Only keys that begin so are videos.")

    def client(self) -> Any:
        """A boto3 ``s3`` client for a tick, which the next tick repeats."""
        return self.boto3_client("s3", min(_TICK_ATTEMPTS, self.max_attempts), TICK_READ_S)

    def downloader(self) -> Any:
        """A boto3 ``s3`` client for a run."""
        return self.boto3_client("s3", self.max_attempts)


class LakeResource(dg.ConfigurableResource):
    """The lake of Parquet tables, and DuckDB over it.

    Example:
        .. code-block:: python

            import dagster as dg
            from rekognition_dagster import LakeResource


            @dg.asset
            def busiest(lake: LakeResource):
                with lake.connect() as duckdb:
                    return duckdb.sql("SELECT * FROM video_summary ORDER BY people DESC").df()
    """

    url: str = Field(description="Its root: a folder or s3://bucket/prefix.")
    date_pattern: str = Field(
        default=DATE_PATTERN, description="Finds the day of recording in a video's key."
    )
    catalogue: str | None = Field(
        default=None, description="A DuckDB file with a view per table, for other programs."
    )
    camera_pattern: str | None = Field(
        default=None, description="Finds the camera and the time of recording in a video's key."
    )
    camera_timezones: dict[str, str] = Field(
        default={}, description="Time zones of the cameras' clocks, by camera."
    )
    timezone: str = Field(default="UTC", description="That of all other cameras.")

    def open(self) -> Lake:
        """The lake. What is not set of the cameras is what the lake stores."""
        cameras = Cameras(self.camera_pattern, self.camera_timezones, self.timezone)
        known = cameras if cameras != Cameras() else None
        return Lake(self.url, date_pattern=self.date_pattern, cameras=known)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """DuckDB in memory with a view per table."""
        return self.open().connect()

    def refresh_catalogue(self, *, again: bool = False) -> Path | None:
        """Update the catalogue, where one is configured and the lake is a folder.

        Its views find new files by themselves, so it is written only where they change, or
        ``again``, which leaves out files that were damaged since.
        """
        lake = self.open()
        return (
            lake.save_catalogue(self.catalogue, again=again)
            if self.catalogue and lake.storage.is_local
            else None
        )
