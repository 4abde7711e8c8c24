"""Decoding: a video file as frames with true times, turned as they are displayed.

Built on PyAV, because it tells each frame's own timestamp. Damage does not stop decoding: what can
be decoded is handed out, and the end of the iteration says what was wrong.
"""

from __future__ import annotations

import copy
import os
import queue
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import av
import av.error

from rekognition_dagster.engine import cores
from rekognition_dagster.engine.frame import Frame, Stances
from rekognition_dagster.engine.metadata import VideoMetadata
from rekognition_dagster.errors import VideoError

_T = TypeVar("_T")

# Containers of video. The list keeps out demuxers that follow references to other files or hosts
# (playlists, image sequences): a video from a stranger must not choose what else is read.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,nut,dv,m4v,"
    "h264,hevc,av1,obu,ivf,vc1,mjpeg,yuv4mpegpipe,rm,wtv,gxf,gif,apng"
)
_BYTES_AHEAD = 96 << 20
_MAX_AHEAD = 8
_BACK_MS = (0, 1_000, 3_000, 9_000, 27_000)
"""How far before a span a keyframe is looked for, again and again."""


class DamagedVideo(Exception):
    """Decoding ended, and not all of the video could be decoded. Its text says why."""


class Uncut(Exception):
    """A span cannot be had without what is before it, or not be had whole. Its text says why."""


class Joint(NamedTuple):
    """Where one span of a video ends and the next begins: the last frame before it."""

    timestamp_ms: int
    picture: int


@contextmanager
def open_video(source: str | Path, video: str | None = None) -> Iterator[OpenVideo]:
    """Open ``source``, and decode its first frame to be sure that there is one.

    Args:
        source: A file on this machine.
        video: Its name in errors; the path by default.

    Raises:
        VideoError: Missing, empty, no video, only audio, no frames.
    """
    name = video or str(source)
    _check_file(Path(source), name)
    try:
        # "file:" keeps a path that looks like a URL a path
        container = av.open(
            f"file:{os.path.abspath(source)}",
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            name,
            f"is not a video that can be read ({_said(error)})",
            "Check that the upload was complete and that the file is MP4, MOV, AVI, MKV or MPEG-TS",
        ) from error
    with container:
        yield OpenVideo(container, name)


