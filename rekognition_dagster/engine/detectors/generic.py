"""A user's own network, as OpenVINO IR or ONNX: recognised from its shapes and metadata.

Known: YOLO v5 and v7, v8 to v12 and alike, YOLOX, RT-DETR, and any that ends without suppression
(one row of box, score and class per detection). Files are data: nothing in them runs but the
network.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
import supervision as sv

from rekognition_dagster.engine.decode import Frame, Image
from rekognition_dagster.engine.detectors import ScoreScale, coco
from rekognition_dagster.engine.detectors.boxes import suppress
from rekognition_dagster.engine.detectors.inference import Network, resized
from rekognition_dagster.errors import ModelError

_SIDE = 640  # for networks whose input has no fixed size
_STRIDES = (8, 16, 32)
_OVERLAP = 0.65
_GREY = 114
_KNOWN = (
    "YOLO v5 to v12 and 26 ([1,4+classes,n], [1,n,5+classes], [1,n,6]), YOLOX, "
    "RT-DETR ([1,n,4+classes] or logits and boxes)"
)

Found = tuple[npt.NDArray, npt.NDArray, npt.NDArray]
"""Boxes (n, 4) in pixels of the network's input, scores (n,), class ids (n,)."""


@dataclass(frozen=True)
class _Layout:
    """How a family of networks is fed and read.

    Args:
        name: The family.
        classes: How many classes it tells apart; 0 where the shapes do not say.
        read: Makes boxes, scores and classes above a score from the outputs.
        scores: Its scale.
        overlap: Threshold for suppression; None where the network does that itself.
        letterbox: ``centre``, ``corner``, or nothing for a stretched image.
        divisor: Of the 0 to 255 image.
        bgr: Whether blue comes first.
    """

    name: str
    classes: int
    read: Callable[[list[np.ndarray], float], Found]
    scores: ScoreScale
    overlap: float | None = _OVERLAP
    letterbox: str | None = "centre"
    divisor: float = 255.0
    bgr: bool = False


class GenericDetector:
    """A network from a file.

    Args:
        path: ``.xml`` or a folder with one (``openvino``), ``.onnx`` (``onnx``).
        kind: ``openvino`` or ``onnx``.

    Raises:
        ModelError: The file is missing, unreadable, or its outputs are of no known layout.
    """

    def __init__(self, path: str, kind: str = "openvino") -> None:
        file = _model_file(Path(path).expanduser(), kind)
        try:
            model = ov.Core().read_model(file)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"{file} is no model that OpenVINO can read: {reason}") from error
        _fix_input(model, file)
        self._layout = _recognise(model, file)
        self.scores = self._layout.scores
        self.labels: Mapping[int, str] = _names(file, model, self._layout.classes)
        self._network = Network(model, scale=self._layout.divisor, bgr=self._layout.bgr)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        for frame, outputs in self._network.run(frames, self._prepare):
            yield self._read(outputs, frame)

    def network_for(self, frame: Frame) -> Network:
        """The network that frames go through."""
        return self._network

    def _read(self, outputs: list[np.ndarray], frame: Frame) -> sv.Detections:
        boxes, scores, classes = self._layout.read(outputs, self.scores.noise)
        if self._layout.overlap is not None:
            # moved apart by class, boxes of different classes do not suppress each other
            apart = boxes + (classes * 2 * (self._network.width + self._network.height))[:, None]
            keep = suppress(apart.astype(np.float32), scores, self._layout.overlap)
            boxes, scores, classes = boxes[keep], scores[keep], classes[keep]
        scale_x, scale_y, left, top = self._fit(frame)
        boxes = (boxes - np.array([left, top] * 2)) / np.array([scale_x, scale_y] * 2)
        bounds = np.array([frame.width, frame.height] * 2)
        return sv.Detections(
            xyxy=np.clip(boxes, 0, bounds).astype(np.float32),
            confidence=np.clip(scores, 0, 1).astype(np.float32),
            class_id=classes.astype(int),
        )

    def _fit(self, frame: Frame) -> tuple[float, float, int, int]:
        """Scale of x and y, and where the picture's corner lies in the network's input."""
        width, height = self._network.width, self._network.height
        if self._layout.letterbox is None:
            return width / frame.width, height / frame.height, 0, 0
        scale = min(width / frame.width, height / frame.height)
        if self._layout.letterbox == "corner":
            return scale, scale, 0, 0
        left = (width - round(frame.width * scale)) // 2
        top = (height - round(frame.height * scale)) // 2
        return scale, scale, left, top

    def _prepare(self, frame: Frame) -> Image:
        width, height = self._network.width, self._network.height
        scale_x, scale_y, left, top = self._fit(frame)
        size = (max(1, round(frame.width * scale_x)), max(1, round(frame.height * scale_y)))
        image = frame.image
        if size != (frame.width, frame.height):
            image = resized(image, *size)
        if size == (width, height):
            return image
        canvas = np.full((height, width, 3), _GREY, np.uint8)
        canvas[top : top + size[1], left : left + size[0]] = image
        return canvas


