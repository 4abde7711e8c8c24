"""The IAM policies in examples/iam allow what the pipeline and provisioning do, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import dagster as dg
import iam
import pytest
from deployment import Deployment, put_videos
from iam import ACCOUNT, REGION, Call, Recorder
from rekognition_double import RekognitionDouble

from rekognition_dagster import Settings
from rekognition_dagster.api import provision


@pytest.fixture
def recorder(aws: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    with iam.recorded_aws() as recorder:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, REGION)
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
        yield recorder


NOT_EVERY_DAY = {
    "VideosOfTheApi s3:GetObjectVersion": "for versions that the local backfill has learnt",
    "Lake s3:DeleteObject": "for compaction, and for a video that is of another day than it was",
    "Lake s3:AbortMultipartUpload": "when an upload fails",
}
"""What the pipeline is allowed beyond what a plain run needs, and when it needs it."""


def test_provisioning_needs_its_policy_and_no_more(recorder: Recorder, unique: str) -> None:
    bucket = f"{unique}my-videos"
    boto3.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    with recorder.recording():
        provision(boto3.Session(), f"{unique}cameras", arrivals=bucket)
        provision(boto3.Session(), f"{unique}cameras", arrivals=bucket)
    allowed = iam.policy("provisioning", unique)
    assert iam.refused(allowed, recorder.calls) == []
    assert iam.idle(allowed, recorder.calls) == set()


def test_the_pipeline_needs_its_policy_and_no_more(
    recorder: Recorder, rekognition: RekognitionDouble, instance: dg.DagsterInstance, unique: str
) -> None:
    videos, lake = f"{unique}my-videos", f"{unique}my-lake"
    s3: Any = boto3.client("s3")
    for bucket in (videos, lake):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    made = provision(boto3.Session(), f"{unique}cameras", arrivals=videos, job_tag="cameras")
    settings = Settings(
        name="cameras",
        bucket=videos,
        prefix="entrance/",
        lake=f"s3://{lake}/cameras",
        operations=["face_detection", "label_detection", "segment_detection"],
        queue_url=made.queue_url,
        arrivals_queue_url=made.arrivals_queue_url,
        topic_arn=made.topic_arn,
        role_arn=made.role_arn,
        max_jobs_in_flight="service-quotas",
    )
    deployment = Deployment(settings, instance, made, rekognition)

    def in_the_callers_name(request: dict[str, Any]) -> None:
        where = request["Video"]["S3Object"]
        recorder.calls.add(Call("s3:GetObject", f"arn:aws:s3:::{where['Bucket']}/{where['Name']}"))
        recorder.calls.add(Call("iam:PassRole", request["NotificationChannel"]["RoleArn"]))

    rekognition.on_start = in_the_callers_name
    put_videos(videos, "entrance/2026-01-31/a.mp4", "entrance/2026-01-31/b.mp4")
    deployment.queue.client.send_message(
        QueueUrl=made.arrivals_queue_url, MessageBody="no event of S3"
    )
    with recorder.recording():
        deployment.tick("video_discovery")
        deployment.tick("video_discovery")
        deployment.dispatch()
        deployment.tick("reports")
    partitions = deployment.partitions()
    assert len(partitions) == 2
    deployment.notify()
    deployment.queue.client.send_message(QueueUrl=made.queue_url, MessageBody="no completion")
    with recorder.recording():
        deployment.tick("completions")
        deployment.tick("completions")
        deployment.tick("reconciliation")
        for table in ("face_detections", "label_detections", "segment_detections", "video_summary"):
            assert deployment.materialize(table, partitions).success
        checks = deployment.definitions.resolve_job_def(deployment.ours.scoped("alerts"))
        run = checks.execute_in_process(instance=instance, raise_on_error=False)
        failed = [e.check_name for e in run.get_asset_check_evaluations() if not e.passed]
        assert failed == ["is_empty"], "the two messages above, and no call that was refused"
    recorder.calls |= {Call(f"rekognition:{name}", "*") for name in rekognition.calls}

    allowed = iam.policy("pipeline", unique)
    assert iam.refused(allowed, recorder.calls) == []
    assert iam.idle(allowed, recorder.calls) == set(NOT_EVERY_DAY)


@pytest.mark.parametrize("name", ["pipeline", "service", "provisioning"])
def test_a_policy_names_the_account_and_region_of_the_documentation(name: str) -> None:
    for statement in iam.policy(name):
        assert set(statement) - {"Condition"} == {"Sid", "Effect", "Action", "Resource"}
        for arn in iam.listed(statement["Resource"]):
            if arn != "*":
                _, _, _, region, account, _ = arn.split(":", 5)
                assert (region, account) in {(REGION, ACCOUNT), ("", ACCOUNT), ("", "")}
