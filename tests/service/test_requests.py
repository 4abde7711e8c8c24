"""What the service refuses, and how it says so: AWS's codes, statuses and member names."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from service.serving import BUCKET, refused

VIDEO = {"S3Object": {"Bucket": BUCKET, "Name": "clip.mp4"}}
CHANNEL = {
    "SNSTopicArn": "arn:aws:sns:us-east-1:123456789012:topic",
    "RoleArn": "arn:aws:iam::123456789012:role/reader",
}


def start(**members):
    return {"Video": VIDEO, **members}


@pytest.mark.parametrize(
    ("operation", "request_", "member"),
    [
        ("StartPersonTracking", {}, "Video"),
        ("StartPersonTracking", {"Video": None}, "Video"),
        ("StartPersonTracking", {"Video": "clip.mp4"}, "Video"),
        ("StartPersonTracking", {"Video": {}}, "Video.S3Object.Bucket"),
        ("StartPersonTracking", {"Video": {"S3Object": {"Bucket": BUCKET}}}, "Video.S3Object.Name"),
        (
            "StartPersonTracking",
            {"Video": {"S3Object": {"Bucket": "ab", "Name": "x"}}},
            "Video.S3Object.Bucket",
        ),
        (
            "StartPersonTracking",
            {"Video": {"S3Object": {"Bucket": "a/b c", "Name": "x"}}},
            "Video.S3Object.Bucket",
        ),
        (
            "StartPersonTracking",
            {"Video": {"S3Object": {"Bucket": BUCKET, "Name": "x" * 1025}}},
            "Video.S3Object.Name",
        ),
        ("StartPersonTracking", start(ClientRequestToken="a b"), "ClientRequestToken"),
        ("StartPersonTracking", start(ClientRequestToken="x" * 65), "ClientRequestToken"),
        ("StartPersonTracking", start(ClientRequestToken=""), "ClientRequestToken"),
        ("StartPersonTracking", start(JobTag="a tag"), "JobTag"),
        ("StartPersonTracking", start(JobTag="x" * 1025), "JobTag"),
        (
            "StartPersonTracking",
            start(NotificationChannel={"SNSTopicArn": CHANNEL["SNSTopicArn"]}),
            "NotificationChannel.RoleArn",
        ),
        (
            "StartPersonTracking",
            start(NotificationChannel={**CHANNEL, "SNSTopicArn": "topic"}),
            "NotificationChannel.SNSTopicArn",
        ),
        ("StartFaceDetection", start(FaceAttributes="SOME"), "FaceAttributes"),
        ("StartLabelDetection", start(MinConfidence=101), "MinConfidence"),
        ("StartLabelDetection", start(MinConfidence=-0.5), "MinConfidence"),
        ("StartLabelDetection", start(MinConfidence="50"), "MinConfidence"),
        ("StartLabelDetection", start(Features=["GENERAL_LABELS"] * 2), "Features"),
        ("StartLabelDetection", start(Features=["NONE"]), "Features.1.member"),
        (
            "StartLabelDetection",
            start(Settings={"GeneralLabels": {"LabelInclusionFilters": ["x" * 51]}}),
            "Settings.GeneralLabels.LabelInclusionFilters.1.member",
        ),
        ("StartSegmentDetection", start(), "SegmentTypes"),
        ("StartSegmentDetection", start(SegmentTypes=["SHOTS"]), "SegmentTypes.1.member"),
        (
            "StartSegmentDetection",
            start(SegmentTypes=["SHOT"], Filters={"ShotFilter": {"MinSegmentConfidence": 49.9}}),
            "Filters.ShotFilter.MinSegmentConfidence",
        ),
        (
            "StartSegmentDetection",
            start(
                SegmentTypes=["TECHNICAL_CUE"],
                Filters={"TechnicalCueFilter": {"BlackFrame": {"MaxPixelThreshold": 1.5}}},
            ),
            "Filters.TechnicalCueFilter.BlackFrame.MaxPixelThreshold",
        ),
        ("GetPersonTracking", {}, "JobId"),
        ("GetPersonTracking", {"JobId": "a b"}, "JobId"),
        ("GetPersonTracking", {"JobId": "x" * 65}, "JobId"),
        ("GetPersonTracking", {"JobId": "x", "MaxResults": 0}, "MaxResults"),
        ("GetPersonTracking", {"JobId": "x", "MaxResults": True}, "MaxResults"),
        ("GetPersonTracking", {"JobId": "x", "MaxResults": 1.5}, "MaxResults"),
        ("GetPersonTracking", {"JobId": "x", "MaxResults": 2**31}, "MaxResults"),
        ("GetPersonTracking", {"JobId": "x", "NextToken": "x" * 256}, "NextToken"),
        ("GetPersonTracking", {"JobId": "x", "SortBy": "NAME"}, "SortBy"),
        ("GetLabelDetection", {"JobId": "x", "AggregateBy": "FRAMES"}, "AggregateBy"),
    ],
)
def test_an_invalid_member_is_named(service, operation, request_, member):
    answer = service.post(operation, json.dumps(request_).encode())
    assert (answer.code, answer.status) == ("InvalidParameterException", 400)
    assert f"'{member}'" in answer.json["Message"]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b"\xff\xfe", b'{"JobId": "\\ud800"}', b"NaN"]
)
def test_a_body_that_is_no_json_object_is_a_serialization_error(service, body):
    answer = service.post("GetPersonTracking", body)
    assert (answer.code, answer.status) == ("SerializationException", 400)


def test_members_that_the_model_does_not_know_are_ignored(service):
    answer = service.post("GetPersonTracking", b'{"JobId": "x", "Later": {"More": 1}}')
    assert answer.code == "ResourceNotFoundException"


@pytest.mark.parametrize("operation", ["DetectFaces", "StartTextDetection", "NoSuchThing", ""])
def test_another_operation_is_unknown_and_the_error_lists_those_served(service, operation):
    answer = service.post(operation, b"{}")
    assert (answer.code, answer.status) == ("UnknownOperationException", 400)
    for served in ("StartPersonTracking", "GetLabelDetection"):
        assert served in answer.json["Message"]


def test_errors_have_the_form_that_aws_gives_them(service):
    answer = service.post("GetPersonTracking", b"{}")
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert answer.json["Logref"] == answer.headers["x-amzn-requestid"]
    assert answer.json["Code"] == answer.json["__type"]


def test_what_is_not_in_s3_is_an_invalid_object(cloud, rekognition):
    cloud.video("there.mp4")
    for name, version in (("not-there.mp4", None), ("there.mp4", "no-such-version")):
        reference = {"Bucket": BUCKET, "Name": name, **({"Version": version} if version else {})}
        code, message, status = refused(
            rekognition.start_person_tracking, Video={"S3Object": reference}
        )
        assert (code, status) == ("InvalidS3ObjectException", 400)
        assert f"s3://{BUCKET}/{name}" in message
    no_bucket = {"S3Object": {"Bucket": "no-such-bucket", "Name": "x.mp4"}}
    assert (
        refused(rekognition.start_person_tracking, Video=no_bucket)[0] == "InvalidS3ObjectException"
    )


def test_an_object_that_may_not_be_read_is_an_invalid_object(make_service, http_stub):
    stub = http_stub(403)
    service = make_service(environment={"AWS_ENDPOINT_URL_S3": stub}, workers=0)
    code, message, status = refused(service.client().start_person_tracking, Video=VIDEO)
    assert (code, status) == ("InvalidS3ObjectException", 400)
    assert "may not read" in message


def test_when_s3_is_down_the_error_is_the_services_own(make_service, http_stub):
    service = make_service(environment={"AWS_ENDPOINT_URL_S3": http_stub(503)}, workers=0)
    code, _, status = refused(service.client().start_person_tracking, Video=VIDEO)
    assert (code, status) == ("InternalServerError", 500)


def test_jobs_in_progress_and_the_size_of_a_video_are_limited(cloud, make_service):
    service = make_service(workers=0, jobs_in_flight=2, max_video_bytes=500)
    rekognition = service.client()
    video = cloud.video()
    for _ in range(2):
        rekognition.start_face_detection(Video=video)
    code, message, status = refused(rekognition.start_face_detection, Video=video)
    assert (code, status) == ("LimitExceededException", 400)
    assert "2 jobs are in progress" in message
    large = cloud.video(note="x" * 500)
    code, message, status = refused(rekognition.start_person_tracking, Video=large)
    assert (code, status) == ("VideoTooLargeException", 400)
    assert large["S3Object"]["Name"] in message


def test_each_operations_throughput_is_limited_apart(make_service):
    service = make_service(workers=0, start_per_s=0.01, get_per_s=0.01)
    for operation, first in (("Start", "InvalidParameter"), ("Get", "InvalidParameter")):
        for api in ("PersonTracking", "FaceDetection"):
            codes = [service.post(f"{operation}{api}", b"{}").code for _ in range(2)]
            assert codes == [f"{first}Exception", "ProvisionedThroughputExceededException"]


def test_more_requests_than_can_be_at_work_at_once_are_throttled(make_service, http_stub):
    slow = http_stub(404, seconds=3.0)
    service = make_service(environment={"AWS_ENDPOINT_URL_S3": slow}, workers=0, requests_at_once=1)
    body = json.dumps({"Video": VIDEO}).encode()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: service.post("StartPersonTracking", body), range(4)))
    statuses = {a.code: a.status for a in answers}
    assert statuses == {"InvalidS3ObjectException": 400, "ThrottlingException": 500}


def test_an_image_of_an_operation_that_is_not_served_is_an_unknown_operation(service):
    image = b'{"Image": {"Bytes": "' + b"A" * 7_000_000 + b'"}}'
    answer = service.post("DetectLabels", image)
    assert (answer.code, answer.status) == ("UnknownOperationException", 400)
    assert "DetectLabels is not served here" in answer.json["Message"]
    assert service.post("DetectLabels", b"x" * 20_000_000).status == 413


def test_a_topic_in_another_region_than_the_endpoint_is_refused(cloud, rekognition):
    topic = cloud.topic.replace("us-east-1", "eu-west-1")
    code, message, status = refused(
        rekognition.start_face_detection,
        Video=cloud.video(),
        NotificationChannel={**cloud.channel, "SNSTopicArn": topic},
    )
    assert (code, status) == ("InvalidParameterException", 400)
    assert topic in message
    assert "us-east-1" in message


def test_a_topic_that_cannot_be_is_refused_at_start(cloud, rekognition):
    for topic in (f"{cloud.topic}.fifo", cloud.topic.replace("us-east-1", "@evil.example")):
        code, message, status = refused(
            rekognition.start_face_detection,
            Video=cloud.video(),
            NotificationChannel={**cloud.channel, "SNSTopicArn": topic},
        )
        assert (code, status) == ("InvalidParameterException", 400)
        assert topic in message


def test_a_request_that_is_too_large_is_not_read(service):
    answer = service.post("GetPersonTracking", b'{"JobId": "' + b"x" * 300_000 + b'"}')
    assert (answer.code, answer.status) == ("RequestEntityTooLargeException", 413)


def test_a_head_that_is_too_large_ends_the_connection(service):
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n")
        answer = b""
        with contextlib.suppress(OSError):
            for i in itertools.count():
                connection.sendall(f"X-Pad-{i}: {'x' * 4000}\r\n".encode())
                assert i < 1000
        with contextlib.suppress(OSError):
            answer = connection.recv(100)
        assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert service.post("GetPersonTracking", b"{}").status == 400
