"""ClientRequestToken: the same work asked twice is one job."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from service.serving import cloud_client, ended, refused, until


def test_the_same_token_and_parameters_are_the_same_job_run_and_announced_once(
    cloud, rekognition, tmp_path
):
    log = tmp_path / "runs"
    arguments = {
        "Video": cloud.video(log=str(log)),
        "ClientRequestToken": f"token-{time.monotonic_ns()}",
        "NotificationChannel": cloud.channel,
        "JobTag": "tag",
    }
    with ThreadPoolExecutor(8) as pool:
        starts = list(pool.map(lambda _: rekognition.start_person_tracking(**arguments), range(8)))
    (job_id,) = {s["JobId"] for s in starts}
    until(cloud.completions)
    # The object of a job that ran may be gone: asking again is still asking for that job.
    reference = arguments["Video"]["S3Object"]
    cloud_client("s3", cloud.url).delete_object(Bucket=reference["Bucket"], Key=reference["Name"])
    assert rekognition.start_person_tracking(**arguments)["JobId"] == job_id
    time.sleep(0.5)
    assert cloud.completions() == []
    assert len(log.read_text().splitlines()) == 1


def test_the_same_token_and_the_same_meaning_are_the_same_job(cloud, service):
    video, token = cloud.video(), f"token-{time.monotonic_ns()}"
    filters = {"LabelInclusionFilters": ["Dog", "Cat"]}
    spellings = [
        {"MinConfidence": 50, "Settings": {"GeneralLabels": filters}},
        {"MinConfidence": 50.0, "Settings": {"GeneralLabels": filters}},
        {"Settings": {"GeneralLabels": {**filters, "LabelExclusionFilters": []}}},
        {"Settings": {"GeneralLabels": {"LabelInclusionFilters": ["Cat", "Dog"]}}},
        {"Features": ["GENERAL_LABELS"], "Settings": {"GeneralLabels": filters}},
    ]
    answers = [
        service.post(
            "StartLabelDetection",
            json.dumps({"Video": video, "ClientRequestToken": token, **more}).encode(),
        )
        for more in spellings
    ]
    assert {a.code for a in answers} == {"OK"}
    assert len({a.json["JobId"] for a in answers}) == 1
    other = {"MinConfidence": 50.5, "Settings": {"GeneralLabels": filters}}
    body = json.dumps({"Video": video, "ClientRequestToken": token, **other}).encode()
    assert service.post("StartLabelDetection", body).code == "IdempotentParameterMismatchException"


def test_an_absent_default_and_the_default_are_the_same_request(cloud, rekognition):
    arguments = {"Video": cloud.video(), "ClientRequestToken": f"token-{time.monotonic_ns()}"}
    first = rekognition.start_face_detection(**arguments)["JobId"]
    again = rekognition.start_face_detection(**arguments, FaceAttributes="DEFAULT")["JobId"]
    assert first == again


def test_the_same_token_with_other_parameters_is_a_mismatch(cloud, rekognition):
    video, token = cloud.video(), f"token-{time.monotonic_ns()}"
    rekognition.start_face_detection(Video=video, ClientRequestToken=token)
    for changed in (
        {"Video": cloud.video()},
        {"Video": video, "FaceAttributes": "ALL"},
        {"Video": video, "JobTag": "tag"},
        {"Video": video, "NotificationChannel": cloud.channel},
    ):
        code, message, status = refused(
            rekognition.start_face_detection, ClientRequestToken=token, **changed
        )
        assert (code, status) == ("IdempotentParameterMismatchException", 400)
        assert token in message


def test_the_same_token_with_another_operation_is_a_new_job(cloud, rekognition):
    arguments = {"Video": cloud.video(), "ClientRequestToken": f"token-{time.monotonic_ns()}"}
    face = rekognition.start_face_detection(**arguments)["JobId"]
    person = rekognition.start_person_tracking(**arguments)["JobId"]
    assert face != person
    assert ended(rekognition, "person_tracking", person)["JobStatus"] == "SUCCEEDED"


def test_without_a_token_each_start_is_a_job(cloud, rekognition):
    video = cloud.video()
    jobs = {rekognition.start_face_detection(Video=video)["JobId"] for _ in range(2)}
    assert len(jobs) == 2


def test_tokens_and_results_live_as_long_as_they_are_said_to(cloud, make_service):
    service = make_service(job_life_s=10.0)
    rekognition = service.client()
    arguments = {"Video": cloud.video(rows=3), "ClientRequestToken": "once"}
    job_id = rekognition.start_face_detection(**arguments)["JobId"]
    assert rekognition.start_face_detection(**arguments)["JobId"] == job_id
    ended(rekognition, "face_detection", job_id)

    def gone():
        try:
            rekognition.get_face_detection(JobId=job_id)
        except rekognition.exceptions.ResourceNotFoundException:
            return True

    until(gone)
    assert rekognition.start_face_detection(**arguments)["JobId"] != job_id
