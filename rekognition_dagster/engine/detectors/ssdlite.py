"""The embedded default for people: SSDLite on MobileNet V2, from a frozen TensorFlow graph.

The graph's own pre- and post-processing costs more than the network, so only the network runs;
anchors, box decoding and suppression are done here (Liu et al. 2016, SSD: Single Shot MultiBox
Detector, and the TensorFlow Object Detection API's ``ssd_anchor_generator``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as ops
import supervision as sv

from rekognition_dagster.engine import models
from rekognition_dagster.engine.detectors import ScoreScale, quantise
from rekognition_dagster.engine.detectors.boxes import suppress
from rekognition_dagster.engine.detectors.inference import Network, SizedNetworks, stored
from rekognition_dagster.engine.frame import Frame

_TRAINED = 300  # the side of the square pictures it was trained on
_AREA = 91_000  # pixels of the input by default: as many as those pictures have
FINE_AREA = 196_608
"""Pixels of the input for small people: 512 by 384 for a picture of 4 to 3."""

_MULTIPLE = 8
_WIDEST = 2.5  # a longer picture is squeezed to this ratio of its sides
_INPUT = "Preprocessor/sub:0"
_ENCODINGS = "Squeeze:0"
_SCORES = "Postprocessor/convert_scores:0"
_PERSON_COLUMN = 1  # column 0 is the background
_VARIANCES = np.array([10.0, 10.0, 5.0, 5.0], np.float32)
_OVERLAP = 0.6
_LEVELS = 6
_FIRST_STRIDE = 16


class SsdLite:
    """People only. Knows no other class.

    The input has the video's shape: squeezed into the square that the network was trained on,
    people in a wide picture would be too thin for it.

    Args:
        area: Pixels of the input. More finds smaller people, and costs in proportion.
        eight_bits: Whether the network computes in integers; by default where that is faster.
    """

    labels: Mapping[int, str] = {0: "person"}
    scores = ScoreScale(noise=0.1, sure=0.3, clear=0.7)

    def __init__(self, area: int = _AREA, *, eight_bits: bool | None = None) -> None:
        self._area = area
        self._eight_bits = quantise.pays() if eight_bits is None else eight_bits
        self._weights = models.path("person-ssdlite")
        self._networks = SizedNetworks(self._make, partial(input_size, area=area))
        self._sees: dict[tuple[int, int], npt.NDArray] = {}

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        for frame, (encodings, scores), network in self._networks.run(frames):
            size = network.width, network.height
            confidence = scores[0, :, _PERSON_COLUMN]
            likely = np.flatnonzero((confidence > self.scores.noise) & self._sees[size])
            confidence = confidence[likely]
            boxes = _boxes(encodings[0, likely], _anchors(*size)[likely])
            boxes *= np.array([frame.width, frame.height] * 2, np.float32)
            keep = suppress(boxes, confidence, _OVERLAP)
            yield sv.Detections(
                xyxy=boxes[keep], confidence=confidence[keep], class_id=np.zeros(len(keep), int)
            )

    def network_for(self, frame: Frame) -> Network:
        """The network that frames of this size go through."""
        return self._networks.of(frame.width, frame.height)

    def as_trained(self) -> SsdLite:
        """The same, in the numbers that it was trained in."""
        return SsdLite(self._area, eight_bits=False)

    def _make(self, width: int, height: int) -> Network:
        model = stored(
            self._weights,
            f"{width}x{height}{'-int8' if self._eight_bits else ''}",
            lambda: self._cut(width, height),
        )
        network = Network(model, mean=127.5, scale=127.5)
        self._sees[width, height] = _seeing_anchors(network, self.scores.noise)
        return network

    def _cut(self, width: int, height: int) -> ov.Model:
        model = _cut(ov.Core().read_model(self._weights), width, height)
        if self._eight_bits:
            quantise.quantise(model)
        return model


def input_size(width: int, height: int, area: int = _AREA) -> tuple[int, int]:
    """Width and height of the network's input: the frame's shape, with about ``area`` pixels."""
    ratio = np.clip(width / height, 1 / _WIDEST, _WIDEST)
    sides = np.sqrt(area * ratio), np.sqrt(area / ratio)
    across, down = (max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE) for side in sides)
    return across, down


def _cut(graph: ov.Model, width: int, height: int) -> ov.Model:
    """The network alone: scaled image in, raw encodings and scores out."""
    found = {
        name: output
        for op in graph.get_ordered_ops()
        for output in op.outputs()
        for name in output.get_names() & {_INPUT, _ENCODINGS, _SCORES}
    }
    image = ops.parameter([1, 3, height, width], np.float32, name="image")
    for reader in list(found[_INPUT].get_target_inputs()):
        reader.replace_source_output(image.output(0))
    outputs = [found[_ENCODINGS], found[_SCORES]]
    return ov.Model(outputs, [image], "person-ssdlite")  # pyright: ignore[reportGeneralTypeIssues]


def _seeing_anchors(network: Network, noise: float) -> npt.NDArray[np.bool_]:
    """All anchors but those that see people in blank pictures, a dozen in two thousand.

    Those of the coarsest grids look mostly at the padding of the convolutions before them, which
    in any other shape than the trained square is not the padding that the network learned.
    """
    shape = (network.height, network.width, 3)
    blanks = (np.full(shape, grey, np.uint8) for grey in (0, 64, 128, 192, 255))
    seen = np.zeros(len(_anchors(network.width, network.height)), np.float32)
    for _, (_, scores) in network.run(blanks, _copy):
        np.maximum(seen, scores[0][:, _PERSON_COLUMN], out=seen)
    return seen <= noise


def _copy(image: npt.NDArray, target: npt.NDArray) -> None:
    target[:] = image


@lru_cache(maxsize=16)
def _anchors(width: int, height: int) -> npt.NDArray:
    """Anchor boxes as (centre y, centre x, height, width) in ratios of the image, shape (n, 4).

    Six grids, scales 0.2 to 0.95 of the side it was trained on, so that a person of a given size
    in pixels is the same to it in any input; the finest grid has three boxes a cell, the others
    six.
    """
    scales = [*np.linspace(0.2, 0.95, _LEVELS), 1.0]
    rows = []
    levels = zip(_centres(height), _centres(width), strict=True)
    for level, (down, across) in enumerate(levels):
        if level == 0:
            shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        else:
            shapes = [(scales[level], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)]
            shapes.append((float(np.sqrt(scales[level] * scales[level + 1])), 1.0))
        sizes = np.array([(s / np.sqrt(r), s * np.sqrt(r)) for s, r in shapes]) * _TRAINED
        sizes /= [height, width]
        y, x = np.meshgrid(down / height, across / width, indexing="ij")
        cells = np.stack([y, x], axis=-1).reshape(-1, 1, 2)
        shape = (len(cells), len(sizes), 2)
        both = [np.broadcast_to(cells, shape), np.broadcast_to(sizes, shape)]
        rows.append(np.concatenate(both, axis=-1).reshape(-1, 4))
    return np.concatenate(rows).astype(np.float32)


def _centres(side: int) -> list[npt.NDArray]:
    """Where the anchors' centres lie along a side in pixels, for each grid.

    A grid's cells look at pixels as far apart as its stride, beginning where the padding of the
    convolutions before it puts them; that depends on the side. At the trained side the anchors
    are centred on the whole; the network learned that offset, and it holds at any side.
    """
    return [
        looks + (_TRAINED - trained[0] - trained[-1]) / 2
        for looks, trained in zip(_looks(side), _looks(_TRAINED), strict=True)
    ]


def _looks(side: int) -> list[npt.NDArray]:
    """The middle of what each cell of each grid looks at, through convolutions of three that
    halve the picture with TensorFlow's SAME padding."""
    first, stride, looks = 0.5, 1, []
    while len(looks) < _LEVELS:
        cells = -(-side // 2)
        padding = max(2 * (cells - 1) + 3 - side, 0)
        first += stride * (1 - padding // 2)
        stride, side = stride * 2, cells
        if stride >= _FIRST_STRIDE:
            looks.append(first + stride * np.arange(cells))
    return looks


def _boxes(encodings: npt.NDArray, anchors: npt.NDArray) -> npt.NDArray:
    """Boxes (left, top, right, bottom) in ratios of the image."""
    t = encodings / _VARIANCES
    centre = t[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(t[:, 2:]) * anchors[:, 2:] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)[:, [1, 0, 3, 2]]
    return np.minimum(np.maximum(boxes, 0), 1)
