"""A worker process: takes up one job after another, analyses the video, ends the job.

It lives as long as its standard input stays open, so that it never outlives the service. Whatever
kills it (a decoder's crash, a kill -9) leaves a lease that runs out, and the job is taken up again.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rekognition_dagster.backfill import backend_name
from rekognition_dagster.engine import VideoMetadata, open_detector, read_metadata
from rekognition_dagster.errors import ModelError, RekognitionDagsterError, VideoError
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.service import objects
from rekognition_dagster.service.logs import configure
from rekognition_dagster.service.owners import owner_name, scratch_prefix
from rekognition_dagster.service.results import Results
from rekognition_dagster.service.settings import Settings
from rekognition_dagster.service.store import Job, JobStore
from rekognition_dagster.service.writing import ResultsWriter
from rekognition_dagster.videos import VIDEO_SUFFIXES, Video

log = logging.getLogger("rekognition_dagster.service.worker")


_LAST_S = 30.0
"""Seconds that a worker outlives its service at most."""


class _CalledOffError(BaseException):
    """The job under way must stop here: the service stops, or the job is another worker's now.

    Not an Exception, so that no analysis takes it for a fault of the video.
    """


class _UnfetchedError(Exception):
    """The video could not be fetched this time."""


@dataclass
class Switch:
    """Tells a worker to take no more jobs, and the job under way to stop."""

    no_more: threading.Event = field(default_factory=threading.Event)
    call_off: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Attempt:
    """One go at one job: whether it is still to go on, and how far it is."""

    job: Job
    folder: str
    called_off: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    frames: int = 0

    @property
    def about(self) -> dict[str, Any]:
        """What log lines say of it."""
        job = self.job
        return {
            "job_id": job.job_id,
            "operation": job.operation,
            "video": job.video,
            "attempt": job.attempts,
        }

    def check(self, *_: Any) -> None:
        if self.called_off.is_set():
            raise _CalledOffError


@dataclass(frozen=True)
class Worker:
    """Takes up jobs from a store, one after another.

    Args:
        settings: The service's settings.
        store: Where the jobs are.
        results: Where their results go.
        switch: What stops it.
        owner: Its name on leases.
    """

    settings: Settings
    store: JobStore
    results: Results
    switch: Switch
    owner: str = field(default_factory=owner_name)

    def run(self) -> None:
        """Take up jobs until the switch says no more."""
        while not self.switch.no_more.is_set():
            try:
                job = self.store.claim(self.owner, self.settings.lease_s, self.settings.attempts)
            except Exception:
                log.exception("the job store cannot be reached; trying again")
                self.switch.no_more.wait(5.0)
                continue
            if job is None:
                self.switch.no_more.wait(self.settings.poll_s)
            else:
                self.work(job)

    def work(self, job: Job) -> None:
        """Bring one job to its end, or give it back."""
        # Results of each attempt lie apart, so that one that lost its lease spoils nothing. Its
        # number would not do: one that is called off does not count, and the next has it too.
        attempt = _Attempt(job, f"{job.job_id}/{secrets.token_hex(4)}")
        log.info("job taken up", extra=attempt.about)
        heart = threading.Thread(target=self._beat, args=(attempt,), name="heartbeat")
        heart.start()
        kept = False
        try:
            kept = self._bring_to_end(attempt)
        finally:
            attempt.ended.set()
            heart.join()
            if not kept:
                self._remove(attempt)

    def _bring_to_end(self, attempt: _Attempt) -> bool:
        """Whether the attempt's results are now the job's."""
        job, store, owner = attempt.job, self.store, self.owner
        began = time.monotonic()
        try:
            facts, orders = self._analyse(attempt)
            kept = store.complete(
                job,
                owner,
                metadata={**_about(facts, self.settings), **_backend(job, self.settings)},
                results=attempt.folder,
                orders=orders,
                message=facts.warning,
            )
            seconds = time.monotonic() - began
            done = {"rows": max(orders.values()), "frames": attempt.frames}
            log.info(
                "job SUCCEEDED" if kept else "job ended elsewhere",
                extra={**attempt.about, **done, "seconds": round(seconds, 2)},
            )
            return kept
        except (Exception, _CalledOffError) as error:
            # What calls an attempt off may surface as some other error of the library it went
            # through; an attempt that was called off says nothing about its video.
            if attempt.called_off.is_set():
                log.info("job given back", extra=attempt.about)
                store.release(job, owner)
            else:
                self._end_badly(attempt, error)
        return False

    def _remove(self, attempt: _Attempt) -> None:
        """Remove the results of an attempt, unless they are the job's after all: the database may
        have ended the job and only the answer got lost."""
        try:
            job = self.store.job(attempt.job.job_id)
            if job is None or job.results != attempt.folder:
                self.results.delete(attempt.folder)
        except Exception:
            log.exception("results are left until the job expires", extra=attempt.about)

    def _end_badly(self, attempt: _Attempt, error: BaseException) -> None:
        """Fail the job, or let it be tried again."""
        job, store, owner = attempt.job, self.store, self.owner
        backend = _backend(job, self.settings)
        if isinstance(error, _UnfetchedError) and job.attempts < self.settings.attempts:
            log.warning("video not fetched", extra={**attempt.about, "error": error})
            store.release(job, owner, delay_s=2.0**job.attempts, counts=True)
        elif isinstance(error, (_UnfetchedError, RekognitionDagsterError)):
            log.warning("job FAILED", extra={**attempt.about, "error": error})
            text = str(error)
            store.fail(job, owner, text if job.video in text else f"{job.video}: {text}", backend)
        elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            log.error("job FAILED", extra={**attempt.about, "error": error})
            store.fail(
                job,
                owner,
                f"{job.video}: there is no space left where the service keeps videos and results. "
                "Free some, or name another place with --results, then start the job again",
                backend,
            )
        else:
            log.error("job FAILED", extra=attempt.about, exc_info=error)
            store.fail(
                job,
                owner,
                f"{job.video}: the analysis failed ({type(error).__name__}). The service's log "
                f"says more under job {job.job_id}; start the job again once that is mended",
                backend,
            )

    def _beat(self, attempt: _Attempt) -> None:
        """Hold the lease while the job is under way; call the attempt off when it is lost."""
        job, lease_s = attempt.job, self.settings.lease_s
        counted = 0
        next_beat = time.monotonic() + lease_s / 3
        while not attempt.ended.wait(0.1):
            if self.switch.call_off.is_set():
                attempt.called_off.set()
            if time.monotonic() < next_beat:
                continue
            next_beat = time.monotonic() + lease_s / 3
            try:
                held = self.store.heartbeat(job, self.owner, lease_s)
                counted = self._count(attempt, counted)
            except Exception:
                log.exception("no heartbeat; trying again", extra=attempt.about)
                continue
            if not held and not attempt.ended.is_set():
                log.warning("lease lost", extra=attempt.about)
                attempt.called_off.set()
        with contextlib.suppress(Exception):  # frames are counted for a graph, not for a job
            self._count(attempt, counted)

    def _count(self, attempt: _Attempt, counted: int) -> int:
        """Count the frames since ``counted``; how many there are now."""
        frames = attempt.frames
        if frames > counted:
            self.store.count_frames(frames - counted)
        return frames

    def _analyse(self, attempt: _Attempt) -> tuple[VideoMetadata, dict[str, int]]:
        job, settings = attempt.job, self.settings
        operation = OPERATIONS[job.operation]
        scratch = settings.scratch_folder
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=scratch_prefix(), dir=scratch) as temporary:
            # A decoder may go by how a name ends; nothing else of it reaches the disk.
            suffix = Path(job.name).suffix.lower()
            path = Path(temporary) / f"video{suffix if suffix in VIDEO_SUFFIXES else ''}"
            _fetch(attempt, path)
            self._check_video(job, path)
            analyze = _analyzer(settings.analyzer)
            with ResultsWriter(
                self.results, attempt.folder, operation, job, settings.sample_fps
            ) as writer:

                def sink(rows: Iterable[Mapping[str, Any]]) -> None:
                    attempt.check()
                    writer.write(rows)

                def progress(fraction: float) -> None:
                    attempt.check()
                    attempt.frames += fraction < 1  # once a frame, and once more at the end

                with _place(job, path, settings) as (source, where):
                    facts = analyze(
                        source,
                        {operation.name: sink},
                        detector=settings.detector,
                        sample_fps=settings.sample_fps,
                        face_attributes=job.request.get("FaceAttributes", "DEFAULT").lower(),
                        progress=progress,
                        video=job.video,
                        **where,
                    )
                attempt.check()
            self._check_duration(job, facts.duration_ms)
        return facts, writer.orders

    def _check_video(self, job: Job, path: Path) -> None:
        """Refuse what the API does not take, before any time is spent on it."""
        with path.open("rb") as file:
            head = file.read(12)
        if not head:
            raise VideoError(job.video, "the object is empty", "Upload the video again")
        if head[4:8] not in _MP4_BOXES and not (head[:4] == b"RIFF" and head[8:] == b"AVI "):
            raise VideoError(
                job.video,
                "this is no video in a supported format, which are .mp4, .mov and .avi",
                "Convert it to MP4 (H.264)",
            )
        self._check_duration(job, _duration_ms(path))

    def _check_duration(self, job: Job, duration_ms: float) -> None:
        most = self.settings.max_video_ms
        if duration_ms > most:
            raise VideoError(
                job.video,
                f"the video lasts {duration_ms / 3_600_000:.1f} hours, the maximum is "
                f"{most / 3_600_000:g}",
                "Cut it into parts",
            )


# What an MP4 or QuickTime file may begin with (source: ISO/IEC 14496-12, QuickTime File Format).
_MP4_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})


def _duration_ms(path: Path) -> float:
    """The duration that the file's header tells; 0 where it tells none."""
    try:
        return read_metadata(path).duration_ms
    except (VideoError, ModelError):  # the analysis will say better what is wrong
        return 0.0


