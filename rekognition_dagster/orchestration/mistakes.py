"""What pydantic finds wrong with settings, a line a value: its place, it, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

_TAG = re.compile(r"str|int|float|bool|.*[^\w].*")
"""Parts of pydantic's places that name a member of a union, not a key."""
_WITH_VALUE = ("value_error", "missing", "extra_forbidden")
"""Kinds of errors whose text has the value, or that are about none."""


@dataclass(frozen=True)
class Mistake:
    """A wrong value.

    Args:
        place: The setting, and the keys and numbers that lead to the value in it; empty where
            no single setting is at fault.
        text: What is wrong, and what is allowed.
        value: The value; None where it is missing, and where it may be a secret.
    """

    place: tuple[str | int, ...]
    text: str
    value: Any


def mistakes_of(error: ValidationError, settings: Collection[str]) -> list[Mistake]:
    """Return what is wrong, each value once.

    Args:
        error: pydantic's error.
        settings: The names of all settings: an error about several of them, whose text begins
            with the name of one, is placed there.
    """
    texts: dict[tuple[str | int, ...], list[str]] = {}
    values: dict[tuple[str | int, ...], Any] = {}
    for each in error.errors():
        text = each["msg"].removeprefix("Value error, ")
        place = tuple(_keys(each["loc"]))
        first, _, rest = text.partition(" ")
        if not place and first in settings:
            place, text = (first,), rest
        if each["type"] not in _WITH_VALUE and place[-1:] not in (("secret",), ("alerts",)):
            values[place] = each["input"]
            text = text.removeprefix("Input should be ") if place in texts else text
        texts.setdefault(place, []).append(text)
    return [Mistake(p, " or ".join(found), values.get(p)) for p, found in texts.items()]


def _keys(parts: tuple[str | int, ...]) -> Iterator[str | int]:
    for n, part in enumerate(parts):
        if n == 0 or isinstance(part, int) or not _TAG.fullmatch(part):
            yield part
