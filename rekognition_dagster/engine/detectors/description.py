"""What an exporter wrote beside a network or into it: class names, task, head, size.

Read as data, from a stranger as from a friend: what is no such thing is passed over.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openvino as ov
import yaml


@dataclass(frozen=True)
class Description:
    """What is told of a network; nothing where nobody told.

    Args:
        names: Name of each class id.
        task: ``detect``, ``segment``, ``pose``, ...
        ends_whole: Whether it gives final boxes, that need no suppression.
        queries: Whether it is of RT-DETR's kind.
        side: The longer side of its input, in pixels.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    task: str | None = None
    ends_whole: bool = False
    queries: bool = False
    side: int | None = None


def describe(file: Path, model: ov.Model) -> Description:
    """The description of a network in a file: its own, completed by a ``metadata.yaml`` beside it
    and by class names in the way of the Model API."""
    told = {**_labels(model), **_written_into(model), **_beside(file)}
    kind = f"{told.get('head')} {told.get('description')}".lower().replace("-", "")
    names, task = told.get("names"), told.get("task")
    return Description(
        names=_names(names),
        task=task if isinstance(task, str) else None,
        ends_whole=told.get("end2end") is True,
        queries="rtdetr" in kind,
        side=_side(told.get("imgsz")),
    )


def _beside(file: Path) -> dict[str, Any]:
    """An Ultralytics ``metadata.yaml``."""
    listing = file.parent / "metadata.yaml"
    try:
        told = yaml.safe_load(listing.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return told if isinstance(told, dict) else {}


def _written_into(model: ov.Model) -> dict[str, Any]:
    """An ONNX file's metadata, which OpenVINO keeps under ``framework``; or a key of its own."""
    told = {}
    for key in ("names", "task", "head", "description", "end2end", "imgsz"):
        for path in (["framework", key], [key], ["model_info", key]):
            if model.has_rt_info(path):
                told[key] = _value(str(model.get_rt_info(path).astype(str)))
                break
    return told


def _labels(model: ov.Model) -> dict[str, Any]:
    """The Model API's names: parted by blanks, which are lines under in a name."""
    path = ["model_info", "labels"]
    if not model.has_rt_info(path):
        return {}
    listed = str(model.get_rt_info(path).astype(str)).split()
    return {"names": [name.replace("_", " ") for name in listed]}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _names(told: Any) -> dict[int, str]:
    if isinstance(told, list):
        told = dict(enumerate(told))
    number: Callable[[Any], bool] = lambda i: isinstance(i, int) or str(i).isdigit()  # noqa: E731
    if not isinstance(told, dict) or not all(number(i) for i in told):
        return {}
    return {int(i): _name(str(name)) for i, name in told.items()}


def _name(name: str) -> str:
    return "person" if name.casefold() == "person" else name  # tracked, however it is written


def _side(told: Any) -> int | None:
    sides = told if isinstance(told, list | tuple) else [told]
    good = [s for s in sides if isinstance(s, int) and 32 <= s <= 8192]
    return max(good, default=None)
