"""One pattern language finds cameras, days and times in keys."""

from __future__ import annotations

from datetime import date

import pytest

from rekognition_dagster.keys import KeyPattern
from rekognition_dagster.videos import Video, check_date_pattern, day_of


@pytest.mark.parametrize(
    ("pattern", "key", "values"),
    [
        (
            "{camera}/{date:%Y-%m-%d}/{time:%H%M%S}.mp4",
            "site/north/2026-01-31/143000.mp4",
            {"camera": "north", "%Y": "2026", "%m": "01", "%d": "31"},
        ),
        ("{camera}/{date}", "north/20260131/a.mp4", {"camera": "north", "%Y": "2026"}),
        ("{camera}_{datetime}", "x/cam 1_20260131T0815.mp4", None),
        ("{camera}_{at:%Y%m%dT%H%M}", "x/cam 1_20260131T0815.mp4", {"camera": "cam 1", "%M": "15"}),
        ("{camera}-{at:%s}.mp4", "c-1769869800.mp4", {"%s": "1769869800"}),
        ("{camera}/{date:%d.%m.%y}", "c/31.01.26/x.mp4", {"%y": "26", "%d": "31"}),
        ("{camera}/{date:%Y-%m-%d}", "north/2026-1-31/a.mp4", None),
        ("{camera}/{date}.mp4", "north/2026-01-31.MP4", {"camera": "north"}),
        ("{camera}/{date}.MP4", "north/2026-01-31.mp4", {"camera": "north"}),
        ("{camera}/{date}-x.MP4", "north/2026-01-31-X.mp4", None),
        ("{camera}/{date}.mp4", "north/2026-01-31.mov", None),
        ("{any}/{camera}/{any}/{date}", "a/north/b/2026-01-31/x.mp4", {"camera": "north"}),
    ],
)
def test_a_pattern_finds_its_parts(pattern: str, key: str, values: dict[str, str] | None) -> None:
    match = KeyPattern(pattern).match(key)
    assert (match is None) is (values is None)
    if match is not None and values is not None:
        assert {n: match.values[n] for n in values} == values


@pytest.mark.parametrize(
    ("pattern", "wrong"),
    [
        ("{camera}/{date:%Q}", "%Q is not supported"),
        ("{camera}/{date:%}", "is not supported"),
        ("{date:day}", "has no directive"),
        ("{camera}/{at:%Y%m%dT%H%M%SZ}.mp4", "write %z in place of Z"),
        ("north", "no pattern over keys"),
        ("{foo}", r"unknown part {foo}. There are {camera}, {site}, {any}, {date}, {time}, "),
        ("{cam}/{date}", r"'{cam}/{date}' has an unknown part {cam}; did you mean {camera}\?"),
        ("{camera}/{dat}/{hour}", r"{dat}; did you mean {date}\?"),
    ],
)
def test_a_wrong_pattern_is_refused(pattern: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        KeyPattern(pattern)


def test_the_day_of_a_key_is_found_by_either_kind_of_pattern() -> None:
    key = "north/31.01.2026/2020-01-01.mp4"
    assert day_of(key, "{camera}/{date:%d.%m.%Y}") == date(2026, 1, 31)
    assert day_of(key, r"(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>\d{4})") == date(2026, 1, 31)
    assert Video("b", key).recorded_on("{camera}/{date:%d.%m.%Y}") == date(2026, 1, 31)
    assert day_of("north/31.13.2026/a.mp4", "{camera}/{date:%d.%m.%Y}") is None


def test_a_date_pattern_needs_a_day() -> None:
    assert check_date_pattern("{camera}/{date}") == "{camera}/{date}"
    with pytest.raises(ValueError, match="finds no day"):
        check_date_pattern("{camera}/{year}")