def _check_file(path: Path, name: str) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise VideoError(name, "there is no such file", "Check the path") from None
    except OSError as error:
        raise VideoError(name, f"cannot be read ({error.strerror})", "Check the path") from None
    if path.is_dir():
        raise VideoError(name, "is a folder, not a video", "Name a video file")
    if not os.access(path, os.R_OK):
        raise VideoError(name, "may not be read (permission denied)", "Change its permissions")
    if size == 0:
        raise VideoError(name, "is empty (0 bytes)", "Upload it again")


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class OpenVideo:
    """An open container and its main video stream."""

    def __init__(self, container: Any, name: str):
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            what = "only audio" if container.streams.audio else "no video stream"
            raise VideoError(name, f"has {what}, no pictures", "Remove it from the videos")
        best = container.streams.best("video")
        self._stream = best if best in streams else streams[0]
        if self._stream.codec_context is None:
            raise VideoError(
                name, "is in a codec that cannot be decoded here", "Convert it to H.264"
            )
        self._stream.thread_type = "AUTO"
        if threads := cores.share():
            self._stream.codec_context.thread_count = threads
        self._container = container
        self._name = name
        self._bad_packets = 0
        self._first_bad_ms: int | None = None
        self._problem = ""
        self._read_error = ""
        self._clock = _Clock(container.start_time, self._stream)
        self._reads: tuple[int, int] | None = None
        self._stances = Stances()
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            problem = self._read_error or self._problem
            raise VideoError(
                name,
                f"has no frames that can be decoded{problem and f' ({problem})'}",
                "Check that it plays; record or upload it again if not",
            )
        self.metadata = self._describe(self._first)
        self.next_ms: int | None = None
        self.before: Joint | None = None
        self.end: Joint | None = None

    def _describe(self, first: Frame) -> VideoMetadata:
        stream, container = self._stream, self._container
        rate = stream.average_rate or stream.guessed_rate or 0
        duration = self._expected_ms()
        if duration is None and container.duration:
            duration = container.duration / 1000
        color = getattr(stream.codec_context.color_range, "name", None) or str(
            stream.codec_context.color_range
        )
        return VideoMetadata(
            codec=stream.codec_context.name,
            format=container.format.long_name or container.format.name,
            duration_ms=round(duration or 0),
            frame_rate=round(float(rate), 6),
            width=first.width,
            height=first.height,
            color_range={"JPEG": "FULL", "2": "FULL", "MPEG": "LIMITED", "1": "LIMITED"}.get(color),
        )

    def _expected_ms(self) -> float | None:
        """How long the headers say the pictures last, where that can be relied on."""
        stream = self._stream
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base * 1000)
        if self._container.duration and len(self._container.streams) == 1:
            # Matroska tells when the pictures end, whenever they begin.
            late = "matroska" in self._container.format.name and self._container.start_time
            return (self._container.duration - (late or 0)) / 1000
        return None

    def frames(self, sample_fps: float | None = None, *, begin_ms: int = 0) -> Iterator[Frame]:
        """The frames in order; with ``sample_fps``, the first at or after each sampled time.

        Args:
            sample_fps: Samples in a second.
            begin_ms: Those before are decoded, but not handed out.

        Raises:
            DamagedVideo: At the end, if not everything could be decoded.
        """
        last: int | None = None
        for frame in self._all():
            time = frame.timestamp_ms
            if time >= begin_ms and is_sample(time, last, sample_fps):
                yield frame
            last = time
        self._check_whole(last or 0)

    def cut(self, begin_ms: int, end_ms: int, sample_fps: float | None = None) -> Iterator[Frame]:
        """The frames from ``begin_ms`` until before ``end_ms``, as :meth:`frames` gives them.

        Decodes from a keyframe before them, not from the video's start. Afterwards ``before`` and
        ``end`` are the last frames before the two times, ``reads`` the places in the file that
        were read, and ``next_ms`` is the time of the frame after them, if there is one.

        Raises:
            Uncut: Times or packets are not in order, are damaged, or there is no keyframe near.
        """
        last: Frame | None = None
        for frame in self._before(begin_ms) if begin_ms else self._all():
            self._check_cut()
            time = frame.timestamp_ms
            if time >= begin_ms and last is not None and self.before is None:
                self.before = _joint(last)
            if time >= end_ms:
                self.next_ms = time
                break
            wanted = time >= begin_ms and is_sample(time, last and last.timestamp_ms, sample_fps)
            last = copy.copy(frame)  # who is given the other converts it in a thread of their own
            if wanted:
                yield frame
        else:
            self._check_cut()
            try:
                self._check_whole(last.timestamp_ms if last else 0)
            except DamagedVideo as damage:
                raise Uncut(str(damage)) from None
        self.end = _joint(last) if last is not None else None
        self.before = self.before or self.end

    @property
    def reads(self) -> tuple[int, int]:
        """The first and the last place in the file that was read, in bytes.

        Raises:
            Uncut: The container does not tell.
        """
        if self._reads is None:
            raise Uncut("its packets have no known places")
        return self._reads

    def _all(self) -> Iterator[Frame]:
        first, self._first = self._first, None
        return self._decoded if first is None else chain([first], self._decoded)

    def _before(self, time_ms: int) -> Iterator[Frame]:
        """The frames from a keyframe on, the first of them before a time."""
        self._first = None
        for back in _BACK_MS:
            self._clock = self._clock.restarted()
            self._reads = None
            place = (max(0, time_ms - back) - self._clock.offset_ms) / 1000
            try:
                self._container.seek(int(place / self._stream.time_base), stream=self._stream)
            except (av.error.FFmpegError, OSError, OverflowError, ValueError) as error:
                raise Uncut(f"it cannot be read from its middle ({_said(error)})") from error
            decoded = self._decode(from_keyframe=True)
            first = next(decoded, None)
            if first is not None and first.timestamp_ms < time_ms:
                return chain([first], decoded)
            self._read_error = ""
        raise Uncut(f"there is no keyframe near {time_ms / 1000:g} s")

    def _check_cut(self) -> None:
        if self._bad_packets or self._read_error:
            raise Uncut(f"it is damaged ({self._problem or self._read_error})")
        if not self._clock.regular:
            raise Uncut("its times are missing, or not in order")

    def _check_whole(self, last_ms: int) -> None:
        interval = 1000 / self.metadata.frame_rate if self.metadata.frame_rate else 40
        if self._bad_packets:
            at = (self._first_bad_ms or 0) / 1000
            raise DamagedVideo(
                f"is damaged: {self._bad_packets} of its packets cannot be decoded, the first "
                f"after {at:.2f} s ({self._problem})"
            )
        if self._read_error:
            raise DamagedVideo(f"breaks off after {last_ms / 1000:.2f} s ({self._read_error})")
        expected = self._expected_ms()
        # The last frame's own duration is unknown for some containers: allow a few of them.
        slack = max(4 * interval, 250)
        if expected is not None and last_ms + slack + interval < expected:
            raise DamagedVideo(
                f"breaks off after {last_ms / 1000:.2f} s of {expected / 1000:.2f} s: it is "
                "truncated"
            )

    def _decode(self, *, from_keyframe: bool = False) -> Iterator[Frame]:
        clock = self._clock
        for index, raw in enumerate(self._raw_frames(clock, from_keyframe)):
            yield Frame.decoded(raw, index, clock.tick(raw), self._stances.of(raw))

    def _raw_frames(self, clock: _Clock, from_keyframe: bool) -> Iterator[Any]:
        seen = False
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # a stream that began later than the headers; PyAV knows it not
                packets = self._container.demux(self._stream)
                continue
            except (av.error.FFmpegError, OSError) as error:
                self._read_error = _said(error)
                packet = None
            if packet is None:
                break
            if from_keyframe and packet.size and not packet.is_keyframe:
                continue
            from_keyframe = False
            self._note_place(packet)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError) as error:
                self._note_bad(clock, seen, _said(error))
                continue
            if packet.is_corrupt and seen:
                self._note_bad(clock, seen, "incomplete packet")
            for raw in frames:
                if raw.is_corrupt:
                    self._note_bad(clock, seen, "corrupt frame")
                    continue
                seen = True
                yield raw

    def _note_bad(self, clock: _Clock, seen: bool, problem: str) -> None:
        self._problem = self._problem or problem
        if not seen:  # recordings may begin between key frames; nothing is lost that was there
            return
        self._bad_packets += 1
        if self._first_bad_ms is None:
            self._first_bad_ms = clock.last_ms

    def _note_place(self, packet: Any) -> None:
        if packet.pos is not None and packet.pos >= 0:
            first, last = self._reads or (packet.pos, packet.pos)
            self._reads = first, max(last, packet.pos)


