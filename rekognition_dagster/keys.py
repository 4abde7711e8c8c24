"""The pattern language over keys: named parts, of which some are strftime-like dates and times.

``{camera}/{date:%Y-%m-%d}/{time:%H%M%S}.mp4`` serves ``camera_pattern``, ``date_pattern`` and
``partition_by``. A pattern becomes one regular expression that Python and DuckDB read alike.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from functools import cache

_PARTS = {
    "date": "%Y-%m-%d",
    "time": "%H-%M-%S",
    "datetime": "%Y-%m-%d-%H-%M-%S",
    "year": "%Y",
    "month": "%m",
    "day": "%d",
    "hour": "%H",
    "minute": "%M",
    "second": "%S",
    "millisecond": "%f",
}
"""What a part of such a name means without a format of its own; ``-`` is any separator or none."""
_FREE = ("camera", "site", "any")
"""Parts that match the name of a folder or a part of it."""
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,5}$")
_DIRECTIVES = {
    "Y": r"\d{4}",
    "y": r"\d\d",
    "m": r"\d\d",
    "d": r"\d\d",
    "H": r"\d\d",
    "M": r"\d\d",
    "S": r"\d\d",
    "f": r"\d{1,6}",
    "s": r"\d{9,10}",
    "z": r"Z|[+-]\d\d:?\d\d",
}
"""The directives of strftime that a format may have."""
_NAME = r"[^/]+?"


@dataclass(frozen=True)
class KeyPattern:
    """A compiled pattern.

    It is looked for where a folder of the key begins; of several places the first counts.

    Args:
        text: The pattern. ``{camera}``, ``{site}`` and ``{any}`` match the name of a folder or a
            part of it; ``{at:%Y-%m-%d}``, with any name, digits by strftime's directives Y, y, m,
            d, H, M, S, f, s (seconds since 1970) and z. ``{date}``, ``{time}``, ``{datetime}``,
            ``{year}``, ``{month}``, ``{day}``, ``{hour}``, ``{minute}``, ``{second}`` and
            ``{millisecond}`` need no format. An extension at the end matches in any case.

    Raises:
        ValueError: The pattern has no part or an unknown one, or is malformed.
    """

    text: str
    expression: str = field(init=False, repr=False, compare=False)
    groups: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        expression, groups = _compiled(self.text)
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "groups", groups)

    def match(self, key: str) -> Match | None:
        """The first place of a key that the pattern matches."""
        found = _searcher(self.expression).search(key)
        if found is None:
            return None
        values: dict[str, str] = {}
        for name, value in zip(self.groups, found.groups()[1:], strict=True):
            values.setdefault(name, value)
        return Match(values, found.end(1))

    def has(self, *groups: str) -> bool:
        """Whether a match has these: directives such as ``%Y``, or names of parts."""
        return set(groups) <= set(self.groups)

    @property
    def has_day(self) -> bool:
        """Whether a match has a day."""
        return self.has("%s") or (self.has("%m", "%d") and (self.has("%Y") or self.has("%y")))

    @property
    def has_moment(self) -> bool:
        """Whether a match has a day and at least an hour."""
        return self.has("%s") or (self.has_day and self.has("%H"))


@dataclass(frozen=True)
class Match:
    """What a pattern found in a key.

    Args:
        values: By directive (``%Y``) or name of a part.
        end: Where in the key it ends.
    """

    values: dict[str, str]
    end: int

    @property
    def day(self) -> date | None:
        """The day by the camera's clock, if it is one."""
        v = self.values
        if "%s" in v:
            return datetime.fromtimestamp(int(v["%s"]), timezone.utc).date()
        try:
            year = int(v["%Y"]) if "%Y" in v else 2000 + int(v["%y"])
            return date(year, int(v["%m"]), int(v["%d"]))
        except (KeyError, ValueError):
            return None


@cache
def _searcher(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.ASCII)


def _compiled(pattern: str) -> tuple[str, tuple[str, ...]]:
    """The expression of a pattern, whose first group is all of it, and what the others are."""
    texts = re.split(r"\{(\w+)(?::([^{}]*))?\}", pattern)
    literals, names, formats = texts[::3], texts[1::3], texts[2::3]
    if not names or any(set(text) & set("{}") for text in literals):
        raise ValueError(
            f"{pattern!r} is no pattern over keys: write e.g. {{camera}}/{{date}} or "
            "{camera}/{date:%Y-%m-%d}/{time:%H%M%S}"
        )
    expression, groups, is_digits = re.escape(literals[0]), [], False
    for name, text, literal in zip(names, formats, literals[1:], strict=True):
        if text is None and name not in (*_FREE, *_PARTS):
            raise ValueError(_unknown(pattern, name))
        is_digits = text is not None or name in _PARTS
        if not is_digits:
            expression += f"({_NAME})"
            groups.append(name)
        else:
            piece, found = _of_format(pattern, text if text is not None else _PARTS[name], text)
            expression += piece
            groups += found
        expression += re.escape(literal)
    if extension := _EXTENSION.search(literals[-1]):
        expression = expression.removesuffix(re.escape(extension[0]))
        expression += "".join(_any_case(letter) for letter in extension[0])
    # Digits end where they end; any other part at the end goes on to the end of its folder.
    end = "" if literals[-1] else (r"(?:\D|$)" if is_digits else "(?:/|$)")
    return f"(?:^|/)({expression}){end}", tuple(groups)


def _unknown(pattern: str, name: str) -> str:
    known = (*_FREE, *_PARTS)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"; did you mean {{{near[0]}}}?" if near else "."
    parts = ", ".join(f"{{{n}}}" for n in known)
    return (
        f"{pattern!r} has an unknown part {{{name}}}{hint} There are {parts}, and with a format "
        "any name, such as {at:%Y%m%d}"
    )


def _any_case(letter: str) -> str:
    return f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else re.escape(letter)


def _of_format(pattern: str, text: str, given: str | None) -> tuple[str, list[str]]:
    """The expression of one part's format, and its directives."""
    expression, groups = "", []
    for literal, directive in re.findall(r"([^%]*)(?:%(.?)|$)", text):
        expression += re.escape(literal) if given else literal.replace("-", "[-:/_]?")
        if directive == "%":
            expression += "%"
        elif directive in _DIRECTIVES:
            expression += f"({_DIRECTIVES[directive]})"
            groups.append(f"%{directive}")
        elif directive or text.endswith("%"):
            known = ", ".join(f"%{d}" for d in _DIRECTIVES)
            raise ValueError(f"{pattern!r}: %{directive} is not supported; there are {known}")
    if text.endswith("Z") and "%z" not in groups:
        raise ValueError(f"{pattern!r}: write %z in place of Z, which reads Z as UTC")
    if not groups:
        raise ValueError(f"{pattern!r}: {text!r} has no directive; write e.g. %Y-%m-%d")
    return expression, groups
