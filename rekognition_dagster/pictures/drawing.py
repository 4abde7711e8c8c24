"""A video with what the lake's rows say of it: as a video, or as a sheet of frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rekognition_dagster.engine.decode import ahead, depth_for, open_video
from rekognition_dagster.engine.frame import Image
from rekognition_dagster.operations import FACE_DETECTION, LABEL_DETECTION, PERSON_TRACKING
from rekognition_dagster.pictures.encoding import Audio, Encoder, new_video, write_picture
from rekognition_dagster.pictures.frames import ends_before, frames_between, still
from rekognition_dagster.pictures.overlay import TRAIL_MS, Look, Overlay
from rekognition_dagster.pictures.rows import rows_of
from rekognition_dagster.pictures.sheet import captioned, sheet_of, spread, tile_of
from rekognition_dagster.pictures.timeline import Timeline

if TYPE_CHECKING:
    from rekognition_dagster.engine.metadata import VideoMetadata
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.videos import Video

TILES, COLUMNS = 12, 3
_TRAIL_STEP_MS = 100
_PAINTED_AHEAD = 2


@dataclass(frozen=True)
class Filmed:
    """A video, its file and its rows.

    Args:
        video: What the lake calls it, located.
        path: A file on this machine with its content.
        lake: The lake with its rows.
    """

    video: Video
    path: Path
    lake: Lake

    def metadata(self) -> tuple[VideoMetadata, float]:
        """Return what the file says, and what is added to its time stamps."""
        with open_video(self.path, self.video.uri) as opened:
            return opened.metadata, opened.offset_ms

    def timeline(self, look: Look, from_ms: int = 0, until_ms: int | None = None) -> Timeline:
        """Return the rows that are needed to paint a part of it."""
        until = until_ms and until_ms + _AROUND_MS
        tables = [t for t in tables_for(look) if self.lake.has(t, self.video)]
        rows = rows_of(
            self.lake, self.video, tables, from_ms=max(0, from_ms - _AROUND_MS), until_ms=until
        )
        return Timeline(rows, self._sample_ms)

    def timeline_at(self, look: Look, times_ms: Sequence[int]) -> Timeline:
        """Return the rows that are needed to paint frames at some times, in order."""
        spans: list[tuple[int, int]] = []
        for time_ms in times_ms:
            first, last = max(0, time_ms - _AROUND_MS), time_ms + _AROUND_MS
            if spans and first <= spans[-1][1]:
                first = spans.pop()[0]
            spans.append((first, last))
        tables = [t for t in tables_for(look) if self.lake.has(t, self.video)]
        return Timeline(rows_of(self.lake, self.video, tables, around=spans), self._sample_ms)

    @cached_property
    def _sample_ms(self) -> float | None:
        with self.lake.connect(["videos"], [self.video]) as connection:
            query = "SELECT max(duration_ms / nullif(frames_analyzed, 0)) FROM videos"
            ((found,),) = connection.execute(query).fetchall()
        return found


_AROUND_MS = 6000
"""Rows before and after a part of a video that say what is in it; see :mod:`timeline`."""


def tables_for(look: Look) -> list[str]:
    """Return the tables that a look reads."""
    faces = look.faces or look.blur == "faces"
    wanted = {
        PERSON_TRACKING.table: look.people or look.blur is not None or faces,
        FACE_DETECTION.table: faces,
        LABEL_DETECTION.table: look.labels,
    }
    return [table for table, is_wanted in wanted.items() if is_wanted]


def draw(
    filmed: Filmed,
    look: Look,
    output: Path,
    *,
    from_ms: int = 0,
    until_ms: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Draw rows on a video.

    Args:
        filmed: The video and its rows.
        look: What is painted.
        output: ``.png`` for a sheet of frames, ``.mp4`` for a video with the same times.
        from_ms: Where it begins.
        until_ms: Where it ends; the end of the video by default.
        progress: Called with the fraction done, 0 to 1.

    Returns:
        The path written.

    Raises:
        VideoError: The video cannot be opened, or ends before.
        LakeError: The lake cannot be read.
        OutputError: The file cannot be written.
        ValueError: The output's suffix is neither of the two.
    """
    suffix = output.suffix.lower()
    if suffix not in (".mp4", ".png"):
        raise ValueError(f"cannot draw to {output}: write a .png or .mp4")
    metadata, offset_ms = filmed.metadata()
    end = min(until_ms or math.inf, metadata.duration_ms or math.inf)
    end = from_ms + 1 if math.isinf(end) else round(end)
    if end <= from_ms:
        raise ends_before(filmed.video.uri, from_ms, end)
    tell = progress or (lambda _: None)
    if suffix == ".png":
        tiles = []
        for n, time in enumerate(spread(from_ms, end, TILES)):
            tiles.append(_tile(filmed, look, time))
            tell((n + 1) / TILES)
        return write_picture(sheet_of(tiles, COLUMNS), output)
    audio = None if look.blur else Audio(filmed.path, offset_ms, from_ms, until_ms)
    with new_video(output, filmed.video.uri) as container:
        encoder = Encoder(container, metadata.frame_rate, audio)
        painted = paint(filmed, look, from_ms, until_ms, metadata)
        with closing(ahead(painted, _PAINTED_AHEAD)) as images:
            for time_ms, image in images:
                encoder.write(image, time_ms - from_ms)
                tell(min(1.0, (time_ms - from_ms) / max(1, end - from_ms)))
        encoder.end()
    return output


def paint(
    filmed: Filmed, look: Look, from_ms: int, until_ms: int | None, metadata: VideoMetadata
) -> Iterator[tuple[int, Image]]:
    """Yield times and painted RGB pictures of a part of a video."""
    timeline = filmed.timeline(look, from_ms, until_ms)
    overlay = Overlay(timeline, look, metadata.frame_rate or 25.0)
    decoded = frames_between(filmed.path, from_ms, until_ms, filmed.video.uri)
    with closing(ahead(decoded, depth_for(metadata))) as frames:
        for frame in frames:
            image = frame.image
            image = image if image.flags.writeable else image.copy()
            overlay.paint(image, frame.timestamp_ms)
            yield frame.timestamp_ms, image


def _tile(filmed: Filmed, look: Look, time_ms: int) -> Image:
    frame = still(filmed.path, time_ms, filmed.video.uri)
    image, time_ms = tile_of(frame.image), frame.timestamp_ms
    first = max(0, time_ms - TRAIL_MS)
    overlay = Overlay(filmed.timeline(look, first, time_ms + 1), look, 1000 / _TRAIL_STEP_MS)
    for earlier in range(first, time_ms, _TRAIL_STEP_MS):
        overlay.follow(earlier, image)
    overlay.paint(image, time_ms)
    return captioned(image, clock(time_ms))


def clock(time_ms: int) -> str:
    """Return a time in a video as people read it: ``1:02:03.4``."""
    minutes, seconds = divmod(time_ms / 1000, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:04.1f}" if hours else f"{minutes:02}:{seconds:04.1f}"
