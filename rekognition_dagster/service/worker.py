"""A worker process: takes up one job after another, analyses the video, ends the job.

It ends when its standard input closes, so that it never outlives the service, and reads from it
whether it may take up jobs. It reports to the service what it does; ``crew`` reads that, and counts
an attempt of a worker that crashes or hangs.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
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
from typing import IO, Any, TypeVar

from rekognition_dagster.backfill import backend_name
from rekognition_dagster.engine import VideoMetadata, open_detector, read_metadata, read_pauses_ms
from rekognition_dagster.engine.limits import MAX_PIXELS_VARIABLE
from rekognition_dagster.errors import ModelError, RekognitionDagsterError, VideoError
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.service import objects
from rekognition_dagster.service.backoff import backoff_s
from rekognition_dagster.service.faults import (
    ATTEMPT,
    VIDEO,
    Fault,
    GoneError,
    LimitError,
    fault_of,
    is_gone,
    part_of,
)
from rekognition_dagster.service.folders import prepare_scratch
from rekognition_dagster.service.logs import configure
from rekognition_dagster.service.owners import owner_name, scratch_prefix
from rekognition_dagster.service.reports import Reports
from rekognition_dagster.service.requests import engine_options
from rekognition_dagster.service.results import Results
from rekognition_dagster.service.settings import Settings
from rekognition_dagster.service.store import Job, JobStore
from rekognition_dagster.service.writing import ResultsWriter
from rekognition_dagster.videos import VIDEO_SUFFIXES, Video

log = logging.getLogger("rekognition_dagster.service.worker")


_LAST_S = 30.0
"""Seconds that a worker outlives its service at most."""
_PATIENCE_S = 600.0
"""Seconds, at least, for which finished results are published again while S3 is at fault."""

_T = TypeVar("_T")


class _CalledOffError(BaseException):
    """The job under way must stop here: the service stops, or the job is another worker's now.

    Not an Exception, so that no analysis takes it for a fault of the video.
    """


@dataclass
class Switch:
    """What a worker is to do: take up no job for now, none any more, or stop the one under way."""

    hold: threading.Event = field(default_factory=threading.Event)
    no_more: threading.Event = field(default_factory=threading.Event)
    call_off: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Attempt:
    """One attempt at one job: whether it is to go on, how far it is, and when it last moved."""

    job: Job
    folder: str
    settings: Settings
    called_off: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    frames: int = 0
    began: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)

    @property
    def about(self) -> dict[str, Any]:
        """Fields of its log lines."""
        job = self.job
        return {
            "job_id": job.job_id,
            "operation": job.operation,
            "video": job.video,
            "attempt": job.claims,
        }

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @property
    def stalls(self) -> bool:
        """Whether it made no progress for longer than it may."""
        return time.monotonic() - self.moved > self.settings.stall_s

    def move(self) -> None:
        """Note progress."""
        self.moved = time.monotonic()

    def check(self, *_: Any) -> None:
        """Note progress, and stop the attempt where it is called off or exceeds a limit."""
        self.move()
        if self.called_off.is_set():
            raise _CalledOffError
        if self.seconds > self.settings.max_job_s:
            raise LimitError(
                f"it took longer than {_time(self.settings.max_job_s * 1000)}, which is the limit"
            )

    def count_frame(self) -> None:
        """Count a frame that was looked at."""
        self.frames += 1
        if self.frames > self.settings.max_frames:
            raise VideoError(
                self.job.video,
                f"the video has more than {self.settings.max_frames:,} frames, which is the limit",
                "Cut it into parts",
            )


@dataclass(frozen=True)
class Worker:
    """Takes up jobs from a store, one after another.

    Args:
        settings: The service's settings.
        store: Where the jobs are.
        results: Where their results go.
        switch: What stops it.
        reports: What it reports to its service.
        owner: Its name on leases.
    """

    settings: Settings
    store: JobStore
    results: Results
    switch: Switch
    reports: Reports
    owner: str = field(default_factory=owner_name)
    _attempts: list[_Attempt] = field(default_factory=list)

    def run(self) -> None:
        """Take up jobs until the switch says no more."""
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()
        while not self.switch.no_more.is_set():
            job = None
            try:
                if not self.switch.hold.is_set():
                    job = self.store.claim(self.owner, self.settings.lease_s)
                if job is not None:
                    self.work(job)
            except Exception as error:
                log.exception("a job was not claimed, or its end was not recorded")
                self._report(fault_of(error), error)
                self.switch.no_more.wait(1.0)
            if job is None:
                self.switch.no_more.wait(self.settings.poll_s)

    def work(self, job: Job) -> None:
        """Bring one job to its end, or give it back."""
        # Results of each attempt lie apart, so that one that lost its lease spoils nothing.
        attempt = _Attempt(job, f"{job.job_id}/{secrets.token_hex(4)}", self.settings)
        log.info("job taken up", extra=attempt.about)
        self.reports.taken(job)
        self._attempts.append(attempt)
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
            self._attempts.remove(attempt)
            self.reports.idle()

    def _bring_to_end(self, attempt: _Attempt) -> bool:
        """Whether the attempt's results are now the job's."""
        job, store = attempt.job, self.store
        try:
            facts, orders = self._analyse(attempt)
        except (Exception, _CalledOffError) as error:
            self._end_badly(attempt, error)
            return False
        kept = self._record(
            attempt,
            lambda: store.complete(
                job,
                self.owner,
                metadata={**_about(facts, self.settings), **_backend(job, self.settings)},
                results=attempt.folder,
                orders=orders,
                message=facts.warning,
            ),
        )
        done = {"rows": max(orders.values()), "frames": attempt.frames}
        log.info(
            "job SUCCEEDED" if kept else "job ended elsewhere",
            extra={**attempt.about, **done, "seconds": round(attempt.seconds, 2)},
        )
        return kept

    def _end_badly(self, attempt: _Attempt, error: BaseException) -> None:
        """Record what stopped an attempt: the job ends, counts an attempt, or is given back."""
        job, store, owner, about = attempt.job, self.store, self.owner, attempt.about
        # What calls an attempt off may surface as some other error of the library it went through;
        # an attempt that was called off says nothing about its video.
        if attempt.called_off.is_set():
            log.info("job given back", extra=about)
            self._record(attempt, lambda: store.release(job, owner))
            return
        fault, backend = fault_of(error), _backend(job, self.settings)
        self._report(fault, error, job)
        if fault.kind == VIDEO:
            log.warning("job FAILED", extra={**about, "error": error})
            text = self._public(fault.text)
            text = text if job.video in text else f"{job.video}: {text}"
            self._record(attempt, lambda: store.fail(job, owner, text, backend))
        elif fault.kind == ATTEMPT:
            log.error("attempt failed", extra=about, exc_info=error)
            self._record(
                attempt,
                lambda: store.count_attempt(
                    job, owner, fault.text, self.settings.attempts, backend
                ),
            )
        else:
            log.error("job given back for a fault around it", extra=about, exc_info=error)
            self._record(attempt, lambda: store.interrupt(job, owner, fault.text))

    def _record(self, attempt: _Attempt, write: Callable[[], _T]) -> _T:
        """Write how an attempt ended to the store, again and again until that works."""
        for number in itertools.count(1):
            try:
                return write()
            except Exception as error:
                fault = fault_of(error)
                if fault.part is None:
                    raise
                log.warning(
                    "the job's end is not recorded yet", extra={**attempt.about, "error": error}
                )
                self._report(fault, error)
                attempt.move()
                if self.switch.call_off.wait(backoff_s(number, 10.0)):
                    raise
        raise AssertionError

    def _report(self, fault: Fault, error: BaseException, job: Job | None = None) -> None:
        """Tell the service what is at fault around the jobs, and take up none until it says so."""
        if fault.part is None:
            return
        self.switch.hold.set()
        about = job.request["Video"]["S3Object"] if job and fault.part == "s3" else None
        self.reports.fault(fault.part, error, about)

    def _public(self, text: str) -> str:
        """A message without the place where the video lay on this machine."""
        return text.replace(str(self.settings.scratch_folder), "").strip()

    def _remove(self, attempt: _Attempt) -> None:
        """Remove the results of an attempt, unless they are the job's after all: the database may
        have ended the job and only the answer got lost."""
        try:
            job = self.store.job(attempt.job.job_id)
            if job is None or job.results != attempt.folder:
                self.results.delete(attempt.folder)
        except Exception:
            log.exception("results are left until the job expires", extra=attempt.about)

    def _pulse(self) -> None:
        """Report that this process is alive, unless its job makes no progress."""
        while True:
            if not any(attempt.stalls for attempt in list(self._attempts)):
                self.reports.beat()
            time.sleep(self.settings.lease_s / 6)

    def _beat(self, attempt: _Attempt) -> None:
        """Hold the lease while the job is under way; call the attempt off when it is lost."""
        job, lease_s = attempt.job, self.settings.lease_s
        counted = 0
        next_beat = time.monotonic() + lease_s / 3
        while not attempt.ended.wait(0.1):
            if self.switch.call_off.is_set():
                attempt.called_off.set()
            if time.monotonic() < next_beat or attempt.stalls:
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
        job, scratch = attempt.job, prepare_scratch(self.settings)
        with tempfile.TemporaryDirectory(prefix=scratch_prefix(), dir=scratch) as temporary:
            # A decoder may go by how a name ends; nothing else of it reaches the disk.
            suffix = Path(job.name).suffix.lower()
            path = Path(temporary) / f"video{suffix if suffix in VIDEO_SUFFIXES else ''}"
            _fetch(attempt, path)
            size = path.stat().st_size
            try:
                return self._look(attempt, path)
            except VideoError as error:
                if not path.exists() or path.stat().st_size != size:
                    text = "the video's local copy was changed or removed"
                    raise OSError(errno.ENOENT, text) from error
                raise

    def _look(self, attempt: _Attempt, path: Path) -> tuple[VideoMetadata, dict[str, int]]:
        """Analyse the local copy of a job's video and write its results."""
        job, settings, operation = attempt.job, self.settings, OPERATIONS[attempt.job.operation]
        self._check_video(job, path)
        analyze = _analyzer(settings.analyzer)
        with ResultsWriter(
            self.results,
            attempt.folder,
            operation,
            job,
            settings.sample_fps,
            publish=lambda file, to: self._publish(attempt, file, to),
        ) as writer:

            def sink(rows: Iterable[Mapping[str, Any]]) -> None:
                attempt.check()
                writer.write(rows)

            def progress(fraction: float) -> None:
                attempt.check()
                if fraction < 1:  # once a frame, and once more at the end
                    attempt.count_frame()

            with _place(job, path, settings) as (source, where):
                facts = analyze(
                    source,
                    {operation.name: sink},
                    detector=settings.detector,
                    sample_fps=settings.sample_fps,
                    **engine_options(operation, job.request),
                    progress=progress,
                    video=job.video,
                    **where,
                )
            attempt.check()
        self._check_duration(job, facts.duration_ms - (facts.gap_ms or 0))
        return facts, writer.orders

    def _publish(self, attempt: _Attempt, file: IO[bytes], path: str) -> None:
        """Publish a file of results; while S3 is at fault, again and again.

        It is tried for as long as the analysis took, since that would have to be done again.
        """
        patience = max(attempt.seconds, _PATIENCE_S)
        until = time.monotonic() + patience
        for number in itertools.count(1):
            try:
                self.results.storage.publish(file, path)
                return
            except OSError as error:
                if part_of(error) != "s3" or time.monotonic() > until:
                    raise
                about = {**attempt.about, "error": error}
                log.warning("results are not published yet", extra=about)
                self._report(fault_of(error), error)
            attempt.move()
            if attempt.called_off.wait(backoff_s(number, 30.0)):
                raise _CalledOffError

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
        duration_ms = _duration_ms(path)
        if duration_ms > self.settings.max_video_ms:
            duration_ms -= read_pauses_ms(path)  # a recorder's clock that was set ahead
        self._check_duration(job, duration_ms)

    def _check_duration(self, job: Job, duration_ms: float) -> None:
        most = self.settings.max_video_ms
        if duration_ms > most:
            raise VideoError(
                job.video,
                f"the video lasts {_time(duration_ms)}, the maximum is {_time(most)}",
                "Cut it into parts",
            )


