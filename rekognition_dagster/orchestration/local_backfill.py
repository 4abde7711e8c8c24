"""The local backfill: a job whose op runs the engine over many videos, without the API.

It writes the same tables and marks the same partitions materialized as the jobs' results.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from pydantic import Field

from rekognition_dagster.backfill import (
    Told,
    analyze_many,
    backend_name,
    is_done,
    locate,
    workers_for,
)
from rekognition_dagster.choice import VideoChoice
from rekognition_dagster.engine import parse_sample_fps
from rekognition_dagster.errors import ConfigurationError, LakeError, ModelError, VideoError
from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import Operation, operation
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.orchestration.resources import VideoBucketResource
from rekognition_dagster.orchestration.results import examined
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.state import State
from rekognition_dagster.state.results import Written, written
from rekognition_dagster.state.tables import PRESENT
from rekognition_dagster.state.videos import Found, known, not_analysed, register
from rekognition_dagster.videos import Video


class LocalBackfillConfig(dg.Config):
    """What to analyse. Name videos, a prefix or a folder; several together are all analysed."""

    videos: list[str] = Field(default=[], description="s3://bucket/key, or paths of files.")
    prefix: str | None = Field(
        default=None,
        description="Every video under s3://bucket/prefix, or under a prefix of the "
        "configured bucket.",
    )
    folder: str | None = Field(
        default=None, description="Every video in a local folder, at any depth."
    )
    from_: str | None = Field(
        default=None,
        alias="from",
        description="Of prefix and folder, only videos recorded on this day or later: 2026-01-31.",
    )
    to: str | None = Field(
        default=None,
        description="Of prefix and folder, only videos recorded on this day or earlier.",
    )
    operations: list[str] = Field(
        default=[], description="Which analyses; the deployment's by default."
    )
    detector: str | None = Field(
        default=None, description="The detector; the deployment's by default."
    )
    sample_fps: Any = Field(
        default=None,
        description="Frames looked at per second of video, or auto; the deployment's by default.",
    )
    face_attributes: str | None = Field(
        default=None,
        description="What is told of faces, DEFAULT or ALL; the deployment's by default.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Processes that share the work; the deployment's by default.",
    )
    ray: str | None = Field(
        default=None,
        description="Address of the Ray cluster that does the work; the deployment's by default.",
    )
    lake: str | None = Field(
        default=None,
        description="Another lake, a folder or s3://bucket/prefix, to keep and compare the results"
        " of another detector. The pipeline's own lake and state stay as they are.",
    )
    again: bool = Field(
        default=False,
        description="Analyse what this detector has already done for this version, too.",
    )


def build_local_backfill_job(deployment: Deployment) -> dg.JobDefinition:
    """The job ``local_backfill``.

    A bad video never stops the others; the run fails at its end and names the bad ones. Run it
    again to go on where it was stopped: what is done for the same version and detector is skipped.
    """

    @dg.op(
        name=deployment.scoped("analyze_videos"),
        required_resource_keys=deployment.needs("lake", "video_bucket"),
        description="Runs the engine on each video and writes its tables.",
    )
    def local_backfill_op(context: dg.OpExecutionContext, config: LocalBackfillConfig) -> None:
        run_backfill(context, config, deployment)

    @dg.job(
        name=deployment.scoped("local_backfill"),
        executor_def=dg.in_process_executor,
        description="Analyses videos with the local engine: an archive, a folder, what failed.",
    )
    def local_backfill() -> None:
        local_backfill_op()  # pyright: ignore[reportCallIssue] -- Dagster fills its arguments in

    return local_backfill


def run_backfill(
    context: dg.OpExecutionContext,
    config: LocalBackfillConfig,
    deployment: Deployment,
) -> None:
    """Analyse what a config names, and enter the results."""
    _Backfill(context, config, deployment).run()


@dataclass
class _Backfill:
    """One run of the backfill: what it is to do, and what came of it."""

    context: dg.OpExecutionContext
    config: LocalBackfillConfig
    deployment: Deployment
    done: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    quarters: dict[Video, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.deployment.settings
        self.state = self.deployment.state(self.context.instance)
        self.bucket: VideoBucketResource = self.deployment.resource(self.context, "video_bucket")
        self.lake: Lake = self.deployment.resource(self.context, "lake").open()
        if self.config.lake:
            self.lake = settings.open_lake(self.config.lake)
        self.how, self.operations = _chosen(self.config, settings)
        self.s3 = _Once(self.bucket.downloader)
        try:
            self.choice = VideoChoice(
                self.config.videos,
                self.config.folder,
                self.config.prefix,
                self.config.from_,
                self.config.to,
                self.bucket.bucket,
                self.bucket.prefix,
            )
        except ConfigurationError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    def run(self) -> None:
        """Analyse all videos; fail at the end where some were bad."""
        settings = self.deployment.settings
        count, ray = self.config.workers or settings.workers, self.config.ray or settings.ray
        try:
            with ExitStack() as stack:
                workers = stack.enter_context(workers_for(count, ray, self.how["detector"]))
                analyses = analyze_many(
                    self._todo(),
                    self.lake,
                    workers=workers,
                    client=self.s3,
                    **self.how,
                )
                for video, what in stack.enter_context(closing(analyses)):
                    self._settle(video, what)
        except (ModelError, LakeError, ConfigurationError) as error:
            # No one video's fault: every other one would fail the same way.
            raise dg.Failure(
                f"stopped: {error}. {self.done} videos were analysed and stay", allow_retries=False
            ) from error
        self.deployment.resource(self.context, "lake").refresh_catalogue()
        self._sum_up()

    def _todo(self) -> Iterator[tuple[Video, list[Operation]]]:
        """The videos that are not done yet, with what is to be done; the others are entered."""
        chosen = self.choice.find(self.deployment.settings.date_pattern, self.s3)
        for position, video in enumerate(chosen, 1):
            try:
                located = locate(video, None if video.is_local else self.s3())
            except VideoError as error:
                self._fail(video, error)
                continue
            if self.config.lake is None:
                _register(self.state, self.deployment, located)
            asked = [
                o
                for o in self.operations
                if self.config.again
                or not is_done(located, o, self.lake, backend_name(o, **self.how))
            ]
            if asked:
                names = ", ".join(o.name for o in asked)
                self.context.log.info(f"{position}: {located.uri}: {names}")
                yield located, asked
            else:
                self.skipped += 1
                self._enter(located)

    def _settle(self, video: Video, what: Told) -> None:
        if isinstance(what, VideoError):
            self._fail(video, what)
        elif isinstance(what, dict):
            self.done += 1
            self._warn(video)
            self._enter(video)
        elif int(what * 4) > self.quarters.get(video, 0):
            self.quarters[video] = int(what * 4)
            self.context.log.info(f"{video.uri}: {self.quarters[video] * 25}%")

    def _warn(self, video: Video) -> None:
        """Log what was lost of a video, as the lake has it now."""
        jobs = [self.lake.read_job(video, o.name) for o in self.operations]
        for warning in {job["status_message"] for job in jobs if job and job["status_message"]}:
            self.context.log.warning(f"{video.uri}: {warning}")

    def _fail(self, video: Video, error: VideoError) -> None:
        self.context.log.error(str(error))
        self.failures[video.uri] = str(error)
        if self.config.lake is None and video.version:  # a file that was found
            found = Found(video, self.deployment.settings.partitioning.partition_of(video))
            names = [o.name for o in self.operations]
            with self.state.write() as connection:
                not_analysed(connection, found, names, str(error), time.time())

    def _enter(self, video: Video) -> None:
        """Enter what the lake has of a video, unless it is another lake than the pipeline's."""
        if self.config.lake is None:
            jobs = {o.name: self.lake.read_job(video, o.name) for o in self.operations}
            results = [
                one
                for o, job in jobs.items()
                if job
                for one in examined(
                    self.lake,
                    operation(o),
                    [Written.of(self.lake, video, o, job)],
                    {video.partition_key: video},
                )
            ]
            with self.state.write() as connection:
                written(connection, results, self.deployment.state_models, time.time())

    def _sum_up(self) -> None:
        done, skipped, failures = self.done, self.skipped, self.failures
        if not (done or skipped or failures):
            raise dg.Failure(
                f"nothing was found to analyse: there is no video in {self.choice}. Check the "
                "prefix; dates go into from and to",
                allow_retries=False,
            )
        self.context.log.info(f"{done} analysed, {skipped} done before, {len(failures)} failed")
        if failures:
            raise dg.Failure(
                f"{len(failures)} videos could not be analysed ({done} analysed, {skipped} done "
                "before): " + "; ".join(list(failures.values())[:20]),
                metadata=dict(list(failures.items())[:50]),
                allow_retries=False,
            )


