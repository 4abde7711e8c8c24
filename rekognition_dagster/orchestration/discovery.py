"""The sensor that discovers videos: what is new or changed under a prefix of a bucket.

Found by listing the bucket, over and over; or told by S3's event notifications, with a listing now
and then for what they may have missed. One sensor does both, for both write the same ledgers.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.api import Arrival, parse_arrivals
from rekognition_dagster.api.arrivals import is_later
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.inbox import Inbox, opened
from rekognition_dagster.orchestration.ledger import Entry, chunks
from rekognition_dagster.orchestration.names import TICK_S, VIDEO_PARTITIONS
from rekognition_dagster.orchestration.resources import QueueResource, VideoBucketResource, said
from rekognition_dagster.orchestration.standing import Books, known
from rekognition_dagster.videos import Video, is_video_key

_MOST_PARTITIONS = 200  # entered together: an event each, and a slow storage takes seconds
_MOST_VIDEOS = 20_000  # entered together, for they are in memory at once
_ADD_AT_ONCE = 400  # partitions per request: SQLite has a limit on variables in a statement


def build_discovery_sensor(books: Books) -> dg.SensorDefinition:
    """Reports videos that are new or changed, as arrivals on the queue or as a listing finds them.

    What is known already is asked of Dagster, not remembered: an upload that began before the last
    listing and ended after it is found all the same. A message is deleted once Dagster has that
    version, or a later one.
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
        until = time.monotonic() + TICK_S
        before = cursor = _Cursor.loaded(context.cursor)
        told: list[str] = []
        queue = arrivals_queue.queue()
        if queue is not None:
            inbox = opened(queue, context.log, settings)
            told.append(_arrivals(context.instance, books, inbox, video_bucket))
        if queue is None or cursor.is_due(settings.listing_hours):
            cursor, listed = _listed(context.instance, books, video_bucket, cursor, until)
            told.append(listed)
        if queue is None:
            cursor = _Cursor(after=cursor.after)
        context.log.info("; ".join(told))
        if cursor == before:
            return dg.SkipReason("; ".join(told))
        return dg.SensorResult(skip_reason="; ".join(told), cursor=cursor.dumped())

    return discover


def register(instance: dg.DagsterInstance, books: Books, found: Mapping[Video, Entry]) -> None:
    """Make sure that videos have partitions, and enter these versions of them.

    The partition first: a version that is known is not found again.
    """
    changes = books.by_partition(found)
    for some in chunks(changes, _ADD_AT_ONCE):
        instance.add_dynamic_partitions(str(VIDEO_PARTITIONS.name), some)
    books.videos.enter(instance, changes)


@dataclass(frozen=True)
class _Cursor:
    """Where discovery is.

    Args:
        after: The last key looked at, inside a listing; a listing of any length goes on there.
        begun_at: When that listing began, in seconds since 1970.
        listed_at: When the last whole one began.
    """

    after: str = ""
    begun_at: float = 0.0
    listed_at: float = 0.0

    def is_due(self, listing_hours: float) -> bool:
        """Whether to list: inside a listing, or so long after the last."""
        return bool(self.after) or time.time() - self.listed_at >= 3600 * listing_hours

    def dumped(self) -> str:
        """A text; empty for the beginning."""
        facts = {
            "after": self.after,
            "begun_at": self.begun_at,
            "listed_at": self.listed_at,
        }
        told = {k: v for k, v in facts.items() if v}
        return json.dumps(told) if told else ""

    @classmethod
    def loaded(cls, text: str | None) -> "_Cursor":
        """The inverse of :meth:`dumped`."""
        facts = json.loads(text or "{}")
        return cls(**{f.name: facts[f.name] for f in fields(cls) if f.name in facts})


# -- arrivals -------------------------------------------------------------------------------------


