"""The local stack: AWS and the service on loopback, provisioned, and gone afterwards."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rekognition_dagster.api import MessageQueue
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.stack import LocalStack, dagster_home, local
from rekognition_dagster.state import jobs
from rekognition_dagster.state.videos import Found, Plan, register
from rekognition_dagster.videos import Source, Video


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with LocalStack(tmp_path_factory.mktemp("stack") / "home") as stack:
        yield stack


def queue_of(stack: LocalStack) -> MessageQueue:
    url = stack.environment()["REKOGNITION_DAGSTER_QUEUE_URL"]
    return MessageQueue(stack.session().client("sqs"), url)


def of_home(home: Path) -> list[int]:
    """Processes that work in a home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(home).encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_the_service_and_aws_listen_on_loopback_only(stack: LocalStack) -> None:
    for service in ("s3", "sqs", "rekognition"):
        assert stack.endpoint(service).startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{stack.endpoint('rekognition')}/health") as answer:
        assert answer.status == 200


def test_what_is_published_to_the_topic_arrives_in_the_queue(stack: LocalStack) -> None:
    topic = stack.environment()["REKOGNITION_DAGSTER_TOPIC_ARN"]
    completion = json.dumps({"JobTag": stack.name})
    stack.session().client("sns").publish(TopicArn=topic, Message=completion)
    queue = queue_of(stack)
    [message] = queue.receive()
    assert json.loads(message.body)["Message"] == completion
    queue.delete([message.receipt_handle])
    assert queue.dead_letter_url() is not None


def test_a_video_that_is_put_is_in_the_bucket(stack: LocalStack, tmp_path: Path) -> None:
    path = tmp_path / "2026-01-31.mp4"
    path.write_bytes(b"frames")
    video = stack.put(path)
    assert video.bucket == stack.bucket
    assert video.size == 6
    head = stack.session().client("s3").head_object(Bucket=video.bucket, Key=video.key)
    assert head["ETag"].strip('"') == video.version


def test_nothing_of_the_users_own_account_leaks_in(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.com")
    monkeypatch.setenv("no_proxy", "intranet.example.com")
    environment = stack.process_environment()
    assert "AWS_PROFILE" not in environment
    assert "AWS_SESSION_TOKEN" not in environment
    assert "AWS_ENDPOINT_URL_S3" not in environment
    assert environment["no_proxy"] == "intranet.example.com,127.0.0.1,localhost"
    assert stack.session().client("s3").list_buckets()["Buckets"]


def test_a_home_is_for_one_stack_at_a_time(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LOCK_S", 0.2)
    with pytest.raises(ConfigurationError, match="in use"), LocalStack(stack.home):
        pass


def test_a_restart_has_the_same_bucket_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    clip = tmp_path / "gate.mp4"
    clip.write_bytes(b"frames")
    with LocalStack(home) as first:
        put = first.put(clip)
        assert of_home(home)
    assert of_home(home) == []
    with LocalStack(home) as second:
        s3 = second.session().client("s3")
        [entry] = s3.list_objects_v2(Bucket=second.bucket)["Contents"]
        assert (entry["Key"], entry["ETag"].strip('"')) == (put.key, put.version)
    assert of_home(home) == []


def test_a_completion_that_the_queue_forgot_is_announced_again(tmp_path: Path) -> None:
    home, clip = tmp_path / "home", tmp_path / "2026-01-31.mp4"
    clip.write_bytes(b"this is no video, so its job fails at once")
    with LocalStack(home) as first:
        video = first.put(clip)
        job_id = (
            first.session()
            .client("rekognition")
            .start_person_tracking(Video={"S3Object": video.s3_object()}, JobTag=first.name)[
                "JobId"
            ]
        )
        plan = Plan(["person_tracking"])
        with first.pipeline_state().write() as connection:
            register(connection, [Found(video, video.partition_key)], 0.0, plan)
            [work] = jobs.reserve(
                connection,
                plan.operations,
                [Source(first.bucket)],
                most=1,
                limit=1,
                now=0.0,
                lease_s=60.0,
            )
            jobs.started(connection, [jobs.Started(work, job_id, "t")], 1.0)
        service = first.processes[-1]
        service.wait_for(lambda: _has_ended(first, job_id), "ended the job", 60.0)
    with LocalStack(home) as second:
        [message] = queue_of(second).receive()
        completion = json.loads(json.loads(message.body)["Message"])
    assert completion["JobId"] == job_id
    assert completion["Status"] == "FAILED"
    assert completion["JobTag"] == second.name
    assert (
        Video(completion["Video"]["S3Bucket"], completion["Video"]["S3ObjectName"]).uri == video.uri
    )


def _has_ended(stack: LocalStack, job_id: str) -> bool:
    answer = stack.session().client("rekognition").get_person_tracking(JobId=job_id)
    return answer["JobStatus"] != "IN_PROGRESS"


def test_a_run_whose_process_is_gone_does_not_hold_its_place_for_ever(tmp_path: Path) -> None:
    dagster_home.prepare(tmp_path)
    with dagster_home.instance(tmp_path) as instance:
        run = instance.create_run_for_job(
            dg.GraphDefinition("nothing").to_job(), status=dg.DagsterRunStatus.STARTED
        )
    dagster_home.prepare(tmp_path)
    with dagster_home.instance(tmp_path) as instance:
        settled = instance.get_run_by_id(run.run_id)
    assert settled is not None
    assert settled.status == dg.DagsterRunStatus.FAILURE


def test_a_port_that_is_taken_is_told(stack: LocalStack) -> None:
    taken = int(stack.endpoint().rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=f"port {taken}"):
        stack.start_webserver(taken)


def test_wrong_settings_are_told_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REKOGNITION_DAGSTER_OPERATIONS", "mind_reading")
    with (
        pytest.raises(ConfigurationError, match="REKOGNITION_DAGSTER_OPERATIONS"),
        LocalStack(tmp_path / "home"),
    ):
        pass
    assert of_home(tmp_path / "home") == []
    assert os.listdir(tmp_path) == []
