"""Decoding: a video file as frames with true times, turned as they are displayed.

Built on PyAV, because it tells each frame's own timestamp. Damage does not stop decoding: what can
be decoded is handed out, and the end of the iteration says what was wrong.
"""

from __future__ import annotations

import contextlib
import copy
import os
import queue
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import av
import av.error

from rekognition_dagster.engine import cores, limits
from rekognition_dagster.engine.clock import Clock
from rekognition_dagster.engine.container_end import missing_share
from rekognition_dagster.engine.frame import Displays, Frame
from rekognition_dagster.engine.metadata import AudioMetadata, VideoMetadata
from rekognition_dagster.engine.streams import codec_name, moving_stream, picture_size, pixel_aspect
from rekognition_dagster.errors import VideoError

_T = TypeVar("_T")

# Containers of video. The list keeps out demuxers that follow references to other files or hosts
# (playlists, image sequences): a video from a stranger must not choose what else is read.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,nut,dv,m4v,"
    "h264,hevc,av1,obu,ivf,vc1,mjpeg,yuv4mpegpipe,rm,wtv,gxf,gif,apng"
)
_FIRST_YEAR = 1990  # containers count from 1904 or 1970: an earlier time is an unset clock
_BYTES_AHEAD = 96 << 20
_MAX_AHEAD = 8
_REORDERED = ("h264", "hevc")  # codecs whose presentation order AVI does not tell
_ESTIMATED = ("mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "vc1", "mjpeg", "dv", "obu")
"""Containers without a header that tells their length: it is estimated from what is there."""
_STAMPS = {"mpegts": 1 << 33, "mpeg": 1 << 33}
"""How many time stamps there are in containers where they begin anew after the last one."""
_DOUBTFUL = 48  # packets after a marked one that may give no frame
_MARKED = 2  # packets; parsers hand on a packet's mark with the one before it
_BACK_MS = (0, 1_000, 3_000, 9_000, 27_000)
"""How far before a span a keyframe is looked for, again and again."""


class DamagedVideo(Exception):
    """Decoding ended, and not all of the video could be decoded. Its text says why.

    Args:
        said: What is missing, and where.
        lost_share: The part of the video that could not be decoded, 0 to 1, as far as known.
        end_ms: When the video ends, with what is missing at its end, as far as known.
    """

    def __init__(self, said: str, lost_share: float = 0.0, end_ms: float = 0.0) -> None:
        super().__init__(said)
        self.lost_share = lost_share
        self.end_ms = end_ms


class _Gaps:
    """Frames that are missing in a stream whose container marks packets near a loss.

    Where two recordings are joined a packet is marked, too, and nothing is missing: the frame
    before the joint can be decoded, and the one after it is a keyframe.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._since = _DOUBTFUL  # packets, since a marked one
        self._joints: dict[int | None, int] = {}  # frames missing after one that may be whole
        self._awaited: set[int] = set()  # packets near a loss whose frames have not come
        self._dropped = 0

    def feed(self, packet: Any, missing: float) -> int:
        """Note a packet that comes after ``missing`` frames; return how many of them are lost."""
        before, self._last = self._last, packet.pts
        lost = round(missing) if self._since < _MARKED else 0
        self._since = 0 if packet.is_corrupt else self._since + 1
        if self._since < _DOUBTFUL and packet.size and packet.pts is not None:
            self._awaited.add(packet.pts)
        if not packet.is_keyframe:
            return lost
        if lost:
            self._joints[before] = lost
        return 0

    def drop(self) -> None:
        """Note that a packet cannot be decoded."""
        self._dropped += self._since < _DOUBTFUL

    def clear(self, raw: Any) -> None:
        """Note that a frame has come."""
        self._awaited.discard(raw.pts)
        if not raw.is_corrupt:
            self._joints.pop(raw.pts, None)

    @property
    def open(self) -> int:
        """Frames that have not come, and that are missing after ones that are not whole."""
        return max(0, len(self._awaited) - self._dropped) + sum(self._joints.values())


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
        container = open_container(source)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            name,
            f"is not a video that can be read ({_said(error)})",
            "Check that the upload was complete and that the file is MP4, MOV, AVI, MKV or MPEG-TS",
        ) from error
    with container:
        yield OpenVideo(container, name, Path(source))


PAUSE_MS = 10_000
"""More between two pictures is a pause."""


def open_container(source: str | Path) -> Any:
    """Open a file with FFmpeg, as a container that reads nothing but this file.

    Raises:
        av.error.FFmpegError, OSError, ValueError: It cannot be read.
    """
    return av.open(
        f"file:{os.path.abspath(source)}",  # "file:" keeps a path that looks like a URL a path
        options={
            "protocol_whitelist": "file",
            "format_whitelist": _FORMATS,
            "max_pixels": str(limits.max_pixels()),  # while the streams are probed
            "correct_ts_overflow": "0",  # a jump back is not the end of 26 hours: see Clock
        },
        metadata_errors="replace",
    )


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

    def __init__(self, container: Any, name: str, path: Path):
        stream = moving_stream(container, lambda: open_container(path))
        if stream is None:
            what = "only audio" if container.streams.audio else "no video stream"
            raise VideoError(name, f"has {what}, no pictures", "Remove it from the videos")
        if stream.codec_context is None:
            raise VideoError(
                name, "is in a codec that cannot be decoded here", "Convert it to H.264"
            )
        _check_limits(stream, name, path)
        self._stream: Any = stream
        self._stream.codec_context.options = {"max_pixels": str(limits.max_pixels())}
        self._stream.thread_type = "AUTO"
        if threads := cores.share():
            self._stream.codec_context.thread_count = threads
        self._container = container
        self._name = name
        self._path = path
        self._frames = 0
        self._lost = 0
        self._first_lost_ms: int | None = None
        self._seen = False  # a frame that could be decoded
        self._gaps = _Gaps()
        self._problem = ""
        self._read_error = ""
        self._clock = Clock(
            container.start_time,
            self._stream,
            in_decoding_order=_tells_decoding_order(container, self._stream),
            wraps=_STAMPS.get(container.format.name),
            starts_at_first=container.format.name == "avi" or len(container.streams) == 1,
        )
        self._reads: tuple[int, int] | None = None
        self._others_ms = 0.0  # until when sound and text were read
        transfer = self._stream.codec_context.color_trc
        self._displays = Displays(pixel_aspect(self._stream), int(transfer))
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            problem = self._read_error or self._problem
            raise VideoError(
                name,
                f"has no frames that can be decoded{problem and f' ({problem})'}",
                "Check that it plays, and that its frames have no more than "
                f"{limits.max_pixels() / 1e6:g} megapixels ({limits.MAX_PIXELS_VARIABLE}); record "
                "or upload it again if not",
            )
        self.metadata = self._describe(self._first)
        self.first_ms = self._first.timestamp_ms
        """The time of the first frame."""
        self.passed = 0
        """Frames since the last one that was handed out."""
        self.last_ms = 0
        self.next_ms: int | None = None
        self.before: Joint | None = None
        self.end: Joint | None = None

    @property
    def container_format(self) -> str:
        """FFmpeg's name of the container, such as ``mov,mp4,m4a,3gp,3g2,mj2``."""
        return self._container.format.name

    @property
    def offset_ms(self) -> float:
        """What is added to a time stamp of the container to give a time in the video."""
        return self._clock.offset_ms

    def _describe(self, first: Frame) -> VideoMetadata:
        stream, container = self._stream, self._container
        rate = stream.average_rate or stream.guessed_rate or 0
        duration = self._expected_ms()
        if duration is not None and stream.start_time is not None and stream.time_base:
            start = float(stream.start_time * stream.time_base * 1000) + self._clock.offset_ms
            duration += max(start, 0.0) if stream.duration else 0.0
        if duration is None and container.duration:
            duration = container.duration / 1000
        color = getattr(stream.codec_context.color_range, "name", None) or str(
            stream.codec_context.color_range
        )
        return VideoMetadata(
            codec=codec_name(stream),
            format=container.format.long_name or container.format.name,
            duration_ms=max(0, round(duration or 0)),
            frame_rate=round(float(rate), 6),
            width=first.width,
            height=first.height,
            color_range={"JPEG": "FULL", "2": "FULL", "MPEG": "LIMITED", "1": "LIMITED"}.get(color),
            container_created_at=_created_at(container.metadata.get("creation_time")),
            audio=tuple(_audio(one) for one in container.streams.audio),
        )

    def _expected_ms(self) -> float | None:
        """How long the headers say the pictures last, or else all streams together."""
        stream = self._stream
        if self._container.format.name in _ESTIMATED:
            return None
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base * 1000)
        if self._container.duration:
            # Matroska tells when the pictures end, whenever they begin.
            late = "matroska" in self._container.format.name and self._container.start_time
            return (self._container.duration - (late or 0)) / 1000
        return None

    def frames(
        self, sample_fps: float | None = None, *, begin_ms: int = 0, every: bool = False
    ) -> Iterator[Frame]:
        """The frames in order; with ``sample_fps``, the first at or after each sampled time.

        Args:
            sample_fps: Samples in a second.
            begin_ms: Those before are decoded, but not handed out.
            every: Hand out the others, too; ``is_sample`` tells them apart.

        Raises:
            DamagedVideo: At the end, if not everything could be decoded.
        """
        last: int | None = None
        for frame in self._all():
            time = frame.timestamp_ms
            frame.is_sample = is_sample(time, last, sample_fps)
            self.passed += time >= begin_ms
            if time >= begin_ms and (every or frame.is_sample):
                yield self._counted(frame)
            self.last_ms = last = time
        self._check_whole(last or 0)

    def keyframe_before(self, time_ms: int) -> Frame:
        """Return the last keyframe at or before a time, or one before it; to be called once.

        Raises:
            Uncut: There is none near, or it cannot be decoded.
        """
        for frame in self._before(time_ms):
            return frame
        raise Uncut("no keyframe")

    def cut(
        self, begin_ms: int, end_ms: int, sample_fps: float | None = None, *, every: bool = False
    ) -> Iterator[Frame]:
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
            frame.is_sample = is_sample(time, last and last.timestamp_ms, sample_fps)
            self.passed += time >= begin_ms
            wanted = time >= begin_ms and (every or frame.is_sample)
            last = copy.copy(frame)  # who is given the other converts it in a thread of their own
            self.last_ms = time
            if wanted:
                yield self._counted(frame)
        else:
            self._check_cut()
            try:
                self._check_whole(last.timestamp_ms if last else 0)
            except DamagedVideo as damage:
                raise Uncut(str(damage)) from None
        self.end = _joint(last) if last is not None else None
        self.before = self.before or self.end

    def _counted(self, frame: Frame) -> Frame:
        frame.passed, self.passed = self.passed, 0
        return frame

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
        if self._lost or self._gaps.open or self._read_error:
            raise Uncut(f"it is damaged ({self._problem or self._read_error})")
        if not self._clock.regular:
            raise Uncut("its times are missing, or not in order")

    def _check_whole(self, last_ms: int) -> None:
        said, kept = [], 1.0
        if self._lost:
            at = (self._first_lost_ms or 0) / 1000
            said.append(
                f"is damaged: {self._lost} of its frames cannot be decoded, the first after "
                f"{at:.2f} s ({self._problem})"
            )
            kept = self._frames / (self._frames + self._lost)
        interval = 1000 / self.metadata.frame_rate if self.metadata.frame_rate else 40
        expected = self.metadata.duration_ms
        # The last frame's own duration is unknown for some containers: allow a few of them.
        slack = max(4 * interval, 250)
        is_known, read_ms = self._expected_ms() is not None, last_ms
        if is_known:  # what was read and lost is counted above
            read = self._clock.read_ms
            if not self._stream.duration:  # then sound or text may end last
                read = max(read, self._others_ms)
            read_ms = max(last_ms, min(read, expected - interval))
        missing = 0.0 if self._has_all_frames() else missing_share(self._path)
        is_cut = self._ends_before_its_samples()
        short = is_known and (is_cut or read_ms + slack + interval < expected)
        if short or is_cut or self._read_error or missing:
            whole = f" of {expected / 1000:.2f} s" if short else ""
            reason = self._read_error or "it is truncated"
            said.append(f"breaks off after {last_ms / 1000:.2f} s{whole} ({reason})")
            kept *= min((read_ms + interval) / expected if short else 1.0, 1 - missing)
            if is_cut:
                kept = min(kept if missing else 1.0, self._frames / len(self._stream.index_entries))
        if said:
            end_ms = expected if short else read_ms + interval
            raise DamagedVideo(", and ".join(said), 1 - kept, end_ms)

    def _ends_before_its_samples(self) -> bool:
        """Whether an MP4 lists frames beyond the file's end."""
        is_listed = "mp4" in self._container.format.name
        listed: Any = getattr(self._stream, "index_entries", ()) if is_listed else ()
        end = listed[-1].pos + listed[-1].size if len(listed) else 0
        return end > self._path.stat().st_size

    def _has_all_frames(self) -> bool:
        """Whether as many frames were read as an AVI's header tells: then its index is missing."""
        declared = self._stream.frames if self._container.format.name == "avi" else 0
        return 0 < declared <= self._frames + self._lost

    def _decode(self, *, from_keyframe: bool = False) -> Iterator[Frame]:
        clock = self._clock
        for index, (raw, time) in enumerate(self._timed(clock, from_keyframe)):
            self._frames += 1
            yield Frame.decoded(raw, index, time, self._displays.of(raw))
            if index >= limits.MAX_FRAMES:
                raise VideoError(self._name, "has too many frames", "Divide it")

    def _timed(self, clock: Clock, from_keyframe: bool) -> Iterator[tuple[Any, int]]:
        for raw in self._raw_frames(clock, from_keyframe):
            yield from clock.tick(raw)
            if clock.lost:
                self._note_lost(clock, "frames are missing", clock.lost)
                clock.lost = 0
        yield from clock.end()

    def _raw_frames(self, clock: Clock, from_keyframe: bool) -> Iterator[Any]:
        self._seen = False
        self._gaps = _Gaps()
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # a stream that began later than the headers; PyAV knows it not
                packets = self._container.demux()
                continue
            except (av.error.FFmpegError, OSError) as error:
                self._read_error = _said(error)
                packet = None
            if packet is None:
                break
            if packet.stream.index != self._stream.index:
                self._note_other(packet)
                continue
            if from_keyframe and packet.size and not packet.is_keyframe:
                continue
            from_keyframe = False
            self._note_place(packet)
            if missing := self._gaps.feed(packet, clock.feed(packet)):
                self._note_lost(clock, "incomplete packet", missing)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError) as error:
                clock.drop()
                self._gaps.drop()
                self._note_lost(clock, _said(error))
                continue
            for raw in frames:
                self._gaps.clear(raw)
                if raw.is_corrupt:
                    clock.skip(raw)
                    self._note_lost(clock, "corrupt frame")
                    continue
                self._seen = True
                yield raw
        if missing := self._gaps.open:
            self._note_lost(clock, "incomplete packet", missing)

    def _note_lost(self, clock: Clock, problem: str, frames: int = 1) -> None:
        self._problem = self._problem or problem
        if not self._seen:  # recordings may begin between key frames; nothing is lost of them
            return
        self._lost += frames
        if self._first_lost_ms is None:
            self._first_lost_ms = clock.last_ms

    def _note_other(self, packet: Any) -> None:
        if packet.size and packet.pts is not None and packet.time_base:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base * 1000)
            self._others_ms = max(self._others_ms, end + self._clock.offset_ms)

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


