"""Budgets: minutes of video, and money, that jobs may take in a day or a month."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from rekognition_dagster.state.store import fact, set_fact
from rekognition_dagster.state.tables import JOBS

_MEASURED = "measured"
_USUAL_BYTES_A_SECOND = 500_000.0  # 4 Mbit/s, until videos were analysed


@dataclass(frozen=True)
class Limit:
    """What jobs may take in a period.

    Args:
        period: ``day`` or ``month``, of the calendar.
        minutes: Of video.
        money: At the price of each operation.
        operations: Which operations together; all if empty.
    """

    period: str
    minutes: float | None = None
    money: float | None = None
    operations: tuple[str, ...] = ()

    def has(self, operation: str) -> bool:
        """Whether it limits an operation."""
        return not self.operations or operation in self.operations


@dataclass(frozen=True)
class Budget:
    """The limits of a deployment.

    Args:
        limits: All of them hold.
        prices: Of a minute of video, by operation.
        timezone: In which days and months begin.
    """

    limits: Sequence[Limit] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    timezone: str = "UTC"

    def longest(self, operation: str) -> float | None:
        """Minutes of the longest video that fits into every whole limit; None if any does."""
        price = self.prices.get(operation, 0.0)
        fits = [limit.minutes for limit in self.limits if limit.has(operation)]
        fits += [
            limit.money / price
            for limit in self.limits
            if limit.has(operation) and limit.money is not None and price
        ]
        return min((minutes for minutes in fits if minutes is not None), default=None)

    def period(self, limit: Limit, now: float) -> tuple[float, float]:
        """When the period of a limit began, and when the next one begins."""
        day = datetime.fromtimestamp(now, ZoneInfo(self.timezone)).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        if limit.period == "day":
            return day.timestamp(), (day + timedelta(days=1)).timestamp()
        first = day.replace(day=1)
        return first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp()


@dataclass
class Spent:
    """How a limit stands.

    Args:
        limit: Which.
        minutes: Of video that jobs took since the period began.
        money: What they cost.
        since: When the period began.
        until: When the next one begins.
    """

    limit: Limit
    minutes: float
    money: float
    since: float
    until: float

    def has_room(self, minutes: float, money: float) -> bool:
        """Whether a job may start that takes so much."""
        most_minutes, most_money = self.limit.minutes, self.limit.money
        return (most_minutes is None or self.minutes + minutes <= most_minutes) and (
            most_money is None or self.money + money <= most_money
        )

    def forecast(self, now: float) -> float:
        """Minutes at the period's end, if it goes on so."""
        return self.minutes * (self.until - self.since) / max(now - self.since, 1.0)

    @property
    def text(self) -> str:
        """What was taken of what may be."""
        parts = []
        if self.limit.minutes is not None:
            parts.append(f"{self.minutes:.0f} of {self.limit.minutes:g} minutes")
        if self.limit.money is not None:
            parts.append(f"{self.money:.2f} of {self.limit.money:g} money")
        of = f" of {', '.join(self.limit.operations)}" if self.limit.operations else ""
        return f"{' and '.join(parts)} this {self.limit.period}{of}"


def spent(connection: sa.Connection, budget: Budget, now: float) -> list[Spent]:
    """How each limit stands."""
    found = []
    for limit in budget.limits:
        since, until = budget.period(limit, now)
        query = (
            sa.select(JOBS.c.operation, sa.func.coalesce(sa.func.sum(JOBS.c.minutes), 0.0))
            .where(JOBS.c.started_at >= since)
            .group_by(JOBS.c.operation)
        )
        taken = {o: float(m) for o, m in connection.execute(query) if limit.has(o)}
        money = sum(m * budget.prices.get(o, 0.0) for o, m in taken.items())
        found.append(Spent(limit, sum(taken.values()), money, since, until))
    return found


class Allowance:
    """What may still start, of work that is being reserved."""

    def __init__(self, connection: sa.Connection, budget: Budget, now: float) -> None:
        self._standing = spent(connection, budget, now)
        self._prices = budget.prices

    def take(self, operation: str, minutes: float) -> bool:
        """Whether a job may start; it counts then."""
        money = minutes * self._prices.get(operation, 0.0)
        ours = [s for s in self._standing if s.limit.has(operation)]
        if not all(s.has_room(minutes, money) for s in ours):
            return False
        for s in ours:
            s.minutes += minutes
            s.money += money
        return True


def bytes_a_second(connection: sa.Connection) -> float:
    """How large a second of video is here: of those that were analysed, else a usual value."""
    seconds, size = json.loads(fact(connection, _MEASURED) or "[0, 0]")
    return max(size / seconds, 1.0) if seconds else _USUAL_BYTES_A_SECOND


def minutes_of(seconds: float | None, size: float | None, rate: float) -> float:
    """How long a video is: as it was measured, else by its size and bytes a second."""
    return (seconds if seconds is not None else (size or 0.0) / rate) / 60


def measured(connection: sa.Connection, seconds: float, size: float) -> None:
    """Learn from videos that were analysed: how long they are together, and how large."""
    known = json.loads(fact(connection, _MEASURED) or "[0, 0]")
    set_fact(connection, _MEASURED, json.dumps([known[0] + seconds, known[1] + size]))
