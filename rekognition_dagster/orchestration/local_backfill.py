"""The local backfill: a job whose op runs the engine over many videos, without the API.

It writes the same tables and marks the same partitions materialized as the jobs' results.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from rekognition_dagster.backfill import (
    analyze_many,
    backend_name,
    is_done,
    locate,
    workers_for,
)
from rekognition_dagster.engine import parse_sample_fps
from rekognition_dagster.errors import ConfigurationError, LakeError, ModelError, VideoError
from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import Operation, operation
from rekognition_dagster.orchestration.discovery import new_or_changed, register
from rekognition_dagster.orchestration.metadata import file_metadata
from rekognition_dagster.orchestration.resources import LakeResource, VideoBucketResource
from rekognition_dagster.orchestration.settings import Settings
from rekognition_dagster.orchestration.standing import Books, known
from rekognition_dagster.videos import Video, is_video_key

JOB, OP = "local_backfill", "analyze_videos"


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
    again: bool = Field(
        default=False,
        description="Analyse what this detector has already done for this version, too.",
    )


def build_local_backfill(books: Books) -> dg.JobDefinition:
    """The job ``local_backfill``.

    A bad video never stops the others; the run fails at its end and names the bad ones. Run it
    again to go on where it was stopped: what is done for the same version and detector is skipped.
    """

    @dg.op(name=OP, description="Runs the engine on each video and writes its tables.")
    def local_backfill_op(
        context: dg.OpExecutionContext,
        config: LocalBackfillConfig,
        lake: LakeResource,
        video_bucket: VideoBucketResource,
    ) -> None:
        _run(context, config, lake, video_bucket, books)

    @dg.job(
        name=JOB,
        description="Analyses videos with the local engine: an archive, a folder, what failed.",
    )
    def local_backfill() -> None:
        local_backfill_op()  # pyright: ignore[reportCallIssue] -- Dagster fills its arguments in

    return local_backfill


def _run(
    context: dg.OpExecutionContext,
    config: LocalBackfillConfig,
    lake_resource: LakeResource,
    bucket: VideoBucketResource,
    books: Books,
) -> None:
    settings = books.settings
    lake = lake_resource.open()
    count, ray = config.workers or settings.workers, config.ray or settings.ray
    try:
        how = _how(config, settings)
        operations = [operation(n) for n in config.operations] or settings.operation_list
    except (KeyError, ValueError) as error:
        raise dg.Failure(error.args[0], allow_retries=False) from None
    done = skipped = 0
    failures: dict[str, str] = {}

    def failed(video: Video, error: VideoError) -> None:
        context.log.error(str(error))
        failures[video.uri] = str(error)

    def mark(video: Video) -> None:
        for o in operations:
            _mark(context, video, lake, o, books)

    def todo() -> Iterator[tuple[Video, list[Operation]]]:
        """The videos that are not done yet, with what is to be done; the others are marked."""
        nonlocal skipped
        for position, video in enumerate(_videos(config, bucket), 1):
            try:
                located = locate(video, None if video.is_local else bucket.client())
            except VideoError as error:
                failed(video, error)
                continue
            _register(context.instance, books, located)
            asked = [
                o
                for o in operations
                if config.again or not is_done(located, o, lake, backend_name(o, **how))
            ]
            if asked:
                context.log.info(f"{position}: {located.uri}: {', '.join(o.name for o in asked)}")
                yield located, asked
            else:
                skipped += 1
                mark(located)

    told_quarters: dict[Video, int] = {}
    try:
        with ExitStack() as stack:
            workers = stack.enter_context(workers_for(count, ray, how["detector"]))
            analyses = analyze_many(
                todo(),
                lake,
                workers=workers,
                client=bucket.client,
                **how,
            )
            for video, what in stack.enter_context(closing(analyses)):
                if isinstance(what, VideoError):
                    failed(video, what)
                elif isinstance(what, dict):
                    done += 1
                    mark(video)
                elif (quarter := int(what * 4)) > told_quarters.get(video, 0):
                    told_quarters[video] = quarter
                    context.log.info(f"{video.uri}: {quarter * 25}%")
    except (ModelError, LakeError, ConfigurationError) as error:
        # No one video's fault: every other one would fail the same way.
        raise dg.Failure(
            f"stopped: {error}. {done} videos were analysed and stay", allow_retries=False
        ) from error
    lake_resource.refresh_catalogue()
    _sum_up(context, failures, done, skipped)


def _how(config: LocalBackfillConfig, settings: Settings) -> dict[str, Any]:
    """Return the engine's arguments: the run's, else the deployment's."""
    attributes = (config.face_attributes or settings.face_attributes).lower()
    if attributes not in ("default", "all"):
        raise ValueError(f"face_attributes is {config.face_attributes}; write DEFAULT or ALL")
    return {
        "detector": config.detector or settings.detector,
        "sample_fps": parse_sample_fps(config.sample_fps) or settings.sample_fps,
        "face_attributes": attributes,
    }