def _model_file(path: Path, kind: str) -> Path:
    suffix = ".xml" if kind == "openvino" else ".onnx"
    if path.is_dir():
        found = sorted(path.glob(f"*{suffix}"))
        if len(found) != 1:
            raise ModelError(f"{path} holds {len(found)} {suffix} files; name the one to use")
        return found[0]
    if not path.is_file():
        raise ModelError(f"there is no model {path}; write {kind}:PATH of a {suffix} file")
    if path.suffix.lower() != suffix:
        raise ModelError(f"{path} is no {suffix} file, which {kind}: opens")
    return path


def _fix_input(model: ov.Model, file: Path) -> None:
    if len(model.inputs) != 1 or len(model.input(0).partial_shape) != 4:
        shapes = [str(i.partial_shape) for i in model.inputs]
        raise ModelError(f"{file} takes {shapes}; a detector takes one image [1,3,height,width]")
    shape = model.input(0).partial_shape
    if not shape[1].is_dynamic and shape[1].get_length() != 3:
        raise ModelError(f"{file} takes {shape}; a detector takes images as [1,3,height,width]")
    if shape.is_dynamic or shape[0].get_length() != 1:
        sides = [_SIDE if d.is_dynamic else d.get_length() for d in (shape[2], shape[3])]
        model.reshape([1, 3, *sides])


def _recognise(model: ov.Model, file: Path) -> _Layout:
    height, width = (int(n) for n in list(model.input(0).shape)[2:])
    shapes = [tuple(int(n) for n in output.shape) for output in model.outputs if _fixed(output)]
    if len(shapes) != len(model.outputs):
        raise ModelError(f"{file} has outputs of unknown shape; known are {_KNOWN}")
    layout = None
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] == 1:
        layout = _of_one(shapes[0][1], shapes[0][2], width, height)
    elif len(shapes) >= 2:
        layout = _of_two(shapes, width, height)
    if layout is None:
        raise ModelError(f"{file} gives {shapes}, of no known layout; known are {_KNOWN}")
    return layout


def _fixed(output: ov.Output) -> bool:
    return not output.partial_shape.is_dynamic


