"""The engine on one video, straight into a lake: what `analyze` and the backfill job both do.

No Dagster here, and no deciding what to analyse: a caller that skips finished work compares
:func:`backend_name` and the video's version with the lake's row of ``jobs``.
"""

from __future__ import annotations

import hashlib
import queue
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rekognition_dagster.engine import FaceAttributes, SampleFps
from rekognition_dagster.errors import ConfigurationError, VideoError
from rekognition_dagster.lake import Lake, TableWriter
from rekognition_dagster.operations import Operation
from rekognition_dagster.videos import Video, idempotency_token

if TYPE_CHECKING:
    from rekognition_dagster.engine.spans import Source
    from rekognition_dagster.engine.workers import Workers


def backend_name(
    operation: Operation,
    detector: str | None = None,
    sample_fps: SampleFps = None,
    face_attributes: FaceAttributes = "default",
) -> str:
    """Name what did the work, for ``jobs.backend``: ``engine:default``, ``engine:onnx:a@5fps``.

    Equal names mean equal results for the same operation and version of a video.
    """
    if not operation.is_detected:
        return "engine:default"
    if sample_fps is None or isinstance(sample_fps, str):
        rate = f"@{sample_fps}" if sample_fps else ""
    else:
        rate = f"@{sample_fps:g}fps"
    faces = "+faces" if face_attributes == "all" and operation.has_faces else ""
    return f"engine:{detector or 'default'}{rate}{faces}"


def is_done(video: Video, operation: Operation, lake: Lake, backend: str) -> bool:
    """Whether the lake has this backend's results for this version of a video."""
    job = lake.read_job(video, operation.name)
    return (
        job is not None
        and job["status"] == "SUCCEEDED"
        and job["version"] == video.version
        and job["backend"] == backend
    )


def analyze_into_lake(
    video: Video,
    source: str | Path | Source,
    lake: Lake,
    operations: Iterable[Operation],
    *,
    detector: str | None = None,
    sample_fps: SampleFps = None,
    face_attributes: FaceAttributes = "default",
    progress: Callable[[float], None] | None = None,
    workers: Workers | None = None,
) -> dict[str, int]:
    """Analyse one video and replace its rows of the results tables, of ``videos`` and of ``jobs``.

    Files appear whole or not at all, and the same work gives the same files. A video that turns out
    to be bad gets FAILED rows in ``jobs``; what could be decoded of it is kept, unless that would
    replace results of a run that succeeded.

    Args:
        video: What the rows are to name; its version and date are used.
        source: A local file with its content, or what lends one to the workers.
        lake: Where the rows go.
        operations: What to look for; all are found in one pass over the video.
        detector: The engine's detector spec; none is the embedded default.
        sample_fps: Frames looked at per second of video, or ``auto``; none is every frame.
        face_attributes: What is told of faces; see :func:`rekognition_dagster.engine.analyze`.
        progress: Called with the fraction done, 0 to 1.
        workers: Processes that share the work; none is this process.

    Returns:
        Rows written, by operation name.

    Raises:
        VideoError: The video cannot be analysed.
        ModelError: The detector cannot be had; nothing was written.
        LakeError: The lake cannot be written; what was there before stays.
    """
    from rekognition_dagster import engine

    started = datetime.now(timezone.utc)
    how: Any = {"detector": detector, "sample_fps": sample_fps, "face_attributes": face_attributes}
    jobs = {o: _job(o, video, backend_name(o, **how), started) for o in operations}
    damage: VideoError | None = None
    metadata = None
    try:
        with ExitStack() as open_writers:
            writers = {o: open_writers.enter_context(lake.writer(o.table, video)) for o in jobs}
            sinks = {
                o.name: _sink(writer, video, jobs[o]["job_id"]) for o, writer in writers.items()
            }
            try:
                metadata = engine.analyze(
                    source,
                    sinks,
                    progress=progress,
                    video=video.uri,
                    workers=workers,
                    **how,
                )
                if metadata.warning and any(_has_whole(video, o, lake) for o in jobs):
                    raise VideoError(
                        video.uri,
                        f"{metadata.warning}; the lake has results of a whole copy, and they stay",
                        "Upload or record it again",
                    )
            except VideoError as error:
                if not error.rows_kept or any(_has_succeeded(video, o, lake) for o in jobs):
                    raise
                damage, metadata = error, error.metadata  # leaving the block keeps the rows
            except OSError as error:  # what the lake's own disk says comes as LakeError
                raise VideoError(
                    video.uri,
                    f"the analysis was broken off: {error}",
                    f"See that there is space in {tempfile.gettempdir()} and run this again",
                ) from error
    except VideoError as error:
        _write_jobs(video, lake, jobs, "FAILED", message=str(error))
        raise
    rows = {o.name: writer.rows for o, writer in writers.items()}
    if metadata is not None:
        lake.write_video(video, asdict(metadata))
    # Last, for these rows are what says that the others are there.
    if damage is not None:
        _write_jobs(video, lake, jobs, "FAILED", message=str(damage), rows=rows)
        raise damage
    warning = metadata.warning if metadata is not None else None
    _write_jobs(video, lake, jobs, "SUCCEEDED", message=warning, rows=rows)
    return rows


