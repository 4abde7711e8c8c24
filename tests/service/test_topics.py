"""Which SNS topics a Start may name."""

from __future__ import annotations

import pytest

from rekognition_dagster.service.credentials import ANYONE, Principal, read_credentials
from rekognition_dagster.service.protocol import ApiError
from rekognition_dagster.service.topics import check_topic

TOPIC = "arn:aws:sns:us-east-1:123456789012:done"


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("arn:aws:sns:us-east-1:12345678901a:done", "no ARN"),
        ("arn:aws:sns:us-east-1:123456789012:a/b", "no ARN"),
        ("arn:aws:sns:us-east-1:123456789012:" + "x" * 257, "no ARN"),
        ("arn:aws:sns:@evil.example/:123456789012:done", "no ARN"),
        ("arn:aws:sns::123456789012:done", "no ARN"),
        (f"{TOPIC}:subscription", "no ARN"),
        (f"{TOPIC}\n", "no ARN"),
        ("arn:aws:sns:nowhere:123456789012:done", "no region of AWS"),
        ("arn:aws:sns:cn-north-1:123456789012:done", "no region of AWS"),
        (f"{TOPIC}.fifo", "FIFO"),
    ],
)
def test_a_topic_that_cannot_be_is_refused(topic, said):
    with pytest.raises(ApiError, match=said) as caught:
        check_topic(ANYONE, topic, None)
    assert caught.value.code == "InvalidParameterException"


def test_a_topic_of_another_region_than_the_endpoints_is_refused():
    check_topic(ANYONE, TOPIC, None)
    check_topic(ANYONE, TOPIC, "us-east-1")
    with pytest.raises(ApiError, match="not in eu-west-1, the region of this endpoint") as caught:
        check_topic(ANYONE, TOPIC, "eu-west-1")
    assert caught.value.code == "InvalidParameterException"


def test_a_key_that_is_limited_to_topics_names_no_other(tmp_path):
    path = tmp_path / "credentials"
    path.write_text(
        "[desk]\naws_access_key_id = A\naws_secret_access_key = a\n"
        "topics = arn:aws:sns:*:123456789012:done, arn:aws:sns:us-east-1:*:gate-*\n"
    )
    desk: Principal = read_credentials(path)["A"]
    check_topic(desk, TOPIC, None)
    check_topic(desk, "arn:aws:sns:us-east-1:999999999999:gate-1", None)
    for other in (TOPIC.replace("123456789012", "999999999999"), f"{TOPIC}2"):
        with pytest.raises(ApiError, match="desk is not authorized to use the topic") as caught:
            check_topic(desk, other, None)
        assert caught.value.code == "AccessDeniedException"
        assert other in caught.value.message
