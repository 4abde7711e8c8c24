"""Detectors: what one is, and how a spec string names one.

``sv.Detections`` (boxes in pixels of the frame, confidence 0 to 1, class ids) is the currency of
everything from here to the rows.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import supervision as sv

from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.specs import OURS, SPECS, check_spec
from rekognition_dagster.errors import ModelError

# OpenVINO reports its use to its makers where this package can be imported; videos are nobody's
# business. Absent, OpenVINO has a stand-in for it that reports nothing.
sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class ScoreScale:
    """What a detector's scores mean, so that no threshold is another detector's.

    Args:
        noise: Below this a detection is worth nothing.
        sure: From here on a detection is more likely right than wrong: it may start a track, and
            it counts as a label.
        clear: A person is seen so at least once, or it was somebody's shape in a shadow. Nothing
            is demanded by default.
    """

    noise: float
    sure: float
    clear: float = 0.0

    @property
    def obvious(self) -> float:
        """The score from which a track is clearly a person, whatever its later scores."""
        above = min((self.sure - self.noise) / 2, (1 - self.sure) / 4)
        return max(self.clear, self.sure + above)


@runtime_checkable
class Detector(Protocol):
    """Finds things in frames. A user's own is a class whose constructor needs no arguments.

    Attributes:
        labels: Name of each class id; the class called ``person`` is tracked.
        scores: The scale of its confidences.
    """

    labels: Mapping[int, str]
    scores: ScoreScale

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """Detections of each frame, in order; may read some frames ahead of what it returns."""
        ...


def open_detector(spec: str | None = None) -> Detector:
    """The detector that ``spec`` names.

    Raises:
        ModelError: The spec is unknown, or what it names is missing or cannot be used.
    """
    try:
        kind, _, rest = check_spec(spec or "embedded").partition(":")
    except ValueError as error:
        raise ModelError(str(error)) from None
    if kind == "tiled":
        return _tiled(rest)
    return _shared(kind, rest, _changed(rest)) if kind in OURS else _own(kind, rest)


def _tiled(rest: str) -> Detector:
    from rekognition_dagster.engine.detectors.tiled import PASSES, Tiled

    head, _, spec = rest.partition(":")
    passes, spec = (int(head), spec) if head.isdecimal() else (PASSES, rest)
    return Tiled(open_detector(spec), passes)


def check_knows_people(detector: Detector, spec: str | None) -> None:
    """Raise ModelError where a detector has no class to track: it would find nobody, and say so
    of every video."""
    if "person" not in detector.labels.values():
        known = ", ".join(list(detector.labels.values())[:8])
        raise ModelError(
            f"the detector {spec} knows no class person to track; it knows {known}. Name the class "
            "person where its names are told, or take another detector"
        )


@lru_cache(maxsize=4)
def _shared(kind: str, rest: str, changed: int) -> Detector:
    """A detector of ours. It has no state between frames, so videos that are analysed one after
    another, or side by side, share it and what it compiled."""
    if kind == "embedded":
        from rekognition_dagster.engine.detectors.efficientdet import FINE_AREA, EfficientDet

        return EfficientDet(FINE_AREA) if rest else EfficientDet()
    if kind == "ultralytics":
        from rekognition_dagster.engine.detectors.ultralytics import UltralyticsDetector

        return UltralyticsDetector(rest)
    from rekognition_dagster.engine.detectors.generic import GenericDetector

    return GenericDetector(rest, kind)


def _changed(name: str) -> int:
    """When a model's files were written: new ones under the same name are another detector."""
    path = Path(name).expanduser()
    try:
        files = [path, *path.iterdir()] if path.is_dir() else [path]
        return max(file.stat().st_mtime_ns for file in files) if name else 0
    except OSError:
        return 0


def _own(module: str, name: str) -> Detector:
    spec = f"{module}:{name}"
    try:
        made = getattr(importlib.import_module(module), name)()
    except ModuleNotFoundError as error:
        raise ModelError(f"detector {spec!r}: {error}. Write {SPECS}") from error
    except AttributeError as error:
        raise ModelError(f"detector {spec!r}: {error}. Write package.module:Class") from error
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"detector {spec!r} cannot be made: {error}") from error
    if not isinstance(made, Detector):
        raise ModelError(
            f"detector {spec!r} is no detector: it needs labels, scores and detect(frames), see "
            "rekognition_dagster.engine.detectors.Detector"
        )
    return made
