"""Arrivals: what S3 says of objects that were written, on its way over SQS. No Dagster here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote_plus

from rekognition_dagster.api.queue import MalformedMessageError, text_member, unwrapped
from rekognition_dagster.videos import Video


@dataclass(frozen=True)
class Arrival:
    """An object was written.

    Args:
        video: The object as it was then. Its version id is left out, for a listing does not tell
            it: the same object is the same version, however it was found.
        sequencer: S3's order of events of one key: hexadecimal, empty where it is not known.
    """

    video: Video
    sequencer: str


def parse_arrivals(body: str) -> list[Arrival]:
    """The objects that a message says were written; none where it says something else of a bucket.

    Takes S3's own notifications, directly or over SNS (enveloped or raw), and EventBridge's.

    Raises:
        MalformedMessageError: It is no event of S3.
    """
    document = unwrapped(body)
    if document.get("Event") == "s3:TestEvent":
        return []
    if isinstance(records := document.get("Records"), list):
        told = [_of_s3(record) for record in records]
        return [arrival for arrival in told if arrival is not None]
    if document.get("source") == "aws.s3":
        arrival = _of_eventbridge(document)
        return [] if arrival is None else [arrival]
    raise MalformedMessageError("it is no event of S3: neither Records nor source aws.s3")


def is_later(sequencer: str, than: str) -> bool:
    """Whether one event of a key came after another; the shorter sequencer is padded at its end."""
    length = max(len(sequencer), len(than))
    return sequencer.ljust(length, "0").upper() > than.ljust(length, "0").upper()


def _of_s3(record: object) -> Arrival | None:
    if not isinstance(record, Mapping):
        raise MalformedMessageError("one of its Records is no JSON object")
    if not text_member(record, "eventName").removeprefix("s3:").startswith("ObjectCreated"):
        return None
    s3 = _member(record, "s3")
    entry = _member(s3, "object")
    return _arrival(
        text_member(_member(s3, "bucket"), "name"),
        unquote_plus(text_member(entry, "key")),
        text_member(entry, "eTag"),
        entry,
        record.get("eventTime"),
    )


def _of_eventbridge(document: Mapping[str, Any]) -> Arrival | None:
    if text_member(document, "detail-type") != "Object Created":
        return None
    detail = _member(document, "detail")
    entry = _member(detail, "object")
    return _arrival(
        text_member(_member(detail, "bucket"), "name"),
        text_member(entry, "key"),
        text_member(entry, "etag"),
        entry,
        document.get("time"),
    )


def _arrival(
    bucket: str, key: str, etag: str, entry: Mapping[str, Any], written: object
) -> Arrival:
    size, sequencer = entry.get("size"), entry.get("sequencer")
    video = Video(
        bucket,
        key,
        etag=etag.strip('"'),
        size=size if isinstance(size, int) else None,
        last_modified=_time(written),
    )
    return Arrival(video, sequencer if isinstance(sequencer, str) else "")


def _member(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    if not isinstance(value, Mapping):
        raise MalformedMessageError(f"it has no {name}")
    return value


def _time(text: object) -> datetime:
    try:
        # Python 3.10 reads neither Z nor a fraction of any length; whole seconds are enough.
        return datetime.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        raise MalformedMessageError(f"its time {text!r} is none") from None
