"""What a restart of the local stack announces again."""

from __future__ import annotations

import json
import time

import pytest

from rekognition_dagster.operations import PERSON_TRACKING
from rekognition_dagster.service.store import JobStore
from rekognition_dagster.stack.recovery import announce_again
from rekognition_dagster.state import State, jobs
from rekognition_dagster.state.videos import Found, Plan, register
from rekognition_dagster.videos import Source, Video


@pytest.mark.parametrize("status", ["IN_PROGRESS", "FAILED", "SUCCEEDED"])
def test_a_job_that_ended_is_announced_again_with_all_that_its_first_announcement_had(
    aws, tmp_path, unique, status
):
    sns, sqs = aws.client("sns"), aws.client("sqs")
    topic = sns.create_topic(Name=unique)["TopicArn"]
    queue = sqs.create_queue(QueueName=unique)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])
    state, store = in_progress(tmp_path, topic)
    job = store.claim("w", 60.0)
    assert job is not None
    if status == "FAILED":
        store.fail(job, "w", "no video")
    elif status == "SUCCEEDED":
        store.complete(job, "w", metadata={}, results="j/1", orders={"TIMESTAMP": 1})
    first = [json.loads(n.message) for n in store.due_notifications(30.0)]

    announce_again(state, store, sns, topic, [PERSON_TRACKING])
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
    if status == "IN_PROGRESS":
        assert (first, received) == ([], []), "the service announces it when it ends"
        store.fail(job, "w", "no video")
        (notification,) = store.due_notifications(30.0)
        assert json.loads(notification.message)["Timestamp"] > 0
    else:
        assert [json.loads(json.loads(m["Body"])["Message"]) for m in received] == first
        assert first[0]["Timestamp"] == pytest.approx(time.time() * 1000, abs=60_000)
    store.close()
    state.dispose()


def in_progress(folder, topic: str) -> tuple[State, JobStore]:
    """The pipeline's state and the service's store, with one job that is in progress in both."""
    store = JobStore(f"sqlite:///{folder}/service/jobs.sqlite")
    request = {
        "Video": {"S3Object": {"Bucket": "cameras", "Name": "a.mp4"}},
        "NotificationChannel": {"SNSTopicArn": topic, "RoleArn": "r"},
        "JobTag": "cameras",
    }
    job_id, _ = store.add(
        "person_tracking", request, account="a", token=None, request_hash="", limit=9
    )
    state, plan = State(f"sqlite:///{folder}/state.sqlite", "cameras"), Plan(["person_tracking"])
    video, now = Video("cameras", "a.mp4", etag="e1"), time.time()
    with state.write() as connection:
        register(connection, [Found(video, video.partition_key)], now, plan)
        sources = [Source("cameras")]
        [work] = jobs.reserve(
            connection, plan.operations, sources, most=1, limit=1, now=now, lease_s=60.0
        )
        jobs.started(connection, [jobs.Started(work, job_id, "t")], now)
    return state, store
