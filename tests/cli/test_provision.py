"""``provision`` and the AWS settings it runs under."""

from __future__ import annotations

import boto3
import pytest
from command_line import Command


def test_the_settings_are_printed_and_a_repetition_changes_nothing(
    command: Command, aws: boto3.Session, unique: str
) -> None:
    first = command("provision", "--name", unique)
    assert first.exit_code == 0, first.stderr
    settings = dict(line.split("=", 1) for line in first.stdout.splitlines())
    assert set(settings) == {
        "REKOGNITION_DAGSTER_TOPIC_ARN",
        "REKOGNITION_DAGSTER_ROLE_ARN",
        "REKOGNITION_DAGSTER_QUEUE_URL",
    }
    assert unique in settings["REKOGNITION_DAGSTER_QUEUE_URL"]
    assert command("provision", "--name", unique).stdout == first.stdout


def test_a_name_that_aws_would_refuse_is_a_wrong_command_line(command: Command) -> None:
    result = command("provision", "--name", "a b")
    assert result.exit_code == 2
    assert "--name" in result.stderr


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "AWS_REGION"),
        ({"AWS_REGION": "eu-central-1"}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_PROFILE": "nobody"}, "AWS_PROFILE"),
        (
            {
                "AWS_REGION": "eu-central-1",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "AWS_MAX_ATTEMPTS": "1",
            },
            "AWS_ENDPOINT_URL is http://127.0.0.1:9",
        ),
        (
            {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "nonsense"},
            "AWS_ENDPOINT_URL is nonsense",
        ),
    ],
)
def test_what_is_wrong_with_the_aws_settings_is_told(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    told: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = command("provision")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert told in result.stderr