# What an MP4 or QuickTime file may begin with (source: ISO/IEC 14496-12, QuickTime File Format).
_MP4_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})


def _time(milliseconds: float) -> str:
    """A length of time, for people: 6 hours, 20 seconds."""
    seconds = milliseconds / 1000
    return f"{seconds / 3600:.3g} hours" if seconds >= 3600 else f"{seconds:.3g} seconds"


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
        "AudioMetadata": [
            {
                "Codec": audio.codec,
                "DurationMillis": audio.duration_ms,
                "SampleRate": audio.sample_rate,
                "NumberOfChannels": audio.channels,
            }
            for audio in facts.audio
        ],
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
    from botocore.exceptions import ClientError

    try:
        objects.fetch(attempt.job.request["Video"]["S3Object"], path, attempt.check)
    except ClientError as error:
        if is_gone(error):
            raise GoneError("S3 no longer has the object") from error
        raise


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


def _load(settings: Settings) -> None:
    """Load the detector before any job needs it.

    Raises:
        RekognitionDagsterError: It cannot be loaded.
    """
    _analyzer(settings.analyzer)
    if settings.analyzer == Settings.analyzer and settings.ray is None:
        open_detector(settings.detector)


def main() -> None:
    """Run as ``python -m rekognition_dagster.service.worker FD``.

    Settings come as one line of JSON on standard input, which then stays open for as long as the
    service lives and says ``hold`` or ``go``. FD is the pipe of its :class:`Reports`.
    """
    settings = Settings.of(**json.loads(sys.stdin.readline()))
    configure(settings.log_format)
    if settings.max_pixels is not None:
        os.environ[MAX_PIXELS_VARIABLE] = str(settings.max_pixels)
    switch, reports = Switch(), Reports(int(sys.argv[1]))
    switch.hold.set()
    # The service alone decides when a worker stops; a terminal's Ctrl-C reaches it too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: switch.no_more.set())

    def watch() -> None:
        # Not sys.stdin: a library that forks would fork its lock too, held.
        while said := os.read(0, 4096):
            if said.split()[-1] == b"hold":
                switch.hold.set()
            else:
                switch.hold.clear()
        switch.no_more.set()
        switch.call_off.set()
        time.sleep(_LAST_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        _load(settings)
    except RekognitionDagsterError as error:
        reports.refused(" ".join(str(error).split()))
        os._exit(1)
    store = JobStore(settings.database_url, job_life_s=settings.job_life_s)
    worker = Worker(settings, store, Results(settings.results_url), switch, reports)
    reports.ready(worker.owner)
    worker.run()
    store.close()
    logging.shutdown()
    # The job's end is in the store by now; threads and children of libraries may not end at all.
    os._exit(0)


if __name__ == "__main__":
    main()
