"""Eight-bit inference without pictures to calibrate on.

What a network of convolutions, batch normalisation and ReLU6 was trained with tells how large the
numbers in it become: ReLU6 leaves 0 to 6, and a normalised channel has the mean and the deviation
that it was given (Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias
Correction). OpenVINO runs what lies between such bounds in integers.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as ops

_DEVIATIONS = 6.0
"""From a channel's mean to where its numbers are cut off: fewer are finer steps for the others."""

_ACTIVATION_STEPS, _WEIGHT_STEPS = 256, 255
_VNNI = 21  # AVX-512 VNNI, as OpenCV numbers it; without it, sums of products overflow


def pays() -> bool:
    """Whether this processor multiplies eight-bit numbers faster than others, and sums them in
    more bits than they can fill."""
    capable = "INT8" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return capable and cv2.checkHardwareSupport(_VNNI)


def quantise(model: ov.Model) -> None:
    """Mark what a network's pointwise convolutions read, and their weights, as eight-bit numbers.

    They do most of the work. The others, whose few weights tell more each, stay as they are, and
    so do those that read something whose bounds are not known.

    Args:
        model: With its batch normalisation as operations of their own; changed in place.
    """
    marked: dict[Any, Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution" or node.input(1).get_shape()[2:] != [1, 1]:
            continue
        read, weights = (node.input(i).get_source_output() for i in (0, 1))
        bounds, values = _bounds(read.get_node()), _values(weights.get_node())
        if bounds is None or values is None:
            continue
        name = read.get_node().get_friendly_name()
        if name not in marked:
            marked[name] = _marked(read, *bounds, _ACTIVATION_STEPS)
        largest = np.maximum(np.abs(values).max(axis=(1, 2, 3), keepdims=True), 1e-8)
        node.input(0).replace_source_output(marked[name])
        node.input(1).replace_source_output(_marked(weights, -largest, largest, _WEIGHT_STEPS))


def _marked(of: Any, low: Any, high: Any, steps: int) -> Any:
    bounds = [ops.constant(np.asarray(bound, np.float32)) for bound in (low, high)]
    return ops.fake_quantize(of, *bounds, *bounds, steps).output(0)


def _bounds(node: Any) -> tuple[float, float] | None:
    """Between which numbers a node's output lies; None where that is not known."""
    if node.get_type_name() == "Clamp":
        low, high = (float(node.get_attributes()[name]) for name in ("min", "max"))
        return low, high
    if (moments := _moments(node)) is None:
        return None
    mean, variance = moments
    most = float((np.abs(mean) + _DEVIATIONS * np.sqrt(variance)).max())
    step = 2 * most / _ACTIVATION_STEPS  # as many below zero as from it on, and zero is one of them
    return -most, most - step


def _moments(node: Any) -> tuple[npt.NDArray, npt.NDArray] | None:
    """Mean and variance of each channel of what batch normalisation gives, or of sums of that."""
    if node.get_type_name() != "Add":
        return None
    first, second = (node.input(i).get_source_output().get_node() for i in (0, 1))
    if (mean := _values(second)) is not None:
        if first.get_type_name() != "Multiply":
            return None
        deviation = _values(first.input(1).get_source_output().get_node())
        return None if deviation is None else (mean.ravel(), deviation.ravel() ** 2)
    one, other = _moments(first), _moments(second)
    return None if one is None or other is None else (one[0] + other[0], one[1] + other[1])


def _values(node: Any) -> npt.NDArray | None:
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None
