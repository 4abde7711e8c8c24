"""What the README shows of the demo's videos is what the engine finds in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rekognition_dagster.lake import Lake

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4"])
def test_the_demos_summary_counts_the_people_and_faces_that_are_found(
    demo_lake: Path, name: str
) -> None:
    summary = README.split("jobs took", 1)[1].split("```", 1)[0]
    line = re.search(rf"^{re.escape(name)}\s+[\d.]+ s\s+(\d+)\s+(\d+)\s+(\d+)", summary, re.M)
    assert line is not None
    with Lake(demo_lake).connect() as connection:
        [found] = connection.execute(
            "SELECT people, most_people_at_once, most_faces_at_once FROM video_summary "
            "WHERE video LIKE ?",
            [f"%/{name}"],
        ).fetchall()
    assert tuple(int(n) for n in line.groups()) == found
