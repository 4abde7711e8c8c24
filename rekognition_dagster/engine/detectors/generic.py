"""A user's own network, as OpenVINO IR or ONNX: recognised from its shapes and metadata.

Known: YOLO v3 to v12 and 26, YOLOX, RT-DETR, and any that ends without suppression (one row of
box, score and class per detection). Files are data: nothing in them runs but the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import supervision as sv

from rekognition_dagster.engine.detectors import coco
from rekognition_dagster.engine.detectors.description import Description, describe
from rekognition_dagster.engine.detectors.inference import Network, SizedNetworks
from rekognition_dagster.engine.detectors.layouts import KNOWN, Layout, Output, Size, recognise
from rekognition_dagster.engine.frame import Frame, Image
from rekognition_dagster.errors import ModelError

_SIDE = 640  # for networks whose input has no fixed size, and that do not tell theirs
_STRIDE = 32  # for those that do not tell by their outputs
_GREY = 114
_TASKS = ("detect", "segment", "pose", None)


class GenericDetector:
    """A network from a file.

    Where the network can be reshaped, its input has the video's shape, so that nothing is spent
    on bars above and below the picture; the picture in it is as large as in the square.

    Args:
        path: ``.xml`` or a folder with one (``openvino``), ``.onnx`` (``onnx``).
        kind: ``openvino`` or ``onnx``.

    Raises:
        ModelError: The file is missing, unreadable, or its outputs are of no known layout.
    """

    def __init__(self, path: str, kind: str = "openvino") -> None:
        file = _model_file(Path(path).expanduser(), kind)
        try:
            self._model = ov.Core().read_model(file)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"{file} is no model that OpenVINO can read: {reason}") from error
        description = describe(file, self._model)
        if description.task not in _TASKS:
            raise ModelError(f"{file} is for the task {description.task}; a detector is needed")
        self._full, free = _input_size(self._model, description, file)
        self._layout = _layout_at(self._model, self._full, description, file)
        self._follows = self._layout.letterbox is not None and (
            free or _can_follow(self._model, self._full, self._layout, description)
        )
        self.scores = self._layout.scores
        self.labels: Mapping[int, str] = _labels(file, self._layout.classes, description)
        self._networks = SizedNetworks(self._make, self.input_size)

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        for frame, outputs, network in self._networks.run(frames, self._fill):
            yield self._read(outputs, frame, (network.width, network.height))

    def network_for(self, frame: Frame) -> Network:
        """The network that frames of this size go through."""
        return self._networks.of(frame.width, frame.height)

    def input_size(self, width: int, height: int) -> Size:
        """Width and height of the network's input for a frame."""
        if not self._follows:
            return self._full
        scale = min(self._full[0] / width, self._full[1] / height)
        across, down = (
            min(_up(round(side * scale), self._layout.stride or _STRIDE), most)
            for side, most in zip((width, height), self._full, strict=True)
        )
        return across, down

    def _make(self, width: int, height: int) -> Network:
        model = _reshaped(self._model, (width, height))
        whole = model.input(0).get_element_type().is_integral()  # takes 0 to 255 as it is
        return Network(model, scale=1.0 if whole else self._layout.divisor, bgr=self._layout.bgr)

    def _read(self, outputs: list[np.ndarray], frame: Frame, size: Size) -> sv.Detections:
        boxes, scores, classes = self._layout.read(outputs, self.scores.noise, size)
        scale_x, scale_y, left, top = self._fit(frame, size)
        boxes = (boxes - np.array([left, top] * 2)) / np.array([scale_x, scale_y] * 2)
        bounds = np.array([frame.width, frame.height] * 2)
        found = sv.Detections(
            xyxy=boxes.astype(np.float32),
            confidence=np.clip(scores, 0, 1).astype(np.float32),
            class_id=classes.astype(int),
        )
        if self._layout.overlap is not None:
            found = found.with_nms(self._layout.overlap)
        found.xyxy = np.clip(found.xyxy, 0, bounds).astype(np.float32)
        return found

    def _fit(self, frame: Frame, size: Size) -> tuple[float, float, int, int]:
        """Scale of x and y, and where the picture's corner lies in the network's input."""
        width, height = size
        if self._layout.letterbox is None:
            return width / frame.width, height / frame.height, 0, 0
        scale = min(width / frame.width, height / frame.height)
        if self._layout.letterbox == "corner":
            return scale, scale, 0, 0
        left = (width - round(frame.width * scale)) // 2
        top = (height - round(frame.height * scale)) // 2
        return scale, scale, left, top

    def _fill(self, frame: Frame, target: Image) -> None:
        """Put the frame into the input, between its bars."""
        height, width = target.shape[:2]
        scale_x, scale_y, left, top = self._fit(frame, (width, height))
        across, down = max(1, round(frame.width * scale_x)), max(1, round(frame.height * scale_y))
        target[:top], target[top + down :] = _GREY, _GREY
        target[:, :left], target[:, left + across :] = _GREY, _GREY
        target[top : top + down, left : left + across] = frame.stretched(across, down)


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


