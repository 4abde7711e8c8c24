"""The conformance table names tests that exist, and the documented limits are the defaults."""

from __future__ import annotations

import re
from pathlib import Path

from rekognition_dagster.service.settings import GIB, Settings

HERE = Path(__file__).parent
API = HERE.parents[1] / "docs" / "api.md"


def test_every_test_that_the_conformance_table_names_exists():
    named = set(re.findall(r"`(test_\w+)`", API.read_text()))
    defined = {
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 40
    assert named - defined == set()


def test_every_sentence_that_is_held_has_a_test():
    rows = [line for line in API.read_text().splitlines() if line.startswith("| ")]
    held = [row for row in rows if "| held" in row]
    assert len(held) > 35
    assert [row for row in held if "`test_" not in row] == []


def test_the_documented_limits_are_the_defaults():
    settings = Settings.of(store="/x")
    assert settings.jobs_in_flight == 20
    assert settings.job_life_s == 7 * 24 * 3600
    assert settings.max_video_bytes == 10 * GIB
    assert settings.max_video_ms == 6 * 3600 * 1000