Told: TypeAlias = float | dict[str, int] | VideoError
"""Of a video: the fraction done; in the end its rows, by operation, or what is wrong with it."""

_VIDEOS_AT_ONCE = 16


def analyze_many(
    videos: Iterable[tuple[Video, Iterable[Operation]]],
    lake: Lake,
    *,
    detector: str | None = None,
    sample_fps: SampleFps = None,
    face_attributes: FaceAttributes = "default",
    workers: Workers | None = None,
    client: Callable[[], Any] | None = None,
) -> Generator[tuple[Video, Told], None, None]:
    """Analyse videos into a lake; several at once where there are workers to share the work.

    Args:
        videos: Located ones, each with what to look for. Read as there is room for another.
        lake: Where the rows go.
        detector: The engine's detector spec; none is the embedded default.
        sample_fps: Frames looked at per second of video, or ``auto``; none is every frame.
        face_attributes: What is told of faces; see :func:`rekognition_dagster.engine.analyze`.
        workers: Processes that share the work; none is this process.
        client: Makes a boto3 ``s3`` client; by default one of the default session.

    Yields:
        What is to be told of a video, in the order in which it happens. A bad video stops no other.

    Raises:
        ModelError, LakeError, ConfigurationError: What is wrong with all of them.
    """
    at_once = 1 if workers is None else min(workers.size, _VIDEOS_AT_ONCE)
    told: queue.SimpleQueue[tuple[Video, Told | Exception]] = queue.SimpleQueue()
    stopped = threading.Event()

    def one(video: Video, operations: Iterable[Operation], s3: Any) -> None:
        def progress(fraction: float) -> None:
            if stopped.is_set():
                raise _StoppedError
            told.put((video, fraction))

        how = {
            "detector": detector,
            "sample_fps": sample_fps,
            "face_attributes": face_attributes,
            "progress": progress,
        }
        try:
            with _source(video, workers, s3) as source:
                rows = analyze_into_lake(video, source, lake, operations, **how, workers=workers)
            told.put((video, rows))
        except Exception as error:
            told.put((video, error))

    def tell() -> Iterator[tuple[Video, Told]]:
        nonlocal under_way
        video, what = told.get()
        if isinstance(what, Exception) and not isinstance(what, VideoError):
            raise what
        under_way -= not isinstance(what, float)
        yield video, what

    under_way, s3 = 0, None
    with ThreadPoolExecutor(at_once, thread_name_prefix="video") as threads:
        try:
            for video, operations in videos:
                if s3 is None and not video.is_local:
                    s3 = (client or _s3)()  # here, for making one is no work for threads
                threads.submit(one, video, operations, s3)
                under_way += 1
                while under_way == at_once:
                    yield from tell()
            while under_way:
                yield from tell()
        finally:
            stopped.set()


@contextmanager
def workers_for(
    count: int | None, ray: str | None, detector: str | None = None
) -> Iterator[Workers | None]:
    """What :func:`analyze_many` takes as ``workers``: None where one process is asked for."""
    from rekognition_dagster.engine import open_workers

    if ray is None and (count or 1) == 1:
        yield None
        return
    with open_workers(count, ray=ray, detector=detector) as workers:
        yield workers


class _StoppedError(Exception):
    """Nobody waits for the video any more."""


@contextmanager
def _source(video: Video, workers: Workers | None, s3: Any) -> Iterator[str | Path | Source]:
    """The video's file, or for workers on other machines what lends it to each."""
    if workers is not None and workers.elsewhere and not video.is_local:
        from rekognition_dagster.lending import Lent

        yield Lent(video)
        return
    with tempfile.TemporaryDirectory(prefix="rekognition-dagster-") as folder:
        yield fetch(video, folder, s3)


def _write_jobs(
    video: Video,
    lake: Lake,
    jobs: Mapping[Operation, dict[str, Any]],
    status: str,
    *,
    message: str | None = None,
    rows: Mapping[str, int] | None = None,
) -> None:
    ended = {
        "completed_at": datetime.now(timezone.utc),
        "status": status,
        "status_message": message,
    }
    for o, job in jobs.items():
        lake.write_job(video, o.name, {**job, **ended, "rows": (rows or {}).get(o.name)})


