"""The sensor that discovers videos: what is new, changed or deleted under a prefix of a bucket.

It lists the bucket, over and over; or reads S3's event notifications, with a listing now and then
for what these may have missed. Both enter the same videos.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.api import Arrival, parse_arrivals
from rekognition_dagster.api.arrivals import is_later
from rekognition_dagster.api.inbox import Inbox
from rekognition_dagster.aws import reason_of
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake import Lake
from rekognition_dagster.orchestration.names import Deployment
from rekognition_dagster.orchestration.resources import VideoBucketResource
from rekognition_dagster.state import State
from rekognition_dagster.state import videos as known_videos
from rekognition_dagster.state.tables import GONE, PRESENT
from rekognition_dagster.state.videos import Found, Known, is_news, register
from rekognition_dagster.videos import Video, is_video_key

LIST_S = 1.5
"""A tick lists no more after so long: a large bucket is listed in many short ticks."""
_ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}  # objects that have to be restored before they are read
_FORGOTTEN = 20  # deleted videos whose rows are removed together


def build_discovery_sensor(deployment: Deployment) -> dg.SensorDefinition:
    """Enters videos that are new, changed or deleted, as events or a listing find them.

    An upload that began before a listing and ended after it is found by the next one: what is known
    is compared by key, not by time. A message is deleted once the state has that version, or a
    later one.
    """
    settings = deployment.settings

    @dg.sensor(
        name=deployment.scoped("video_discovery"),
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        required_resource_keys=deployment.needs("video_bucket", "arrivals_queue", "lake"),
        description="Finds new, changed and deleted videos in the bucket, by listing it or by S3's "
        "event notifications.",
    )
    def discover(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        bucket: VideoBucketResource = deployment.resource(context, "video_bucket")
        if not bucket.bucket:
            return dg.SkipReason("No bucket is configured: set REKOGNITION_DAGSTER_BUCKET")
        state, until = deployment.state(context.instance), time.monotonic() + LIST_S
        with state.write() as connection:
            known_videos.add_operations(connection, deployment.plan, time.time())
        before = cursor = _Cursor.loaded(context.cursor, _where(bucket))
        told: list[str] = []
        queue = deployment.resource(context, "arrivals_queue").queue()
        if queue is not None:
            inbox = Inbox(queue, context.log, settings.visibility_seconds)
            told.append(_arrivals(state, deployment, inbox, bucket, until))
        if queue is None or cursor.is_due(settings.listing_hours):
            cursor, listed = _listed(state, deployment, bucket, cursor, until)
            told.append(listed)
        if settings.deleted == "forget":
            lake = deployment.resource(context, "lake").open()
            told += _forgotten(context.instance, state, deployment, lake, until)
        text = "; ".join(told)
        context.log.info(text)
        if cursor == before:
            return dg.SkipReason(text)
        return dg.SensorResult(skip_reason=text, cursor=cursor.dumped())

    return discover


@dataclass(frozen=True)
class _Cursor:
    """Where discovery is.

    Args:
        where: Bucket and prefix that the listing is of.
        after: The last key that was listed; a listing of any length goes on there.
        begun_at: When that listing began, in seconds since 1970.
        listed_at: When the last whole one began.
    """

    where: str = ""
    after: str = ""
    begun_at: float = 0.0
    listed_at: float = 0.0

    def is_due(self, listing_hours: float) -> bool:
        """Whether to list: inside a listing, or so long after the last."""
        return bool(self.after) or time.time() - self.listed_at >= 3600 * listing_hours

    def dumped(self) -> str:
        """A text."""
        return json.dumps({f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def loaded(cls, text: str | None, where: str) -> "_Cursor":
        """The inverse of :meth:`dumped`; the beginning, where it is of another prefix."""
        facts = json.loads(text or "{}")
        found = cls(**{f.name: facts[f.name] for f in fields(cls) if f.name in facts})
        return found if found.where == where else cls(where)


# -- arrivals -------------------------------------------------------------------------------------


def _arrivals(
    state: State, deployment: Deployment, inbox: Inbox, bucket: VideoBucketResource, until: float
) -> str:
    """Enter what is news on the queue; a line about it.

    Objects that a listing would not find are dropped: other buckets, prefixes and suffixes. Their
    messages are deleted, for an arrivals queue belongs to one deployment, and they would come back.
    """
    received = entered = 0
    with inbox.reachable():
        for messages in inbox.take(parse_arrivals, until):
            arrivals = [
                arrival
                for _, several in messages
                for arrival in several
                if arrival.video.bucket == bucket.bucket
                and arrival.video.key.startswith(bucket.prefix)
                and is_video_key(arrival.video.key)
            ]
            news = _news(state, arrivals)
            _enter(state, deployment, [_of_arrival(deployment, a) for a in news])
            inbox.delete(m for m, _ in messages)
            received, entered = received + len(messages), entered + len(news)
    return f"{entered} new or changed videos in {received} messages"


def _of_arrival(deployment: Deployment, arrival: Arrival) -> Found:
    partition = deployment.settings.partitioning.partition_of(arrival.video)
    return Found(arrival.video, partition, sequencer=arrival.sequencer)


def _news(state: State, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Those that are news, of each video the latest."""
    with state.read() as connection:
        known = known_videos.known(connection, [a.video.partition_key for a in arrivals])
    latest: dict[str, Arrival] = {}
    for arrival in arrivals:
        key = arrival.video.partition_key
        before = latest.get(key)
        if before is not None:
            is_new = _is_after(arrival, before.sequencer, _modified(before.video))
        else:
            is_new = _is_news(arrival, known.get(key))
        if is_new:
            latest[key] = arrival
    return list(latest.values())


