"""How a detector is named: help texts, settings and errors quote it and check it here."""

from __future__ import annotations

SPECS = (
    "embedded (the default), embedded:fine (small people, at 1.6 times the cost), openvino:PATH, "
    "onnx:PATH, ultralytics:WEIGHTS, package.module:Class of your own, or tiled[:PASSES][:SPEC] "
    "(the smallest people of large pictures, at 5 or PASSES times the cost)"
)
OURS = ("embedded", "openvino", "onnx", "ultralytics")
"""Kinds of detectors that are part of the engine; any other is a user's module."""


def check_spec(spec: str) -> str:
    """Return a detector's spec that is well formed. Files and modules are not looked for.

    Raises:
        ValueError: It names no detector.
    """
    kind, _, rest = spec.partition(":")
    if kind == "tiled":
        passes, _, below = rest.partition(":")
        if rest := below if passes.isdecimal() else rest:
            check_spec(rest)
        return spec
    if kind == "embedded":
        is_good = spec in ("embedded", "embedded:fine")
    elif kind in OURS:
        is_good = bool(rest)
    else:
        is_good = all(part.isidentifier() for part in (*kind.split("."), rest))
    if not is_good:
        raise ValueError(f"unknown detector {spec!r}; write {SPECS}")
    return spec