def _audio(stream: Any) -> AudioMetadata:
    codec = stream.codec_context
    known = stream.duration is not None and stream.time_base
    return AudioMetadata(
        codec=codec_name(stream) if codec is not None else None,
        duration_ms=int(stream.duration * stream.time_base * 1000) if known else None,
        sample_rate=codec.sample_rate or None if codec is not None else None,
        channels=codec.channels or None if codec is not None else None,
    )


def _joint(frame: Frame) -> Joint:
    return Joint(frame.timestamp_ms, zlib.crc32(frame.image.tobytes()))


def _tells_decoding_order(container: Any, stream: Any) -> bool:
    return container.format.name == "avi" and codec_name(stream) in _REORDERED


def _check_limits(stream: Any, name: str, path: Path) -> None:
    """Refuse what no camera makes, before anything is decoded."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if not width:  # as of pictures that are larger than FFmpeg was allowed to probe
        width, height = picture_size(path)
    if width * height > limits.max_pixels():
        raise VideoError(
            name,
            f"has frames of {width}x{height}: {width * height / 1e6:.0f} megapixels, and the limit "
            f"is {limits.max_pixels() / 1e6:g}",
            f"Scale it down, or set {limits.MAX_PIXELS_VARIABLE} higher",
        )
    rate = float(stream.average_rate or 0)
    if rate > limits.MAX_FRAME_RATE or stream.frames > limits.MAX_FRAMES:
        raise VideoError(
            name,
            f"says that it has {stream.frames} frames at {rate:g} a second",
            "Convert it: no more than 1,000 frames a second, and 100,000,000 frames",
        )


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


def _created_at(text: str | None) -> datetime | None:
    """The time in a container's ``creation_time``; none where a camera left its clock unset."""
    try:
        at = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    at = at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
    return at if at.year >= _FIRST_YEAR else None


def depth_for(metadata: VideoMetadata) -> int:
    """How many frames to decode ahead, so that large pictures do not fill the memory."""
    frame_bytes = max(1, metadata.width * metadata.height * 2)
    return max(2, min(_MAX_AHEAD, _BYTES_AHEAD // frame_bytes))


def pauses_ms(source: str | Path) -> float:
    """Return how long pauses of over ten seconds between a video's pictures are in all.

    Reads the file as far as it can be read, and decodes nothing.
    """
    total, last = 0.0, None
    with (
        contextlib.suppress(av.error.FFmpegError, OSError, ValueError),
        open_container(source) as container,
    ):
        stream = moving_stream(container, lambda: open_container(source))
        if stream is None:
            return total
        ms = float(stream.time_base * 1000)
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            time = packet.pts * ms
            if last is not None and time - last > PAUSE_MS:
                total += time - last
            last = time if last is None else max(last, time)
    return total
