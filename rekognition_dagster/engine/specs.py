"""How a detector is named, told in this one place: help texts, settings and errors quote it."""

from __future__ import annotations

SPECS = (
    "embedded (the default), embedded:fine (small people, at twice the cost), openvino:PATH, "
    "onnx:PATH, ultralytics:WEIGHTS, or package.module:Class of your own"
)