def _sum_up(
    context: dg.OpExecutionContext, failures: dict[str, str], done: int, skipped: int
) -> None:
    context.log.info(f"{done} analysed, {skipped} done before, {len(failures)} failed")
    if failures:
        raise dg.Failure(
            f"{len(failures)} videos could not be analysed ({done} analysed, {skipped} done "
            "before): " + "; ".join(list(failures.values())[:20]),
            metadata=dict(list(failures.items())[:50]),
            allow_retries=False,
        )


def _videos(config: LocalBackfillConfig, bucket: VideoBucketResource) -> Iterator[Video]:
    if not (config.videos or config.prefix is not None or config.folder):
        raise dg.Failure(
            "nothing to analyse: configure videos, prefix or folder", allow_retries=False
        )
    yield from (Video.from_uri(uri) for uri in config.videos)
    if config.folder:
        folder = Path(config.folder).expanduser()
        if not folder.is_dir():
            raise dg.Failure(f"{folder} is no folder", allow_retries=False)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and is_video_key(path.name):
                yield Video("", str(path.absolute()))
    if config.prefix is not None:
        yield from _under(config.prefix, bucket)


def _under(prefix: str, bucket: VideoBucketResource) -> Iterator[Video]:
    name: str | None = bucket.bucket
    if prefix.startswith("s3://"):
        name, _, prefix = prefix.removeprefix("s3://").partition("/")
    if not name:
        raise dg.Failure(
            f"the prefix {prefix!r} has no bucket: write s3://bucket/prefix", allow_retries=False
        )
    pages = bucket.client().get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix)
    for page in pages:
        for entry in page.get("Contents", []):
            if is_video_key(entry["Key"]):
                yield Video(name, entry["Key"])


def _register(instance: dg.DagsterInstance, books: Books, video: Video) -> None:
    """Make sure that the video has a partition, and that Dagster knows this version of it."""
    if new_or_changed(instance, books, [video]):
        register(instance, books, {video: known(video, time.time())})


def _mark(
    context: dg.OpExecutionContext,
    video: Video,
    lake: Lake,
    operation: Operation,
    books: Books,
) -> None:
    """Enter the results into their partition's ledger, unless Dagster has just these already."""
    instance, partition, key = context.instance, books.partition_of(video), video.partition_key
    book, job = books.results(operation), lake.read_job(video, operation.name)
    assert job is not None
    earlier = book.read(instance, [partition]).get(partition)
    if earlier is not None and earlier.entries.get(key, {}).get("job_id") == job["job_id"]:
        return
    path, rows = lake.path(operation.table, video), int(job["rows"])
    entry = {
        "at": time.time(),
        "version": video.version or "unknown",
        "job_id": job["job_id"],
        "rows": rows,
        "path": path,
        "backend": job["backend"],
    }
    shown = file_metadata(lake, path, rows) if partition == key else {}
    book.enter(instance, {partition: {key: entry}}, run=context, shown={partition: shown})
