"""Scripted walks: people whose paths are known, written into a lake as the engine would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from rekognition_dagster.analytics import AnalyticsModel, daily, load_models
from rekognition_dagster.analytics.zones import Zones, parse_zones
from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.videos import Video

Place = tuple[float, float, float]
"""Seconds since the start of the video, and x and y of the feet in ratios of the picture."""
PATTERN = "{camera}/{date:%Y-%m-%d}/{time:%H%M%S}.mp4"
HEIGHT = 0.25
"""Of a person, in picture heights."""


def straight(*places: Place, fps: float = 10.0) -> list[Place]:
    """A path that visits places one after another, seen ``fps`` times a second."""
    found: list[Place] = []
    for (t1, x1, y1), (t2, x2, y2) in pairwise(places):
        steps = round((t2 - t1) * fps)
        for n in range(steps):
            share = n / steps
            found.append((t1 + (t2 - t1) * share, x1 + (x2 - x1) * share, y1 + (y2 - y1) * share))
    return [*found, places[-1]]


def write_walks(
    lake: Lake,
    key: str,
    people: Sequence[Iterable[Place]],
    *,
    duration_s: float = 60.0,
    filled: Iterable[tuple[int, float, float]] = (),
    job_id: str = "job",
    **facts: Any,
) -> Video:
    """Write a video of people who walk; ``filled`` has who was interpolated from when to when."""
    video = Video("cameras", key, etag="e", last_modified=facts.pop("last_modified", None))
    between = list(filled)
    rows = [
        {
            "video": video.uri,
            "job_id": job_id,
            "timestamp_ms": round(t * 1000),
            "person_index": index,
            "bounding_box": {
                "left": x - 0.05,
                "top": y - HEIGHT,
                "width": 0.1,
                "height": HEIGHT,
            },
            "interpolated": any(i == index and a <= t <= b for i, a, b in between),
        }
        for index, path in enumerate(people)
        for t, x, y in path
    ]
    rows.sort(key=lambda r: (r["timestamp_ms"], r["person_index"]))
    with lake.writer("person_detections", video) as writer:
        writer.write(rows)
    size = {"width": 1000, "height": 1000}
    lake.write_video(video, {"duration_ms": round(duration_s * 1000), **size, **facts})
    job = {"job_id": job_id, "status": "SUCCEEDED", "rows": len(rows)}
    lake.write_job(video, "person_tracking", job)
    return video


def walked(tmp_path: Any, timezone: str = "UTC") -> Lake:
    """An empty lake whose keys have camera, day and time."""
    return Lake(tmp_path / "lake", cameras=Cameras(PATTERN, {}, timezone))


def compute(
    lake: Lake, zones: str | Zones = "", models: Sequence[AnalyticsModel] | None = None, **how: Any
) -> list[daily.Computed]:
    """Compute the models per day that are stale."""
    found = parse_zones(zones) if isinstance(zones, str) else zones
    models = load_models() if models is None else models
    stale = daily.find_stale(lake, models, found, **how)
    return list(daily.compute_stale(lake, models, found, stale))


def rows(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with lake.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(sql).fetchall()


def clock(text: str) -> datetime:
    """A local time."""
    return datetime.fromisoformat(text)
