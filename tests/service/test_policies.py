"""The IAM policy in examples/iam allows what the service does, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import iam
import pytest
from iam import REGION
from service.serving import Service, ended, mp4, starter, until

from rekognition_dagster.api import provision

NOT_EVERY_DAY = {
    "Videos s3:GetObjectVersion": "for requests that name a version",
    "MissingIsToldFromForbidden s3:ListBucket": "no call: S3 says 404 and not 403 to who has it",
    "ResultsListing s3:ListBucket": "when results are removed",
    "Results s3:AbortMultipartUpload": "when an upload fails",
}
"""What the service is allowed beyond what a plain job needs, and when it needs it."""


def test_the_service_needs_its_policy_and_no_more(
    unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services: list[Service] = []
    with iam.recorded_aws() as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
        session = boto3.Session(region_name=REGION)
        cloud: dict[str, Any] = {name: session.client(name) for name in ("s3", "sqs")}
        videos, lake = f"{unique}my-videos", f"{unique}my-lake"
        for bucket in (videos, lake):
            cloud["s3"].create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
        cloud["s3"].put_object(Bucket=videos, Key="entrance/a.mp4", Body=mp4(b'{"rows": 10}'))
        made = provision(session, f"{unique}cameras")
        make = starter(tmp_path, recorder.url, services)
        with recorder.recording():
            service = make(results=f"s3://{lake}/jobs", environment={"AWS_DEFAULT_REGION": REGION})
            rekognition = service.client()
            job = rekognition.start_person_tracking(
                Video={"S3Object": {"Bucket": videos, "Name": "entrance/a.mp4"}},
                NotificationChannel={"SNSTopicArn": made.topic_arn, "RoleArn": made.role_arn},
            )["JobId"]
            assert len(ended(rekognition, "person_tracking", job)["Persons"]) == 10
            until(lambda: any(c.action == "sns:Publish" for c in recorder.calls))
            assert service.stop() == 0
    allowed = iam.policy("service", unique)
    assert iam.refused(allowed, recorder.calls) == []
    assert iam.idle(allowed, recorder.calls) == set(NOT_EVERY_DAY)
