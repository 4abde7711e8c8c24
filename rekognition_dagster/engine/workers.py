"""Processes that look at spans, on this machine or another, and who does which span.

One video's spans are looked at side by side and folded in order; several videos share the same
processes. A process that dies costs the span it was at, which another does again.
"""

from __future__ import annotations

import heapq
import multiprocessing
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

from rekognition_dagster.engine import cores
from rekognition_dagster.engine.decode import DamagedVideo, Uncut
from rekognition_dagster.engine.looking import SPAN_MS, Look
from rekognition_dagster.engine.spans import Ended, Message, Opened, Span, look_at
from rekognition_dagster.errors import ConfigurationError, RekognitionDagsterError, VideoError

_CHUNK = 16  # messages that travel together
_TRIES = 4  # processes that a span may cost
_ROOM = 128  # chunks that wait where a span has no end
_TICK_S = 1.0
_LAST_S = 5.0  # what a process gets to end


class Lost(Exception):
    """The process has ended, whatever ended it; what it was at can be done again elsewhere."""


class Worker(Protocol):
    """A process that looks at spans, one after another."""

    def run(self, span: Span) -> Generator[list[Any], None, None]:
        """Messages in chunks; the last may be an error. Not reading to the end calls it off.

        Raises:
            Lost: The process has ended.
        """
        ...

    def close(self) -> None:
        """End the process, whatever it is at; called from any thread."""
        ...


@dataclass(order=True)
class _Job:
    """A span under way: who reads its messages need not know where they come from."""

    order: int
    span: Span = field(compare=False)
    messages: queue.Queue[list[Any]] = field(compare=False)
    called_off: threading.Event = field(compare=False, default_factory=threading.Event)
    tries: int = field(compare=False, default=0)

    def read(self) -> Iterator[Message | None]:
        """The messages in order; None now and then while there are none."""
        while True:
            try:
                chunk = self.messages.get(timeout=_TICK_S)
            except queue.Empty:
                yield None
                continue
            for message in chunk:
                if isinstance(message, BaseException):
                    raise message
                yield message
                if isinstance(message, Ended):
                    return

    def put(self, chunk: list[Any]) -> None:
        """Hand messages over; waits while there are too many, unless nobody wants them."""
        while not self.called_off.is_set():
            with suppress(queue.Full):
                self.messages.put(chunk, timeout=_TICK_S)
                return


