"""What a Start request means: its defaults, and whether two requests ask for the same work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rekognition_dagster.operations import Operation

MIN_CONFIDENCE = 50.0
"""The default of a request's MinConfidence (source: StartLabelDetection)."""

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "StartFaceDetection": {"FaceAttributes": "DEFAULT"},
    "StartLabelDetection": {"MinConfidence": MIN_CONFIDENCE, "Features": ["GENERAL_LABELS"]},
}


def request_hash(operation: Operation, request: Mapping[str, Any]) -> str:
    """Return the same 64 hexadecimal digits for requests that mean the same.

    An absent default is the default, 50 is 50.0, an empty structure or list is none, and the order
    of a list has no meaning.

    Args:
        operation: What the request starts.
        request: The checked request, without its ``ClientRequestToken``.
    """
    whole = {**_DEFAULTS.get(operation.start_api, {}), **request}
    text = json.dumps(_canonical(whole), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        members = {name: _canonical(member) for name, member in value.items()}
        return {name: member for name, member in members.items() if member not in ({}, [])}
    if isinstance(value, list):
        return sorted({json.dumps(_canonical(item), sort_keys=True) for item in value})
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return value