def _about(facts: VideoMetadata, settings: Settings) -> dict[str, Any]:
    """What Get tells of a job beside its rows."""
    return {
        "VideoMetadata": {
            "Codec": facts.codec,
            "Format": facts.format,
            "DurationMillis": facts.duration_ms,
            "FrameRate": facts.frame_rate,
            "FrameWidth": facts.width,
            "FrameHeight": facts.height,
            "ColorRange": facts.color_range,
        },
        "LabelModelVersion": Path(settings.detector).name if settings.detector else "default",
    }


def _backend(job: Job, settings: Settings) -> dict[str, str]:
    """What did the work. No member of the API: Get has it in a header."""
    attributes: Any = job.request.get("FaceAttributes", "DEFAULT").lower()
    operation = OPERATIONS[job.operation]
    return {
        "Backend": backend_name(operation, settings.detector, settings.sample_fps, attributes),
        "Software": f"rekognition-dagster {version('rekognition-dagster')}",
    }


def _fetch(attempt: _Attempt, path: Path) -> None:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        objects.fetch(attempt.job.request["Video"]["S3Object"], path, attempt.check)
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise _UnfetchedError(
            f"{attempt.job.video}: the video cannot be fetched from S3: {error}. Check "
            "that it is still there and that the service may read it, then start the job again"
        ) from error