def is_sample(time_ms: int, last_ms: int | None, sample_fps: float | None) -> bool:
    """Whether a sampled time lies between a frame and the one before it."""
    if sample_fps is None or last_ms is None:
        return True
    return _samples_until(time_ms, sample_fps) > _samples_until(last_ms, sample_fps)


def _samples_until(time_ms: int, sample_fps: float) -> int:
    return int((time_ms + 0.5) * sample_fps / 1000)


def _joint(frame: Frame) -> Joint:
    return Joint(frame.timestamp_ms, zlib.crc32(frame.image.tobytes()))


def _is_cover(stream: Any) -> bool:
    disposition = getattr(stream, "disposition", None)
    return "attached_pic" in str(getattr(disposition, "name", disposition) or "")


class _Clock:
    """Milliseconds since the video's start, strictly increasing, from presentation timestamps.

    Where timestamps are missing, or jump back as in joined recordings, time goes on by a frame;
    then the clock is no longer ``regular``: a time is not its frame's own affair.
    """

    def __init__(self, start_us: int | None, stream: Any):
        self.offset_ms = -start_us / 1000 if start_us is not None else 0.0
        base = stream.time_base or Fraction(1)
        self._factor, self._divisor = base.numerator * 1000, base.denominator
        rate = stream.average_rate or stream.guessed_rate
        self._step_ms = float(1000 / rate) if rate else 40.0
        self._last: float | None = None
        self.last_ms = 0
        self.regular = True

    def restarted(self) -> _Clock:
        """The same clock, for frames that do not follow those before."""
        other = copy.copy(self)
        other._last, other.last_ms = None, 0
        return other

    def tick(self, raw: Any) -> int:
        begun = self._last is not None
        if raw.pts is None:
            self.regular = False
            time = 0.0 if self._last is None else self._last + self._step_ms
        else:
            time = raw.pts * self._factor / self._divisor + self.offset_ms
            behind = 0.0 if self._last is None else self._last + self._step_ms
            if (self._last is None and time < 0) or (self._last is not None and time <= self._last):
                self.regular = self.regular and not begun
                self.offset_ms += behind - time
                time = behind
        stamp = round(time)
        if begun and stamp <= self.last_ms:
            self.regular = False
            stamp = self.last_ms + 1
        self._last, self.last_ms = time, stamp
        return stamp


def ahead(items: Iterable[_T], depth: int) -> Generator[_T, None, None]:
    """Iterate in a thread of its own, at most ``depth`` items ahead; errors arrive in their place.

    Closing the iterator stops the thread before it returns.
    """
    done = object()
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room: queue.SimpleQueue[None] = queue.SimpleQueue()  # as long as there is
    for _ in range(depth):
        room.put(None)
    stopped = threading.Event()

    def work() -> None:
        try:
            for item in items:
                room.get()
                if stopped.is_set():
                    return
                ready.put((item, None))
            ready.put((done, None))
        except BaseException as error:  # carried to the consumer, which raises it
            ready.put((done, error))

    thread = threading.Thread(target=work, name="decode", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is done:
                return
            room.put(None)
            yield item
    finally:
        stopped.set()
        room.put(None)
        thread.join()


def depth_for(metadata: VideoMetadata) -> int:
    """How many frames to decode ahead, so that large pictures do not fill the memory."""
    frame_bytes = max(1, metadata.width * metadata.height * 2)
    return max(2, min(_MAX_AHEAD, _BYTES_AHEAD // frame_bytes))