def _of_one(rows: int, columns: int, width: int, height: int) -> _Layout | None:
    cells = sum((width // s) * (height // s) for s in _STRIDES)
    if columns == 6 and rows not in (cells, 3 * cells):
        return _Layout("end to end", 0, _read_final, ScoreScale(0.1, 0.3), overlap=None)
    if columns > 5 and rows == cells:
        return _Layout(
            name="YOLOX",
            classes=columns - 5,
            read=_read_yolox(_grid(width, height)),
            scores=ScoreScale(0.1, 0.4),
            letterbox="corner",
            divisor=1.0,
            bgr=True,
        )
    if columns > 5 and rows == 3 * cells:
        return _Layout("YOLOv5", columns - 5, _read_with_objectness, ScoreScale(0.1, 0.3))
    if rows > 4 and columns == cells:
        return _Layout("YOLOv8", rows - 4, _read_columns, ScoreScale(0.1, 0.3))
    if columns > 4 and rows <= 1000:
        read = _read_queries(width, height)
        scale = ScoreScale(0.15, 0.45)
        return _Layout("RT-DETR", columns - 4, read, scale, overlap=None, letterbox=None)
    return None


def _of_two(shapes: list[tuple[int, ...]], width: int, height: int) -> _Layout | None:
    boxes = [i for i, s in enumerate(shapes) if len(s) == 3 and s[2] == 4]
    if len(boxes) != 1:
        return None
    queries = shapes[boxes[0]][1]
    logits = [i for i, s in enumerate(shapes) if len(s) == 3 and s[1] == queries and i != boxes[0]]
    if len(logits) != 1:
        return None
    read = _read_logits(boxes[0], logits[0], width, height)
    classes = shapes[logits[0]][2]
    return _Layout("DETR", classes, read, ScoreScale(0.15, 0.45), overlap=None, letterbox=None)


# -- reading outputs ------------------------------------------------------------------------------


def _corners(boxes: npt.NDArray) -> npt.NDArray:
    """(centre x, centre y, width, height) as (left, top, right, bottom)."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _read_columns(outputs: list[np.ndarray], minimum: float) -> Found:
    out = outputs[0][0]
    best = out[4:].max(axis=0)
    likely = np.flatnonzero(best > minimum)
    return _corners(out[:4, likely].T), best[likely], out[4:, likely].argmax(axis=0)


def _read_with_objectness(outputs: list[np.ndarray], minimum: float) -> Found:
    out = outputs[0][0]
    likely = np.flatnonzero(out[:, 4] > minimum)
    rows = out[likely]
    scores = rows[:, 5:] * rows[:, 4:5]
    best = scores.max(axis=1) if len(rows) else np.zeros(0, np.float32)
    keep = best > minimum
    return _corners(rows[keep, :4]), best[keep], scores[keep].argmax(axis=1)


def _grid(width: int, height: int) -> npt.NDArray:
    """Column, row and stride of each cell of YOLOX's output, shape (n, 3)."""
    cells = []
    for stride in _STRIDES:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride]
        cells.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    return np.concatenate(cells).astype(np.float32)


def _read_yolox(grid: npt.NDArray) -> Callable[[list[np.ndarray], float], Found]:
    def read(outputs: list[np.ndarray], minimum: float) -> Found:
        out = outputs[0][0]
        likely = np.flatnonzero(out[:, 4] > minimum)
        rows, cells = out[likely], grid[likely]
        boxes = np.concatenate(
            [(rows[:, :2] + cells[:, :2]) * cells[:, 2:], np.exp(rows[:, 2:4]) * cells[:, 2:]],
            axis=1,
        )
        scores = rows[:, 5:] * rows[:, 4:5]
        best = scores.max(axis=1) if len(rows) else np.zeros(0, np.float32)
        keep = best > minimum
        return _corners(boxes[keep]), best[keep], scores[keep].argmax(axis=1)

    return read


def _read_final(outputs: list[np.ndarray], minimum: float) -> Found:
    out = outputs[0][0]
    rows = out[out[:, 4] > minimum]
    return rows[:, :4], rows[:, 4], rows[:, 5].astype(int)


def _read_queries(width: int, height: int) -> Callable[[list[np.ndarray], float], Found]:
    size = np.array([width, height] * 2, np.float32)

    def read(outputs: list[np.ndarray], minimum: float) -> Found:
        out = outputs[0][0]
        best = out[:, 4:].max(axis=1)
        rows = out[best > minimum]
        return _corners(rows[:, :4] * size), best[best > minimum], rows[:, 4:].argmax(axis=1)

    return read


def _read_logits(
    boxes: int, logits: int, width: int, height: int
) -> Callable[[list[np.ndarray], float], Found]:
    size = np.array([width, height] * 2, np.float32)

    def read(outputs: list[np.ndarray], minimum: float) -> Found:
        scores = 1 / (1 + np.exp(-outputs[logits][0]))
        best = scores.max(axis=1)
        keep = best > minimum
        return _corners(outputs[boxes][0][keep] * size), best[keep], scores[keep].argmax(axis=1)

    return read


# -- class names ----------------------------------------------------------------------------------


def _names(file: Path, model: ov.Model, classes: int) -> dict[int, str]:
    """Names from the model's metadata, else COCO's, else ``person`` for a single class."""
    described = _beside(file) or _inside(model)
    if described:
        return described
    if classes in (0, len(coco.NAMES)):
        return dict(enumerate(coco.NAMES))
    if classes == 1:
        return {0: "person"}
    raise ModelError(
        f"{file} tells {classes} classes apart and names none of them. Put their names in "
        f"{file.parent / 'metadata.yaml'}, as Ultralytics exports them"
    )


def _beside(file: Path) -> dict[int, str]:
    """The ``names`` block of an Ultralytics ``metadata.yaml``."""
    listing = file.parent / "metadata.yaml"
    if not listing.is_file():
        return {}
    text = listing.read_text(encoding="utf-8", errors="replace")
    block = re.search(r"^names:\s*\n((?:[ \t]+\d+:.*\n?)+)", text, re.MULTILINE)
    lines = re.findall(r"^[ \t]+(\d+):\s*(.+?)\s*$", block[1], re.MULTILINE) if block else []
    return {int(number): name.strip("'\"") for number, name in lines}


def _inside(model: ov.Model) -> dict[int, str]:
    """Names that the exporter left in the model's runtime information."""
    for key in (["framework", "names"], ["names"], ["model_info", "names"]):
        if model.has_rt_info(key):
            try:
                names = ast.literal_eval(str(model.get_rt_info(key).astype(str)))
            except (ValueError, SyntaxError):
                continue
            if isinstance(names, dict):
                return {int(i): str(name) for i, name in names.items()}
    return {}
