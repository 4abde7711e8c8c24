"""The sensor that discovers videos: what is new or changed under a prefix of a bucket.

Found by listing the bucket, over and over; or told by S3's event notifications, with a listing now
and then for what they may have missed. One sensor does both, for both write the same ledgers.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.api import Arrival, parse_arrivals
from rekognition_dagster.api.arrivals import is_later
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.inbox import (
    Fact,
    Inbox,
    Reported,
    dumped,
    loaded,
    opened,
)
from rekognition_dagster.orchestration.ledger import Entry, chunks
from rekognition_dagster.orchestration.names import TICK_S, VIDEO_PARTITIONS
from rekognition_dagster.orchestration.resources import QueueResource, VideoBucketResource, said
from rekognition_dagster.orchestration.standing import Books, known
from rekognition_dagster.videos import Video, is_video_key

MOST_DISCOVERED = 1000
"""Partitions that one tick reports at most, for each is an event to write."""
MOST_VIDEOS = 20_000
"""Videos that one tick reports at most, for they are in memory at once."""
_ADD_AT_ONCE = 400  # partitions per request: SQLite has a limit on variables in a statement


def build_discovery_sensor(books: Books) -> dg.SensorDefinition:
    """Reports videos that are new or changed, as arrivals on the queue or as a listing finds them.

    What is known already is asked of Dagster, not remembered: an upload that began before the last
    listing and ended after it is found all the same. A message is deleted on a later tick than the
    one that reported it, and only when Dagster has that version, or a later one.
    """
    settings = books.settings

    @dg.sensor(
        name="video_discovery",
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description="Finds new and changed videos in the bucket, by listing it or by S3's event "
        "notifications, and adds a partition for each.",
    )
    def discover(
        context: dg.SensorEvaluationContext,
        video_bucket: VideoBucketResource,
        arrivals_queue: QueueResource,
    ) -> dg.SensorResult | dg.SkipReason:
        if not video_bucket.bucket:
            return dg.SkipReason("No bucket is configured: set REKOGNITION_DAGSTER_BUCKET")
        started = time.monotonic()
        before = cursor = _Cursor.loaded(context.cursor)
        found: dict[str, tuple[Video, Entry]] = {}
        told: list[str] = []
        queue = arrivals_queue.queue()
        if queue is not None:
            inbox = opened(queue, context.log, settings)
            arrivals, reported = _arrivals(
                context.instance, books, inbox, video_bucket, before.reported
            )
            found |= {a.video.partition_key: (a.video, _entry(a)) for a in arrivals}
            told.append(f"{len(reported)} messages on the queue")
            cursor = replace(cursor, reported=tuple(reported))
        if queue is None or cursor.is_due(settings.listing_hours):
            cursor, listed, looked_at = _listed(
                context.instance, books, video_bucket, cursor, started
            )
            found |= {v.partition_key: (v, known(v, time.time())) for v in listed}
            told.append(f"{looked_at} keys under {_where(video_bucket)}")
        if queue is None:
            cursor = _Cursor(after=cursor.after)
        if not found and cursor == before:
            return dg.SkipReason(f"No new video among {' and '.join(told) or 'no messages'}")
        context.log.info(f"{len(found)} new or changed videos among {' and '.join(told)}")
        changes = books.by_partition(dict(found.values()))
        return dg.SensorResult(
            cursor=cursor.dumped(),
            asset_events=books.videos.entered(context.instance, changes),
            dynamic_partitions_requests=[
                VIDEO_PARTITIONS.build_add_request(some) for some in chunks(changes, _ADD_AT_ONCE)
            ],
        )

    return discover


@dataclass(frozen=True)
class _Cursor:
    """Where discovery is.

    Args:
        after: The last key looked at, inside a listing; a listing of any length goes on there.
        begun_at: When that listing began, in seconds since 1970.
        listed_at: When the last whole one began.
        reported: Messages to be deleted once Dagster has what they say.
    """

    after: str = ""
    begun_at: float = 0.0
    listed_at: float = 0.0
    reported: tuple[Reported, ...] = ()

    def is_due(self, listing_hours: float) -> bool:
        """Whether to list: inside a listing, or so long after the last."""
        return bool(self.after) or time.time() - self.listed_at >= 3600 * listing_hours

    def dumped(self) -> str:
        """A text; empty for the beginning."""
        facts = {
            "after": self.after,
            "begun_at": self.begun_at,
            "listed_at": self.listed_at,
            "reported": dumped(self.reported),
        }
        told = {k: v for k, v in facts.items() if v}
        return json.dumps(told) if told else ""

    @classmethod
    def loaded(cls, text: str | None) -> "_Cursor":
        """The inverse of :meth:`dumped`."""
        facts = json.loads(text or "{}")
        return cls(**{**facts, "reported": tuple(loaded(facts.get("reported", [])))})


# -- arrivals -------------------------------------------------------------------------------------


def _arrivals(
    instance: dg.DagsterInstance,
    books: Books,
    inbox: Inbox,
    bucket: VideoBucketResource,
    reported: Sequence[Reported],
) -> tuple[list[Arrival], list[Reported]]:
    """What is news on the queue, at most one for each video; and the messages taken.

    Objects that a listing would not find are none: other buckets, prefixes and suffixes. Their
    messages are deleted, for an arrivals queue belongs to one deployment, and they would come back.
    """
    unknown = partial(_unknown, instance, books)
    with inbox.reachable():
        inbox.clear(reported, unknown)
        received = inbox.take(parse_arrivals)
    arrivals: dict[Fact, Arrival] = {}
    taken: list[Reported] = []
    for message, told in received:
        facts = {
            _fact(a): a
            for a in told
            if a.video.bucket == bucket.bucket
            and a.video.key.startswith(bucket.prefix)
            and is_video_key(a.video.key)
        }
        arrivals |= facts
        taken.append(Reported(message.receipt_handle, tuple(facts)))
    latest: dict[str, Arrival] = {}
    for fact in unknown(arrivals):
        arrival = arrivals[fact]
        other = latest.get(fact[0])
        if other is None or _is_news(fact, _entry(other)):
            latest[fact[0]] = arrival
    return list(latest.values()), taken


def _entry(arrival: Arrival) -> Entry:
    return {**known(arrival.video, time.time()), "sequencer": arrival.sequencer}


def _fact(arrival: Arrival) -> Fact:
    video = arrival.video
    written_at = video.last_modified.timestamp() if video.last_modified else 0.0
    return video.partition_key, video.version, arrival.sequencer, written_at


def _unknown(instance: dg.DagsterInstance, books: Books, facts: Collection[Fact]) -> list[Fact]:
    """Those of (video, version, sequencer, time) that are news to Dagster."""
    where = {f: books.partition_of(Video.from_partition_key(f[0])) for f in facts}
    ledgers = books.videos.read(instance, set(where.values()))
    return [
        fact
        for fact, partition in where.items()
        if partition not in ledgers or _is_news(fact, ledgers[partition].entries.get(fact[0]))
    ]


def _is_news(fact: Fact, entry: Entry | None) -> bool:
    """Whether an arrival is of another version than the one known, and came after it."""
    _, version, sequencer, written_at = fact
    if entry is None:
        return True
    if entry["version"] == version:
        return False
    if sequencer and entry.get("sequencer"):
        return is_later(sequencer, entry["sequencer"])
    # What a listing found has no sequencer; times are whole seconds on both sides.
    return written_at >= entry.get("last_modified_at", 0.0)


# -- listing --------------------------------------------------------------------------------------


def _listed(
    instance: dg.DagsterInstance,
    books: Books,
    bucket: VideoBucketResource,
    cursor: _Cursor,
    started: float,
) -> tuple[_Cursor, list[Video], int]:
    """Go on with the listing, as far as one tick may: where it is, what is new, keys looked at."""
    if not cursor.after:
        cursor = replace(cursor, begun_at=time.time())
    found: list[Video] = []
    partitions: set[str] = set()
    looked_at, after = 0, ""
    for page in _listing(bucket, start_after=cursor.after):
        fresh = new_or_changed(instance, books, page.videos())
        found += fresh
        partitions |= {books.partition_of(v) for v in fresh}
        looked_at += len(page.keys)
        after = page.last_key if page.more else ""
        if (
            len(partitions) >= MOST_DISCOVERED
            or len(found) >= MOST_VIDEOS
            or time.monotonic() - started > TICK_S
        ):
            break
    listed_at = cursor.listed_at if after else cursor.begun_at
    return replace(cursor, after=after, listed_at=listed_at), found, looked_at


@dataclass(frozen=True)
class _ListingPage:
    keys: list[Mapping[str, Any]]
    last_key: str
    more: bool
    bucket: str

    def videos(self) -> list[Video]:
        """The videos among the keys."""
        return [
            Video(
                self.bucket,
                entry["Key"],
                etag=entry["ETag"].strip('"'),
                size=entry["Size"],
                last_modified=entry["LastModified"],
            )
            for entry in self.keys
            if is_video_key(entry["Key"])
        ]


def _where(bucket: VideoBucketResource) -> str:
    return f"s3://{bucket.bucket}/{bucket.prefix}"


def _listing(bucket: VideoBucketResource, start_after: str) -> Iterator[_ListingPage]:
    assert bucket.bucket is not None
    client = bucket.client()
    request: dict[str, Any] = {"Bucket": bucket.bucket, "Prefix": bucket.prefix}
    if start_after:
        request["StartAfter"] = start_after
    while True:
        try:
            response = client.list_objects_v2(**request)
        except (ClientError, BotoCoreError) as error:
            raise ConfigurationError(
                f"cannot list {_where(bucket)}: {said(error)}. Check the bucket's name, region "
                "and endpoint, and that these credentials have s3:ListBucket on it"
            ) from error
        contents = response.get("Contents", [])
        if not contents:
            return
        last = contents[-1]["Key"]
        yield _ListingPage(contents, last, response["IsTruncated"], bucket.bucket)
        if not response["IsTruncated"]:
            return
        request = {"Bucket": bucket.bucket, "Prefix": bucket.prefix, "StartAfter": last}


def new_or_changed(
    instance: dg.DagsterInstance, books: Books, videos: Sequence[Video]
) -> list[Video]:
    """Those that Dagster does not know, or knows with another version.

    Entries are read only of partitions that changed: where a partition's data version is that of
    all its videos as they are listed, none of them is new.
    """
    listed: dict[str, list[Video]] = {}
    for video in videos:
        listed.setdefault(books.partition_of(video), []).append(video)
    versions = books.videos.versions(instance, listed)
    changed = {
        partition: some
        for partition, some in listed.items()
        if partition not in versions
        or str(versions[partition])
        != books.videos.version(
            partition, {v.partition_key: {"version": v.version or "unknown"} for v in some}
        )
    }
    ledgers = books.videos.read(instance, changed.keys() & versions.keys())
    fresh = []
    for partition, some in changed.items():
        entries = ledgers[partition].entries if partition in ledgers else {}
        for video in some:
            entry = entries.get(video.partition_key)
            if entry is None or entry.get("version") != (video.version or "unknown"):
                fresh.append(video)
    return fresh
