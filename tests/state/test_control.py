"""Pauses, ignored videos, and the order in which waiting work starts."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from state.test_state import FACES, TRACKING, discover, phases, reserve

from rekognition_dagster.state import State, control
from rekognition_dagster.state.control import Pause
from rekognition_dagster.state.tables import PRESENT
from rekognition_dagster.state.videos import Found, Plan, add_operations, known, register
from rekognition_dagster.videos import Source, Video


def started(state: State, **options: Any) -> list[str]:
    """Names of what would start, in order."""
    return [w.key.removeprefix("b/") for w in reserve(state, **options)]


@pytest.mark.parametrize(
    ("operations", "place", "left"),
    [
        ([], "", []),
        ([TRACKING], "", []),
        ([FACES], "", ["lobby/a.mp4", "yard/b.mp4"]),
        ([TRACKING], "lobby/", ["yard/b.mp4"]),
        ([], "s3://b/yard/", ["lobby/a.mp4"]),
        ([], "s3://another/yard/", ["lobby/a.mp4", "yard/b.mp4"]),
    ],
)
def test_what_is_paused_does_not_start_until_it_is_resumed(
    state: State, operations: list[str], place: str, left: list[str]
) -> None:
    discover(state, "lobby/a.mp4", "yard/b.mp4")
    with state.write() as connection:
        control.pause(connection, operations, place, 5.0)
        control.pause(connection, operations, place, 6.0)  # changes nothing
        assert control.pauses(connection) == [Pause("".join(operations), place, 5.0)]
    assert started(state, lease_s=0.0, now=100.0) == left
    with state.write() as connection:
        assert control.resume(connection, ["label_detection"], place) == []
        assert len(control.resume(connection, operations, place)) == 1
    # What was reserved before comes first again: it may have been started.
    assert sorted(started(state, now=200.0)) == ["lobby/a.mp4", "yard/b.mp4"]


def test_a_start_that_broke_off_is_looked_after_in_a_pause(state: State) -> None:
    discover(state, "a.mp4", "b.mp4")
    assert started(state, most=1, now=100.0, lease_s=10.0) == ["a.mp4"]
    with state.write() as connection:
        control.pause(connection, [], "", 105.0)
    assert started(state, now=120.0) == ["a.mp4"]


def test_resume_without_a_choice_ends_every_pause(state: State) -> None:
    with state.write() as connection:
        control.pause(connection, [TRACKING, FACES], "lobby/", 1.0)
        control.pause(connection, [], "", 2.0)
        texts = [p.text for p in control.resume(connection, [], "")]
        assert control.pauses(connection) == []
    assert sorted(texts) == [
        "all operations",
        "face_detection of lobby/",
        "person_tracking of lobby/",
    ]


def test_ignored_videos_do_not_start_and_start_when_they_are_ignored_no_longer(
    state: State,
) -> None:
    discover(state, "lobby/a.mp4", "lobby/b.mp4", "yard/c.mp4")
    with state.write() as connection:
        assert control.ignore(connection, "lobby/") == 2
        assert control.ignore(connection, "s3://b/yard/c.mp4") == 1
        assert control.unignore(connection, "s3://b/lobby/b.mp4") == 1
        assert control.unignore(connection, "s3://b/lobby/b.mp4") == 0
    assert started(state) == ["lobby/b.mp4"]
    with state.write() as connection:
        control.unignore(connection, "")
        statuses = {k.status for k in known(connection, ["b/lobby/a.mp4", "b/yard/c.mp4"]).values()}
    assert statuses == {PRESENT}


def enter(state: State, plan: Plan) -> None:
    """Videos of three days, discovered in another order."""
    found = []
    for name, day in (("yard/2.mp4", 2), ("lobby/3.mp4", 3), ("yard/1.mp4", 1)):
        at = datetime(2026, 1, day, tzinfo=timezone.utc)
        video = Video("b", name, etag="e", last_modified=at)
        found.append(Found(video, video.partition_key))
    for n, one in enumerate(found):
        with state.write() as connection:
            register(connection, [one], float(n), plan)


@pytest.mark.parametrize(
    ("order", "first", "expected"),
    [
        ("discovered", [], ["yard/2.mp4", "lobby/3.mp4", "yard/1.mp4"]),
        ("newest", [], ["lobby/3.mp4", "yard/2.mp4", "yard/1.mp4"]),
        ("oldest", [], ["yard/1.mp4", "yard/2.mp4", "lobby/3.mp4"]),
        ("oldest", ["s3://b/lobby/"], ["lobby/3.mp4", "yard/1.mp4", "yard/2.mp4"]),
        ("newest", ["yard/1", "yard/"], ["yard/1.mp4", "yard/2.mp4", "lobby/3.mp4"]),
    ],
)
def test_waiting_work_starts_in_the_order_of_the_settings(
    state: State, order: str, first: list[str], expected: list[str]
) -> None:
    plan = Plan([TRACKING], sources=[Source("b")], order=order, first=first)
    enter(state, plan)
    assert started(state, lease_s=0.0) == expected


def test_another_order_is_that_of_what_waits_already(state: State) -> None:
    enter(state, Plan([TRACKING]))
    with state.write() as connection:
        add_operations(connection, Plan([TRACKING], order="oldest"), 9.0)
        assert control.start_first(connection, [TRACKING], "yard/2.mp4") == 1
    assert started(state) == ["yard/2.mp4", "yard/1.mp4", "lobby/3.mp4"]
    assert set(phases(state)) == {"yard/2.mp4", "yard/1.mp4", "lobby/3.mp4"}
