"""find shows its moments: clips and stills with safe names, each video fetched once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import boto3
import cv2
import numpy as np
import pytest
from command_line import Command, assert_told, run
from pictures.conftest import box, colored, number_of, person, read, write
from walks import straight, walked, write_walks

from rekognition_dagster import Lake
from rekognition_dagster.analytics import compute_standard
from rekognition_dagster.analytics.zones import parse_zones
from rekognition_dagster.backfill import locate
from rekognition_dagster.finding import Found
from rekognition_dagster.lake.cameras import Cameras
from rekognition_dagster.pictures.moments import show
from rekognition_dagster.pictures.shapes import counts_of
from rekognition_dagster.pictures.style import color_of
from rekognition_dagster.videos import Video

PATTERN = "{camera}/{date:%Y-%m-%d}/{time:%H%M%S}.mp4"
SEEN = range(2000, 4000, 200)


def add(lake: Lake, path: Path, index: int = 0, seen: Iterable[int] = SEEN) -> Video:
    """Write a video of five seconds and its rows: one person, for two seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, range(0, 5000, 40))
    video = Video.from_file(path)
    with lake.writer("person_detections", video) as writer:
        writer.write(
            {"video": video.uri, "job_id": "j", **person(t, box(0.4, 0.3, 0.3, 0.5), index)}
            for t in seen
        )
    lake.write_video(video, {"duration_ms": 5000, "width": 320, "height": 240})
    lake.write_job(video, "person_tracking", {"job_id": "j", "status": "SUCCEEDED", "rows": 10})
    compute_standard(lake, [video])
    return video


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.chdir(tmp_path)
    lake = Lake(tmp_path / "lake", cameras=Cameras(PATTERN, {}, "UTC"))
    add(lake, tmp_path / "north" / "2026-02-03" / "140000.mp4")
    add(lake, tmp_path / "a <b>&'" / "2026-02-03" / "150000.mp4", 7)
    return lake


@pytest.fixture
def command() -> Command:
    return run


def test_clips_and_a_sheet_of_what_was_found(lake: Lake, command: Command, tmp_path: Path) -> None:
    result = command("find", "--clips", "clips", "--sheet", "s.png", "--margin", "0.5", "--exact")
    assert result.exit_code == 0, result.output
    assert "2 clips" in result.stderr
    clips = sorted(tmp_path.glob("clips/*"))
    assert [c.name for c in clips] == [
        "a-b_2026-02-03_150002_person7.mp4",
        "north_2026-02-03_140002_person0.mp4",
    ]
    times, images = read(clips[1])
    assert len(times) == len([t for t in range(0, 5000, 40) if 1500 <= t <= 3800 + 500])
    assert number_of(images[0]) == 38
    sheet = cv2.imread("s.png")
    assert sheet is not None
    assert sheet.shape == (360 + 24, 2 * 480, 3)
    assert sheet[360:, :480].max() > 200  # the line of text
    edge = sheet[round(0.6 * 360), round(0.4 * 480) - 2 : round(0.4 * 480) + 3, ::-1].astype(int)
    assert min(np.abs(pixel - color_of(0).as_bgr()).max() for pixel in edge) < 60


def test_a_video_that_is_gone_is_named_and_the_others_are_shown(
    lake: Lake, command: Command, tmp_path: Path
) -> None:
    gone = tmp_path / "north" / "2026-02-03" / "140000.mp4"
    gone.unlink()
    result = command("find", "--clips", "clips", "--sheet", "s.png", "--blur", "faces")
    assert "the lake has no face_detections of it" in result.stderr
    assert "140000.mp4: there is no such file" in result.stderr
    assert result.stderr.endswith("error: 1 of the videos cannot be shown\n")
    assert result.exit_code == 1
    assert [c.name for c in tmp_path.glob("clips/*")] == ["a-b_2026-02-03_150002_person7.mp4"]
    assert (tmp_path / "s.png").exists()


def test_a_still_is_blurred(lake: Lake, command: Command) -> None:
    command("find", "--camera", "north", "--sheet", "plain.png")
    command("find", "--camera", "north", "--sheet", "blurred.png", "--blur", "people")
    plain, blurred = (
        np.asarray(cv2.imread(name))[130:270, 215:315].astype(float)
        for name in ("plain.png", "blurred.png")
    )
    detail = [np.abs(np.diff(image, axis=1)).mean() for image in (plain, blurred)]
    assert detail[1] < detail[0] / 4


def test_a_still_shows_the_person_where_they_are_lost_in_the_middle(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    video = add(lake, tmp_path / "v.mp4", seen=[480, 600, 680, 4000])
    moment = Found(None, video.uri, 0, None, 480, 4000, None)
    assert show(lake, [moment], None, tmp_path / "s.png").stills == 1
    sheet = cv2.imread(str(tmp_path / "s.png"))
    assert sheet is not None
    assert colored(sheet[:360], 60).any()
    marks = cv2.resize(sheet[:360, :480], (320, 240), interpolation=cv2.INTER_AREA)
    assert number_of(marks) == 680 // 40


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--blur", "faces"), "--blur is for --clips and --sheet"),
        (("--sheet", "s.jpg"), "write a .png"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    lake: Lake, command: Command, arguments: tuple[str, ...], text: str
) -> None:
    assert_told(command("find", *arguments), text, status=2)


def test_a_video_of_several_moments_is_fetched_once(
    aws: boto3.Session, bucket: str, tmp_path: Path
) -> None:
    s3 = aws.client("s3")
    s3.upload_file(str(write(tmp_path / "v.mp4", range(0, 3000, 40))), bucket, "day/v.mp4")
    video = locate(Video(bucket, "day/v.mp4"), s3)
    lake = Lake(tmp_path / "lake")
    lake.write_video(video, {"duration_ms": 3000})
    fetched: list[str] = []
    s3.meta.events.register("before-call.s3.GetObject", lambda **_: fetched.append("v"))
    at = datetime(2026, 1, 31, 12)
    moments = [Found("c", video.uri, n % 2, at, n * 100, n * 100 + 50, None) for n in range(5)]
    shown = show(lake, moments, tmp_path / "clips", tmp_path / "s.png", client=s3)
    assert len(fetched) == 1
    assert (len(shown.clips), shown.stills, shown.errors) == (5, 5, [])
    assert len({c.path.name for c in shown.clips}) == 5


def test_counters_are_those_of_the_tables(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    path = straight((0, 0.1, 0.5), (4, 0.5, 0.5), (20, 0.5, 0.5), (24, 0.1, 0.5))
    video = write_walks(lake, "north/2026-02-03/120000.mp4", [path])
    zones = parse_zones(
        "cameras:\n- camera: north\n"
        "  zones: {counter: [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]}\n"
        "  lines: {door: {points: [[0.3, 0.0], [0.3, 1.0]], to_left: in, to_right: out}}\n"
    )
    counts = counts_of(lake, video, zones)
    assert counts is not None
    assert [counts.inside("counter", t) for t in (2900, 3100, 20_000, 21_500)] == [0, 1, 1, 0]
    crossed = [
        [counts.crossings("door", way, t) for way in ("in", "out")]
        for t in (1000, 3000, 21_000, 23_000)
    ]
    assert crossed == [[0, 0], [1, 0], [1, 0], [1, 1]]
    assert counts_of(lake, Video("b", "none.mp4"), zones) is None
