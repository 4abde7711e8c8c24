"""What a deployment can choose, in one place: from the environment or from a component's YAML."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any, Literal

import dagster as dg
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from rekognition_dagster.aws import start_shape
from rekognition_dagster.engine import SampleFps, parse_sample_fps
from rekognition_dagster.engine.specs import SPECS, check_spec
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.cameras import Cameras, check_timezone
from rekognition_dagster.operations import OPERATIONS, Operation, operation
from rekognition_dagster.orchestration.mistakes import Mistake, mistakes_of
from rekognition_dagster.service.settings import ENVIRONMENT
from rekognition_dagster.state.budget import Budget, Limit
from rekognition_dagster.videos import DATE_PATTERN, Partitioning, Source, check_date_pattern

ENVIRONMENT_PREFIX = "REKOGNITION_DAGSTER_"
AWS_PRICE = 0.10
"""USD for a minute of stored video and an operation at AWS: face and label detection, us-east-1,
2026."""
_OTHERS = (
    "MAX_LOST_SHARE",
    "MODELS",
    *ENVIRONMENT,
    "CLIENTS",
    "EXAMPLES",
    "FUZZ",
)
_URL = r"https?://[^\s/]+(/\S*)?"
_ROLE = r"arn:aws[a-z-]*:iam::\d{12}:role/\S+", "arn:aws:iam::123456789012:role/video"
_ADDRESSES = {
    "endpoint_url": (_URL, "http://rekognition:8722"),
    "queue_url": (_URL, "https://sqs.eu-central-1.amazonaws.com/123456789012/completions"),
    "arrivals_queue_url": (_URL, "https://sqs.eu-central-1.amazonaws.com/123456789012/arrivals"),
    "topic_arn": (
        r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:\S+",
        "arn:aws:sns:eu-central-1:123456789012:completions",
    ),
    "sns_topic_arn": (
        r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w.-]+",
        "arn:aws:sns:eu-central-1:123456789012:video-alerts",
    ),
    "role_arn": _ROLE,
    "assume_role": _ROLE,
    "ui_url": (_URL, "https://dagster.example.org"),
    "lake": (
        r"s3://[^/]+(/.*)?|(?!\w+://)(?!s3[:/]/).+|file://.+",
        "s3://analytics/lake, or a folder",
    ),
    "state": (r"sqlite:///.+|postgresql(\+\w+)?://.+", "postgresql://user@host/database"),
    "prefix": (r"(?!\w+://).*", "lobby/, without the bucket"),
}
"""What addresses look like, and an example, by setting."""
_ABOVE_ZERO = (
    "listing_hours",
    "max_jobs_in_flight",
    "pages_at_once",
    "overdue_minutes",
    "retry_minutes",
    "stalled_minutes",
    "max_attempts",
    "history_days",
    "sensor_interval",
    "workers",
)
_LEAST = {"visibility_seconds": 20, "days_quiet_minutes": 0}
"""Bounds of numbers. They are not pydantic's, which Dagster would apply to templates, too."""
_NAMES = {
    "name": (r"[a-zA-Z0-9_.\-:+=/]{1,1024}", "letters, digits and _.-:+=/, 1024 at most"),
    "asset_prefix": (r"\w+", "letters, digits and _"),
}
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


class VideoSource(dg.Model, dg.Resolvable):
    """Videos of a bucket whose keys begin with a prefix."""

    bucket: str = Field(description="The bucket.", examples=["cameras"])
    prefix: str = Field(default="", description="Only keys that begin so.", examples=["lobby/"])
    operations: list[str] | None = Field(
        default=None,
        description="Which analyses to run on these videos; the deployment's by default.",
        examples=[["face_detection"]],
    )


class BudgetLimit(dg.Model, dg.Resolvable):
    """What jobs may take in a day or a month; what is beyond waits for the next."""

    per: Literal["day", "month"] = Field(description="The period, of the calendar.")
    minutes: float | None = Field(default=None, description="Minutes of video.")
    money: float | None = Field(
        default=None,
        description="Money, at the prices of the setting `prices`.",
    )
    operations: list[str] = Field(
        default=[], description="Of which operations together; of all by default."
    )

    @field_validator("minutes", "money")
    @classmethod
    def _in_bounds(cls, value: float | None) -> float | None:
        return _check_number(value)