def _is_news(arrival: Arrival, before: Known | None) -> bool:
    """Whether an arrival is of another version than the one known, and came after it."""
    if before is None or not before.discovered:
        return True
    if before.version == arrival.video.version and before.status != GONE:
        return False
    return _is_after(arrival, before.sequencer, before.last_modified)


def _is_after(arrival: Arrival, sequencer: str, last_modified: float) -> bool:
    if arrival.sequencer and sequencer:
        return is_later(arrival.sequencer, sequencer)
    # What a listing found has no sequencer; times are whole seconds on both sides.
    return _modified(arrival.video) >= last_modified


def _modified(video: Video) -> float:
    return video.last_modified.timestamp() if video.last_modified else 0.0


# -- listing --------------------------------------------------------------------------------------


def _listed(
    state: State, deployment: Deployment, bucket: VideoBucketResource, cursor: _Cursor, until: float
) -> tuple[_Cursor, str]:
    """Go on with the listing, as far as one tick may; where it is then, and a line about it.

    Each page is entered by itself, so a tick ends in time and memory does not grow.
    """
    if not cursor.after:
        cursor = replace(cursor, begun_at=time.time())
    entered = gone = listed = 0
    position = cursor.after
    for page in _pages(bucket, cursor.after):
        news, deleted = _compare(state, deployment, bucket, page, position)
        _enter(state, deployment, news)
        if deleted and deployment.settings.deleted != "keep":
            with state.write() as connection:
                known_videos.mark(connection, deleted, GONE)
        entered, gone, listed = entered + len(news), gone + len(deleted), listed + len(page.keys)
        position = page.last_key if page.more else ""
        if time.monotonic() > until:
            break
    listed_at = cursor.listed_at if position else cursor.begun_at
    text = f"{entered} new or changed videos among {listed} keys under {_where(bucket)}"
    if gone:
        text += f", {gone} deleted"
    return replace(cursor, after=position, listed_at=listed_at), text


@dataclass(frozen=True)
class _ListingPage:
    """A page of a listing.

    Args:
        keys: S3's entries.
        last_key: The last of them; beyond every key where there are no more.
        more: Whether there are more pages.
        asked_at: When it was asked for.
    """

    keys: list[Mapping[str, Any]]
    last_key: str
    more: bool
    asked_at: float


def _compare(
    state: State,
    deployment: Deployment,
    bucket: VideoBucketResource,
    page: _ListingPage,
    after: str,
) -> tuple[list[Found], list[str]]:
    """What is new or changed on a page, and the keys of known videos that are not on it."""
    assert bucket.bucket is not None
    last = page.last_key if page.more else _end_of(bucket.prefix)
    with state.read() as connection:
        # One character less than the prefix: a video may be called just like it.
        first = after or bucket.prefix[:-1]
        known = known_videos.between(connection, bucket.bucket, first, last)
    news: list[Found] = []
    listed = set()
    for entry in page.keys:
        if not is_video_key(entry["Key"]):
            continue
        listed.add(entry["Key"])
        video = Video(
            bucket.bucket,
            entry["Key"],
            etag=entry["ETag"].strip('"'),
            size=entry["Size"],
            last_modified=entry["LastModified"],
        )
        archived = entry.get("StorageClass") in _ARCHIVES
        if is_news(video, archived, known.get(entry["Key"])):
            partition = deployment.settings.partitioning.partition_of(video)
            news.append(Found(video, partition, archived))
    deleted = [
        Video(bucket.bucket, name).partition_key
        for name, facts in known.items()
        if name not in listed
        and name.startswith(bucket.prefix)
        and facts.status == PRESENT
        and facts.discovered
        and facts.changed_at < page.asked_at
    ]
    return news, deleted


def _end_of(prefix: str) -> str:
    """A key after all keys that begin with a prefix."""
    return prefix + "\U0010ffff"


def _where(bucket: VideoBucketResource) -> str:
    return f"s3://{bucket.bucket}/{bucket.prefix}"


def _pages(bucket: VideoBucketResource, start_after: str) -> Iterator[_ListingPage]:
    client = bucket.client()
    request: dict[str, Any] = {"Bucket": bucket.bucket, "Prefix": bucket.prefix}
    while True:
        if start_after:
            request["StartAfter"] = start_after
        asked_at = time.time()
        try:
            response = client.list_objects_v2(**request)
        except (ClientError, BotoCoreError) as error:
            raise ConfigurationError(
                f"cannot list {_where(bucket)}: {reason_of(error)}. Check the bucket's name, "
                "region and endpoint, and that these credentials have s3:ListBucket on it"
            ) from error
        contents = response.get("Contents", [])
        last = contents[-1]["Key"] if contents else ""
        more = bool(response["IsTruncated"] and contents)
        yield _ListingPage(contents, last, more, asked_at)
        if not more:
            return
        start_after = last


def _enter(state: State, deployment: Deployment, found: Sequence[Found]) -> None:
    if found:
        with state.write() as connection:
            register(connection, found, time.time(), deployment.plan)


def _forgotten(
    instance: dg.DagsterInstance,
    state: State,
    deployment: Deployment,
    lake: Lake,
    until: float,
) -> list[str]:
    """Remove the rows and partitions of deleted videos, as far as one tick may; a line about it."""
    count = 0
    while True:
        with state.read() as connection:
            rows = known_videos.gone(connection, _FORGOTTEN)
        for row in rows:
            lake.forget(known_videos.video_of(row))
            with state.write() as connection:
                partition = known_videos.forget(connection, row["key"])
            if partition is not None:
                instance.delete_dynamic_partition(str(deployment.partitions.name), partition)
        count += len(rows)
        if not rows or time.monotonic() > until:
            break
    return [f"{count} deleted videos forgotten"] if count else []
