"""Which videos the local engine analyses: named, of a folder, under a prefix, of some days."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.videos import LOCAL_SUFFIXES, Video, is_video_key


@dataclass(frozen=True)
class VideoChoice:
    """Which videos to analyse; several together are all analysed.

    Args:
        videos: ``s3://bucket/key``, or paths of files.
        folder: Every video in it, at any depth.
        prefix: Every video under ``s3://bucket/prefix``, or under a prefix of ``bucket``.
        first: Of folder and prefix, only videos recorded on this day or later: ``2026-01-31``.
        last: Likewise, on this day or earlier.
        bucket: The bucket of a prefix that names none.
        default_prefix: The prefix where only days are chosen.

    Raises:
        ConfigurationError: Nothing is chosen, or a day is not a date.
    """

    videos: Sequence[str] = ()
    folder: str | None = None
    prefix: str | None = None
    first: str | None = None
    last: str | None = None
    bucket: str | None = None
    default_prefix: str = ""

    def __post_init__(self) -> None:
        for name, text in (("from", self.first), ("to", self.last)):
            try:
                date.fromisoformat(text or "2000-01-01")
            except ValueError:
                raise ConfigurationError(
                    f"{name}: {text!r} is not a date such as 2026-01-31"
                ) from None
        if not (self.videos or self.folder or self._prefix is not None):
            raise ConfigurationError(
                "nothing to analyse: configure videos, prefix, folder, or dates (from, to)"
            )

    @property
    def _prefix(self) -> str | None:
        only_days = self.prefix is None and not self.folder and (self.first or self.last)
        return self.default_prefix if only_days else self.prefix

    def find(self, date_pattern: str, client: Callable[[], Any]) -> Iterator[Video]:
        """The chosen videos.

        Args:
            date_pattern: Finds the day of recording in a key.
            client: Makes a boto3 ``s3`` client; called for a prefix only.

        Raises:
            ConfigurationError: There is no such folder, or the prefix has no bucket.
        """
        yield from (Video.from_uri(uri) for uri in self.videos)
        first, last = self.first or "0001-01-01", self.last or "9999-12-31"
        is_any_day = not (self.first or self.last)
        for video in self._searched(client):
            if is_any_day or first <= video.recorded_on(date_pattern).isoformat() <= last:
                yield video

    def __str__(self) -> str:
        """What was looked for."""
        places = [*self.videos, *([self.folder] if self.folder else [])]
        if (prefix := self._prefix) is not None:
            places.append(prefix if prefix.startswith("s3://") else f"s3://{self.bucket}/{prefix}")
        days = [f"{w} {d}" for w, d in (("from", self.first), ("to", self.last)) if d]
        return " ".join([", ".join(places), *days])

    def _searched(self, client: Callable[[], Any]) -> Iterator[Video]:
        if self.folder:
            folder = Path(self.folder).expanduser()
            if not folder.is_dir():
                raise ConfigurationError(f"{folder} is not a folder")
            for path in sorted(folder.rglob("*")):
                if path.is_file() and is_video_key(path.name, LOCAL_SUFFIXES):
                    yield Video.from_file(path)
        if (prefix := self._prefix) is None:
            return
        bucket = self.bucket
        if prefix.startswith("s3://"):
            bucket, _, prefix = prefix.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigurationError(
                f"the prefix {prefix!r} has no bucket: write s3://bucket/prefix"
            )
        lister = client().get_paginator("list_objects_v2")
        for page in lister.paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                if is_video_key(entry["Key"], LOCAL_SUFFIXES):
                    yield Video(bucket, entry["Key"], last_modified=entry["LastModified"])
