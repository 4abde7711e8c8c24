"""Moments that were found, as clips and as a sheet of stills. Each video is fetched once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rekognition_dagster.backfill import fetch, locate
from rekognition_dagster.errors import VideoError
from rekognition_dagster.operations import FACE_DETECTION, LABEL_DETECTION, PERSON_TRACKING
from rekognition_dagster.pictures.clips import Clip, cut, file_name
from rekognition_dagster.pictures.drawing import Filmed, clock
from rekognition_dagster.pictures.encoding import write_picture
from rekognition_dagster.pictures.frames import still
from rekognition_dagster.pictures.overlay import Look, Overlay
from rekognition_dagster.pictures.sheet import captioned, sheet_of, tile_of
from rekognition_dagster.pictures.timeline import Blur
from rekognition_dagster.videos import Video

if TYPE_CHECKING:
    from rekognition_dagster.engine.frame import Image
    from rekognition_dagster.finding import Found
    from rekognition_dagster.lake import Lake

MOST_STILLS = 200
_FACTS = ("etag", "version_id", "size", "last_modified")


@dataclass
class Shown:
    """What became of moments.

    Args:
        clips: Those that were written, in the order of the moments' videos.
        stills: On the sheet.
        notes: What a viewer should know.
        errors: Videos that could not be shown.
    """

    clips: list[Clip] = field(default_factory=list)
    stills: int = 0
    notes: list[str] = field(default_factory=list)
    errors: list[VideoError] = field(default_factory=list)


def show(
    lake: Lake,
    moments: Sequence[Found],
    clips: Path | None,
    sheet: Path | None,
    *,
    margin_ms: int = 2000,
    exact: bool = False,
    blur: Blur | None = None,
    client: Any = None,
    progress: Callable[[float], None] | None = None,
) -> Shown:
    """Cut moments out of their videos, and lay out a still of each.

    Args:
        lake: The lake in which they were found.
        moments: The moments.
        clips: The folder of clips; none are cut by default.
        sheet: A ``.png``; none is made by default. It has the first 200 moments.
        margin_ms: How much longer a clip is on both sides.
        exact: See :func:`rekognition_dagster.pictures.clips.cut`.
        blur: Who is covered.
        client: A boto3 ``s3`` client; by default one of the default session.
        progress: Called with the fraction done, 0 to 1.

    Raises:
        LakeError: The lake cannot be read.
        OutputError: A file cannot be written.
    """
    shown = Shown()
    names = _names(moments)
    tiles: dict[int, Image] = {}
    by_video: dict[str, list[int]] = {}
    for number, moment in enumerate(moments):
        if clips or number < MOST_STILLS:
            by_video.setdefault(moment.video, []).append(number)
    done = 0
    for uri, numbers in by_video.items():
        try:
            with filmed(lake, uri, client, shown.notes) as film:
                _note_what_is_covered(film, blur, shown)
                for number in numbers:
                    moment = moments[number]
                    if clips:
                        begin, end = moment.from_ms - margin_ms, moment.until_ms + margin_ms + 1
                        path = clips / f"{names[number]}.mp4"
                        shown.clips.append(
                            cut(film, max(0, begin), end, path, exact=exact, blur=blur)
                        )
                    if sheet and number < MOST_STILLS:
                        tiles[number] = _tile(film, moment, blur)
                    done += 1
                    if progress:
                        progress(done / len(moments))
        except VideoError as error:
            shown.errors.append(error)
    if sheet:
        write_picture(sheet_of(tiles[n] for n in sorted(tiles)), sheet)
        shown.stills = len(tiles)
        if len(moments) > MOST_STILLS:
            shown.notes.append(f"the sheet has the first {MOST_STILLS} of {len(moments)} moments")
    return shown


def facts_of(lake: Lake, uris: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return which version of some videos was analyzed."""
    sql = f"SELECT video, {', '.join(_FACTS)} FROM videos WHERE video IN (SELECT unnest(?))"
    with lake.connect(["videos"]) as connection:
        rows = connection.execute(sql, [list(uris)]).fetchall()
    return {row[0]: dict(zip(_FACTS, row[1:], strict=True)) for row in rows}


@contextmanager
def filmed(
    lake: Lake,
    uri: str,
    client: Any,
    notes: list[str],
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Filmed]:
    """Fetch a video, in the version that was analyzed where the bucket keeps it.

    Args:
        lake: The lake with its rows.
        uri: Which.
        client: A boto3 ``s3`` client; None is one of the default session.
        notes: Gets what a viewer should know.
        facts: Of the version that was analyzed, as :func:`facts_of` has them; asked for by default.

    Raises:
        VideoError: It is gone, or may not be read.
    """
    if facts is None:
        facts = facts_of(lake, [uri]).get(uri, {})
    video = Video.from_uri(uri, **facts)
    if video.version and locate(video, client).version != video.version:
        notes.append(f"{uri} has changed since it was analyzed; moments may be elsewhere")
    with tempfile.TemporaryDirectory(prefix="rekognition-dagster-") as folder:
        yield Filmed(video, fetch(video, folder, client), lake)


def _note_what_is_covered(filmed: Filmed, blur: Blur | None, shown: Shown) -> None:
    if blur == "faces" and not filmed.lake.has(FACE_DETECTION.table, filmed.video):
        shown.notes.append(
            f"{filmed.video.uri}: the lake has no {FACE_DETECTION.table} of it; covered are the "
            "tops of people's boxes and the faces of people who are tracked"
        )


def _tile(filmed: Filmed, moment: Found, blur: Blur | None) -> Image:
    frame = still(filmed.path, _time_of(filmed, moment), filmed.video.uri)
    image, time_ms = tile_of(frame.image), frame.timestamp_ms
    has_person = moment.person is not None
    look = Look(people=has_person, only=moment.person, labels=not has_person, blur=blur)
    Overlay(filmed.timeline(look, time_ms, time_ms + 1), look).paint(image, time_ms)
    when = f"{moment.from_local:%Y-%m-%d %H:%M:%S}" if moment.from_local else clock(moment.from_ms)
    who = f"person {moment.person}" if has_person else None
    return captioned(image, " · ".join(filter(None, (moment.camera, when, who, moment.place))))


def _time_of(filmed: Filmed, moment: Found) -> int:
    """Return when a moment's person, or label, is seen nearest to its middle."""
    middle = (moment.from_ms + moment.until_ms) // 2
    table, column, value = (
        (PERSON_TRACKING.table, "bounding_box IS NOT NULL AND person_index", moment.person)
        if moment.person is not None
        else (LABEL_DETECTION.table, "name", moment.place)
    )
    with filmed.lake.connect([table], [filmed.video]) as connection:
        query = (
            f"SELECT timestamp_ms FROM {table} WHERE {column} = $value "
            "AND timestamp_ms BETWEEN $first AND $last "
            "ORDER BY abs(timestamp_ms - $middle), timestamp_ms LIMIT 1"
        )
        times = {"first": moment.from_ms, "last": moment.until_ms, "middle": middle}
        seen = connection.execute(query, {"value": value, **times}).fetchone()
    return seen[0] if seen else middle


def _names(moments: Sequence[Found]) -> list[str]:
    """Names of files that say camera, time and person; each only once, also on other systems."""
    names: list[str] = []
    taken: set[str] = set()
    for moment in moments:
        camera = moment.camera or Video.from_uri(moment.video).id
        when = f"{moment.from_local:%Y-%m-%d_%H%M%S}" if moment.from_local else moment.from_ms
        who = f"person{moment.person}" if moment.person is not None else moment.place
        name = plain = file_name(camera, when, who)
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names
