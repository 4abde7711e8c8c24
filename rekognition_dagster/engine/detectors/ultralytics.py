"""Any model that Ultralytics opens: ``.pt``, TensorRT and others, on a GPU where there is one.

Ultralytics is AGPL-3.0 and an extra. A ``.pt`` file can run code when it is loaded: only what the
user named is, and nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import supervision as sv

from rekognition_dagster.engine.decode import Frame
from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.errors import ModelError

_BATCH_ON_GPU = 16


class UltralyticsDetector:
    """A model run by Ultralytics.

    Args:
        weights: A file, or a name that Ultralytics knows.

    Raises:
        ModelError: The extra is not installed, or the model cannot be opened.
    """

    scores = ScoreScale(noise=0.1, sure=0.3)

    def __init__(self, weights: str) -> None:
        if find_spec("ultralytics") is None:
            raise ModelError(
                "this detector needs Ultralytics (AGPL-3.0). "
                "Run pip install 'rekognition-dagster[ultralytics]'"
            )
        if ("/" in weights or "\\" in weights) and not Path(weights).expanduser().exists():
            raise ModelError(f"there is no model {weights}")
        torch, ultralytics = import_module("torch"), import_module("ultralytics")
        try:
            self._model = ultralytics.YOLO(str(Path(weights).expanduser()), task="detect")
            self.labels: Mapping[int, str] = dict(self._model.names)
        except Exception as error:
            raise ModelError(f"Ultralytics cannot open {weights}: {error}") from error
        self._gpu = torch.cuda.is_available()

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        source = iter(frames)
        while batch := list(islice(source, _BATCH_ON_GPU if self._gpu else 1)):
            results = self._model.predict(
                [np.ascontiguousarray(frame.image[:, :, ::-1]) for frame in batch],
                conf=self.scores.noise,
                half=self._gpu,
                verbose=False,
            )
            yield from (sv.Detections.from_ultralytics(result) for result in results)
