"""Videos are discovered by listing and by S3's event notifications: all, once, as they are."""

from __future__ import annotations

import json
from typing import Any

import boto3
import dagster as dg
import pytest
import sqlalchemy as sa
from deployment import Deployment, killed, put_videos

from rekognition_dagster import VideoSource
from rekognition_dagster.api import MessageQueue, provision
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration import discovery
from rekognition_dagster.orchestration.resources import VideoBucketResource
from rekognition_dagster.state import videos as known_videos
from rekognition_dagster.state.tables import HISTORY, VIDEOS, WORK

SENSOR = "video_discovery"
DAY = "lobby/2026-01-31"


@pytest.fixture
def told(deployment: Deployment, aws: boto3.Session) -> Deployment:
    """The deployment, with a bucket that tells a queue of what arrives; listed once already."""
    settings = deployment.settings
    made = provision(aws, settings.name, arrivals=settings.bucket)
    deployment.provisioned = made
    deployment.set(arrivals_queue_url=made.arrivals_queue_url, prefix="lobby/")
    for _ in range(2):  # S3's test event comes first, and goes
        deployment.tick(SENSOR)
    assert queued(deployment) == 0
    return deployment


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where each listing of a page begins."""
    made: list[str] = []
    make_client = VideoBucketResource.client

    def client(bucket: VideoBucketResource) -> Any:
        client = make_client(bucket)
        everything = client.list_objects_v2

        def two_keys(**request: Any) -> Any:
            made.append(request.get("StartAfter", ""))
            return everything(**request, MaxKeys=2)

        client.list_objects_v2 = two_keys
        return client

    monkeypatch.setattr(VideoBucketResource, "client", client)
    return made


def arrivals_queue(deployment: Deployment) -> MessageQueue:
    return MessageQueue(boto3.client("sqs"), str(deployment.settings.arrivals_queue_url))


def queued(deployment: Deployment) -> int:
    """Messages on the queue of arrivals, seen or not."""
    queue = arrivals_queue(deployment)
    found = queue.client.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    return sum(int(found["Attributes"][name]) for name in names)


def send(deployment: Deployment, body: str) -> None:
    queue = arrivals_queue(deployment)
    queue.client.send_message(QueueUrl=queue.url, MessageBody=body)


def say(
    deployment: Deployment,
    name: str,
    etag: str,
    sequencer: str = "",
    *,
    event: str = "ObjectCreated:Put",
    bucket: str | None = None,
    at: str = "2026-01-31T08:15:30.000Z",
) -> None:
    """An event of S3, as it comes when nothing was really written."""
    entry = {"key": name, "size": 5, "eTag": etag, "versionId": "v1", "sequencer": sequencer}
    named = {"name": bucket or deployment.settings.bucket}
    record = {"eventName": event, "eventTime": at, "s3": {"bucket": named, "object": entry}}
    send(deployment, json.dumps({"Records": [record]}))


def events(deployment: Deployment) -> list[str]:
    """The versions of discovered videos, in order."""
    query = sa.select(HISTORY.c.detail).where(HISTORY.c.what == "discovered")
    with deployment.state.read() as connection:
        return [str(v) for v in connection.scalars(query.order_by(HISTORY.c.id))]


def reports(deployment: Deployment) -> list[dg.EventLogRecord]:
    """Materializations of ``video`` in Dagster."""
    key = dg.AssetKey(["video"])
    return list(deployment.instance.fetch_materializations(key, limit=100).records)


def known(deployment: Deployment) -> dict[str, str]:
    """The version of each known video, by the end of its key."""
    query = sa.select(VIDEOS.c.name, VIDEOS.c.version)
    with deployment.state.read() as connection:
        return {name.rpartition("/")[2]: version for name, version in connection.execute(query)}


# -- arrivals -------------------------------------------------------------------------------------


def test_an_object_that_is_written_is_discovered_without_a_listing(
    told: Deployment, listings: list[str]
) -> None:
    (partition,) = told.discover("lobby/a b.mp4")
    assert told.materialized("video") == {partition}
    assert queued(told) == 0
    assert listings == []
    assert told.dispatch() == 1


def test_the_same_object_is_the_same_version_both_ways(told: Deployment) -> None:
    s3: Any = boto3.client("s3")
    s3.put_bucket_versioning(
        Bucket=told.settings.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    told.discover("lobby/a.mp4")
    told.cursors[SENSOR] = ""  # lists anew
    told.tick(SENSOR)
    assert len(events(told)) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("owner", "name"), [(discovery, "register"), (known_videos, "upsert")])
def test_a_tick_that_dies_after_receiving_loses_nothing(
    told: Deployment, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    put_videos(str(told.settings.bucket), "lobby/a.mp4")
    with killed(monkeypatch, owner, name):
        told.tick(SENSOR)
    assert events(told) == []
    told.tick(SENSOR)
    assert len(events(told)) == 1


@pytest.mark.usefixtures("impatient")
def test_a_tick_that_dies_before_it_deletes_says_nothing_twice(
    told: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_videos(str(told.settings.bucket), "lobby/a.mp4")
    with killed(monkeypatch, MessageQueue, "delete"):
        told.tick(SENSOR)
    assert (len(events(told)), queued(told)) == (1, 1)
    told.tick(SENSOR)
    assert (len(events(told)), queued(told)) == (1, 0)


def test_ten_copies_are_one_event(told: Deployment) -> None:
    for _ in range(10):
        say(told, "lobby/a.mp4", "a", "01")
    told.tick(SENSOR)
    say(told, "lobby/a.mp4", "a", "01")
    told.tick(SENSOR)
    told.tick(SENSOR)
    assert (events(told), queued(told)) == (["a"], 0)


@pytest.mark.parametrize("at_once", [True, False], ids=["in one tick", "in two"])
def test_an_older_event_that_comes_later_changes_nothing(told: Deployment, at_once: bool) -> None:
    say(told, "lobby/a.mp4", "second", "0A2")
    if not at_once:
        told.tick(SENSOR)
    say(told, "lobby/a.mp4", "first", "0A1F")
    for _ in range(3):
        told.tick(SENSOR)
    assert (events(told), queued(told)) == (["second"], 0)
    say(told, "lobby/a.mp4", "third", "0B")
    told.tick(SENSOR)
    assert events(told) == ["second", "third"]


def test_an_event_older_than_what_a_listing_found_changes_nothing(told: Deployment) -> None:
    put_videos(str(told.settings.bucket), "lobby/a.mp4")
    told.cursors[SENSOR] = ""
    told.tick(SENSOR)
    say(told, "lobby/a.mp4", "older", "01", at="2020-01-01T00:00:00.000Z")
    told.tick(SENSOR)
    assert len(events(told)) == 1
    say(told, "lobby/a.mp4", "newer", "02", at="2199-01-01T00:00:00.000Z")
    told.tick(SENSOR)
    assert events(told)[1:] == ["newer"]


def test_what_a_listing_would_not_find_is_dropped(told: Deployment) -> None:
    say(told, "lobby/a.mp4", "a", bucket="another")
    say(told, "elsewhere/a.mp4", "a")
    say(told, "lobby/a.json", "a")
    say(told, "lobby/gone.mp4", "a", event="ObjectRemoved:Delete")
    told.tick(SENSOR)
    told.tick(SENSOR)
    assert (events(told), queued(told)) == ([], 0)


def test_a_malformed_message_goes_to_the_dead_letters_and_the_others_through(
    told: Deployment,
) -> None:
    send(told, "{}")
    say(told, "lobby/a.mp4", "a")
    told.tick(SENSOR)
    told.tick(SENSOR)
    assert (events(told), queued(told)) == (["a"], 0)
    (buried,) = arrivals_queue(told).client.receive_message(
        QueueUrl=told.provisioned.dead_letter_url, MessageAttributeNames=["All"]
    )["Messages"]
    assert buried["MessageAttributes"]["Reason"]["StringValue"] == (
        "it is no event of S3: neither Records nor source aws.s3"
    )


def test_arrivals_of_a_group_join_it(told: Deployment) -> None:
    told.set(partition_by="{camera}/{date}")
    told.discover(f"{DAY}/a.mp4", f"{DAY}/b.mp4")
    assert len(reports(told)) == 1
    told.discover(f"{DAY}/c.mp4")
    assert set(known(told)) == {"a.mp4", "b.mp4", "c.mp4"}
    assert len(reports(told)) == 2


def test_what_was_not_told_is_found_by_the_next_listing(told: Deployment) -> None:
    s3: Any = boto3.client("s3")
    s3.put_bucket_notification_configuration(
        Bucket=told.settings.bucket, NotificationConfiguration={}
    )
    told.discover("lobby/a.mp4")
    assert events(told) == []
    ((source, cursor),) = json.loads(told.cursors[SENSOR] or "").items()
    at = cursor["listed_at"]
    told.cursors[SENSOR] = json.dumps({source: {**cursor, "listed_at": at - 23 * 3600}})
    told.tick(SENSOR)
    assert events(told) == []
    told.cursors[SENSOR] = json.dumps({source: {**cursor, "listed_at": at - 24 * 3600}})
    told.tick(SENSOR)
    assert len(events(told)) == 1


def test_a_queue_that_is_not_there_is_told_with_its_remedy(deployment: Deployment) -> None:
    url = "http://127.0.0.1:9/1234/none"
    deployment.set(arrivals_queue_url=url)
    with pytest.raises(ConfigurationError, match="provision") as failure:
        deployment.evaluate(SENSOR)
    assert url in str(failure.value)


# -- listing --------------------------------------------------------------------------------------


def test_a_listing_goes_on_where_a_killed_tick_began(
    deployment: Deployment, listings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "LIST_S", 0)  # one page a tick
    put_videos(str(deployment.settings.bucket), *(f"{i}.mp4" for i in range(6)))
    deployment.tick(SENSOR)
    with killed(monkeypatch, discovery, "register"):
        deployment.tick(SENSOR)
    deployment.evaluate(SENSOR)  # killed between the events and the cursor
    for _ in range(2):
        deployment.tick(SENSOR)
    assert listings == ["", "1.mp4", "1.mp4", "1.mp4", "3.mp4"]
    assert len(events(deployment)) == len(known(deployment)) == 6
    (cursor,) = json.loads(deployment.cursors[SENSOR] or "").values()
    assert cursor["after"] == ""


def test_each_source_has_operations_of_its_own(deployment: Deployment) -> None:
    first, second = str(deployment.settings.bucket), f"{deployment.settings.bucket}-yard"
    boto3.client("s3").create_bucket(Bucket=second)
    put_videos(first, "a.mp4", "lobby/b.mp4")
    put_videos(second, "north/c.mp4", "south/d.mp4")
    faces = VideoSource(bucket=first, prefix="lobby/", operations=["face_detection"])
    north = VideoSource(bucket=second, prefix="north/")
    deployment.set(sources=[faces, north])
    deployment.tick(SENSOR)
    expected = {
        (first, "a.mp4", "person_tracking"),
        (first, "lobby/b.mp4", "face_detection"),
        (second, "north/c.mp4", "person_tracking"),
    }
    assert work(deployment) == expected
    both = ["face_detection", "person_tracking"]
    deployment.set(sources=[faces.model_copy(update={"operations": both}), north])
    deployment.tick(SENSOR)
    assert work(deployment) == expected | {(first, "lobby/b.mp4", "person_tracking")}
    assert deployment.dispatch() == 4
    deployment.set(sources=[])
    with deployment.state.read() as connection:
        covered = known_videos.covered(deployment.settings.source_list, "person_tracking")
        assert set(connection.scalars(sa.select(VIDEOS.c.bucket).where(covered))) == {first}


def work(deployment: Deployment) -> set[tuple[str, str, str]]:
    """Buckets, keys and operations of all work."""
    query = sa.select(VIDEOS.c.bucket, VIDEOS.c.name, WORK.c.operation)
    with deployment.state.read() as connection:
        rows = connection.execute(query.join(WORK, WORK.c.key == VIDEOS.c.key))
        return {tuple(row) for row in rows}


def test_several_sources_are_listed_in_turn(
    deployment: Deployment, listings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = str(deployment.settings.bucket), f"{deployment.settings.bucket}-yard"
    boto3.client("s3").create_bucket(Bucket=second)
    for bucket in (first, second):
        put_videos(bucket, "a.mp4", "b.mp4", "c.mp4")
    deployment.set(sources=[VideoSource(bucket=second), VideoSource(bucket=second, prefix="b")])
    monkeypatch.setattr(discovery, "LIST_S", 0)  # one page a tick
    for _ in range(4):
        deployment.tick(SENSOR)
    assert listings == ["", "b.mp4", "", "b.mp4"]
    assert len(work(deployment)) == 6


def test_a_pass_without_news_writes_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.discover(*(f"lobby/2026-01-0{d}/{i}.mp4" for d in (1, 2) for i in range(3)), "a.mp4")
    entered: list[list[str]] = []
    monkeypatch.setattr(
        discovery,
        "register",
        lambda connection, found, *_: entered.append([f.video.key for f in found]),
    )
    deployment.tick(SENSOR)
    assert entered == []
    put_videos(str(deployment.settings.bucket), "lobby/2026-01-02/new.mp4")
    deployment.tick(SENSOR)
    assert entered == [["lobby/2026-01-02/new.mp4"]]


def test_a_group_is_told_once_in_a_tick_however_many_pages_it_is_on(
    deployment: Deployment, listings: list[str]
) -> None:
    deployment.set(partition_by="{camera}/{date}")
    deployment.discover(*(f"{DAY}/{i}.mp4" for i in range(5)))
    assert len(listings) == 3
    assert len(reports(deployment)) == 1
    deployment.tick(SENSOR)
    deployment.tick("reports")
    assert len(reports(deployment)) == 1
