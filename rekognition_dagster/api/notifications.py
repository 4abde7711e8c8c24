"""Completions: what a message on their queue says. No Dagster here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rekognition_dagster.api.queue import MalformedMessageError, text_member, unwrapped
from rekognition_dagster.operations import Operation, operation
from rekognition_dagster.videos import Video


@dataclass(frozen=True)
class Completion:
    """A job has ended.

    Args:
        job_id: The job.
        status: ``SUCCEEDED`` or ``FAILED``.
        operation: Which operation it was.
        video: The video, without its version.
        job_tag: The deployment that started it, where it gave one.
        timestamp_ms: When it ended, in milliseconds since 1970.
    """

    job_id: str
    status: str
    operation: Operation
    video: Video
    job_tag: str | None
    timestamp_ms: int | None


def parse_completion(body: str) -> Completion:
    """The completion in a message's body: an SNS envelope, or raw delivery.

    Raises:
        MalformedMessageError: It is none.
    """
    document = unwrapped(body)
    status = text_member(document, "Status")
    if status not in ("SUCCEEDED", "FAILED"):
        raise MalformedMessageError(f"Status {status!r} is neither SUCCEEDED nor FAILED")
    try:
        kind = operation(text_member(document, "API"))
    except KeyError as error:
        raise MalformedMessageError(str(error.args[0])) from None
    where = document.get("Video")
    if not isinstance(where, Mapping):
        raise MalformedMessageError("it has no Video")
    timestamp = document.get("Timestamp")
    tag = document.get("JobTag")
    return Completion(
        text_member(document, "JobId"),
        status,
        kind,
        Video(text_member(where, "S3Bucket"), text_member(where, "S3ObjectName")),
        tag if isinstance(tag, str) else None,
        int(timestamp) if isinstance(timestamp, (int, float)) else None,
    )
