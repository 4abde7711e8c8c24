"""Analysing again: which videos are chosen, and what is asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.operations import operation
from rekognition_dagster.state.jobs import request
from rekognition_dagster.state.store import State
from rekognition_dagster.state.tables import PRESENT, VIDEOS, WORK, Phase
from rekognition_dagster.state.videos import video_of
from rekognition_dagster.videos import Video

_NAMED = 20


@dataclass(frozen=True)
class Choice:
    """Which videos to analyse again.

    Args:
        operations: Which.
        failed: Only those whose job FAILED or whose start was refused.
        prefix: Only S3 keys that begin so.
        day: Only videos recorded on that day.
    """

    operations: Sequence[str]
    failed: bool = False
    prefix: str | None = None
    day: str | None = None

    def text(self) -> str:
        """Return what holds of the chosen videos, as a sentence goes on after "no video"."""
        conditions = (
            "has a job that FAILED or a start that was refused" if self.failed else None,
            f"has a key that begins with {self.prefix!r}" if self.prefix is not None else None,
            f"was recorded on {self.day}" if self.day is not None else None,
        )
        return " and ".join(filter(None, conditions))


def operations_of(names: Sequence[str], ours: Sequence[str]) -> list[str]:
    """Return the operations that are named, or all of the deployment's.

    Raises:
        ConfigurationError: The deployment does not run one of them.
    """
    try:
        chosen = [operation(name).name for name in names] or list(ours)
    except KeyError as error:
        raise ConfigurationError(str(error.args[0])) from None
    if others := [name for name in chosen if name not in ours]:
        raise ConfigurationError(
            f"this deployment does not run {', '.join(others)}; it runs {', '.join(ours)}. Set "
            "REKOGNITION_DAGSTER_OPERATIONS to change that"
        )
    return chosen


def choose(state: State, choice: Choice, date_pattern: str) -> dict[str, list[str]]:
    """Return the keys of the chosen videos by operation.

    Args:
        state: The deployment's.
        choice: Which videos.
        date_pattern: Finds the day of recording in a key.

    Raises:
        ConfigurationError: The day is not a date, or no video is chosen; except that nothing has
            failed, which is no error.
    """
    chosen = {name: _chosen_keys(state, choice, name, date_pattern) for name in choice.operations}
    if not any(chosen.values()) and not choice.failed:
        raise ConfigurationError(f"{nothing_chosen(choice)}. Check the choice")
    return {name: keys for name, keys in chosen.items() if keys}


def ask_again(state: State, choice: Choice, date_pattern: str) -> list[str]:
    """Request a new attempt of each chosen video; return lines about the outcome.

    Raises: As for :func:`choose`.
    """
    lines: list[str] = []
    for name, keys in choose(state, choice, date_pattern).items():
        with state.write() as connection:
            asked = request(connection, name, keys, time.time(), again=True)
        lines.append(
            f"{name}: {len(asked.waiting)} asked for, {len(asked.running)} running already, "
            f"{len(asked.refused)} refused"
        )
        lines += [f"  {uri_of(k)}: {r}" for k, r in list(asked.refused.items())[:_NAMED]]
    return lines or [nothing_chosen(choice)]


def nothing_chosen(choice: Choice) -> str:
    """Return the sentence that says so."""
    return f"no video in the bucket {choice.text()}"


def _chosen_keys(state: State, choice: Choice, name: str, date_pattern: str) -> list[str]:
    try:
        day = None if choice.day is None else date.fromisoformat(choice.day)
    except ValueError:
        raise ConfigurationError(f"{choice.day!r} is not a date such as 2026-01-31") from None
    query = (
        sa.select(VIDEOS)
        .outerjoin(WORK, sa.and_(WORK.c.key == VIDEOS.c.key, WORK.c.operation == name))
        .where(VIDEOS.c.status == PRESENT, VIDEOS.c.bucket != "")
        .order_by(VIDEOS.c.key)
    )
    if choice.failed:
        query = query.where(WORK.c.phase == Phase.FAILED.value)
    if choice.prefix:
        start = sa.func.substr(VIDEOS.c.name, 1, len(choice.prefix))
        query = query.where(start == choice.prefix)
    with state.read() as connection:
        rows = [dict(r) for r in connection.execute(query).mappings()]
    return [r["key"] for r in rows if day is None or video_of(r).recorded_on(date_pattern) == day]


def uri_of(key: str) -> str:
    """A video's URI."""
    return Video.from_partition_key(key).uri