class OperationService(dg.Model, dg.Resolvable):
    """Where the jobs of an operation run, if not where the others do."""

    endpoint_url: str | None = Field(
        default=None, description="The service's URL.", examples=["http://rekognition:8722"]
    )
    region_name: str | None = Field(default=None, description="Its region.", examples=["us-east-1"])
    profile_name: str | None = Field(default=None, description="A profile of the AWS files.")
    assume_role: str | None = Field(default=None, description="The ARN of a role to take on.")
    topic_arn: str | None = Field(
        default=None,
        description="The SNS topic of its completions, in its region; subscribe the deployment's"
        " queue to it.",
    )
    role_arn: str | None = Field(
        default=None, description="The role that may publish to the topic."
    )

    @field_validator("endpoint_url", "topic_arn", "role_arn", "assume_role")
    @classmethod
    def _usable_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        _check_address(str(info.field_name), value)
        return value


class Alerts(dg.Model, dg.Resolvable):
    """Where alerts go: to an SNS topic, by e-mail, to a Slack channel, or several of these."""

    sns_topic_arn: str | None = Field(
        default=None,
        description="An SNS topic, in whose region it is published.",
        examples=["arn:aws:sns:eu-central-1:123456789012:video-alerts"],
    )
    email_to: list[str] = Field(
        default=[], description="Addresses of people.", examples=[["video@example.org"]]
    )
    email_from: str | None = Field(
        default=None, description="The sender's address; that of the first receiver by default."
    )
    smtp_host: str = Field(default="localhost", description="The mail server.")
    smtp_port: int | None = Field(default=None, description="Its port; 465, or 587 for STARTTLS.")
    smtp_type: Literal["SSL", "STARTTLS"] = Field(
        default="SSL", description="How the connection to it is encrypted."
    )
    smtp_user: str | None = Field(
        default=None, description="The account at the mail server; the sender by default."
    )
    slack_channel: str | None = Field(
        default=None, description="A Slack channel.", examples=["#video"]
    )
    secret: str | None = Field(
        default=None,
        description="The password of the mail account, or the token of the Slack bot.",
        examples=["{{ env.SLACK_TOKEN }}"],
        repr=False,
    )
    ui_url: str | None = Field(
        default=None,
        description="The address of Dagster's UI, for links to the run.",
        examples=["https://dagster.example.org"],
    )

    @field_validator("ui_url", "sns_topic_arn")
    @classmethod
    def _usable_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        _check_address(str(info.field_name), value)
        return value

    @field_validator("email_to", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return _split(value)

    @field_validator("email_to")
    @classmethod
    def _usable_receivers(cls, addresses: list[str]) -> list[str]:
        for address in addresses:
            if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
                raise ValueError(f"{address!r} is no e-mail address; write e.g. video@example.org")
        return addresses

    @field_validator("smtp_port")
    @classmethod
    def _possible_port(cls, port: int | None) -> int | None:
        if port is not None and not 0 < port < 65536:
            raise ValueError(f"{port} is no port; it is from 1 to 65535")
        return port


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
    sources: list[VideoSource] = Field(
        default=[],
        description="More buckets and prefixes, each with operations of its own if you like. Of"
        " several prefixes of a key the longest counts.",
        examples=[[{"bucket": "cameras", "prefix": "lobby/", "operations": ["face_detection"]}]],
    )
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
        description="With a queue of arrivals, the bucket is listed only once in so many hours.",
    )
    topic_arn: str | None = Field(
        default=None, description="The SNS topic of completions; `provision` makes it."
    )
    role_arn: str | None = Field(
        default=None, description="The role that may publish to the topic; `provision` makes it."
    )
    assume_role: str | None = Field(
        default=None,
        description="The ARN of a role to take on for Rekognition, the queues and the videos.",
    )
    services: dict[str, OperationService] = Field(
        default={},
        description="By operation: where its jobs run, if not where the others do.",
        examples=[{"person_tracking": {"endpoint_url": "http://rekognition:8722"}}],
    )
    start: Literal["arrival", "nightly"] = Field(
        default="arrival",
        description="When jobs start: as soon as a video is discovered, or in the nightly batch.",
    )
    budget: list[BudgetLimit] = Field(
        default=[],
        description="What jobs may take in a day or a month, in minutes of video and in money."
        " Where that is used up, starts wait for the next period.",
        examples=[[{"per": "month", "money": 200}, {"per": "day", "minutes": 600}]],
    )
    prices: dict[str, float] = Field(
        default={},
        description="Of a minute of video, by operation; 0.10 where none is given, as at AWS, and"
        " 0 for an operation with an endpoint of its own.",
        examples=[{"face_detection": 0.1, "person_tracking": 0}],
    )
    order: Literal["discovered", "newest", "oldest"] = Field(
        default="discovered",
        description="Which waiting videos start first: those that were discovered first, or by the"
        " time of their last change the newest or the oldest.",
    )
    first: list[str] = Field(
        default=[],
        description="Places whose videos start before all others, in order: s3://bucket/prefix, or"
        " a prefix of keys.",
        examples=[["entrance/"]],
    )
    nightly: str = Field(
        default="0 2 * * *",
        description="Cron schedule of the nightly batch: what is not yet analysed is asked again.",
    )
    compaction: str = Field(
        default="0 5 * * *",
        description="Cron schedule of the compaction: the lake's small files are merged.",
    )
    daily_report: str = Field(
        default="0 6 * * *",
        description="Cron schedule of the report of each day, or off. It needs the extra report.",
    )
    report_pictures: bool = Field(
        default=True, description="Whether the report opens videos for heat maps and stills."
    )
    report_blur: Literal["people", "faces", "none"] = Field(
        default="people", description="What is covered in the report's stills."
    )
    timezone: str = Field(
        default="UTC",
        description="Time zone of the schedules, and of cameras without one of their own.",
    )
    max_jobs_in_flight: int | Literal["service-quotas"] = Field(
        default=20,
        description="Jobs in flight at most; AWS allows 20 by default. service-quotas asks AWS"
        " Service Quotas what the account may have.",
    )
    pages_at_once: int = Field(
        default=4, description="Jobs whose results a run pages at the same time."
    )
    overdue_minutes: float = Field(
        default=120,
        description="A job that runs for longer is asked whether its completion was lost.",
    )
    retry_minutes: float = Field(
        default=15,
        description="After how long what a run could not do is tried again; then after twice the"
        " time, and so on, five times in all.",
    )
    stalled_minutes: float = Field(
        default=15,
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
        description="A message that was taken off a queue comes back after so long, should the"
        " tick that took it die.",
    )
    max_attempts: int = Field(
        default=3, description="How often the nightly batch tries a job that FAILED."
    )
    history_days: float = Field(
        default=365,
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
    parameters: dict[str, dict[str, Any]] = Field(
        default={},
        description="By operation: more members of its Start request, as the API names them.",
        examples=[{"label_detection": {"MinConfidence": 80}}],
    )
    date_pattern: str = Field(
        default=DATE_PATTERN,
        description="Finds the day of recording in a key: a pattern such as"
        " {camera}/{date:%d.%m.%Y}, or a regular expression with groups year, month and day. Keys"
        " without one are dated by LastModified.",
    )
    camera_pattern: str | None = Field(
        default=None,
        description="Finds the camera and the time of recording in a key, such as"
        " {camera}/{date:%Y-%m-%d}/{time:%H%M%S}.mp4.",
    )
    camera_timezones: dict[str, str] = Field(
        default={},
        description="Time zones of the cameras' clocks, by camera; names may have *. The setting"
        " `timezone` for all others.",
        examples=[{"north": "Europe/Zurich", "ny-*": "America/New_York"}],
    )
    zones: str | None = Field(
        default=None,
        description="The file zones.yaml with zones and lines: a path or s3://bucket/key.",
    )
    zones_since: str | None = Field(
        default=None,
        description="How far back tables are computed again after zones or models changed: a day."
        " As far as there are videos by default.",
        examples=["2026-01-01"],
    )
    days_quiet_minutes: float = Field(
        default=10,
        description="Tables per day are computed when no results have come for so long, and once"
        " an hour while they keep coming.",
    )
    owners: list[str] = Field(
        default=[],
        description="Owners of the assets: e-mail addresses, or team:NAME.",
        examples=[["team:video"]],
    )
    alerts: Alerts | None = Field(
        default=None,
        description="Where alerts go when a run fails or an hourly check does.",
        examples=[{"slack_channel": "#video", "secret": "{{ env.SLACK_TOKEN }}"}],
    )
    sensor_interval: int = Field(
        default=30, description="Seconds between two ticks of each sensor."
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
        description="Processes that share the local backfill's work; one by default, or one for"
        " each core or GPU of the Ray cluster.",
    )
    ray: str | None = Field(
        default=None,
        description="Address of the Ray cluster that does the local backfill's work: auto,"
        " host:6379 or ray://host:10001.",
    )

    @field_validator("operations", "first", "owners", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return _split(value)

    @field_validator(*_ABOVE_ZERO, "visibility_seconds", "days_quiet_minutes")
    @classmethod
    def _in_bounds(cls, value: Any, info: ValidationInfo) -> Any:
        return _check_number(value, _LEAST.get(str(info.field_name)))

    @field_validator("name", "asset_prefix")
    @classmethod
    def _usable_name(cls, name: str | None, info: ValidationInfo) -> str | None:
        pattern, allowed = _NAMES[str(info.field_name)]
        if name is not None and not re.fullmatch(pattern, name):
            raise ValueError(f"{name!r} is no name; use {allowed}")
        return name

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, names: list[str]) -> list[str]:
        try:
            return list(dict.fromkeys(operation(name).name for name in names))
        except KeyError as error:
            raise ValueError(error.args[0]) from None

    @field_validator("nightly", "compaction", "daily_report")
    @classmethod
    def _valid_cron(cls, cron: str, info: ValidationInfo) -> str:
        can_be_off = info.field_name == "daily_report"
        if can_be_off and cron.lower() == "off":
            return "off"
        try:
            dg.ScheduleDefinition(name="check", cron_schedule=cron, job_name="check")
        except dg.DagsterInvalidDefinitionError:
            off = ", or off" if can_be_off else ""
            raise ValueError(f"{cron!r} is no cron schedule; write e.g. 0 2 * * *{off}") from None
        return cron

    @field_validator("daily_report", mode="before")
    @classmethod
    def _off_in_yaml(cls, cron: Any) -> Any:
        return "off" if cron is False else cron  # what YAML makes of a bare off

    @field_validator("timezone")
    @classmethod
    def _valid_timezone(cls, name: str) -> str:
        check_timezone(name)
        return name

    @field_validator("alerts")
    @classmethod
    def _alerts_that_arrive(cls, alerts: Alerts | None) -> Alerts | None:
        if alerts is None:
            return None
        if not (alerts.sns_topic_arn or alerts.email_to or alerts.slack_channel):
            raise ValueError("name sns_topic_arn, email_to or slack_channel")
        if alerts.slack_channel and alerts.email_to:
            raise ValueError("e-mail and Slack have a secret each: name one of the two")
        if (alerts.slack_channel or alerts.email_to) and not alerts.secret:
            raise ValueError("secret is missing: the mail account's password or the Slack token")
        return alerts

    @field_validator("detector")
    @classmethod
    def _well_formed_detector(cls, spec: str | None) -> str | None:
        return check_spec(spec) if spec else None

    @field_validator("owners")
    @classmethod
    def _usable_owners(cls, owners: list[str]) -> list[str]:
        for owner in owners:
            try:
                dg.AssetSpec("check", owners=[owner])
            except dg.DagsterInvalidDefinitionError:
                raise ValueError(
                    f"{owner!r} is no owner; write an e-mail address or team:NAME"
                ) from None
        return owners

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
        return check_date_pattern(pattern)

    @field_validator("camera_pattern")
    @classmethod
    def _usable_camera_pattern(cls, pattern: str | None) -> str | None:
        return Cameras(pattern).pattern

    @field_validator("camera_timezones")
    @classmethod
    def _valid_timezones(cls, timezones: dict[str, str]) -> dict[str, str]:
        return dict(Cameras(None, timezones).timezones)

    @field_validator("zones_since")
    @classmethod
    def _valid_day(cls, day: str | None) -> str | None:
        try:
            return date.fromisoformat(day).isoformat() if day else None
        except ValueError:
            raise ValueError(f"{day!r} is no day; write e.g. 2026-01-31") from None

    @property
    def cameras(self) -> Cameras:
        """How the camera and the time of recording are found."""
        return Cameras(self.camera_pattern, self.camera_timezones, self.timezone)

    @field_validator("sources")
    @classmethod
    def _known_operations_of_sources(cls, sources: list[VideoSource]) -> list[VideoSource]:
        for n, source in enumerate(sources):
            _check_bucket(source.bucket)
            if source.operations is not None:
                source.operations[:] = cls._known_operations(source.operations)
            if any((s.bucket, s.prefix) == (source.bucket, source.prefix) for s in sources[:n]):
                raise ValueError(f"s3://{source.bucket}/{source.prefix} is there twice")
        return sources

    @field_validator("bucket")
    @classmethod
    def _usable_bucket(cls, bucket: str | None) -> str | None:
        if bucket is not None:
            _check_bucket(bucket)
        return bucket

    @field_validator("operations")
    @classmethod
    def _some_operation(cls, names: list[str]) -> list[str]:
        if not names:
            raise ValueError(f"names no operation; there are {', '.join(OPERATIONS)}")
        return names

    @property
    def operation_list(self) -> list[Operation]:
        """The operations that run on some video."""
        names = {name: None for source in self.source_list for name in source.operations}
        return [OPERATIONS[name] for name in names or self.operations]

    @property
    def source_list(self) -> list[Source]:
        """Where the videos are, with the operations of each source."""
        ours = tuple(self.operations)
        first = [Source(self.bucket, self.prefix, ours)] if self.bucket else []
        return first + [
            Source(s.bucket, s.prefix, ours if s.operations is None else tuple(s.operations))
            for s in self.sources
        ]

    def open_lake(self, url: str | None = None) -> Lake:
        """The lake, or one elsewhere; what is not set of the cameras is what the lake stores."""
        known = self.cameras if self.cameras != Cameras() else None
        return Lake(url or self.lake, date_pattern=self.date_pattern, cameras=known)

    @property
    def partitioning(self) -> Partitioning:
        """Which partition a video is in."""
        return Partitioning(self.partition_by)

    @field_validator("budget")
    @classmethod
    def _budget_of_known_operations(cls, budget: list[BudgetLimit]) -> list[BudgetLimit]:
        for limit in budget:
            limit.operations[:] = cls._known_operations(limit.operations)
            if limit.minutes is None and limit.money is None:
                raise ValueError("a limit needs minutes or money")
        return budget

    @field_validator("prices")
    @classmethod
    def _prices_of_known_operations(cls, prices: dict[str, float]) -> dict[str, float]:
        for name, price in prices.items():
            if not 0 <= price < math.inf:
                raise ValueError(f"the price of {name} is {price}; it is 0 or more")
        return dict(zip(cls._known_operations(list(prices)), prices.values(), strict=True))

    @property
    def limits(self) -> Budget:
        """What jobs may take."""
        limits = [Limit(b.per, b.minutes, b.money, tuple(b.operations)) for b in self.budget]
        return Budget(limits, {o: self.price(o) for o in OPERATIONS}, self.timezone)

    def price(self, operation: str) -> float:
        """What a minute of video costs."""
        service = self.services.get(operation)
        at_home = service is not None and service.endpoint_url is not None
        return self.prices.get(operation, 0.0 if at_home else AWS_PRICE)

    @field_validator(
        *("topic_arn", "role_arn", "assume_role", "queue_url", "arrivals_queue_url"),
        *("lake", "state", "prefix"),
    )
    @classmethod
    def _usable_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        _check_address(str(info.field_name), value)
        return value

    @model_validator(mode="after")
    def _places_that_go_together(self) -> Settings:
        if self.topic_arn and not self.role_arn:
            raise ValueError(
                "role_arn is missing beside topic_arn; `rekognition-dagster provision` makes both"
            )
        if self.face_attributes != "DEFAULT" and any(
            "FaceAttributes" in members for members in self.parameters.values()
        ):
            raise ValueError("face_attributes contradicts FaceAttributes in parameters: keep one")
        if self.catalogue and self.lake.startswith("s3://"):
            raise ValueError("catalogue is for a lake in a folder, not for one in S3")
        buckets = {source.bucket for source in self.source_list}
        for place in self.first:
            bucket = place.removeprefix("s3://").partition("/")[0]
            if place.startswith("s3://") and buckets and bucket not in buckets:
                known = ", ".join(sorted(buckets))
                raise ValueError(f"first has {place}, but the videos are in {known}")
        return self

    @model_validator(mode="after")
    def _about_operations_that_run(self) -> Settings:
        run = [o.name for o in self.operation_list]
        about = {name: list(getattr(self, name)) for name in ("services", "parameters", "prices")}
        about["budget"] = [name for limit in self.budget for name in limit.operations]
        for setting, names in about.items():
            if idle := [name for name in dict.fromkeys(names) if name not in run]:
                raise ValueError(
                    f"{setting} is about {', '.join(idle)}, but the operations that run are "
                    f"{', '.join(run)}"
                )
        return self

    @field_validator("services")
    @classmethod
    def _services_of_known_operations(cls, services: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(cls._known_operations(list(services)), services.values(), strict=True))

    @field_validator("parameters")
    @classmethod
    def _possible_parameters(cls, parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
        found = dict(zip(cls._known_operations(list(parameters)), parameters.values(), strict=True))
        for name, members in found.items():
            check_parameters(OPERATIONS[name], members)
        return found

    @property
    def request_parameters(self) -> dict[str, dict[str, Any]]:
        """Members of Start requests, by operation."""
        found = {name: dict(members) for name, members in self.parameters.items()}
        if self.face_attributes != "DEFAULT":
            for o in OPERATIONS.values():
                if "FaceAttributes" in o.request_members:
                    found.setdefault(o.name, {})["FaceAttributes"] = self.face_attributes
        return found

    @property
    def service_fields(self) -> dict[str, dict[str, Any]]:
        """What differs from the resource ``rekognition``, by operation."""
        return {n: s.model_dump(exclude_none=True) for n, s in self.services.items()}

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
                values[name] = _parsed(name, text)
        try:
            return Settings(**{**values, **overrides})
        except ValidationError as error:
            found = map(_line, mistakes_of(error, cls.model_fields))
            raise ConfigurationError("; ".join(found)) from None


def _line(mistake: Mistake) -> str:
    """A mistake with its variable, the place in it, and the value."""
    setting, *place = mistake.place or ("settings",)
    name = f"{ENVIRONMENT_PREFIX}{str(setting).upper()}" if mistake.place else setting
    value = "" if mistake.value is None else f" (it is {mistake.value!r})"
    return ": ".join(map(str, [name, *place, mistake.text])) + value


def _parsed(name: str, text: str) -> Any:
    """The value of a variable: some are JSON."""
    if name not in (
        *("sources", "services", "parameters", "budget", "prices", "alerts"),
        "camera_timezones",
    ):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{ENVIRONMENT_PREFIX}{name.upper()} is no JSON: {error}"
        ) from None


def check_parameters(operation: Operation, members: Mapping[str, Any]) -> None:
    """Check members of a Start request against the API's own description.

    Raises:
        ValueError: A member is unknown, or its value is not what the API takes.
    """
    if unknown := sorted(set(members) - set(operation.request_members)):
        known = ", ".join(operation.request_members) or "no parameters"
        raise ValueError(f"{operation.name} has no {', '.join(unknown)}; it takes {known}")
    from botocore.validate import ParamValidator

    from rekognition_dagster.service.protocol import ApiError, checked

    shapes = start_shape(operation).members
    for name, value in members.items():
        try:
            checked(shapes[name], value, name)
        except ApiError as error:
            reason = error.message.removeprefix("1 validation error detected: ")
            raise ValueError(f"{operation.name}: {reason}") from None
        report = ParamValidator().validate(value, shapes[name])
        if report.has_errors():  # unknown members, which a service ignores
            raise ValueError(f"{operation.name}: {name}: {report.generate_report()}")


def _check_number(value: Any, least: float | None = None) -> Any:
    """Refuse a number that is not above zero, or below the least, or no number at all."""
    if value is None or isinstance(value, str):
        return value
    if least is not None and not value >= least:
        raise ValueError(f"{value} is too small; it is {least} or more")
    if least is None and not value > 0:
        raise ValueError(f"{value} is too small; it is above 0")
    if not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    return value


def _split(value: Any) -> Any:
    """A text as a list: with commas, as it is in the environment."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _check_address(name: str, value: str | None) -> None:
    """Refuse what is no address or ARN of its kind."""
    pattern, example = _ADDRESSES[name]
    if value is not None and not re.fullmatch(pattern, value):
        raise ValueError(f"{value!r} is none; write e.g. {example}")


def _check_bucket(bucket: str) -> None:
    """Refuse what is no bucket's name, such as its address."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\-:/]*", bucket) or "//" in bucket:
        raise ValueError(f"{bucket!r} is no bucket's name; write cameras, not s3://cameras/")