def _has_whole(video: Video, operation: Operation, lake: Lake) -> bool:
    """Return whether the lake has results of a whole copy of the video, of another version."""
    job = lake.read_job(video, operation.name)
    if job is None or job["status"] != "SUCCEEDED" or job["status_message"]:
        return False
    return job["version"] != video.version


def _has_succeeded(video: Video, operation: Operation, lake: Lake) -> bool:
    job = lake.read_job(video, operation.name)
    return job is not None and job["status"] == "SUCCEEDED"


def _job(operation: Operation, video: Video, backend: str, started: datetime) -> dict[str, Any]:
    token = idempotency_token(operation.name, video, {"Backend": backend})
    return {
        "job_id": hashlib.sha256(f"{token}:{video.uri}".encode()).hexdigest(),
        "token": token,
        "started_at": started,
        "backend": backend,
        "software": f"rekognition-dagster {version('rekognition-dagster')}",
    }


def _sink(writer: TableWriter, video: Video, job_id: str) -> Callable[[list[dict[str, Any]]], None]:
    def write(rows: list[dict[str, Any]]) -> None:
        writer.write({"video": video.uri, "job_id": job_id, **row} for row in rows)

    return write


# -- videos in S3 ---------------------------------------------------------------------------------

_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NoSuchVersion"}
_REFUSED = {"403", "AccessDenied"}


def locate(video: Video, client: Any = None) -> Video:
    """The same video with its version, size and time, as S3 (or the file system) has them now.

    Args:
        video: Where it lies.
        client: A boto3 ``s3`` client; by default one of the default session.

    Raises:
        VideoError: There is no such object, or these credentials may not read it.
        ConfigurationError: S3 cannot be asked at all.
    """
    if video.is_local:
        return _local(video)
    version = {"VersionId": video.version_id} if video.version_id else {}
    with _s3_errors(video):
        head = (client or _s3()).head_object(Bucket=video.bucket, Key=video.key, **version)
    known = head.get("VersionId")
    return video.with_facts(
        version_id=known if known != "null" else None,
        etag=head["ETag"].strip('"'),
        size=head["ContentLength"],
        last_modified=head["LastModified"],
    )


def fetch(video: Video, folder: str | Path, client: Any = None) -> Path:
    """A local file with the video's content: the file itself, or a download into ``folder``.

    Args:
        video: Where it lies.
        folder: Where a download goes; the caller removes it.
        client: A boto3 ``s3`` client; by default one of the default session.

    Raises:
        VideoError: There is no such object, it may not be read, or the disk is full.
        ConfigurationError: S3 cannot be asked at all.
    """
    if video.is_local:
        return Path(_local(video).key)
    path = Path(folder) / f"{video.id}{Path(video.key).suffix}"
    version = {"ExtraArgs": {"VersionId": video.version_id}} if video.version_id else {}
    with _s3_errors(video):
        (client or _s3()).download_file(video.bucket, video.key, str(path), **version)
    return path


def _local(video: Video) -> Video:
    path = Path(video.key)
    if (name := video.uri.encode(errors="replace").decode()) != video.uri:
        raise VideoError(name, "has a name that is not UTF-8", "Rename it")
    try:
        found = Video.from_file(path)
    except FileNotFoundError:
        raise VideoError(video.uri, "there is no such file", "Check the path") from None
    except OSError as error:
        raise VideoError(video.uri, error.strerror or str(error), "Check the path") from None
    if path.is_dir():
        raise VideoError(video.uri, "this is a folder", "Name the files in it")
    return found


def _s3() -> Any:
    from rekognition_dagster import aws

    try:
        return aws.client("s3")
    except Exception as error:
        raise ConfigurationError(f"S3 cannot be asked: {error}. Check the AWS settings") from error


@contextmanager
def _s3_errors(video: Video) -> Iterator[None]:
    """Tell what is wrong with one video apart from what is wrong with all of them."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code in _MISSING:
            reason, remedy = "there is no such object", "Check bucket, key and region"
            raise VideoError(video.uri, reason, remedy) from error
        if code in _REFUSED:
            reason = "these credentials may not read it"
            remedy = "Allow s3:GetObject on it, and s3:ListBucket on its bucket"
            raise VideoError(video.uri, reason, remedy) from error
        raise ConfigurationError(
            f"{video.uri}: S3 refused: {error}. Check the AWS credentials and the region"
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise ConfigurationError(
            f"{video.uri}: S3 cannot be asked: {error}. Check AWS_ENDPOINT_URL, the region and "
            "the credentials"
        ) from error
    except OSError as error:
        raise VideoError(
            video.uri, f"it cannot be downloaded: {error}", "Free some space and run this again"
        ) from error
