"""The sensor that discovers videos: what is new, changed or deleted under a prefix of a bucket.

It lists the bucket, over and over; or reads S3's event notifications, with a listing now and then
for what these may have missed. Both enter the same videos.
"""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from rekognition_dagster.videos import Source, Video, is_video_key, roots, source_of

LIST_S = 1.5
"""A tick lists no more after so long: a large bucket is listed in many short ticks."""
ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
"""Storage classes of objects that have to be restored before they are read."""
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
        if not settings.source_list:
            return dg.SkipReason("No bucket is configured: set REKOGNITION_DAGSTER_BUCKET")
        state, until = deployment.state(context.instance), time.monotonic() + LIST_S
        with state.write() as connection:
            known_videos.add_operations(connection, deployment.plan, time.time())
        before = _loaded(context.cursor, roots(settings.source_list))
        cursors = dict(before)
        lines: list[str] = []
        queue = deployment.resource(context, "arrivals_queue").queue()
        if queue is not None:
            inbox = Inbox(queue, context.log, settings.visibility_seconds)
            lines.append(_arrivals(state, deployment, inbox, until))
        hours = settings.listing_hours if queue is not None else 0.0
        client = bucket.client()
        for root in _in_turn(cursors, hours):
            cursors[root], listed = _listed(state, deployment, client, root, cursors[root], until)
            lines.append(listed)
            if time.monotonic() > until:
                break
        if settings.deleted == "forget":
            lake = deployment.resource(context, "lake").open()
            lines += _forgotten(context.instance, state, deployment, lake, until)
        text = "; ".join(lines)
        context.log.info(text)
        if cursors == before:
            return dg.SkipReason(text)
        return dg.SensorResult(skip_reason=text, cursor=_dumped(cursors))

    return discover


@dataclass(frozen=True)
class _Cursor:
    """Where the listing of a source is.

    Args:
        after: The last key that was listed; a listing of any length goes on there.
        begun_at: When that listing began, in seconds since 1970.
        listed_at: When the last whole one began.
    """

    after: str = ""
    begun_at: float = 0.0
    listed_at: float = 0.0

    def is_due(self, listing_hours: float) -> bool:
        """Whether to list: inside a listing, or so long after the last."""
        return bool(self.after) or time.time() - self.listed_at >= 3600 * listing_hours


def _loaded(text: str | None, listed: Sequence[Source]) -> dict[Source, _Cursor]:
    """Where the listing of each source is; at the beginning, where it was not listed before."""
    known = json.loads(text or "{}")
    return {source: _Cursor(**known.get(source.uri, {})) for source in listed}


def _dumped(cursors: Mapping[Source, _Cursor]) -> str:
    """The inverse of :func:`_loaded`."""
    return json.dumps({source.uri: asdict(cursor) for source, cursor in cursors.items()})


def _in_turn(cursors: Mapping[Source, _Cursor], hours: float) -> list[Source]:
    """The sources to list: those that a listing is in first, then the longest unlisted."""
    due = [source for source, cursor in cursors.items() if cursor.is_due(hours)]
    return sorted(due, key=lambda source: (not cursors[source].after, cursors[source].listed_at))


# -- arrivals -------------------------------------------------------------------------------------


def _arrivals(state: State, deployment: Deployment, inbox: Inbox, until: float) -> str:
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
                if source_of(deployment.settings.source_list, arrival.video)
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
    state: State, deployment: Deployment, client: Any, source: Source, cursor: _Cursor, until: float
) -> tuple[_Cursor, str]:
    """Go on with the listing, as far as one tick may; where it is then, and a line about it.

    Each page is entered by itself, so a tick ends in time and memory does not grow.
    """
    if not cursor.after:
        cursor = replace(cursor, begun_at=time.time())
    entered = gone = listed = 0
    position = cursor.after
    for page in pages(client, source, cursor.after):
        news, deleted = _compare(state, deployment, source, page, position)
        _enter(state, deployment, news)
        if deleted and deployment.settings.deleted != "keep":
            with state.write() as connection:
                known_videos.mark(connection, deleted, GONE)
        entered, gone, listed = entered + len(news), gone + len(deleted), listed + len(page.keys)
        position = page.last_key if page.more else ""
        if time.monotonic() > until:
            break
    listed_at = cursor.listed_at if position else cursor.begun_at
    text = f"{entered} new or changed videos among {listed} keys under {source.uri}"
    if gone:
        text += f", {gone} deleted"
    return replace(cursor, after=position, listed_at=listed_at), text


@dataclass(frozen=True)
class ListingPage:
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
    source: Source,
    page: ListingPage,
    after: str,
) -> tuple[list[Found], list[str]]:
    """What is new or changed on a page, and the keys of known videos that are not on it."""
    last = page.last_key if page.more else _end_of(source.prefix)
    with state.read() as connection:
        # One character less than the prefix: a video may be called just like it.
        first = after or source.prefix[:-1]
        known = known_videos.between(connection, source.bucket, first, last)
    news: list[Found] = []
    listed = set()
    for entry in page.keys:
        if not is_video_key(entry["Key"]):
            continue
        listed.add(entry["Key"])
        video = Video(
            source.bucket,
            entry["Key"],
            etag=entry["ETag"].strip('"'),
            size=entry["Size"],
            last_modified=entry["LastModified"],
        )
        archived = entry.get("StorageClass") in ARCHIVES
        if is_news(video, archived, known.get(entry["Key"])):
            partition = deployment.settings.partitioning.partition_of(video)
            news.append(Found(video, partition, archived))
    deleted = [
        Video(source.bucket, name).partition_key
        for name, facts in known.items()
        if name not in listed
        and name.startswith(source.prefix)
        and facts.status == PRESENT
        and facts.discovered
        and facts.changed_at < page.asked_at
    ]
    return news, deleted


def _end_of(prefix: str) -> str:
    """A key after all keys that begin with a prefix."""
    return prefix + "\U0010ffff"


def pages(client: Any, source: Source, start_after: str) -> Iterator[ListingPage]:
    """List a source, from a key on.

    Raises:
        ConfigurationError: The bucket cannot be listed.
    """
    request: dict[str, Any] = {"Bucket": source.bucket, "Prefix": source.prefix}
    while True:
        if start_after:
            request["StartAfter"] = start_after
        asked_at = time.time()
        try:
            response = client.list_objects_v2(**request)
        except (ClientError, BotoCoreError) as error:
            raise ConfigurationError(
                f"cannot list {source.uri}: {reason_of(error)}. Check the bucket's name, "
                "region and endpoint, and that these credentials have s3:ListBucket on it"
            ) from error
        contents = response.get("Contents", [])
        last = contents[-1]["Key"] if contents else ""
        more = bool(response["IsTruncated"] and contents)
        yield ListingPage(contents, last, more, asked_at)
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
