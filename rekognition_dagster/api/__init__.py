"""The client side of Rekognition Video: start, page, notifications, errors, provisioning."""

from __future__ import annotations

from rekognition_dagster.api.client import NotificationChannel, Page, RekognitionVideo, StartedJob
from rekognition_dagster.api.notifications import (
    Completion,
    CompletionQueue,
    MalformedMessageError,
    Message,
    parse_completion,
)
from rekognition_dagster.api.provision import Provisioned, provision

__all__ = [
    "Completion",
    "CompletionQueue",
    "MalformedMessageError",
    "Message",
    "NotificationChannel",
    "Page",
    "Provisioned",
    "RekognitionVideo",
    "StartedJob",
    "parse_completion",
    "provision",
]
