"""Which camera took a video and when: columns of the view ``videos``, derived when it is read.

Nothing of it is stored with a video, so a changed pattern applies to all videos at once. The lake
stores the settings themselves, so that every reader of it derives the same.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.keys import KeyPattern
from rekognition_dagster.lake.names import REGISTRY, literal

PATH = f"{REGISTRY}/cameras.json"
"""Where a lake stores its settings of cameras."""
COLUMNS = {
    "camera": "VARCHAR",
    "timezone": "VARCHAR",
    "recorded_at": "TIMESTAMPTZ",
    "recorded_local": "TIMESTAMP",
    "recorded_at_source": "VARCHAR",
}
"""What the view ``videos`` has beside the table's own columns."""


@dataclass(frozen=True)
class Cameras:
    """How the camera and the time of recording are found.

    Args:
        pattern: A pattern over keys (:mod:`keys`) with a part ``camera``, a day and a time, as far
            as keys have them.
        timezones: Time zones of the cameras' clocks, by camera; names may have ``*``, and the first
            that matches counts.
        timezone: That of all other cameras.

    Raises:
        ValueError: The pattern is malformed, or there is no such time zone.
    """

    pattern: str | None = None
    timezones: Mapping[str, str] = field(default_factory=dict, hash=False)
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        for name in (self.timezone, *self.timezones.values()):
            check_timezone(name)
        if self.key_pattern is not None and not self.key_pattern.has("camera"):
            raise ValueError(f"{self.pattern!r} has no {{camera}}")

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Cameras | None:
        """The settings of the environment; None where it has none of them.

        Raises:
            ConfigurationError: One is wrong; the text names the variable.
        """
        prefix = "REKOGNITION_DAGSTER_"
        pattern = environment.get(f"{prefix}CAMERA_PATTERN") or None
        timezones = environment.get(f"{prefix}CAMERA_TIMEZONES")
        timezone = environment.get(f"{prefix}TIMEZONE") or "UTC"
        given = {
            "CAMERA_PATTERN": lambda: cls(pattern),
            "CAMERA_TIMEZONES": lambda: cls(None, _by_camera(timezones or "{}")),
            "TIMEZONE": lambda: cls(None, {}, timezone),
        }
        for name, check in given.items():
            try:
                check()
            except ValueError as error:
                raise ConfigurationError(f"{prefix}{name}: {error}") from None
        if not pattern and not timezones:
            return None
        return cls(pattern, _by_camera(timezones or "{}"), timezone)

    @cached_property
    def key_pattern(self) -> KeyPattern | None:
        """The compiled pattern."""
        return KeyPattern(self.pattern) if self.pattern else None

    def timezone_of(self, camera: str | None) -> str:
        """The time zone of a camera's clock."""
        found = (z for c, z in self.timezones.items() if fnmatch.fnmatchcase(camera or "", c))
        return next(found, self.timezone) if camera else self.timezone

    def to_json(self) -> bytes:
        """The settings as the lake stores them."""
        content = [self.pattern, list(self.timezones.items()), self.timezone]
        return json.dumps(content).encode()

    @classmethod
    def from_json(cls, text: bytes | None) -> Cameras:
        """The settings that a lake stores; the defaults where it stores none."""
        if text is None:
            return cls()
        pattern, timezones, timezone = json.loads(text)
        return cls(pattern, dict(timezones), timezone)

    def view(self, videos: str) -> str:
        """The expression of the view: that of the table ``videos``, and :data:`COLUMNS`.

        The key's time is that of the camera's clock. Where a clock was set back, of the two times
        that it showed twice the one nearer to the container's, or the last change's, counts, else
        the first; a time that a clock skipped is read as if it had not yet been put forward.
        """
        around = "INTERVAL 3 HOUR"  # before and after any change of a clock
        return f"""(
            SELECT * EXCLUDE (_text, _instant, _local, _other, _early, _late, _from_key),
                coalesce(_from_key, _other) AS recorded_at,
                timezone(timezone, coalesce(_from_key, _other)) AS recorded_local,
                CASE WHEN _from_key IS NOT NULL THEN 'key'
                    WHEN container_created_at IS NOT NULL THEN 'container'
                    WHEN _other IS NOT NULL THEN 'modified' END AS recorded_at_source
            FROM (SELECT *, coalesce(_instant, CASE
                WHEN timezone(timezone, _early) = _local AND timezone(timezone, _late) = _local
                    AND abs(epoch(_other) - epoch(_late)) < abs(epoch(_other) - epoch(_early))
                    THEN _late
                WHEN timezone(timezone, _late) = _local AND timezone(timezone, _early) <> _local
                    THEN _late
                ELSE _early END) AS _from_key
            FROM (SELECT *,
                timezone(timezone, _local - {around}) + {around} AS _early,
                timezone(timezone, _local + {around}) - {around} AS _late
            FROM (SELECT *,
                {self._timezone_sql()} AS timezone,
                try_strptime(_text, '%Y-%m-%d %H:%M:%S.%f') AS _local,
                coalesce(
                    container_created_at, last_modified - to_milliseconds(duration_ms)
                ) AS _other
            FROM (SELECT *, {self._key_sql()} FROM {videos}))))
        )"""

    def _timezone_sql(self) -> str:
        cases = "".join(
            f" WHEN camera GLOB {literal(c)} THEN {literal(z)}" for c, z in self.timezones.items()
        )
        return (
            f"CASE{cases} ELSE {literal(self.timezone)} END"
            if cases
            else f"{literal(self.timezone)}"
        )

    def _key_sql(self) -> str:
        """Columns from the key: ``camera``; ``_text``, the camera's clock; ``_instant``, UTC."""
        pattern = self.key_pattern
        if pattern is None:
            return "NULL::VARCHAR AS camera, NULL::VARCHAR AS _text, NULL::TIMESTAMPTZ AS _instant"
        names = [f"g{n}" for n in range(len(pattern.groups) + 1)]
        key = "regexp_replace(video, '^(s3://[^/]*/|file://)', '')"
        found = f"regexp_extract({key}, {literal(pattern.expression)}, {names})"

        def part(group: str) -> str | None:
            if group not in pattern.groups:
                return None
            return f"nullif({found}['g{pattern.groups.index(group) + 1}'], '')"

        year = part("%Y") or (f"'20' || {part('%y')}" if part("%y") else "NULL")
        date = f"{year} || '-' || {part('%m') or 'NULL'} || '-' || {part('%d') or 'NULL'}"
        time = " || ':' || ".join(part(g) or d for g, d in _TIME)
        text = f"{date} || ' ' || {time} || '.' || rpad({part('%f') or literal('0')}, 6, '0')"
        instant = "NULL::TIMESTAMPTZ"
        if part("%s"):
            instant = f"to_timestamp(try_cast({part('%s')} AS BIGINT))"
        elif part("%z"):
            offset = rf"regexp_replace({part('%z')}, '(\d\d):?(\d\d)$', '\1:\2')"
            instant = f"try_cast(({text}) || replace({offset}, 'Z', '+00:00') AS TIMESTAMPTZ)"
        return (
            f"{part('camera') or 'NULL::VARCHAR'} AS camera, ({text})::VARCHAR AS _text, "
            f"{instant} AS _instant"
        )


def _by_camera(text: str) -> dict[str, str]:
    """Time zones by camera, from JSON."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f'{text!r} is no JSON object; write e.g. {{"north": "Europe/Zurich"}}')
    return {str(camera): str(name) for camera, name in found.items()}


_TIME = (("%H", "NULL"), ("%M", "'00'"), ("%S", "'00'"))


def check_timezone(name: str) -> None:
    """Refuse what is no time zone.

    Raises:
        ValueError: There is no such time zone.
    """
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone; write e.g. Europe/Zurich") from None
