"""Any model that Ultralytics opens: ``.pt``, TensorRT and others, on a GPU where there is one.

Ultralytics is AGPL-3.0 and an extra. A ``.pt`` file can run code when it is loaded: only what the
user named is. A name that Ultralytics knows is fetched by it, once, into the models' folder.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from rekognition_dagster.engine import models
from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.frame import Frame, Image
from rekognition_dagster.errors import ModelError

_BATCH_ON_GPU = 16
_TASKS = ("detect", "segment", "pose")

# It tells its makers of its use, installs packages where it misses some, and speaks on standard
# output: not in here, unless the user has said so.
_MANNERS = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


class UltralyticsDetector:
    """A model run by Ultralytics, in half precision and in batches on a GPU.

    Args:
        weights: A file or folder, or a name that Ultralytics knows.

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
        self._weights = weights
        file = _file(weights)
        for name, value in _MANNERS.items():
            os.environ.setdefault(name, value)
        torch, ultralytics = import_module("torch"), import_module("ultralytics")
        logging.getLogger("ultralytics").setLevel(logging.ERROR)
        self._lock = threading.Lock()
        self._options: dict[str, Any] = {"conf": self.scores.noise, "verbose": False}
        self._batch, self._whole_batches = 1, False
        try:
            self._model = ultralytics.YOLO(str(file), task=None if _runs_code(file) else "detect")
            if _runs_code(file):
                if torch.cuda.is_available():
                    self._batch = _BATCH_ON_GPU
                    self._options |= _half(ultralytics)
            else:  # exported: its batch is its own
                self._predict([np.zeros((64, 64, 3), np.uint8)])
                opened = self._model.predictor.model
                self._batch = int(getattr(opened, "batch", 1) or 1)
                self._whole_batches = not getattr(opened, "dynamic", False)
            self.labels: Mapping[int, str] = {
                int(i): "person" if name.casefold() == "person" else name
                for i, name in dict(self._model.names).items()
            }
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"Ultralytics cannot open {weights}: {error}") from error
        if self._model.task not in _TASKS:
            raise ModelError(f"{weights} is for the task {self._model.task}; a detector is needed")

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        source = iter(frames)
        busy: deque[Future[list[sv.Detections]]] = deque()
        with ThreadPoolExecutor(1, "ultralytics") as runner:  # one batch runs, the next is made
            while images := [_bgr(frame) for frame in islice(source, self._batch)]:
                busy.append(runner.submit(self._predict, images))
                if len(busy) > 1:
                    yield from busy.popleft().result()
            while busy:
                yield from busy.popleft().result()

    def _predict(self, images: list[Image]) -> list[sv.Detections]:
        missing = self._batch - len(images) if self._whole_batches else 0
        batch = images + images[-1:] * missing
        try:
            with self._lock:
                results = self._model.predict(batch, **self._options)
            return [_found(result) for result in results[: len(images)]]
        except Exception as error:
            raise ModelError(
                f"Ultralytics fails with {self._weights}: {error}. If the GPU's memory is full, "
                "run fewer workers on it; if a package is missing, install it"
            ) from error


def _file(weights: str) -> Path:
    """The file that is meant: the user's own, or one in the models' folder, where Ultralytics
    puts what it fetches by name."""
    path = Path(weights).expanduser()
    if path.suffix in (".yaml", ".yml"):
        raise ModelError(f"{weights} describes a network and has no weights; name a .pt file")
    if path.exists():
        return path
    if path.name != weights:
        raise ModelError(f"there is no model {weights}; write ultralytics:PATH, or a name it knows")
    return models.cache_folder() / "ultralytics" / weights


def _runs_code(file: Path) -> bool:
    """Whether the file is PyTorch's own; all else is data to another runtime."""
    return file.suffix.lower() == ".pt"


def _half(ultralytics: Any) -> dict[str, Any]:
    known = import_module("ultralytics.utils").DEFAULT_CFG_DICT
    return {"quantize": 16} if "quantize" in known else {"half": True}


def _bgr(frame: Frame) -> Image:
    return np.ascontiguousarray(frame.image[:, :, ::-1])


def _found(result: Any) -> sv.Detections:
    rows = result.boxes.data.float().cpu().numpy()  # left, top, right, bottom, score, class
    return sv.Detections(
        xyxy=rows[:, :4].astype(np.float32),
        confidence=rows[:, 4].astype(np.float32),
        class_id=rows[:, 5].astype(int),
    )
