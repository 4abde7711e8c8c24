"""Logs of the service and its workers: one line an event, as text or as JSON, with its JobId.

Fields come with ``extra={...}``. No logger is given a secret. What callers choose, such as the key
of a video, cannot begin a line of its own.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime, timezone
from typing import Any

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
# Control characters, also those that only Unicode counts as ends of lines, and what reorders text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def configure(style: str = "text") -> None:
    """Log to standard error.

    Args:
        style: ``text`` for people, ``json`` for collectors.
    """
    output = logging.StreamHandler()
    output.setFormatter(JsonLines() if style == "json" else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[output], force=True)
    for library in ("uvicorn", "botocore", "boto3"):  # this service logs the same with more in it
        logging.getLogger(library).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD and v is not None}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _text(record.getMessage()),
            "pid": record.process,
        }
        for name, value in _fields(record).items():
            plain = value if isinstance(value, (int, float)) else _text(value)
            line.setdefault(name, plain)
        if record.exc_info:
            line["traceback"] = _text(self.formatException(record.exc_info))
        text = orjson.dumps(line).decode()
        return _UNPRINTABLE.sub(lambda c: f"\\u{ord(c[0]):04x}", text)


class TextLines(logging.Formatter):
    """``time level event key=value ...``; lines of a traceback are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        fields = "".join(f" {k}={_quoted(str(v))}" for k, v in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {_one_line(record.getMessage())}{fields}"
        if not record.exc_info:
            return line
        trace = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *(f"    {_one_line(part)}" for part in trace)])


def _text(value: object) -> str:
    # A key of S3 may have surrogates where it was no UTF-8.
    return str(value).encode("utf-8", "backslashreplace").decode()


def _one_line(text: str) -> str:
    return _UNPRINTABLE.sub(lambda c: c[0].encode("unicode_escape").decode(), _text(text))


def _quoted(text: str) -> str:
    """A field's value, in quotes where it could be taken for several fields."""
    text = _one_line(text)
    if text and not any(c in text for c in ' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'
