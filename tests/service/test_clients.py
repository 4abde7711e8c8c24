"""Unmodified AWS clients, with another endpoint: the CLI and the SDK for JavaScript.

boto3, the third of them, is what every other test of this folder drives the service with. They are
looked for in ``REKOGNITION_DAGSTER_CLIENTS`` (see ``clients/install.py``), then on the path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from service.serving import BUCKET, ROLE, until

_CLIENTS = Path(os.environ.get("REKOGNITION_DAGSTER_CLIENTS", "/nonexistent"))


@pytest.fixture
def aws_cli() -> str:
    own = _CLIENTS / "aws" / "bin" / "aws"
    found = str(own) if own.exists() else shutil.which("aws")
    if not found:
        pytest.skip("the AWS CLI is not installed here; see tests/service/clients/install.py")
    return found


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if not found:
        pytest.skip("node is not installed here")
    if not (_CLIENTS / "node_modules" / "@aws-sdk" / "client-rekognition").exists():
        pytest.skip("the AWS SDK for JavaScript is not installed; see clients/install.py")
    return found


def test_the_aws_cli_goes_from_start_over_sns_and_sqs_to_the_last_page(cloud, service, aws_cli):
    def aws(*arguments: str, url: str = service.url) -> subprocess.CompletedProcess[str]:
        command = [aws_cli, "--endpoint-url", url, "--output", "json", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    video = cloud.video(rows=2100)
    started = aws(
        *("rekognition", "start-person-tracking", "--video", json.dumps(video)),
        *("--notification-channel", f"SNSTopicArn={cloud.topic},RoleArn={ROLE}"),
        *("--job-tag", "cli"),
    )
    assert started.returncode == 0, started.stderr
    job_id = json.loads(started.stdout)["JobId"]

    def completion():
        said = aws("sqs", "receive-message", "--queue-url", cloud.queue, url=cloud.url)
        messages = json.loads(said.stdout or "{}").get("Messages", [])
        return [json.loads(json.loads(m["Body"])["Message"]) for m in messages]

    (message,) = until(completion, 40)
    assert (message["JobId"], message["Status"], message["JobTag"]) == (job_id, "SUCCEEDED", "cli")
    # The CLI pages by itself, with the token of each page.
    got = aws("rekognition", "get-person-tracking", "--job-id", job_id, "--sort-by", "INDEX")
    assert got.returncode == 0, got.stderr
    answer = json.loads(got.stdout)
    pages = [answer]
    while token := pages[-1].get("NextToken"):
        arguments = ("--job-id", job_id, "--sort-by", "INDEX", "--next-token", token)
        pages.append(json.loads(aws("rekognition", "get-person-tracking", *arguments).stdout))
    assert sum(len(p["Persons"]) for p in pages) == 2100
    assert answer["VideoMetadata"]["Codec"] == "h264"
    refusal = aws("rekognition", "get-person-tracking", "--job-id", "none")
    assert refusal.returncode != 0
    assert "(ResourceNotFoundException)" in refusal.stderr


def test_the_sdk_for_javascript_goes_from_start_over_sns_and_sqs_to_the_last_page(
    cloud, service, node
):
    video = cloud.video(rows=2100)
    asked = {
        "bucket": BUCKET,
        "name": video["S3Object"]["Name"],
        "topic": cloud.topic,
        "role": ROLE,
        "queue": cloud.queue,
        "serviceUrl": service.url,
        "cloudUrl": cloud.url,
    }
    script = Path(__file__).parent / "clients" / "pipeline.cjs"
    ran = subprocess.run(
        [node, str(script), json.dumps(asked)],
        env={**os.environ, "CLIENTS": str(_CLIENTS), "AWS_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["completion"]["Status"] == "SUCCEEDED"
    assert answer["completion"]["JobTag"] == "javascript"
    assert answer["pages"] == [1000, 1000, 100]
    assert answer["width"] == 640
    assert answer["face"] == ["BoundingBox", "Confidence", "Landmarks", "Pose", "Quality"]
    assert answer["refusal"] == {"name": "ResourceNotFoundException", "status": 400}