def _chosen(
    config: LocalBackfillConfig, settings: Settings
) -> tuple[dict[str, Any], list[Operation]]:
    """The engine's arguments and the operations: the run's, else the deployment's."""
    attributes = (config.face_attributes or settings.face_attributes).lower()
    try:
        if attributes not in ("default", "all"):
            raise ValueError(f"face_attributes is {config.face_attributes}; write DEFAULT or ALL")
        how = {
            "detector": config.detector or settings.detector,
            "sample_fps": parse_sample_fps(config.sample_fps) or settings.sample_fps,
            "face_attributes": attributes,
        }
        return how, [operation(n) for n in config.operations] or settings.operation_list
    except (KeyError, ValueError) as error:
        raise dg.Failure(error.args[0], allow_retries=False) from None


class _Once:
    """Makes a client when it is first needed, and no second one."""

    def __init__(self, make: Callable[[], Any]):
        self._make, self._made = make, None

    def __call__(self) -> Any:
        self._made = self._made or self._make()
        return self._made


def _register(state: State, deployment: Deployment, video: Video) -> None:
    """Make sure that the state knows this version of the video; its other operations are left to
    discovery, for the backfill was not asked for them."""
    key = video.partition_key
    with state.write() as connection:
        before = known(connection, [key]).get(key)
        if before is None or before.version != video.version or before.status != PRESENT:
            partition = deployment.settings.partitioning.partition_of(video)
            register(connection, [Found(video, partition)], time.time(), None)