def _input_size(model: ov.Model, description: Description, file: Path) -> tuple[Size, bool]:
    """Width and height of the input, and whether the exporter left them open."""
    shapes = [i.partial_shape for i in model.inputs]
    images = [s for s in shapes if s.rank.is_static and len(s) == 4]
    others = [s for s in shapes if s.rank.is_static and len(s) == 2 and _is(s[1], 2)]
    if len(images) != 1 or len(images) + len(others) != len(shapes) or not _is(images[0][1], 3):
        told = [str(shape) for shape in shapes]
        raise ModelError(f"{file} takes {told}; a detector takes one image [1,3,height,width]")
    side = _up(description.side or _SIDE, _STRIDE)
    height, width = (side if d.is_dynamic else d.get_length() for d in list(images[0])[2:])
    return (width, height), images[0][2].is_dynamic and images[0][3].is_dynamic


def _is(dimension: ov.Dimension, length: int) -> bool:
    return dimension.is_dynamic or dimension.get_length() == length


def _reshaped(model: ov.Model, size: Size) -> ov.Model:
    """The network for one image of a size. A second input is the picture's size, in which it
    gives its boxes: here, the size of its input."""
    made = model.clone()
    for parameter in made.get_parameters():
        if len(parameter.get_partial_shape()) == 2:
            given = ops.constant(np.array([size]), parameter.get_element_type())
            parameter.output(0).replace(given.output(0))
            made.remove_parameter(parameter)
    made.reshape([1, 3, size[1], size[0]])
    return made


def _outputs(model: ov.Model, size: Size) -> list[Output]:
    """Outputs of the network at a size; those of unknown shape are left out."""
    return [
        Output(tuple(int(n) for n in output.shape), output.element_type.is_integral())
        for output in _reshaped(model, size).outputs
        if output.partial_shape.is_static
    ]


def _layout_at(model: ov.Model, size: Size, description: Description, file: Path) -> Layout:
    try:
        outputs = _outputs(model, size)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"{file} takes no image of {size[0]}x{size[1]}: {reason}") from error
    layout = recognise(outputs, size, description)
    if layout is None:
        shapes = [str(output.partial_shape) for output in model.outputs]
        raise ModelError(f"{file} gives {shapes}, of no known layout; known are {KNOWN}")
    return layout


def _can_follow(model: ov.Model, full: Size, layout: Layout, description: Description) -> bool:
    """Whether a network of fixed size can take others: sizes that are written into its graph make
    the reshaping fail, and its outputs tell what it looks at."""
    if not layout.stride or full[1] <= layout.stride:
        return False
    size = (full[0], full[1] - layout.stride)
    try:
        other = recognise(_outputs(model, size), size, description)
    except RuntimeError:
        return False
    return other is not None and (other.family, other.classes) == (layout.family, layout.classes)


def _up(length: int, multiple: int) -> int:
    return max(1, -(-length // multiple)) * multiple


def _labels(file: Path, classes: int, description: Description) -> Mapping[int, str]:
    """Names as they are told, else COCO's, else ``person`` for a single class."""
    if description.names:
        return description.names
    if classes in (0, len(coco.NAMES)):
        return dict(enumerate(coco.NAMES))
    if classes == 1:
        return {0: "person"}
    raise ModelError(
        f"{file} tells {classes} classes apart and names none of them. Put their names in "
        f"{file.parent / 'metadata.yaml'}, as Ultralytics exports them"
    )
