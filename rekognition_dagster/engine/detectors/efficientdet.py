"""The embedded default: EfficientDet-Lite0, which finds people and the other COCO classes.

Tan et al. 2020, EfficientDet: Scalable and Efficient Object Detection. Only the network runs in
OpenVINO; anchors, box decoding and suppression are here. The weights were trained for eight bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as ops
import supervision as sv

from rekognition_dagster.engine import models
from rekognition_dagster.engine.detectors import ScoreScale, coco
from rekognition_dagster.engine.detectors.inference import (
    Network,
    Outputs,
    SizedNetworks,
    fit_sides,
    stored,
    stretch,
)
from rekognition_dagster.engine.frame import Frame, Image

AREA = 196_608
"""Pixels of the network's input by default: 512 by 384 for a picture of 4 to 3."""

FINE_AREA = 307_200
"""Pixels of the input for small people: 640 by 480 for a picture of 4 to 3."""

_MULTIPLE = 32
_TRAINED_GRIDS = {40: 8, 20: 16, 10: 32, 5: 64, 3: 128}  # cells along the trained 320 px: stride
_STRIDES = tuple(_TRAINED_GRIDS.values())
_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82)  # of the network's 90 classes, not among the 80
_COLUMNS = [c for c in range(90) if c not in _UNUSED]
_ANCHORS = 9  # in each cell
_OVERLAP = 0.5
_FLAT = 2  # grey levels between a picture's darkest and brightest pixels
_AVX512_VNNI = 21  # as OpenCV numbers it


class EfficientDet:
    """People and the other COCO classes.

    The input has the video's shape: squeezed into the square that the network was trained on,
    people in a wide picture would be too thin for it.

    Args:
        area: Pixels of the input. More finds smaller people, and costs in proportion.
        precision: ``int8``, or an OpenVINO floating-point type such as ``f32``. By default
            ``int8`` where the processor sums products of eight bits exactly, else its own type.
    """

    labels: Mapping[int, str] = dict(enumerate(coco.NAMES))
    scores = ScoreScale(noise=0.35, sure=0.5, clear=0.6)

    def __init__(self, area: int = AREA, *, precision: str | None = None) -> None:
        self._eight_bits = _has_eight_bits() if precision is None else precision == "int8"
        self._hint = None if self._eight_bits else precision
        self._weights = models.path("object-efficientdet-lite0")
        self._area = area
        self._networks = SizedNetworks(
            self._make, partial(fit_sides, area=area, multiple=_MULTIPLE)
        )

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        for frame, outputs, network in self._networks.run(frames, _fill):
            boxes, scores, classes = _read(outputs, (network.width, network.height), self.scores)
            found = sv.Detections(xyxy=boxes, confidence=scores, class_id=classes)
            found = found.with_nms(_OVERLAP)
            scale = np.array([frame.width, frame.height] * 2, np.float32)
            found.xyxy = np.clip(found.xyxy, 0, 1) * scale
            yield found

    def network_for(self, frame: Frame) -> Network:
        """The network that frames of this size go through."""
        return self._networks.of(frame.width, frame.height)

    def in_floats(self) -> EfficientDet:
        """The same detector, computing in 32-bit floating point."""
        return EfficientDet(self._area, precision="f32")

    def _make(self, width: int, height: int) -> Network:
        model = stored(
            self._weights,
            f"{width}x{height}-{'int8' if self._eight_bits else 'float'}",
            lambda: self._cut(width, height),
        )
        return Network(model, layout="NHWC", precision=self._hint)

    def _cut(self, width: int, height: int) -> ov.Model:
        model = _cut(ov.Core().read_model(self._weights), width, height)
        return model if self._eight_bits else _as_floats(model)


def _fill(frame: Frame, target: Image) -> None:
    """Put the frame into the input; one without any contrast as black, in which the network finds
    nothing: in mid-grey it finds a bed."""
    stretch(frame, target)
    if np.ptp(target[::16, ::16], axis=(0, 1)).max() <= _FLAT:
        target[:] = 0


def _has_eight_bits() -> bool:
    """Whether the processor has AVX-512 VNNI. Without it, sums of products overflow: scores are
    off by a tenth."""
    return cv2.checkHardwareSupport(_AVX512_VNNI)


