"""The embedded default for faces: CenterFace (Xu et al. 2019), boxes and five landmarks.

The network is fully convolutional: its input follows the video's shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial

import numpy as np
import openvino as ov
import supervision as sv

from rekognition_dagster.engine import models
from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.detectors.boxes import suppress
from rekognition_dagster.engine.detectors.inference import Network, SizedNetworks, stored
from rekognition_dagster.engine.frame import Frame

LANDMARKS = "landmarks"
"""Key in ``sv.Detections.data``: float32 (n, 5, 2), x and y in pixels, in the order of
:data:`LANDMARK_NAMES`."""

LANDMARK_NAMES = ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")
"""AWS's names; left and right as seen in the picture."""

_STRIDE = 4
_MULTIPLE = 32
_LONG_SIDE = 640
_SHORT_SIDE = 256
_OVERLAP = 0.3


@lru_cache(maxsize=1)
def shared() -> CenterFace:
    """The detector that all videos share, with what it compiled."""
    return CenterFace()


class CenterFace:
    """Faces, with landmarks.

    Args:
        long_side: The frame's longer side is brought down to this many pixels; more finds smaller
            faces and costs in proportion to its square.
    """

    labels: Mapping[int, str] = {0: "face"}
    scores = ScoreScale(noise=0.35, sure=0.5)

    def __init__(self, long_side: int = _LONG_SIDE) -> None:
        self._weights = models.path("face-centerface")
        self._networks = SizedNetworks(self._make, partial(input_size, long_side=long_side))

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        for frame, outputs, network in self._networks.run(frames):
            yield self._read(outputs, frame, network)

    def _make(self, width: int, height: int) -> Network:
        return Network(stored(self._weights, f"{width}x{height}", lambda: self._cut(width, height)))

    def _cut(self, width: int, height: int) -> ov.Model:
        model = ov.Core().read_model(self._weights)
        model.reshape([1, 3, height, width])
        return model

    def _read(self, outputs: list[np.ndarray], frame: Frame, network: Network) -> sv.Detections:
        heat, size, offset, marks = (o[0] for o in outputs)
        rows, columns = np.nonzero(heat[0] > self.scores.noise)
        confidence = heat[0, rows, columns].copy()
        span = np.exp(size[:, rows, columns]) * _STRIDE  # height, width
        shift = offset[:, rows, columns]
        centre = (np.stack([rows, columns]) + shift + 0.5) * _STRIDE
        top, left = centre - span / 2
        x = marks[1::2, rows, columns] * span[1] + left
        y = marks[0::2, rows, columns] * span[0] + top
        scale = np.array([frame.width / network.width, frame.height / network.height], np.float32)
        boxes = np.stack([left, top, left + span[1], top + span[0]], axis=1)
        boxes = (boxes * np.tile(scale, 2)).astype(np.float32)
        keep = suppress(boxes, confidence, _OVERLAP)
        points = np.stack([x.T, y.T], axis=-1) * scale
        bounds = np.array([frame.width, frame.height] * 2, np.float32)
        return sv.Detections(
            xyxy=np.clip(boxes[keep], 0, bounds),
            confidence=np.clip(confidence[keep], 0, 1),
            class_id=np.zeros(len(keep), int),
            data={LANDMARKS: points[keep].astype(np.float32)},
        )


def input_size(width: int, height: int, long_side: int = _LONG_SIDE) -> tuple[int, int]:
    """Width and height of the network's input for a frame: multiples of 32, small pictures
    enlarged, since CenterFace misses faces under about ten pixels."""
    scale = min(long_side / max(width, height), max(1.0, _SHORT_SIDE / min(width, height)))
    return (
        max(_MULTIPLE, round(width * scale / _MULTIPLE) * _MULTIPLE),
        max(_MULTIPLE, round(height * scale / _MULTIPLE) * _MULTIPLE),
    )
