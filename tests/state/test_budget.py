"""Budgets: what is beyond waits for the next day or month, and nothing is lost."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from state.test_state import FACES, TRACKING, complete, reserve, start

from rekognition_dagster.state import State, results
from rekognition_dagster.state.budget import Budget, Limit, bytes_a_second, spent
from rekognition_dagster.state.jobs import too_long
from rekognition_dagster.state.results import Written
from rekognition_dagster.state.tables import JOBS, VIDEOS
from rekognition_dagster.state.videos import Found, Plan, register
from rekognition_dagster.videos import Source, Video

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc).timestamp()
DAY = 86400.0
PRICES = {TRACKING: 0.1, FACES: 0.2}


def enter(state: State, *names: str, minutes: float = 10.0) -> None:
    """Videos of so many minutes, by their size."""
    videos = [Video("b", name, etag="e", size=int(minutes * 60 * 500_000)) for name in names]
    with state.write() as connection:
        found = [Found(v, v.partition_key) for v in videos]
        register(connection, found, NOON, Plan([TRACKING]))


def begin(state: State, budget: Budget, now: float = NOON) -> list[str]:
    """Start what may start; the names."""
    work = reserve(state, now=now, budget=budget)
    for w in work:
        start(state, w, f"job of {w.key}")
    with state.write() as connection:
        connection.execute(
            JOBS.update().where(JOBS.c.key.in_([w.key for w in work])).values(started_at=now)
        )
    return [w.key.removeprefix("b/") for w in work]


@pytest.mark.parametrize(
    ("limit", "first"),
    [
        (Limit("day", minutes=25), 2),
        (Limit("day", minutes=30), 3),
        (Limit("day", money=2.5), 2),
        (Limit("day", minutes=25, operations=(FACES,)), 4),
        (Limit("day", minutes=5), 0),
    ],
)
def test_what_is_beyond_a_budget_waits_for_the_next_day(
    state: State, limit: Limit, first: int
) -> None:
    names = [f"{n}.mp4" for n in range(4)]
    enter(state, *names)
    budget = Budget([limit], PRICES)
    assert begin(state, budget) == names[:first]
    assert begin(state, budget, NOON + 3600) == []
    if first:
        assert begin(state, budget, NOON + DAY) == names[first : 2 * first]


def test_days_and_months_are_those_of_the_time_zone() -> None:
    budget = Budget(timezone="Europe/Zurich")
    late = datetime(2026, 1, 31, 23, 30, tzinfo=timezone.utc).timestamp()
    zone = ZoneInfo("Europe/Zurich")
    for period, begins, ends in (("day", (2, 1), (2, 2)), ("month", (2, 1), (3, 1))):
        expected = tuple(datetime(2026, *d, tzinfo=zone).timestamp() for d in (begins, ends))
        assert budget.period(Limit(period), late) == expected


def test_what_was_measured_counts_in_the_place_of_the_estimate(state: State) -> None:
    enter(state, "a.mp4", "b.mp4")
    budget = Budget([Limit("day", minutes=12)], PRICES)
    assert begin(state, budget) == ["a.mp4"]
    complete(state, "job of b/a.mp4")
    written = Written(TRACKING, "b/a.mp4", "e", "job of b/a.mp4", 1, "p", duration_ms=60_000)
    with state.write() as connection:
        results.written(connection, [written], [], NOON)
        results.written(connection, [written], [], NOON)  # changes nothing
        (standing,) = spent(connection, budget, NOON)
        assert connection.scalar(sa.select(VIDEOS.c.duration_s).where(VIDEOS.c.key == "b/a.mp4"))
        assert bytes_a_second(connection) == 5_000_000
    assert (standing.minutes, standing.money) == (1.0, 0.1)
    assert standing.text == "1 of 12 minutes this day"
    assert standing.forecast(NOON) == 2.0
    assert begin(state, budget) == ["b.mp4"]  # which is taken for a minute long, too


def test_a_video_that_exceeds_a_whole_limit_never_starts_and_delays_no_other(
    state: State,
) -> None:
    sources = [Source("b", "", (TRACKING,))]
    enter(state, *[f"long{n}.mp4" for n in range(30)], minutes=60)
    enter(state, "short.mp4")
    budget = Budget([Limit("day", minutes=40), Limit("month", money=3.0)], PRICES)
    assert (budget.longest(TRACKING), budget.longest(FACES)) == (pytest.approx(30), 15)
    assert begin(state, budget) == ["short.mp4"]
    with state.read() as connection:
        assert too_long(connection, TRACKING, sources, budget) == 30
        assert too_long(connection, TRACKING, sources, Budget()) == 0


def test_a_start_that_broke_off_is_made_whatever_the_budget(state: State) -> None:
    enter(state, "a.mp4")
    assert [w.key for w in reserve(state, now=NOON, lease_s=10.0)] == ["b/a.mp4"]
    used_up = Budget([Limit("day", minutes=1)], PRICES)
    assert begin(state, used_up, NOON + 60) == ["a.mp4"]
