"""How a detector is named, told in this one place: help texts, settings and errors quote it."""

from __future__ import annotations

SPECS = (
    "embedded (the default), embedded:fine (small people, at 1.6 times the cost), openvino:PATH, "
    "onnx:PATH, ultralytics:WEIGHTS, package.module:Class of your own, or tiled[:PASSES][:SPEC] "
    "(the smallest people of large pictures, at 5 or PASSES times the cost)"
)
