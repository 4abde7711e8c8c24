"""What S3 says of a new object is understood in every form in which it comes."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from rekognition_dagster.api import MalformedMessageError, parse_arrivals
from rekognition_dagster.api.arrivals import Arrival, is_later
from rekognition_dagster.videos import Video

KEY = "Lobby Süd/2026-01-31/a+b=c & 100%.mp4"
ENCODED = "Lobby+S%C3%BCd/2026-01-31/a%2Bb%3Dc+%26+100%25.mp4"
ARRIVAL = Arrival(
    Video(
        "videos",
        KEY,
        etag="d41d8cd98f00b204e9800998ecf8427e",
        size=1024,
        last_modified=datetime(2026, 1, 31, 8, 15, 30, tzinfo=timezone.utc),
    ),
    "0055AED6DCD90281E5",
)


def s3_record(event: str = "ObjectCreated:Put", **changes: Any) -> dict[str, Any]:
    entry = {
        "key": ENCODED,
        "size": 1024,
        "eTag": ARRIVAL.video.etag,
        "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
        "sequencer": ARRIVAL.sequencer,
        **changes,
    }
    return {
        "eventVersion": "2.2",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-01-31T08:15:30.123Z",
        "eventName": event,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "arrivals",
            "bucket": {"name": "videos", "arn": "arn:aws:s3:::videos"},
            "object": {k: v for k, v in entry.items() if v is not None},
        },
    }


def of_eventbridge(kind: str = "Object Created") -> dict[str, Any]:
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": kind,
        "source": "aws.s3",
        "account": "123456789012",
        "time": "2026-01-31T08:15:30Z",
        "region": "eu-central-1",
        "resources": ["arn:aws:s3:::videos"],
        "detail": {
            "version": "0",
            "bucket": {"name": "videos"},
            "object": {
                "key": KEY,
                "size": 1024,
                "etag": ARRIVAL.video.etag,
                "version-id": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                "sequencer": ARRIVAL.sequencer,
            },
            "reason": "PutObject",
        },
    }


def enveloped(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "1",
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:videos",
        "Message": json.dumps(document),
    }


@pytest.mark.parametrize(
    "document",
    [
        {"Records": [s3_record()]},
        enveloped({"Records": [s3_record()]}),
        of_eventbridge(),
        enveloped(of_eventbridge()),
        {"Records": [s3_record("s3:ObjectCreated:CompleteMultipartUpload")]},
        {"Records": [s3_record(eTag=f'"{ARRIVAL.video.etag}"')]},
    ],
    ids=["s3", "s3 over sns", "eventbridge", "eventbridge over sns", "multipart", "quoted etag"],
)
def test_an_object_is_the_same_in_every_form(document: dict[str, Any]) -> None:
    assert parse_arrivals(json.dumps(document)) == [ARRIVAL]


def test_the_version_is_the_one_that_a_listing_tells() -> None:
    (arrival,) = parse_arrivals(json.dumps({"Records": [s3_record()]}))
    assert arrival.video.version == ARRIVAL.video.etag


def test_a_message_may_tell_of_several() -> None:
    records = [s3_record(), s3_record("ObjectRemoved:Delete", eTag=None), s3_record(key="b.mp4")]
    told = parse_arrivals(json.dumps({"Records": records}))
    assert [a.video.key for a in told] == [KEY, "b.mp4"]


@pytest.mark.parametrize(
    "document",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "videos"},
        enveloped({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "videos"}),
        {"Records": [s3_record("ObjectRemoved:Delete", eTag=None, size=None)]},
        {"Records": [s3_record("ObjectRestore:Completed")]},
        {"Records": []},
        of_eventbridge("Object Deleted"),
    ],
    ids=["test event", "enveloped test event", "removed", "restored", "none", "deleted"],
)
def test_what_else_a_bucket_says_is_no_arrival(document: dict[str, Any]) -> None:
    assert parse_arrivals(json.dumps(document)) == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("hello", "the body is no JSON: "),
        ("[1]", "the body is no JSON object"),
        ("[" * 100_000, "the body is no JSON: "),
        ("{}", "it is no event of S3: neither Records nor source aws.s3"),
        ('{"Message": "hello"}', "the SNS envelope's Message is no JSON: "),
        ('{"Records": [1]}', "one of its Records is no JSON object"),
        ('{"Records": [{"eventName": "ObjectCreated:Put"}]}', "it has no s3"),
        (json.dumps({"Records": [s3_record(eTag=None)]}), "it has no eTag"),
        (json.dumps({"Records": [s3_record(key="")]}), "it has no key"),
        (
            json.dumps({"Records": [{**s3_record(), "eventTime": "noon"}]}),
            "its time 'noon' is none",
        ),
    ],
)
def test_what_is_no_event_says_why(body: str, why: str) -> None:
    with pytest.raises(MalformedMessageError) as raised:
        parse_arrivals(body)
    assert str(raised.value).startswith(why)


@pytest.mark.parametrize(
    ("sequencer", "than", "later"),
    [("02", "01", True), ("01", "02", False), ("01", "01", False), ("0A", "09F", True),
     ("1", "10", False), ("0b", "0A", True), ("01", "", True)],
)  # fmt: skip
def test_events_of_a_key_have_an_order(sequencer: str, than: str, later: bool) -> None:
    assert is_later(sequencer, than) is later
