"""Starts, pages and errors told apart, over a real HTTP endpoint."""

from __future__ import annotations

import boto3
import pytest
from botocore.config import Config
from fault_proxy import FaultProxy
from rekognition_double import ApiFault, RekognitionDouble

from rekognition_dagster.api import NotificationChannel, RekognitionVideo
from rekognition_dagster.errors import (
    AccessError,
    ApiError,
    ConfigurationError,
    DelayedError,
    JobExpiredError,
    JobFailedError,
    TransientError,
)
from rekognition_dagster.operations import FACE_DETECTION, LABEL_DETECTION, PERSON_TRACKING
from rekognition_dagster.videos import Video

VIDEO = Video("videos", "a.mp4", version_id="v1")
CHANNEL = NotificationChannel(
    "arn:aws:sns:us-east-1:123456789012:done", "arn:aws:iam::123456789012:role/publish"
)


@pytest.fixture
def api(rekognition: RekognitionDouble) -> RekognitionVideo:
    client = boto3.client("rekognition", config=Config(retries={"total_max_attempts": 1}))
    return RekognitionVideo(
        client, CHANNEL, "nightly", {"face_detection": {"FaceAttributes": "ALL"}}
    )


def test_a_start_carries_token_tag_channel_version_and_parameters(
    api: RekognitionVideo, rekognition: RekognitionDouble
) -> None:
    job = api.start(FACE_DETECTION, VIDEO)
    assert rekognition.jobs[job.job_id] == {
        "API": "StartFaceDetection",
        "Video": {"S3Object": {"Bucket": "videos", "Name": "a.mp4", "Version": "v1"}},
        "ClientRequestToken": job.token,
        "NotificationChannel": {"SNSTopicArn": CHANNEL.topic_arn, "RoleArn": CHANNEL.role_arn},
        "JobTag": "nightly",
        "FaceAttributes": "ALL",
    }


def test_starting_twice_is_one_job_and_another_attempt_is_another(api: RekognitionVideo) -> None:
    first = api.start(PERSON_TRACKING, VIDEO)
    assert api.start(PERSON_TRACKING, VIDEO) == first
    assert api.start(PERSON_TRACKING, VIDEO, attempt=2).job_id != first.job_id
    assert api.start(FACE_DETECTION, VIDEO).job_id != first.job_id


def test_pages_are_followed_to_the_end(
    api: RekognitionVideo, rekognition: RekognitionDouble
) -> None:
    rekognition.rows = 2500
    job = api.start(PERSON_TRACKING, VIDEO)
    pages = list(api.pages(PERSON_TRACKING, VIDEO, job.job_id))
    assert [len(p.rows) for p in pages] == [1000, 1000, 500]
    assert pages[0].metadata == {
        "codec": "h264",
        "duration_ms": 600_000,
        "format": "QuickTime / MOV",
        "frame_rate": 25.0,
        "width": 640,
        "height": 360,
    }


def test_a_token_that_repeats_itself_ends_the_paging(
    api: RekognitionVideo, rekognition: RekognitionDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = api.start(PERSON_TRACKING, VIDEO)
    same = {"JobStatus": "SUCCEEDED", "Persons": [], "NextToken": "again"}
    monkeypatch.setattr(rekognition, "_get", lambda operation, request: same)
    with pytest.raises(ApiError, match=r"a\.mp4.*same NextToken twice"):
        list(api.pages(PERSON_TRACKING, VIDEO, job.job_id))


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("LimitExceededException", 400, DelayedError),
        ("ProvisionedThroughputExceededException", 400, DelayedError),
        ("ThrottlingException", 500, DelayedError),
        ("InternalServerError", 500, TransientError),
        ("ServiceUnavailable", 503, TransientError),
        ("AccessDeniedException", 400, ApiError),
        ("IdempotentParameterMismatchException", 400, ApiError),
        ("InvalidParameterException", 400, ApiError),
        ("InvalidS3ObjectException", 400, ApiError),
        ("VideoTooLargeException", 400, ApiError),
        ("SomethingNewException", 400, ApiError),
    ],
)
def test_documented_errors_of_start_are_told_apart(
    api: RekognitionVideo,
    rekognition: RekognitionDouble,
    code: str,
    status: int,
    kind: type[ApiError],
) -> None:
    def refuse(request: object) -> None:
        raise ApiFault(code, status)

    rekognition.on_start = refuse
    with pytest.raises(ApiError) as failure:
        api.start(PERSON_TRACKING, VIDEO)
    assert type(failure.value) is kind
    assert failure.value.code == code
    assert str(failure.value).startswith(f"s3://videos/a.mp4: StartPersonTracking: {code}")


