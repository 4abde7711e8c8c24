"""Labels: a detector's classes in the API's vocabulary, with their ancestors.

The taxonomy is data, in ``labels.csv``: one row per label, for the 80 classes of COCO and for
every ancestor of theirs. ``label_source`` is ``published`` where AWS's published list of labels
(AmazonRekognitionLabels_v3.0) has the label with these categories and aliases, else ``ours``.
``parents_source`` is ``response`` where a response of label model 3.0 has these parents,
``documentation`` where an example of the developer guide has them, else ``inferred``.
"""

from __future__ import annotations

import csv
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import numpy as np
import supervision as sv

from rekognition_dagster.engine.faces import box_struct
from rekognition_dagster.engine.frame import Moment

Rows = list[dict[str, Any]]

_LISTS = ("parents", "categories", "aliases")


@dataclass(frozen=True)
class Label:
    """A label as the API describes it.

    Args:
        name: In the API's spelling.
        parents: Names of all ancestors, in alphabetical order.
        categories: Names out of the API's list of categories.
        aliases: Other names of the label.
    """

    name: str
    parents: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def taxonomy_rows() -> list[dict[str, str]]:
    """Read ``labels.csv``; several values in one cell are separated by ``"; "``."""
    file = resources.files("rekognition_dagster.engine").joinpath("labels.csv")
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


@lru_cache(maxsize=4096)
def label(class_name: str) -> Label:
    """Return the label of a detector's class.

    The class is looked up among the taxonomy's classes, names and aliases; case and underscores
    make no difference. A class that is not there is a label in title case without ancestors.
    """
    words = class_name.replace("_", " ")
    return _lookup().get(words.casefold()) or Label(string.capwords(words))


@cache
def _lookup() -> Mapping[str, Label]:
    """Labels by alias, name and class in lower case; a class wins over a name over an alias."""
    by_alias: dict[str, Label] = {}
    by_name: dict[str, Label] = {}
    by_class: dict[str, Label] = {}
    for row in taxonomy_rows():
        lists = (tuple(row[c].split("; ")) if row[c] else () for c in _LISTS)
        found = Label(row["label"], *lists)
        by_alias |= {alias.casefold(): found for alias in found.aliases}
        by_name[found.name.casefold()] = found
        if row["class"]:
            by_class[row["class"]] = found
    return {**by_alias, **by_name, **by_class}


def label_rows(
    found: sv.Detections, frame: Moment, names: Mapping[int, str], minimum: float
) -> Rows:
    """Make one frame's lake rows: one per label, in order of their names.

    Each ancestor of a detected class is a row, too, without instances unless the detector has it
    as a class; its confidence is the highest of its descendants'.

    Args:
        found: All detections of the frame, boxes in pixels.
        frame: Time and size of the frame.
        names: The detector's class names by class id.
        minimum: Confidence (0 to 1) from which a detection counts.
    """
    if found.confidence is None or found.class_id is None:
        return []
    sure = np.flatnonzero(found.confidence >= minimum)
    if not len(sure):
        return []
    best_first = sure[np.argsort(-found.confidence[sure], kind="stable")]
    boxes = np.clip(found.xyxy[best_first] / ([frame.width, frame.height] * 2), 0, 1)
    # In single precision, as they are kept: 0.9 is 90, not 89.999998.
    confidences = found.confidence[best_first].astype(np.float32) * np.float32(100)
    classes = found.class_id[best_first]
    rows: dict[str, dict[str, Any]] = {}
    for box, confidence, class_id in zip(
        boxes.tolist(), confidences.tolist(), classes.tolist(), strict=True
    ):
        detected = label(names.get(class_id) or str(class_id))
        if detected.name not in rows:  # the best comes first, so its confidence is the row's
            rows[detected.name] = _row(detected, frame, confidence)
        for name in detected.parents:
            if name not in rows:
                rows[name] = _row(label(name), frame, confidence)
        instance = {"bounding_box": box_struct(box), "confidence": confidence}
        rows[detected.name]["instances"].append(instance)
    return [rows[name] for name in sorted(rows)]


def _row(of: Label, frame: Moment, confidence: float) -> dict[str, Any]:
    return {
        "timestamp_ms": frame.timestamp_ms,
        "name": of.name,
        "confidence": confidence,
        "instances": [],
        "parents": list(of.parents),
        "categories": list(of.categories),
        "aliases": list(of.aliases),
    }