def _arrivals(
    instance: dg.DagsterInstance, books: Books, inbox: Inbox, bucket: VideoBucketResource
) -> str:
    """Enter what is news on the queue; what came of it.

    Objects that a listing would not find are none: other buckets, prefixes and suffixes. Their
    messages are deleted, for an arrivals queue belongs to one deployment, and they would come back.
    """
    received = entered = 0
    with inbox.reachable():
        for messages in inbox.taken(parse_arrivals):
            told = [
                arrival
                for _, arrivals in messages
                for arrival in arrivals
                if arrival.video.bucket == bucket.bucket
                and arrival.video.key.startswith(bucket.prefix)
                and is_video_key(arrival.video.key)
            ]
            news = _news(instance, books, told)
            register(instance, books, {a.video: _entry(a) for a in news})
            inbox.delete(m for m, _ in messages)
            received, entered = received + len(messages), entered + len(news)
    return f"{entered} new or changed videos in {received} messages"


def _entry(arrival: Arrival) -> Entry:
    return {**known(arrival.video, time.time()), "sequencer": arrival.sequencer}


def _news(instance: dg.DagsterInstance, books: Books, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Those that are news to Dagster, of each video the latest."""
    where = {a.video.partition_key: books.partition_of(a.video) for a in arrivals}
    ledgers = books.videos.read(instance, set(where.values()))
    known = {k: ledgers[p].entries.get(k) for k, p in where.items() if p in ledgers}
    latest: dict[str, Arrival] = {}
    for arrival in arrivals:
        key = arrival.video.partition_key
        if _is_news(arrival, known.get(key)):
            latest[key], known[key] = arrival, _entry(arrival)
    return list(latest.values())


def _is_news(arrival: Arrival, entry: Entry | None) -> bool:
    """Whether an arrival is of another version than the one known, and came after it."""
    if entry is None:
        return True
    if entry["version"] == arrival.video.version:
        return False
    if arrival.sequencer and entry.get("sequencer"):
        return is_later(arrival.sequencer, entry["sequencer"])
    # What a listing found has no sequencer; times are whole seconds on both sides.
    written = arrival.video.last_modified
    return (written.timestamp() if written else 0.0) >= entry.get("last_modified_at", 0.0)


# -- listing --------------------------------------------------------------------------------------


def _listed(
    instance: dg.DagsterInstance,
    books: Books,
    bucket: VideoBucketResource,
    cursor: _Cursor,
    until: float,
) -> tuple[_Cursor, str]:
    """Go on with the listing, as far as one tick may; where it is, and what came of it.

    What is new is entered some at a time, so a tick ends in time however slow Dagster's storage
    is, and memory does not grow with the bucket.
    """
    if not cursor.after:
        cursor = replace(cursor, begun_at=time.time())
    entered, last = 0, _Portion([], 0, "")
    for last in _found(instance, books, bucket, cursor.after, until):
        register(instance, books, {v: known(v, time.time()) for v in last.videos})
        entered += len(last.videos)
        if time.monotonic() > until:
            break
    listed_at = cursor.listed_at if last.position else cursor.begun_at
    told = f"{entered} new or changed videos among {last.looked_at} keys under {_where(bucket)}"
    return replace(cursor, after=last.position, listed_at=listed_at), told


class _Portion(NamedTuple):
    """New or changed videos; how many keys were looked at so far, and where the listing is to go
    on once these are entered."""

    videos: list[Video]
    looked_at: int
    position: str


def _found(
    instance: dg.DagsterInstance,
    books: Books,
    bucket: VideoBucketResource,
    after: str,
    until: float,
) -> Iterator[_Portion]:
    """New or changed videos, some at a time."""
    some: list[Video] = []
    partitions: set[str] = set()
    looked_at, position = 0, ""
    for page in _listing(bucket, start_after=after):
        for video in new_or_changed(instance, books, page.videos()):
            partition = books.partition_of(video)
            is_one_more = partition not in partitions
            if len(some) >= _MOST_VIDEOS or (is_one_more and len(partitions) >= _MOST_PARTITIONS):
                yield _Portion(some, looked_at, some[-1].key)
                some, partitions = [], set()
            some.append(video)
            partitions.add(partition)
        looked_at += len(page.keys)
        position = page.last_key if page.more else ""
        if time.monotonic() > until:
            break
    yield _Portion(some, looked_at, position)


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
