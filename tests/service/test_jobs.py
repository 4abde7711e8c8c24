"""A job's way through the service, as boto3 sees it."""

from __future__ import annotations

import re
import time

import pytest
from service.serving import ended, refused, until

from rekognition_dagster.api import RekognitionVideo
from rekognition_dagster.errors import JobFailedError
from rekognition_dagster.operations import FACE_DETECTION, PERSON_TRACKING
from rekognition_dagster.videos import Video


def test_a_job_goes_from_start_to_notification_to_its_pages(cloud, rekognition):
    before = time.time()
    started = rekognition.start_person_tracking(
        Video=cloud.video(rows=2500), NotificationChannel=cloud.channel, JobTag="gate-1"
    )
    job_id = started["JobId"]
    assert re.fullmatch("[0-9a-f]{64}", job_id)
    (message,) = until(cloud.completions)
    assert message["JobId"] == job_id
    assert message["Status"] == "SUCCEEDED"
    assert message["API"] == "StartPersonTracking"
    assert message["JobTag"] == "gate-1"
    assert before * 1000 - 1 <= message["Timestamp"] <= time.time() * 1000 + 1
    assert set(message["Video"]) == {"S3ObjectName", "S3Bucket"}

    pages, token = [], ""
    while True:
        page = rekognition.get_person_tracking(JobId=job_id, NextToken=token)
        assert page["JobId"] == job_id
        assert page["JobTag"] == "gate-1"
        assert page["Video"]["S3Object"]["Name"] == message["Video"]["S3ObjectName"]
        assert page["VideoMetadata"]["DurationMillis"] == 1000
        assert page["VideoMetadata"]["ColorRange"] == "LIMITED"
        pages.append(page["Persons"])
        token = page.get("NextToken")
        if not token:
            break
        assert len(token) <= 255
    assert [len(p) for p in pages] == [1000, 1000, 500]
    rows = [row for page in pages for row in page]
    assert [r["Timestamp"] for r in rows] == sorted(r["Timestamp"] for r in rows)
    assert {r["Person"]["Index"] for r in rows} == set(range(7))
    assert ("Face" in rows[0]["Person"]) is False
    assert set(rows[1]["Person"]["Face"]) == {
        "BoundingBox",
        "Confidence",
        "Landmarks",
        "Pose",
        "Quality",
    }


@pytest.mark.parametrize(
    ("operation", "results"), [("face_detection", "Faces"), ("label_detection", "Labels")]
)
def test_every_operation_of_the_table_is_served(cloud, rekognition, operation, results):
    job = getattr(rekognition, f"start_{operation}")(Video=cloud.video(rows=3))
    page = ended(rekognition, operation, job["JobId"])
    assert page["JobStatus"] == "SUCCEEDED"
    assert page[results]


def test_a_video_that_cannot_be_analysed_fails_its_job_with_a_reason_and_a_remedy(
    cloud, rekognition, service
):
    video = cloud.video(error="not a video")
    job = rekognition.start_face_detection(Video=video, NotificationChannel=cloud.channel)
    page = ended(rekognition, "face_detection", job["JobId"])
    assert page["JobStatus"] == "FAILED"
    assert video["S3Object"]["Name"] in page["StatusMessage"]
    assert "Re-encode it" in page["StatusMessage"]
    assert page["Faces"] == []
    (message,) = until(cloud.completions)
    assert message["Status"] == "FAILED"
    where = Video(video["S3Object"]["Bucket"], video["S3Object"]["Name"])
    with pytest.raises(JobFailedError) as failed:
        RekognitionVideo(service.client()).page(FACE_DETECTION, where, job["JobId"])
    backend, software = failed.value.backend
    assert str(backend).startswith("engine:"), "what found the video bad is known too"
    assert str(software).startswith("rekognition-dagster ")


def test_a_job_of_a_video_of_which_some_is_lost_succeeds_and_says_what(cloud, rekognition, service):
    video = cloud.video(rows=10, warning="breaks off after 8.00 s of 10.00 s")
    job = rekognition.start_person_tracking(Video=video)
    page = ended(rekognition, "person_tracking", job["JobId"])
    assert page["JobStatus"] == "SUCCEEDED"
    assert page["StatusMessage"] == "breaks off after 8.00 s of 10.00 s"
    assert len(page["Persons"]) == 10
    where = Video(video["S3Object"]["Bucket"], video["S3Object"]["Name"])
    # Of its own: the plugin reads pages as Arrow from then on.
    known = RekognitionVideo(service.client()).page(PERSON_TRACKING, where, job["JobId"])
    assert known.warning == page["StatusMessage"]


def test_a_job_in_progress_says_so(cloud, rekognition):
    job = rekognition.start_person_tracking(Video=cloud.video(rows=10, seconds=1))
    page = rekognition.get_person_tracking(JobId=job["JobId"])
    assert page["JobStatus"] == "IN_PROGRESS"
    assert page["Persons"] == []
    assert ended(rekognition, "person_tracking", job["JobId"])["JobStatus"] == "SUCCEEDED"


def test_a_job_of_another_operation_or_of_none_is_not_found(cloud, rekognition):
    job = rekognition.start_person_tracking(Video=cloud.video())
    for job_id in (job["JobId"], "f" * 64):
        code, message, status = refused(rekognition.get_face_detection, JobId=job_id)
        assert (code, status) == ("ResourceNotFoundException", 400)
        assert job_id in message
