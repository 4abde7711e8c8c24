"""Models are computed from the lake's own, sound files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rekognition_dagster.analytics import SqlModel, compute
from rekognition_dagster.errors import DamagedFileError
from rekognition_dagster.lake import Lake
from rekognition_dagster.lake.compaction import Day
from rekognition_dagster.videos import Video

VIDEOS = [Video("cameras", f"2026-01-31/{i}.mp4") for i in range(4)]
MODEL = SqlModel("sightings", "SELECT video, count(*) AS n FROM person_detections GROUP BY video")


def computed(lake: Lake, videos: list[Video]) -> dict[str, int]:
    found: dict[str, int] = {}
    for video, rows, _ in compute(lake, MODEL, videos):
        found[video.uri] = sum(rows["n"].to_pylist())
    return found


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path)
    for video in VIDEOS:
        with lake.writer("person_detections", video) as writer:
            writer.write([{"video": video.uri, "timestamp_ms": i} for i in range(3)])
    return lake


@pytest.mark.parametrize("hole", [slice(0, 10**6), slice(4, 300)])
def test_a_damaged_file_costs_its_own_video_only(lake: Lake, hole: slice) -> None:
    path = Path(lake.url) / lake.path("person_detections", VIDEOS[1])
    content = bytearray(path.read_bytes())
    content[hole] = bytes(len(content[hole]))
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=rf"sightings .* 1 videos: {path} cannot be read"):
        computed(lake, VIDEOS)
    assert [lake.has("sightings", v) for v in VIDEOS] == [True, False, True, True]
    path.unlink()
    assert computed(lake, VIDEOS) == {v.uri: 0 if v is VIDEOS[1] else 3 for v in VIDEOS}


def test_a_damaged_large_file_costs_the_videos_in_it(lake: Lake) -> None:
    day = Day(lake.storage, "person_detections/date=2026-01-31")
    for _ in range(2):
        day.compact(grace_s=0, quiet_s=0, min_files=2)
    late = Video("cameras", "2026-01-31/late.mp4")
    with lake.writer("person_detections", late) as writer:
        writer.write([{"video": late.uri, "timestamp_ms": 1}])
    (part,) = Path(lake.url).glob("person_detections/*/compacted.*")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DamagedFileError, match=r"4 videos: .*compacted\."):
        computed(lake, [*VIDEOS, late])
    assert [lake.has("sightings", v) for v in (*VIDEOS, late)] == [False] * 4 + [True]
