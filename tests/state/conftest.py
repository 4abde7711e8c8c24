"""A state with nothing in it, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rekognition_dagster.state import State


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.sqlite'}"
    address = request.getfixturevalue("postgres").create(f"state-{unique}")
    return address.replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture
def state(url: str) -> Iterator[State]:
    """A deployment's state."""
    opened = State(url, "cameras")
    yield opened
    opened.dispose()
