"""draw analyzes what the lake does not have, takes times as people write them, and checks names."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from clips import write_clip
from command_line import assert_told, run
from pictures.conftest import colored, read

ZONES = """
cameras:
  - camera: '*'
    zones: {street: [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]}
    lines: {kerb: {points: [[0.5, 0.1], [0.5, 0.9]]}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REKOGNITION_DAGSTER_LAKE", raising=False)
    return tmp_path


def test_a_video_is_analyzed_once_and_drawn_with_zones(place: Path) -> None:
    write_clip(place / "street.mp4", frames=10)
    first = run("draw", "street.mp4", "-o", "drawn.mp4")
    assert first.exit_code == 0, first.output
    assert "has no person_detections of it yet; analyzing" in first.stderr
    assert len(read(place / "drawn.mp4")[0]) == 10
    (place / "zones.yaml").write_text(ZONES)
    second = run("draw", "street.mp4", "--from", "0:00.2", "--to", "00:00:00.4", "-o", "z.mp4")
    assert second.exit_code == 0, second.output
    assert "analyzing" not in second.stderr
    times, with_zones = read(place / "z.mp4")
    assert times == [0, 40, 80, 120, 160]
    row = round(0.1 * with_zones[0].shape[0])
    assert colored(with_zones[0], 60)[row - 2 : row + 3].any(axis=0).mean() > 0.5
    (place / "zones.yaml").write_text(ZONES.replace("'*'", "north"))
    third = run("draw", "street.mp4", "--zones", "zones.yaml", "-o", "sheet.png")
    assert (
        "zones.yaml has no zone or line of this video, which has no known camera; "
        "it has some of north" in third.stderr
    )
    assert cv2.imread("sheet.png") is not None
    unasked = run("draw", "street.mp4", "-o", "sheet.png")
    assert "note: " not in unasked.stderr
    (place / "zones.yaml").unlink()
    for output in ("late.png", "late.mp4"):
        late = run("draw", "street.mp4", "--from", "2", "-o", output)
        assert_told(late, "has no frames from 2 s on; it ends at 0.4 s")
        assert not (place / output).exists()


@pytest.mark.parametrize(
    ("arguments", "text", "status"),
    [
        (("none.mp4", "-o", "x.mp4"), "there is no such file", 1),
        (("v.mp4", "-o", "x.gif"), "write a .mp4 or a .png", 2),
        (("v.mp4", "-o", "v.mp4"), "is the video itself", 2),
        (("v.mp4", "-o", "x.mp4", "--from", "1:75"), "is no time in a video", 2),
        (("v.mp4", "-o", "x.mp4", "--from", "2", "--to", "0:01"), "--to is not after --from", 2),
        (("ftp://x/v.mp4", "-o", "x.mp4"), "cannot be read", 2),
    ],
)
def test_mistakes_are_one_line(
    place: Path, arguments: tuple[str, ...], text: str, status: int
) -> None:
    (place / "v.mp4").write_bytes(b"x")
    assert_told(run("draw", *arguments), text, status=status)
    assert sorted(p.name for p in place.iterdir()) == ["v.mp4"]
