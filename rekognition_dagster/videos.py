"""A video: where it lies, its partition key, the name of its files, and its idempotency token.

Pure mappings, no AWS and no Dagster. The partition key names the object; the token names the work
on one version of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timezone
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from rekognition_dagster.keys import KeyPattern

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".m4v"})
"""Keys that end so (in any case) are videos: the containers that the API takes."""

LOCAL_SUFFIXES = VIDEO_SUFFIXES | {
    *(".3gp", ".asf", ".dv", ".flv", ".m2ts", ".mkv", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv"),
    *(".qt", ".ts", ".webm", ".wmv"),
}
"""Files that end so (in any case) are videos to the local engine."""

DATE_PATTERN = r"(?<!\d)(?P<year>20\d\d)(?P<sep>[-/_]?)(?P<month>\d\d)(?P=sep)(?P<day>\d\d)(?!\d)"
"""Finds the day of recording in a key: ``2026-01-31``, ``2026/01/31`` or ``20260131``."""

_LOCAL = "file:"
# Spelled out rather than by Unicode category, which changes with Python's version.
_SPACE = "[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+"
_ESCAPED = re.compile(
    "[%\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    rf"|^{_SPACE}|{_SPACE}\Z"
)


@dataclass(frozen=True)
class Video:
    """One video object, and which version of it.

    Args:
        bucket: S3 bucket; empty for a file on this machine.
        key: S3 key, 1 to 1024 bytes of UTF-8; for a local file its absolute path.
        version_id: S3 version id, where the bucket is versioned.
        etag: Entity tag of the content, without quotes.
        size: Bytes.
        last_modified: When the object was written, in UTC.
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    last_modified: datetime | None = None

    @property
    def is_local(self) -> bool:
        """Whether this is a file on this machine rather than an S3 object."""
        return not self.bucket

    @property
    def uri(self) -> str:
        """``s3://bucket/key`` as it is, or ``file:///path``. The ``video`` column of each table."""
        return f"file://{self.key}" if self.is_local else f"s3://{self.bucket}/{self.key}"

    @property
    def partition_key(self) -> str:
        """``bucket/key``, readable and reversible; see :func:`from_partition_key`."""
        return escape_partition(
            f"{_LOCAL}{self.key}" if self.is_local else f"{self.bucket}/{self.key}"
        )

    @cached_property
    def id(self) -> str:
        """The stem of this video's files: readable, unique per URI, safe on any file system."""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(self.key).stem).strip("-")[:64]
        digest = hashlib.sha256(self.uri.encode(errors="surrogateescape")).hexdigest()[:16]
        return f"{stem}-{digest}" if stem else digest

    @property
    def version(self) -> str:
        """What tells one content from another: the etag, else the version id, else nothing.

        A listing and an event know the etag only; a version id is a fact about the object."""
        return self.etag or self.version_id or ""

    def recorded_on(self, pattern: str = DATE_PATTERN) -> date:
        """The day of recording: from the key by ``pattern`` (see :func:`day_of`), else the day of
        ``last_modified``, else 1970-01-01."""
        if found := day_of(self.key, pattern):
            return found
        return (self.last_modified or datetime.fromtimestamp(0, timezone.utc)).date()

    def s3_object(self) -> dict[str, str]:
        """The API's ``S3Object`` for this video."""
        reference = {"Bucket": self.bucket, "Name": self.key}
        return {**reference, "Version": self.version_id} if self.version_id else reference

    @classmethod
    def from_uri(cls, uri: str, **facts: Any) -> Video:
        """The video at ``s3://bucket/key``, ``file:///path`` or a plain path.

        Raises:
            ValueError: An S3 URI without a bucket or a key, or an address of another kind.
        """
        if uri.startswith("s3://"):
            bucket, _, key = uri[len("s3://") :].partition("/")
            if not bucket or not key:
                raise ValueError(f"{uri!r} is no video: write s3://bucket/key")
            return cls(bucket, key, **facts)
        path = uri[len("file://") :] if uri.startswith("file://") else uri
        if re.match(r"[a-z][a-z0-9+.-]*://", path):
            raise ValueError(f"{uri!r} cannot be read: name a file, a folder, or s3://bucket/key")
        return cls("", str(_absolute(path)), **facts)

    @classmethod
    def from_partition_key(cls, partition_key: str, **facts: Any) -> Video:
        """The inverse of :attr:`partition_key`.

        Raises:
            ValueError: The key is not one that :attr:`partition_key` makes.
        """
        text = unescape_partition(partition_key)
        if text.startswith(_LOCAL):
            video = cls("", text[len(_LOCAL) :], **facts)
        else:
            bucket, _, key = text.partition("/")
            video = cls(bucket, key, **facts)
        if not video.key or video.partition_key != partition_key:
            raise ValueError(f"{partition_key!r} is no partition key of a video (bucket/key)")
        return video

    @classmethod
    def from_file(cls, path: str | Path) -> Video:
        """The local file at ``path``, with its size, time and a tag of both as its etag."""
        path = _absolute(path)
        stat = path.stat()
        return cls(
            "",
            str(path),
            etag=hashlib.sha256(f"{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:32],
            size=stat.st_size,
            last_modified=datetime.fromtimestamp(stat.st_mtime, timezone.utc),
        )

    def with_facts(self, **facts: Any) -> Video:
        """The same object with more known about it."""
        return replace(self, **facts)


@dataclass(frozen=True)
class Source:
    """Videos of a bucket whose keys begin with a prefix, and the operations that run on them."""

    bucket: str
    prefix: str = ""
    operations: tuple[str, ...] = ()

    def has(self, operation: str) -> bool:
        """Whether an operation runs on its videos."""
        return not self.operations or operation in self.operations

    def covers(self, bucket: str, key: str) -> bool:
        """Whether an object is one of its videos."""
        return bucket == self.bucket and key.startswith(self.prefix)

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}"


