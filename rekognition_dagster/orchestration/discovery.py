"""The sensor that discovers videos: what is new or changed under a prefix of a bucket."""

# No postponed annotations here: Dagster reads those of the decorated functions as they stand.

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.ledger import Version, chunks, escape
from rekognition_dagster.orchestration.names import TICK_S, VIDEO_PARTITIONS
from rekognition_dagster.orchestration.resources import VideoBucketResource, said
from rekognition_dagster.orchestration.standing import Books, known
from rekognition_dagster.videos import Video, is_video_key

MOST_DISCOVERED = 1000
"""Videos that one tick reports at most, for each is an event to write."""
_ADD_AT_ONCE = 400  # partitions per request: SQLite has a limit on variables in a statement


def build_discovery_sensor(books: Books) -> dg.SensorDefinition:
    """Lists the bucket under the prefix, over and over; reports videos that are new or changed.

    The cursor is the last key looked at, so a listing of any length goes on where it stopped. What
    is known already is asked of Dagster, not remembered: an upload that began before the last
    listing and ended after it is found all the same.
    """
    settings = books.settings

    @dg.sensor(
        name="video_discovery",
        minimum_interval_seconds=settings.sensor_interval,
        default_status=settings.sensor_status,
        description="Finds new and changed videos in the bucket and adds a partition for each.",
    )
    def discover(
        context: dg.SensorEvaluationContext, video_bucket: VideoBucketResource
    ) -> dg.SensorResult | dg.SkipReason:
        if not video_bucket.bucket:
            return dg.SkipReason("No bucket is configured: set REKOGNITION_DAGSTER_BUCKET")
        started = time.monotonic()
        found: dict[str, Video] = {}
        cursor = context.cursor or ""
        pages = _listing(video_bucket, start_after=cursor)
        looked_at = 0
        for page in pages:
            fresh = new_or_changed(context.instance, books, page.videos())
            found |= {v.partition_key: v for v in fresh}
            looked_at += len(page.keys)
            cursor = page.last_key if page.more else ""
            if len(found) >= MOST_DISCOVERED or time.monotonic() - started > TICK_S:
                break
        if not found and cursor == (context.cursor or ""):
            return dg.SkipReason(
                f"No new video among {looked_at} keys under {_where(video_bucket)}"
            )
        context.log.info(f"{len(found)} new or changed videos under {_where(video_bucket)}")
        changes = books.by_partition({v: known(v, time.time()) for v in found.values()})
        partitions = list(changes)
        return dg.SensorResult(
            cursor=cursor,
            asset_events=books.videos.entered(context.instance, changes),
            dynamic_partitions_requests=[
                VIDEO_PARTITIONS.build_add_request(some)
                for some in chunks(partitions, _ADD_AT_ONCE)
            ],
        )

    return discover


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
    """Those that Dagster does not know, or knows with another version."""
    partitions = {v: books.partition_of(v) for v in videos}
    alone = [p for v, p in partitions.items() if p == v.partition_key]
    versions = books.videos.versions(instance, alone)
    ledgers = books.videos.read(instance, set(partitions.values()) - set(alone))
    fresh = []
    for video, partition in partitions.items():
        version = video.version or "unknown"
        if partition in ledgers:
            before = ledgers[partition].entries.get(video.partition_key, {}).get("version")
            is_known = before == version
        else:
            is_known = versions.get(partition) == Version((escape(version),))
        if not is_known:
            fresh.append(video)
    return fresh