class Workers:
    """Processes that share the work on any number of videos. Used with ``with``.

    Args:
        make: Starts a process, or waits until there is room for it.
        size: How many.
        elsewhere: Whether they may be on other machines, which do not have this one's files.
        end: Called at the end.
    """

    def __init__(
        self,
        make: Callable[[], Worker],
        size: int,
        *,
        elsewhere: bool = False,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self.size = size
        self.elsewhere = elsewhere
        self._end = end
        self._make = make
        self._waiting: list[_Job] = []
        self._orders = count()
        self._videos = 0
        self._slots: list[threading.Thread] = []
        self._workers: set[Worker] = set()
        self._closed = False
        self._changed = threading.Condition()

    def look_at(self, whole: Span) -> Generator[Message | None, None, None]:
        """What is found in a video, as ``spans.look_at`` tells it; None now and then while waiting.

        Raises:
            VideoError: Also where a span has cost several processes.
            ConfigurationError: No process can be had.
        """
        ahead: deque[_Job] = deque()
        with self._changed:
            self._videos += 1
        try:
            yield from self._in_spans(whole, ahead)
        finally:
            with self._changed:
                self._videos -= 1
            for job in ahead:
                job.called_off.set()

    def _in_spans(self, whole: Span, ahead: deque[_Job]) -> Iterator[Message | None]:
        """The spans in order; those that follow are under way meanwhile."""
        ended: Ended | None = None
        next_ms: int | None = 0
        duration_ms = 0
        while next_ms is not None:
            while ahead and ahead[0].span.begin_ms + SPAN_MS <= next_ms:
                ahead.popleft().called_off.set()  # there is nothing in it
            if not ahead:
                ahead.append(self._submit(_cut(whole, next_ms - next_ms % SPAN_MS)))
            looks = 0
            try:
                for message in ahead[0].read():
                    if isinstance(message, Opened):
                        _check_joint(ended, message)
                        # Now it is sure that this is a video, and how long it says it is.
                        duration_ms = message.metadata.duration_ms
                    begin_ms = ahead[-1].span.begin_ms + SPAN_MS
                    if begin_ms < duration_ms and len(ahead) < self._share():
                        ahead.append(self._submit(_cut(whole, begin_ms)))
                    if isinstance(message, Ended):
                        ended, next_ms = message, message.next_ms
                    looks += isinstance(message, Look)
                    yield message
            except Uncut:
                begin_ms = ahead[0].span.begin_ms
                while ahead:
                    ahead.popleft().called_off.set()
                ahead.append(self._submit(replace(whole, begin_ms=begin_ms, skip=looks)))
                yield from ahead[0].read()
                return
            ahead.popleft()

    def _share(self) -> int:
        """How many spans of a video may be under way, or wait to be folded: memory is finite."""
        return max(1, -(-2 * self.size // max(1, self._videos)))

    def _submit(self, span: Span) -> _Job:
        room = _ROOM if span.end_ms is None else 0
        job = _Job(next(self._orders), span, queue.Queue(room))
        with self._changed:
            if self._closed:
                raise _stopped()
            heapq.heappush(self._waiting, job)
            if len(self._slots) < self.size:
                slot = threading.Thread(target=self._serve, name="looking", daemon=True)
                self._slots.append(slot)
                slot.start()
            self._changed.notify()
        return job

    def _serve(self) -> None:
        """Keep one process, and keep it at work."""
        while not self._closed:
            try:
                worker = self._make()
            except RekognitionDagsterError as error:
                if (job := self._next()) is not None:
                    job.put([error])
                continue
            try:
                with self._changed:
                    self._workers.add(worker)
                while (job := self._next()) is not None:
                    self._do(job, worker)
            except Lost:
                pass  # the next turn has another one
            finally:
                with self._changed:
                    self._workers.discard(worker)
                worker.close()

    def _next(self) -> _Job | None:
        """The job that was asked for first; None when there will be no more."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return None
                job = heapq.heappop(self._waiting)
                if not job.called_off.is_set():
                    return job

    def _do(self, job: _Job, worker: Worker) -> None:
        chunks = worker.run(job.span)
        looks = 0
        try:
            with closing(chunks):
                for chunk in chunks:
                    job.put(chunk)
                    looks += sum(isinstance(message, Look) for message in chunk)
                    if job.called_off.is_set():
                        return
        except Lost as lost:
            job.span = replace(job.span, skip=job.span.skip + looks)
            job.tries += 1
            if job.tries == _TRIES:
                job.put([_hopeless(job, lost)])
            elif not self._put_back(job):
                job.put([_stopped()])
            raise

    def _put_back(self, job: _Job) -> bool:
        with self._changed:
            if not self._closed:
                heapq.heappush(self._waiting, job)
                self._changed.notify()
            return not self._closed

    def close(self) -> None:
        """End the processes; who waits for them is told."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            workers, waiting = list(self._workers), list(self._waiting)
        for job in waiting:
            job.put([_stopped()])
        for worker in workers:
            worker.close()
        self._end()
        for slot in self._slots:
            slot.join(_LAST_S)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _cut(whole: Span, begin_ms: int) -> Span:
    return replace(whole, begin_ms=begin_ms, end_ms=begin_ms + SPAN_MS)


def _check_joint(ended: Ended | None, opened: Opened) -> None:
    """Whether a span goes on where the one before it ended.

    In a file of joined recordings times may lead to another place than what lies in between.
    """
    if ended is not None and (ended.last != opened.before or opened.place > ended.place):
        raise Uncut("its spans do not fit together")


def _hopeless(job: _Job, lost: Lost) -> VideoError:
    span = job.span
    until = "the end" if span.end_ms is None else f"{span.end_ms / 1000:g} s"
    return VideoError(
        span.video,
        f"looking at it from {span.begin_ms / 1000:g} s to {until} ended {job.tries} processes "
        f"({lost})",
        "Give them more memory, or leave the video out",
    )


def _stopped() -> ConfigurationError:
    return ConfigurationError("the processes that look at videos were stopped")


# -- processes of this machine --------------------------------------------------------------------


def processes(size: int | None = None) -> Workers:
    """Workers on this machine, which share its cores.

    Args:
        size: How many processes; by default one for each core.
    """
    size = size or cores.cores()
    threads = max(1, cores.cores() // size)
    return Workers(lambda: _Process(threads), size)


class _Process:
    """A process of this machine. It ends with the one that started it."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_look_at_what_comes, args=(theirs, threads), name="looking", daemon=True
        )
        try:
            self._process.start()
        except OSError as error:
            raise ConfigurationError(
                f"no process can be started ({error}). Ask for fewer workers"
            ) from error
        finally:
            theirs.close()

    def run(self, span: Span) -> Generator[list[Any], None, None]:
        """See :class:`Worker`."""
        ended = False
        try:
            self._pipe.send(span)
            while chunk := self._pipe.recv():
                yield chunk
            ended = True
        except (EOFError, OSError) as error:
            ended = True
            self._process.join(1)
            raise Lost(f"exit code {self._process.exitcode}") from error
        finally:
            if not ended:
                self._call_off()

    def _call_off(self) -> None:
        with suppress(EOFError, OSError):  # a lost process is noticed with the next span
            self._pipe.send(None)
            while self._pipe.recv():
                pass

    def close(self) -> None:
        """See :class:`Worker`."""
        self._process.kill()
        self._process.join()


def _look_at_what_comes(pipe: Connection, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this
    looker = Looker(threads)
    try:
        while True:
            span = pipe.recv()
            if span is None:  # what it calls off had ended
                continue
            looker.begin(span)
            while chunk := looker.more():
                pipe.send(chunk)
                if pipe.poll():  # called off
                    break
            pipe.send([])
    except (EOFError, OSError):  # whoever started this has ended
        pass


class Looker:
    """What looks at spans inside a worker process.

    Args:
        threads: How many threads a library may use.
    """

    def __init__(self, threads: int) -> None:
        cores.use(threads)
        self._messages: Generator[Message, None, None] = (m for m in ())
        self._source: Any = None
        self._lent = ExitStack()
        self._path: Any = None

    def begin(self, span: Span) -> None:
        """Begin with a span; what was not yet asked for of the one before is left."""
        self._messages.close()
        self._messages = self._look(span)

    def more(self) -> list[Any]:
        """The next messages; the last of all may be an error. Empty when there are no more."""
        chunk: list[Any] = []
        try:
            for message in islice(self._messages, _CHUNK):
                chunk.append(message)
        except Exception as error:
            chunk.append(_portable(error))
        return chunk

    def close(self) -> None:
        """Leave what is under way, and give back the file that is lent."""
        self._messages.close()
        self._lent.close()

    def borrow(self, span: Span) -> Any:
        """The span's file, kept for the next span: most are of the same video."""
        if span.source != self._source:
            self._lent.close()
            self._source, self._path = None, self._lent.enter_context(span.lend())
            self._source = span.source
        return self._path

    def _look(self, span: Span) -> Generator[Message, None, None]:
        yield from look_at(replace(span, source=self.borrow(span)))


def _portable(error: Exception) -> Exception:
    """The error as another process can have it."""
    if isinstance(error, (RekognitionDagsterError, DamagedVideo, Uncut, OSError, ValueError)):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))
