"""What a Start request means: its defaults, what the engine is asked, and which are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rekognition_dagster.engine import BlackFrames
from rekognition_dagster.operations import SEGMENT_DETECTION, Operation


def completed(operation: Operation, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked request with the default of each member that is absent."""
    return _completed(operation.defaults, request)


def engine_options(operation: Operation, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request asks of the engine, as arguments of ``analyze``."""
    whole = completed(operation, request)
    options: dict[str, Any] = {"face_attributes": whole.get("FaceAttributes", "DEFAULT").lower()}
    if operation.name == SEGMENT_DETECTION.name:
        black = whole["Filters"]["TechnicalCueFilter"]["BlackFrame"]
        options["black_frames"] = BlackFrames(
            black["MaxPixelThreshold"], black["MinCoveragePercentage"]
        )
    return options


def request_hash(operation: Operation, request: Mapping[str, Any]) -> str:
    """Return the same 64 hexadecimal digits for requests that mean the same.

    An absent default is the default, 50 is 50.0, an empty structure or list is none, and the order
    of a list has no meaning, unless it is one of the operation's ordered members.

    Args:
        operation: What the request starts.
        request: The checked request, without its ``ClientRequestToken``.
    """
    whole = completed(operation, request)
    ordered = {n: list(dict.fromkeys(whole[n])) for n in operation.ordered_members if n in whole}
    content = {**_canonical(whole), **ordered}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _completed(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    whole = {**defaults, **given}
    for name, default in defaults.items():
        if isinstance(default, Mapping):
            whole[name] = _completed(default, given.get(name, {}))
    return whole


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        members = {name: _canonical(member) for name, member in value.items()}
        return {name: member for name, member in members.items() if member not in ({}, [])}
    if isinstance(value, list):
        return sorted({json.dumps(_canonical(item), sort_keys=True) for item in value})
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return value
