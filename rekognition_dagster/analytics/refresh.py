"""Bring a lake's analytics up to date after results, zones, cameras or models changed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from rekognition_dagster.analytics import AnalyticsModel, compute, in_order, load_models
from rekognition_dagster.analytics.daily import (
    Computed,
    compute_stale,
    find_stale,
    recordings_of,
)
from rekognition_dagster.analytics.zones import Zones
from rekognition_dagster.lake import Lake
from rekognition_dagster.operations import OPERATIONS
from rekognition_dagster.videos import Video

_VIDEOS_AT_ONCE = 200
_FACTS = ("etag", "version_id", "size", "last_modified")
_VIDEOS = f"""
SELECT
    video,
    {", ".join(_FACTS)},
    camera,
    recorded_at,
    recorded_local::DATE AS first_day,
    (recorded_local + to_milliseconds(coalesce(duration_ms, 0)))::DATE AS last_day
FROM videos
"""


@dataclass(frozen=True)
class ComputedVideos:
    """Rows of a model and some videos that were written.

    Args:
        model: The model.
        videos: Of how many videos.
        rows: How many.
    """

    model: AnalyticsModel
    videos: int
    rows: int


def refresh(
    lake: Lake,
    zones: Zones,
    models: Sequence[AnalyticsModel] | None = None,
    *,
    since: date | None = None,
    until: date | None = None,
) -> Iterator[Computed | ComputedVideos]:
    """Compute what is not up to date, as far back as asked.

    Tables per video are computed where a video has no rows of them, older ones than its results, or
    those of another camera or time of recording; tables per day where anything changed that they
    depend on.

    Args:
        lake: The lake.
        zones: The zones.
        models: Models per video and per day; those of the package by default.
        since: The first day.
        until: The last day.

    Yields:
        Each table and day that was written, and each table and some videos.

    Raises:
        ConfigurationError: The zones do not fit the cameras.
        DamagedFileError: Results of some videos are damaged; the others of their table are written.
        LakeError: The lake cannot be read or written.
    """
    models = load_models() if models is None else models
    lake.store_cameras()
    yield from _refresh_videos(lake, models, since, until)
    recordings = recordings_of(lake)
    stale = find_stale(lake, models, zones, recordings=recordings, since=since, until=until)
    yield from compute_stale(lake, models, zones, stale, recordings=recordings)


def _refresh_videos(
    lake: Lake, models: Sequence[AnalyticsModel], since: date | None, until: date | None
) -> Iterator[ComputedVideos]:
    """Compute the models per video, of those videos of some days that are behind."""
    videos = _videos(lake, since, until)
    moved, completed = _moved(lake), _completed(lake)
    results = {o.table: lake.written(o.table, videos) for o in OPERATIONS.values()}
    for model, reads in in_order(models, list(OPERATIONS.values())):
        made = lake.written(model.name, videos)

        def is_behind(
            video: Video, reads: Sequence[str] = reads, made: dict[Video, float | None] = made
        ) -> bool:
            there = [table for table in reads if video in results[table]]
            if not there or video not in made or video.uri in moved:
                return bool(there)
            times = [results[t][video] for t in there]
            times += [completed.get((video.uri, t)) for t in there]
            at = made[video]
            return at is not None and any(t is not None and t > at for t in times)

        behind = [video for video in videos if is_behind(video)]
        for start in range(0, len(behind), _VIDEOS_AT_ONCE):
            some = behind[start : start + _VIDEOS_AT_ONCE]
            rows = sum(table.num_rows for _, table, _ in compute(lake, model, some))
            yield ComputedVideos(model, len(some), rows)
        results[model.name] = lake.written(model.name, videos)  # others may read it


def _videos(lake: Lake, since: date | None, until: date | None) -> list[Video]:
    """The videos that touch some days; those of unknown time, too, where no days are asked for."""
    with lake.connect(["videos"]) as connection:
        rows = connection.execute(
            f"SELECT video, {', '.join(_FACTS)} FROM ({_VIDEOS}) "
            "WHERE ($since IS NULL OR last_day >= $since::DATE) "
            "AND ($until IS NULL OR first_day <= $until::DATE)",
            {"since": since, "until": until},
        ).fetchall()
    return [Video.from_uri(uri, **dict(zip(_FACTS, facts, strict=True))) for uri, *facts in rows]


def _moved(lake: Lake) -> set[str]:
    """Videos whose camera or time is not what the tables per video have."""
    if "video_summary" not in lake.tables():
        return set()
    with lake.connect(["videos", "video_summary"]) as connection:
        rows = connection.execute(
            f"SELECT v.video FROM ({_VIDEOS}) AS v JOIN video_summary AS s ON s.video = v.video "
            "WHERE (v.camera, v.recorded_at) IS DISTINCT FROM (s.camera, s.recorded_at)"
        ).fetchall()
    return {uri for (uri,) in rows}


def _completed(lake: Lake) -> dict[tuple[str, str], float]:
    """When the latest job of a video and a table of results ended, in seconds since 1970."""
    tables = {o.name: o.table for o in OPERATIONS.values()}
    with lake.connect(["jobs"]) as connection:
        rows = connection.execute(
            "SELECT video, operation, epoch(max(completed_at)) FROM jobs "
            "WHERE status = 'SUCCEEDED' GROUP BY ALL"
        ).fetchall()
    now = time.time()
    return {
        (video, tables[operation]): at
        for video, operation, at in rows
        if operation in tables and at is not None and at <= now
    }
