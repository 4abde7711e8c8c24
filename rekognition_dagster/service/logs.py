"""Logs of the service and its workers: one line an event, as text or as JSON, with its JobId.

Fields come with ``extra={...}``. What is secret is never given to a logger in the first place.
"""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def configure(style: str = "text") -> None:
    """Log to standard error.

    Args:
        style: ``text`` for people, ``json`` for collectors.
    """
    output = logging.StreamHandler()
    output.setFormatter(JsonLines() if style == "json" else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[output], force=True)
    for library in ("uvicorn", "botocore", "boto3"):  # their news is told here with more in it
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
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "pid": record.process,
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """``time level event key=value ...``"""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        fields = "".join(f" {k}={v}" for k, v in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
