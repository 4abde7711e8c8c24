"""The client side of Rekognition Video: start, page, notifications, errors, provisioning."""

from __future__ import annotations

from rekognition_dagster.api.arrivals import Arrival, parse_arrivals
from rekognition_dagster.api.client import NotificationChannel, Page, RekognitionVideo, StartedJob
from rekognition_dagster.api.notifications import Completion, parse_completion
from rekognition_dagster.api.provision import Provisioned, provision
from rekognition_dagster.api.queue import MalformedMessageError, Message, MessageQueue

__all__ = [
    "Arrival",
    "Completion",
    "MalformedMessageError",
    "Message",
    "MessageQueue",
    "NotificationChannel",
    "Page",
    "Provisioned",
    "RekognitionVideo",
    "StartedJob",
    "parse_arrivals",
    "parse_completion",
    "provision",
]
