"""What a deployment can choose, in one place: from the environment or from a component's YAML."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field, ValidationError, field_validator

from rekognition_dagster.engine import SampleFps, parse_sample_fps
from rekognition_dagster.engine.specs import SPECS
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.operations import OPERATIONS, Operation, operation
from rekognition_dagster.videos import DATE_PATTERN, Partitioning

ENVIRONMENT_PREFIX = "REKOGNITION_DAGSTER_"
_OTHERS = (
    "MAX_LOST_SHARE",
    "MAX_PIXELS",
    "MODELS",
    "STORE",
    "CREDENTIALS",
    "CLIENTS",
    "EXAMPLES",
    "FUZZ",
)
_FOREIGN = re.compile(
    # Of tests, and what Kubernetes sets for a Service called rekognition-dagster.
    r"(TEST|CHAOS)_|(\w+_)?(SERVICE_(HOST|PORT)|PORT(_\d+_(TCP|UDP)|$))"
)


def check_names(environment: Mapping[str, str], settings: Collection[str]) -> None:
    """Refuse variables that look like settings and are none.

    Raises:
        ConfigurationError: There is such a variable; the text has the nearest name.
    """
    known = {*(name.upper() for name in settings), *_OTHERS}
    for variable in sorted(environment):
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name == variable or name in known or _FOREIGN.match(name):
            continue
        near = difflib.get_close_matches(name, sorted(known), 1, 0.5)
        hint = f"did you mean {ENVIRONMENT_PREFIX}{near[0]}?" if near else "unset it"
        raise ConfigurationError(f"{variable} is no setting; {hint}")


class Settings(dg.Model, dg.Resolvable):
    """A deployment's settings. Each has a default, an environment variable
    (``REKOGNITION_DAGSTER_`` and its name in capitals) and an attribute of
    :py:class:`RekognitionVideoComponent`.

    Endpoints, regions, profiles and credentials are boto3's own, from the usual AWS environment.
    """

    name: str = Field(
        default="rekognition-dagster",
        description="The deployment's name: the JobTag of its jobs, and part of the names of its"
        " sensors, schedules, jobs, resources and partitions in Dagster.",
        pattern=r"^[a-zA-Z0-9_.\-:+=/]{1,1024}$",
    )
    state: str | None = Field(
        default=None,
        description="The database of the pipeline's state: sqlite:///PATH or postgresql://...;"
        " a SQLite file in Dagster's home by default.",
    )
    asset_prefix: str | None = Field(
        default=None,
        description="The first part of each asset's key, for several deployments in one code"
        " location.",
    )
    bucket: str | None = Field(default=None, description="The bucket that holds the videos.")
    prefix: str = Field(default="", description="Only keys that begin so are videos.")
    lake: str = Field(
        default=".rekognition-dagster/lake",
        description="Where the Parquet tables go: a folder or s3://bucket/prefix.",
    )
    catalogue: str | None = Field(
        default=None,
        description="A DuckDB file with a view per table, kept up to date; for a lake in a folder.",
    )
    operations: list[str] = Field(
        default=["person_tracking", "face_detection"],
        description=f"Which analyses to run on every video: {', '.join(OPERATIONS)}.",
    )
    queue_url: str | None = Field(
        default=None, description="The SQS queue of completions; `provision` makes it."
    )
    arrivals_queue_url: str | None = Field(
        default=None,
        description="The SQS queue of S3's event notifications, in place of listing the bucket all"
        " the time; `provision --arrivals` makes it.",
    )
    listing_hours: float = Field(
        default=24,
        gt=0,
        description="With a queue of arrivals, the bucket is listed only once in so many hours.",
    )
    topic_arn: str | None = Field(
        default=None, description="The SNS topic of completions; `provision` makes it."
    )
    role_arn: str | None = Field(
        default=None, description="The role that may publish to the topic; `provision` makes it."
    )
    start: Literal["arrival", "nightly"] = Field(
        default="arrival",
        description="When jobs start: as soon as a video is discovered, or in the nightly batch.",
    )
    nightly: str = Field(
        default="0 2 * * *",
        description="Cron schedule of the nightly batch: what is not yet analysed is asked again.",
    )
    compaction: str = Field(
        default="0 5 * * *",
        description="Cron schedule of the compaction: the lake's small files are merged.",
    )
    timezone: str = Field(default="UTC", description="Time zone of the schedules.")
    max_jobs_in_flight: Annotated[int, Field(ge=1)] | Literal["service-quotas"] = Field(
        default=20,
        description="Jobs in flight at most; AWS allows 20 by default. service-quotas asks AWS"
        " Service Quotas what the account may have.",
    )
    pages_at_once: int = Field(
        default=4, ge=1, description="Jobs whose results a run pages at the same time."
    )
    overdue_minutes: float = Field(
        default=120,
        gt=0,
        description="A job that runs for longer is asked whether its completion was lost.",
    )
    retry_minutes: float = Field(
        default=15,
        gt=0,
        description="After how long what a run could not do is tried again; then after twice the"
        " time, and so on, five times in all.",
    )
    stalled_minutes: float = Field(
        default=15,
        gt=0,
        description="A refresh that has said nothing for so long no longer holds up the next one:"
        " its process was killed.",
    )
    partition_by: str | None = Field(
        default=None,
        description="Puts many videos in one partition: a pattern over the key, such as"
        " {camera}/{date}. For archives of more than 100,000 videos. A partition per video by"
        " default.",
    )
    visibility_seconds: int = Field(
        default=120,
        ge=20,
        description="A message that was taken off a queue comes back after so long, should the"
        " tick that took it die.",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="How often the nightly batch tries a job that FAILED."
    )
    history_days: float = Field(
        default=365,
        gt=0,
        description="The nightly batch removes older entries from the history of each video.",
    )
    deleted: Literal["keep", "mark", "forget"] = Field(
        default="mark",
        description="What becomes of a video whose object is deleted: keep goes on as if it were"
        " there, mark counts it as gone and never starts it again, forget removes its rows and"
        " its partition.",
    )
    face_attributes: Literal["DEFAULT", "ALL"] = Field(
        default="DEFAULT", description="Which face attributes face detection asks for."
    )
    date_pattern: str = Field(
        default=DATE_PATTERN,
        description="Regular expression with groups year, month and day: the day of recording in"
        " a key. Keys without one are dated by LastModified.",
    )
    sensor_interval: int = Field(
        default=30, ge=1, description="Seconds between two ticks of each sensor."
    )
    sensors: Literal["running", "stopped"] = Field(
        default="running", description="Whether sensors and the schedule run from the start."
    )
    detector: str | None = Field(
        default=None,
        description=f"The local backfill's detector: {SPECS}.",
    )
    sample_fps: float | Literal["auto"] | None = Field(
        default=None,
        description="The local backfill looks at so many frames a second; auto at as many as the"
        " scene needs.",
    )

    workers: int | None = Field(
        default=None,
        ge=1,
        description="Processes that share the local backfill's work; one by default, or one for"
        " each core or GPU of the Ray cluster.",
    )
    ray: str | None = Field(
        default=None,
        description="Address of the Ray cluster that does the local backfill's work: auto,"
        " host:6379 or ray://host:10001.",
    )

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, names: list[str]) -> list[str]:
        try:
            return [operation(name).name for name in names]
        except KeyError as error:
            raise ValueError(error.args[0]) from None

    @field_validator("nightly", "compaction")
    @classmethod
    def _valid_cron(cls, cron: str) -> str:
        try:
            dg.ScheduleDefinition(name="check", cron_schedule=cron, job_name="check")
        except dg.DagsterInvalidDefinitionError:
            raise ValueError(f"{cron!r} is not a cron schedule; write e.g. 0 2 * * *") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _valid_timezone(cls, name: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{name!r} is not a time zone; write e.g. Europe/Zurich") from None
        return name

    @field_validator("partition_by")
    @classmethod
    def _usable_partitioning(cls, pattern: str | None) -> str | None:
        Partitioning(pattern)
        return pattern

    @field_validator("sample_fps", mode="before")
    @classmethod
    def _possible_sample_fps(cls, value: float | str | None) -> SampleFps:
        return parse_sample_fps(value)

    @field_validator("date_pattern")
    @classmethod
    def _usable_pattern(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        if missing := {"year", "month", "day"} - set(groups):
            raise ValueError(f"lacks the group {', '.join(sorted(missing))}")
        return pattern

    @property
    def operation_list(self) -> list[Operation]:
        """The operations to run."""
        return [OPERATIONS[name] for name in self.operations]

    @property
    def partitioning(self) -> Partitioning:
        """Which partition a video is in."""
        return Partitioning(self.partition_by)

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Members of Start requests, by operation."""
        if self.face_attributes == "DEFAULT":
            return {}
        attributes = {"FaceAttributes": self.face_attributes}
        return {
            o.name: attributes for o in OPERATIONS.values() if "FaceAttributes" in o.request_members
        }

    @property
    def sensor_status(self) -> dg.DefaultSensorStatus:
        """How sensors begin."""
        running = self.sensors == "running"
        return dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @property
    def schedule_status(self) -> dg.DefaultScheduleStatus:
        """How schedules begin."""
        running = self.sensors == "running"
        return dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Settings from the environment; ``overrides`` win.

        Raises:
            ConfigurationError: A value is wrong; the text names the variable.
        """
        environment = os.environ if environment is None else environment
        check_names(environment, cls.model_fields)
        values: dict[str, Any] = {}
        for name in cls.model_fields:
            text = environment.get(ENVIRONMENT_PREFIX + name.upper(), "")
            if text:
                values[name] = text.replace(" ", "").split(",") if name == "operations" else text
        try:
            return Settings(**{**values, **overrides})
        except ValidationError as error:
            wrong = "; ".join(
                f"{ENVIRONMENT_PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}"
                for e in error.errors()
            )
            raise ConfigurationError(wrong) from None