def source_of(sources: Sequence[Source], video: Video) -> Source | None:
    """The source that a video is of: of several the one with the longest prefix."""
    theirs = [s for s in sources if s.covers(video.bucket, video.key)]
    return max(theirs, key=lambda s: len(s.prefix), default=None)


def roots(sources: Sequence[Source]) -> list[Source]:
    """The sources that do not lie in another one: listing these lists all."""
    return [
        s
        for n, s in enumerate(sources)
        if not any(
            other.covers(s.bucket, s.prefix) and (len(other.prefix) < len(s.prefix) or m < n)
            for m, other in enumerate(sources)
            if m != n
        )
    ]


def _absolute(path: str | Path) -> Path:
    """Return the path from the root. One file has one name: ``..`` is resolved."""
    path = Path(path).absolute()
    return path.resolve() if ".." in path.parts else path


@dataclass(frozen=True)
class Partitioning:
    """Which partition a video is in: one of its own, or one that it shares with others.

    Args:
        pattern: The part of a key that videos of a partition share, e.g. ``{camera}/{date}``. It is
            looked for where a folder of the key begins. ``{date}``, ``{year}``, ``{month}``,
            ``{day}`` and ``{hour}`` match digits; ``{camera}``, ``{site}`` and ``{any}`` the name
            of a folder or a part of it. None gives every video a partition of its own.

    Raises:
        ValueError: The pattern has no field, or is malformed.
    """

    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None:
            _key_pattern(self.pattern)

    def partition_of(self, video: Video) -> str:
        """The partition's key: ``bucket/key`` up to the end of what the pattern matched. A video
        that it does not match has a partition of its own."""
        if self.pattern is None:
            return video.partition_key
        match = _key_pattern(self.pattern).match(video.key)
        if match is None:
            return video.partition_key
        place = _LOCAL if video.is_local else f"{video.bucket}/"
        return escape_partition(place + video.key[: match.end])


@cache
def _key_pattern(pattern: str) -> KeyPattern:
    return KeyPattern(pattern)


def day_of(key: str, pattern: str = DATE_PATTERN) -> date | None:
    """The day of recording in a key.

    Args:
        key: An object's key.
        pattern: A pattern over keys (:mod:`keys`), or a regular expression with the groups
            ``year``, ``month`` and ``day``, of which the last match that is a date counts.
    """
    if not is_expression(pattern):
        match = _key_pattern(pattern).match(key)
        return match.day if match else None
    found = None
    for match in re.finditer(pattern, key):
        try:
            found = date(int(match["year"]), int(match["month"]), int(match["day"]))
        except ValueError:
            continue
    return found


def is_expression(pattern: str) -> bool:
    """Whether a pattern is a regular expression with named groups, not one with named parts."""
    return "(?P<" in pattern


def check_date_pattern(pattern: str) -> str:
    """Return a usable pattern.

    Raises:
        ValueError: It is malformed, or finds no day.
    """
    if not is_expression(pattern) and re.search(r"\{\w+(:[^{}]*)?\}", pattern):
        if not _key_pattern(pattern).has_day:
            raise ValueError("finds no day; write e.g. {camera}/{date:%Y-%m-%d}")
        return pattern
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    if missing := {"year", "month", "day"} - set(groups):
        raise ValueError(f"lacks the group {', '.join(sorted(missing))}")
    return pattern


def is_video_key(key: str, suffixes: frozenset[str] = VIDEO_SUFFIXES) -> bool:
    """Whether a key looks like a video: a known suffix, and not a folder's placeholder."""
    return not key.endswith("/") and Path(key).suffix.lower() in suffixes


def escape_partition(text: str) -> str:
    """Percent-encode what Dagster forbids in a partition key (``...``, control characters), what a
    person could not see (format characters, separators, outer spaces), and ``%`` itself."""
    return _ESCAPED.sub(lambda match: quote(match[0], safe=""), text).replace("...", "..%2E")


def unescape_partition(text: str) -> str:
    """The inverse of :func:`escape_partition`.

    Raises:
        ValueError: The percent-encoding is not UTF-8.
    """
    return unquote(text, errors="strict")


def idempotency_token(
    operation: str, video: Video, request: Mapping[str, Any], attempt: int = 1
) -> str:
    """The ``ClientRequestToken`` for one piece of work: at most 64 of ``[a-zA-Z0-9-_]``.

    Equal for the same operation, object, version, request and attempt, different otherwise, so
    that asking twice is asking once. ``attempt`` counts deliberate repetitions: a job that FAILED
    is only run again under another token.

    Args:
        operation: The operation's name, e.g. ``person_tracking``.
        video: The video, with the version that is meant.
        request: Every other member of the Start request.
        attempt: 1 for the first.
    """
    work = [operation, video.bucket, video.key, video.version, dict(request), attempt]
    canonical = json.dumps(work, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"{operation}-{hashlib.sha256(canonical.encode()).hexdigest()[:40]}"
