"""The embedded default for faces: YuNet (Wu et al. 2023), boxes and five landmarks.

The network is fully convolutional: its input follows the video's shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import supervision as sv

from rekognition_dagster.engine import models
from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.detectors.inference import Network, SizedNetworks, stored
from rekognition_dagster.engine.frame import Frame

LANDMARKS = "landmarks"
"""Key in ``sv.Detections.data``: float32 (n, 5, 2), x and y in pixels of the eyes, the nose and
the mouth's corners, the picture's left before its right."""

_STRIDES = (8, 16, 32)
_MULTIPLE = 32
_AREA = 768 * 576
_ENLARGED = 2  # at most: beyond that, no smaller faces are found
_OVERLAP = 0.3


@lru_cache(maxsize=1)
def shared() -> YuNet:
    """Return the detector that all videos share, with its compiled networks."""
    return YuNet()


class YuNet:
    """Finds faces with five landmarks.

    Args:
        area: Pixels of the network's input. A larger input finds smaller faces and costs in
            proportion.
    """

    labels: Mapping[int, str] = {0: "face"}
    scores = ScoreScale(noise=0.45, sure=0.6)

    def __init__(self, area: int = _AREA) -> None:
        self._weights = models.path("face-yunet")
        self._networks = SizedNetworks(self._make, partial(input_size, area=area))

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        for frame, outputs, network in self._networks.run(frames):
            yield self._read(outputs, frame, network)

    def _make(self, width: int, height: int) -> Network:
        name = f"{width}x{height}"
        return Network(stored(self._weights, name, lambda: self._sized(width, height)), bgr=True)

    def _sized(self, width: int, height: int) -> ov.Model:
        """The network with a fixed input, and each kind of output of all strides in one."""
        model = ov.Core().read_model(self._weights)
        model.reshape([1, 3, height, width])

        def joined(kind: str) -> ov.Node:
            outputs = [model.output(f"{kind}_{stride}").get_node() for stride in _STRIDES]
            return ops.concat([node.input_value(0) for node in outputs], 1)

        score = ops.sqrt(ops.multiply(joined("cls"), joined("obj")))
        results = [score, joined("bbox"), joined("kps")]
        return ov.Model(results, model.get_parameters(), "yunet")  # pyright: ignore[reportGeneralTypeIssues]

    def _read(self, outputs: list[np.ndarray], frame: Frame, network: Network) -> sv.Detections:
        scores, boxes, marks = (output[0] for output in outputs)
        cells = np.flatnonzero(scores[:, 0] > self.scores.noise)
        confidence = scores[cells, 0].copy()
        corner, stride = _cells(network.width, network.height)
        corner, stride = corner[cells], stride[cells]
        centre = (corner + boxes[cells, :2]) * stride
        half = np.exp(boxes[cells, 2:]) * stride / 2
        scale = np.array([frame.width / network.width, frame.height / network.height], np.float32)
        boxes = np.concatenate([centre - half, centre + half], axis=1) * np.tile(scale, 2)
        points = (corner[:, None] + marks[cells].reshape(-1, 5, 2)) * stride[:, None]
        found = sv.Detections(
            xyxy=boxes.astype(np.float32),
            confidence=np.clip(confidence, 0, 1),
            class_id=np.zeros(len(cells), int),
            data={LANDMARKS: (points * scale).astype(np.float32)},
        ).with_nms(_OVERLAP)
        bounds = np.array([frame.width, frame.height] * 2, np.float32)
        found.xyxy = np.clip(found.xyxy, 0, bounds)
        return found


@lru_cache(maxsize=8)
def _cells(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of each cell of an input, shape (n, 2), and its stride, shape (n, 1)."""
    grids = [np.indices((height // s, width // s))[::-1].reshape(2, -1).T for s in _STRIDES]
    stride = np.repeat(_STRIDES, [len(grid) for grid in grids])[:, None]
    return np.concatenate(grids).astype(np.float32), stride.astype(np.float32)


def input_size(width: int, height: int, area: int = _AREA) -> tuple[int, int]:
    """Width and height of the network's input for a frame: multiples of 32.

    Small pictures are enlarged: the network misses faces under about ten pixels.
    """
    scale = min((area / (width * height)) ** 0.5, _ENLARGED)
    return (
        max(_MULTIPLE, round(width * scale / _MULTIPLE) * _MULTIPLE),
        max(_MULTIPLE, round(height * scale / _MULTIPLE) * _MULTIPLE),
    )