def _cut(graph: ov.Model, width: int, height: int) -> ov.Model:
    """Make the network for an input of any size, with outputs that are cheap to read.

    Outputs, for grids of n cells in all: the best class's logit of each anchor, shape (n, 9);
    encoded boxes, (n, 9, 4); and for each of the five grids the logits of the 80 classes,
    (cells, 9, 80). The scores of all classes at all anchors as the graph gives them would take a
    tenth of the time.
    """
    logits: dict[int, Any] = {}
    boxes: dict[int, Any] = {}
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "Interpolate":  # its size in cells is written into the graph
            stride = _TRAINED_GRIDS[node.output(0).get_shape()[1]]
            cells = np.array([-(-height // stride), -(-width // stride)], np.int32)
            node.input(1).replace_source_output(ops.constant(cells).output(0))
        elif node.get_type_name() == "Convolution":
            _, channels, side, _ = node.output(0).get_shape()
            if channels == _ANCHORS * 90:
                logits[side] = _by_anchor(_of_used_classes(node), len(_COLUMNS))
            elif channels == _ANCHORS * 4:
                boxes[side] = _by_anchor(_reader(node), 4)
    image = graph.get_parameters()[0]
    image.set_partial_shape(ov.PartialShape([1, height, width, 3]))
    grids = [logits[side] for side in _TRAINED_GRIDS]
    best = ops.concat([ops.reduce_max(grid, np.array([2])) for grid in grids], 0)
    outputs = [best, ops.concat([boxes[side] for side in _TRAINED_GRIDS], 0), *grids]
    results = [ops.result(output) for output in outputs]
    model = ov.Model(results, [image], "efficientdet-lite0")  # pyright: ignore[reportGeneralTypeIssues]
    model.validate_nodes_and_infer_types()
    return model


def _by_anchor(node: Any, size: int) -> Any:
    """Numbers of a grid, shape (1, 9 * size, rows, columns), as (cells, 9, size)."""
    last = ops.transpose(node, np.array([0, 2, 3, 1]))
    return ops.reshape(last, np.array([-1, _ANCHORS, size]), special_zero=False)


def _of_used_classes(node: Any) -> Any:
    """A convolution that gives the logits of 90 classes, for the 80 that are used."""
    rows = np.concatenate([np.array(_COLUMNS) + 90 * anchor for anchor in range(_ANCHORS)])
    weights, scale = (_source(i) for i in _source(node.input(1)).inputs())  # int8 times scale
    kept = ops.convert(ops.constant(_values(_source(weights.input(0)))[rows]), "f32")
    kept = ops.multiply(kept, ops.constant(_values(scale)[rows]))
    once, none = [1, 1], [0, 0]
    read = node.input(0).get_source_output()
    bias = _values(_source(_reader(node).input(1)))[:, rows]
    return ops.add(ops.convolution(read, kept, once, none, none, once), ops.constant(bias))


def _as_floats(model: ov.Model) -> ov.Model:
    """Take the eight-bit steps out of a network.

    Activations stay between 0 and 6 without them; what the first one does besides is to bring
    the image from 0 to 255 to about -1 to 1.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        read = node.input(0).get_source_output()
        low, high, to_low, to_high = (float(_values(_source(i)).item()) for i in node.inputs()[1:])
        if not math.isclose(high - low, to_high - to_low, rel_tol=1e-3):
            scale = (to_high - to_low) / (high - low)
            scaled = ops.multiply(read, np.float32(scale))
            read = ops.add(scaled, np.float32(to_low - low * scale)).output(0)
        node.output(0).replace(read)
    return _fold_weights(model)


def _fold_weights(model: ov.Model) -> ov.Model:
    """Turn weights of eight bits and their scales into floats, which OpenVINO would else do anew
    for every image."""
    convolutions = [n for n in model.get_ordered_ops() if n.get_type_name().endswith("Convolution")]
    weights = [ops.result(n.input(1).get_source_output()) for n in convolutions]
    constants = ov.Model(weights, [], "weights")  # pyright: ignore[reportGeneralTypeIssues]
    computed = ov.Core().compile_model(constants, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])
    for index, node in enumerate(convolutions):
        node.input(1).replace_source_output(ops.constant(np.array(computed[index])).output(0))
    return model


def _source(port: Any) -> Any:
    return port.get_source_output().get_node()


def _reader(node: Any) -> Any:
    """The one node that reads another's output."""
    (port,) = node.output(0).get_target_inputs()
    return port.get_node()


def _values(node: Any) -> npt.NDArray:
    return np.array(node.data)


def _read(
    outputs: Outputs, size: tuple[int, int], scale: ScoreScale
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Boxes (left, top, right, bottom) in ratios, scores and classes of all that is no noise."""
    best, encoded, *grids = outputs
    minimum = math.log(scale.noise / (1 - scale.noise))
    cells, anchors = np.nonzero(best > minimum)
    found = [np.zeros((0, len(_COLUMNS)), np.float32)]
    first = 0
    for grid in grids:
        here = (cells >= first) & (cells < first + len(grid))
        found.append(grid[cells[here] - first, anchors[here]])
        first += len(grid)
    logits = np.concatenate(found)
    rows, classes = np.nonzero(logits > minimum)
    cells, anchors = cells[rows], anchors[rows]
    boxes = _boxes(encoded[cells, anchors], _anchors(*size)[cells, anchors])
    return boxes, 1 / (1 + np.exp(-logits[rows, classes])), classes


@lru_cache(maxsize=16)
def _anchors(width: int, height: int) -> npt.NDArray:
    """Anchors as (centre y, centre x, height, width) in ratios of the image, shape (cells, 9, 4).

    A cell has three sizes (3 strides, times 1, 2^(1/3), 2^(2/3)) in three ratios of sides.
    """
    sizes = np.array(
        [
            (2 ** (octave / 3) / ratio**0.5, 2 ** (octave / 3) * ratio**0.5)
            for octave in range(3)
            for ratio in (1.0, 2.0, 0.5)
        ]
    )
    grids = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[0 : -(-height // stride), 0 : -(-width // stride)]
        centres = (np.stack([rows.ravel(), columns.ravel()], axis=1) + 0.5) * stride
        shape = (len(centres), _ANCHORS, 2)
        both = (
            np.broadcast_to(centres[:, None], shape),
            np.broadcast_to(sizes * 3 * stride, shape),
        )
        grids.append(np.concatenate(both, axis=2))
    return (np.concatenate(grids) / [height, width, height, width]).astype(np.float32)


def _boxes(encoded: npt.NDArray, anchors: npt.NDArray) -> npt.NDArray:
    """Boxes (left, top, right, bottom) in ratios of the image."""
    centre = encoded[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(encoded[:, 2:]) * anchors[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)[:, [1, 0, 3, 2]]