def test_an_unknown_job_has_expired(api: RekognitionVideo) -> None:
    with pytest.raises(JobExpiredError, match=r"a\.mp4.*7 days"):
        api.page(PERSON_TRACKING, VIDEO, "job-of-last-year")


def test_a_failed_job_tells_its_status_message(
    api: RekognitionVideo, rekognition: RekognitionDouble
) -> None:
    rekognition.failed.add("a.mp4")
    job = api.start(PERSON_TRACKING, VIDEO)
    with pytest.raises(JobFailedError, match=r"a\.mp4.*the video has no frames"):
        api.page(PERSON_TRACKING, VIDEO, job.job_id)


def test_a_job_that_runs_is_asked_again_later(
    api: RekognitionVideo, rekognition: RekognitionDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekognition, "_get", lambda *_: {"JobStatus": "IN_PROGRESS"})
    with pytest.raises(DelayedError, match="still runs"):
        api.page(PERSON_TRACKING, VIDEO, "job-0")


def test_a_broken_connection_is_asked_again(
    api: RekognitionVideo, rekognition: RekognitionDouble
) -> None:
    def hang_up(request: object) -> None:
        raise ConnectionAbortedError

    rekognition.on_get = hang_up
    with pytest.raises(TransientError, match="Check the endpoint"):
        api.page(PERSON_TRACKING, VIDEO, "job-0")


def test_an_answer_that_breaks_off_is_not_a_job_without_rows(
    api: RekognitionVideo, rekognition: RekognitionDouble
) -> None:
    job = api.start(PERSON_TRACKING, VIDEO)
    with FaultProxy(api.client.meta.endpoint_url, seed=0, shares={"cut": 1.0}) as proxy:
        spoiled = RekognitionVideo(boto3.client("rekognition", endpoint_url=proxy.url), CHANNEL)
        with pytest.raises(TransientError, match=r"a\.mp4: GetPersonTracking"):
            list(spoiled.pages(PERSON_TRACKING, VIDEO, job.job_id, patience_s=2))
        with pytest.raises(TransientError, match=r"a\.mp4: StartPersonTracking"):
            spoiled.start(PERSON_TRACKING, VIDEO)
    assert len(api.page(PERSON_TRACKING, VIDEO, job.job_id).rows) == rekognition.rows


def test_missing_credentials_are_told(
    rekognition: RekognitionDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    api = RekognitionVideo(boto3.Session().client("rekognition"))
    with pytest.raises(AccessError, match="Check the AWS credentials"):
        api.start(PERSON_TRACKING, VIDEO)


@pytest.mark.parametrize(
    "code", ["UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException"]
)
def test_what_is_wrong_with_every_call_is_told_apart_from_one_video(
    api: RekognitionVideo, rekognition: RekognitionDouble, code: str
) -> None:
    def refuse(request: object) -> None:
        raise ApiFault(code)

    rekognition.on_start = refuse
    with pytest.raises(AccessError, match=code):
        api.start(PERSON_TRACKING, VIDEO)


def test_an_unknown_parameter_is_a_mistake_in_the_configuration(api: RekognitionVideo) -> None:
    wrong = RekognitionVideo(api.client, parameters={"label_detection": {"FaceAttributes": "ALL"}})
    with pytest.raises(ConfigurationError, match=r"FaceAttributes.*MinConfidence"):
        wrong.start(LABEL_DETECTION, VIDEO)


def test_a_file_is_sent_to_the_local_backfill(api: RekognitionVideo) -> None:
    with pytest.raises(ApiError, match="local_backfill"):
        api.start(PERSON_TRACKING, Video.from_uri("/videos/a.mp4"))