@contextlib.contextmanager
def _place(job: Job, path: Path, settings: Settings) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The video as those have it who look at it, and who these are: this process, or a cluster."""
    if settings.ray is None:
        yield path, {}
        return
    from rekognition_dagster.backfill import locate, workers_for
    from rekognition_dagster.lending import Lent

    reference = job.request["Video"]["S3Object"]
    video = Video(reference["Bucket"], reference["Name"], reference.get("Version"))
    with workers_for(None, settings.ray, settings.detector) as workers:
        yield Lent(locate(video, objects.s3_client())), {"workers": workers}


def _analyzer(spec: str) -> Callable[..., Any]:
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)


READY = "ready"
"""What a worker reports once it has loaded its detector; anything else is an error's text."""


def _load(settings: Settings) -> str:
    """Load the detector before any job needs it; return :data:`READY` or what is wrong with it."""
    try:
        _analyzer(settings.analyzer)
        if settings.analyzer == Settings.analyzer and settings.ray is None:
            open_detector(settings.detector)
    except RekognitionDagsterError as error:
        return " ".join(str(error).split())
    return READY


def main() -> None:
    """Run as ``python -m rekognition_dagster.service.worker FD``.

    Settings come as one line of JSON on standard input, which then stays open for as long as the
    service lives. FD is a pipe on which the worker reports :data:`READY` or an error.
    """
    settings = Settings.of(**json.loads(sys.stdin.readline()))
    configure(settings.log_format)
    switch = Switch()
    # The service alone decides when a worker stops; a terminal's Ctrl-C reaches it too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: switch.no_more.set())

    def watch() -> None:
        # Not sys.stdin: a library that forks would fork its lock too, held.
        while os.read(0, 4096):
            pass
        switch.no_more.set()
        switch.call_off.set()
        time.sleep(_LAST_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    report = _load(settings)
    with os.fdopen(int(sys.argv[1]), "w") as pipe:
        pipe.write(f"{report}\n")
    if report != READY:
        os._exit(1)
    store = JobStore(settings.database_url, job_life_s=settings.job_life_s)
    Worker(settings, store, Results(settings.results_url), switch).run()
    store.close()
    logging.shutdown()
    # The job's end is in the store by now; threads and children of libraries may not end at all.
    os._exit(0)


if __name__ == "__main__":
    main()
