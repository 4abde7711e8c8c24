"""Bring a lake's analytics up to date after zones, cameras or models changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from rekognition_dagster.analytics import compute_standard, load_models
from rekognition_dagster.analytics.daily import (
    AnalyticsModel,
    Computed,
    compute_stale,
    find_stale,
    recordings_of,
)
from rekognition_dagster.analytics.zones import Zones
from rekognition_dagster.lake import Lake
from rekognition_dagster.videos import Video

_VIDEOS_AT_ONCE = 200
_MOVED = """
SELECT v.video, v.etag, v.version_id, v.size, v.last_modified
FROM videos AS v
JOIN video_summary AS s ON s.video = v.video
WHERE (v.camera, v.recorded_at) IS DISTINCT FROM (s.camera, s.recorded_at)
"""


def refresh(
    lake: Lake,
    zones: Zones,
    models: Sequence[AnalyticsModel] | None = None,
    *,
    since: date | None = None,
    until: date | None = None,
) -> Iterator[Computed]:
    """Compute what is not up to date, as far back as asked.

    Tables per video are computed again where a video's camera or time of recording changed; tables
    per day where anything changed that they depend on.

    Args:
        lake: The lake.
        zones: The zones.
        models: Models per day; those of the package by default.
        since: The first day.
        until: The last day.

    Yields:
        Each table and day that was written.

    Raises:
        ConfigurationError: The zones do not fit the cameras.
        LakeError: The lake cannot be read or written.
    """
    models = load_models() if models is None else models
    lake.store_cameras()
    moved = _moved(lake)
    for start in range(0, len(moved), _VIDEOS_AT_ONCE):
        compute_standard(lake, moved[start : start + _VIDEOS_AT_ONCE])
    recordings = recordings_of(lake)
    stale = find_stale(lake, models, zones, recordings=recordings, since=since, until=until)
    yield from compute_stale(lake, models, zones, stale, recordings=recordings)


def _moved(lake: Lake) -> list[Video]:
    """Videos whose camera or time is not what the tables per video have."""
    if "video_summary" not in lake.tables():
        return []
    with lake.connect(["videos", "video_summary"]) as connection:
        rows = connection.execute(_MOVED).fetchall()
    names = ("etag", "version_id", "size", "last_modified")
    return [Video.from_uri(uri, **dict(zip(names, facts, strict=True))) for uri, *facts in rows]
