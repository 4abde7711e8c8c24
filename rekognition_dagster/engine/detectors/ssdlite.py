"""The embedded default for people: SSDLite on MobileNet V2, from a frozen TensorFlow graph.

The graph's own pre- and post-processing costs more than the network, so only the network runs;
anchors, box decoding and suppression are done here (Liu et al. 2016, SSD: Single Shot MultiBox
Detector, and the TensorFlow Object Detection API's ``ssd_anchor_generator``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as ops
import supervision as sv

from rekognition_dagster.engine import models
from rekognition_dagster.engine.decode import Frame, Image
from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.detectors.boxes import suppress
from rekognition_dagster.engine.detectors.inference import Network, resized

SIDE = 300
_INPUT = "Preprocessor/sub:0"
_ENCODINGS = "Squeeze:0"
_SCORES = "Postprocessor/convert_scores:0"
_PERSON_COLUMN = 1  # column 0 is the background
_VARIANCES = np.array([10.0, 10.0, 5.0, 5.0], np.float32)
_OVERLAP = 0.6


class SsdLite:
    """People only. Knows no other class."""

    labels: Mapping[int, str] = {0: "person"}
    scores = ScoreScale(noise=0.05, sure=0.35)

    def __init__(self) -> None:
        model = _cut(ov.Core().read_model(models.path("person-ssdlite")))
        self._network = Network(model, mean=127.5, scale=127.5)
        self._anchors = _anchors(SIDE)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        for frame, (encodings, scores) in self._network.run(frames, _prepare):
            yield self._read(encodings[0], scores[0], frame)

    def _read(self, encodings: np.ndarray, scores: np.ndarray, frame: Frame) -> sv.Detections:
        confidence = scores[:, _PERSON_COLUMN]
        likely = np.flatnonzero(confidence > self.scores.noise)
        confidence = confidence[likely].copy()
        boxes = _decode_boxes(encodings[likely], self._anchors[likely])
        boxes *= np.array([frame.width, frame.height] * 2, np.float32)
        keep = suppress(boxes, confidence, _OVERLAP)
        return sv.Detections(
            xyxy=boxes[keep], confidence=confidence[keep], class_id=np.zeros(len(keep), int)
        )


def _prepare(frame: Frame) -> Image:
    return resized(frame.image, SIDE, SIDE)


def _cut(graph: ov.Model) -> ov.Model:
    """The network alone: scaled image in, raw encodings and scores out."""
    found = {
        name: output
        for op in graph.get_ordered_ops()
        for output in op.outputs()
        for name in output.get_names() & {_INPUT, _ENCODINGS, _SCORES}
    }
    image = ops.parameter([1, 3, SIDE, SIDE], np.float32, name="image")
    for reader in list(found[_INPUT].get_target_inputs()):
        reader.replace_source_output(image.output(0))
    return ov.Model([found[_ENCODINGS], found[_SCORES]], [image], "person-ssdlite")  # pyright: ignore[reportGeneralTypeIssues]


def _anchors(side: int) -> npt.NDArray:
    """Anchor boxes as (centre y, centre x, height, width) in ratios of the image, shape (n, 4).

    Six grids, scales 0.2 to 0.95; the finest grid has three boxes a cell, the others six.
    """
    scales = [*np.linspace(0.2, 0.95, 6), 1.0]
    grids = [-(-side // stride) for stride in (16, 32, 64, 128, 256, 512)]
    rows = []
    for level, grid in enumerate(grids):
        if level == 0:
            shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        else:
            shapes = [(scales[level], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)]
            shapes.append((float(np.sqrt(scales[level] * scales[level + 1])), 1.0))
        sizes = np.array([(s / np.sqrt(r), s * np.sqrt(r)) for s, r in shapes])
        centres = (np.arange(grid) + 0.5) / grid
        y, x = np.meshgrid(centres, centres, indexing="ij")
        cells = np.stack([y, x], axis=-1).reshape(-1, 1, 2)
        both = np.concatenate(
            [np.broadcast_to(cells, (len(cells), len(sizes), 2)),
             np.broadcast_to(sizes, (len(cells), len(sizes), 2))],
            axis=-1,
        )  # fmt: skip
        rows.append(both.reshape(-1, 4))
    return np.concatenate(rows).astype(np.float32)


def _decode_boxes(encodings: npt.NDArray, anchors: npt.NDArray) -> npt.NDArray:
    """Boxes (left, top, right, bottom) in ratios of the image."""
    t = encodings / _VARIANCES
    centre = t[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(t[:, 2:]) * anchors[:, 2:] / 2
    low, high = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    return np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)
