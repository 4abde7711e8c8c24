"""The example of a detector of one's own is named by its import path, and finds what moves."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from rekognition_dagster.engine import analyze

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "detector"
WIDTH, HEIGHT, SIDE = 192, 144, 32


@pytest.fixture
def corridor(tmp_path: Path) -> Path:
    """A bright square that walks to the right, 4 pixels a frame, after a second of nothing."""
    path = tmp_path / "corridor.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(60):
            image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
            if i >= 25:
                x = 4 * (i - 25)
                image[48 : 48 + SIDE, x : x + SIDE] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_what_moves_is_tracked(corridor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    rows: list[dict] = []
    analyze(corridor, {"person_tracking": rows.extend}, detector="moving:Moving")
    assert {row["person_index"] for row in rows} == {0}
    assert len(rows) > 25
    for row in rows:
        assert row["timestamp_ms"] >= 1000
        x = 4 * (row["timestamp_ms"] / 40 - 25) / WIDTH
        assert row["bounding_box"]["left"] == pytest.approx(x, abs=0.05)
        assert row["bounding_box"]["top"] == pytest.approx(48 / HEIGHT, abs=0.05)
