"""Running a network with OpenVINO: compiled for throughput, several requests in flight, in order.

What goes in is an image as the decoder gives it; scaling and layout are part of the graph.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

from rekognition_dagster.engine import cores, models
from rekognition_dagster.engine.frame import Frame, Image

T = TypeVar("T")
Outputs = list[np.ndarray]

_FORM = 1  # of what is made of the weights: another one makes it anew
_READY = 4  # images beside those that run at once, while results are read and people followed
_WIDEST = 2.5  # a longer picture is squeezed to this ratio of its sides
_SIZES = 6  # networks kept for pictures of different sizes


def core() -> ov.Core:
    """OpenVINO, with compiled networks cached beside the models for a fast start."""
    runtime = ov.Core()
    folder = models.cache_folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        runtime.set_property({"CACHE_DIR": str(folder)})
    except (OSError, RuntimeError):
        pass  # a cache that cannot be written costs a second at each start, nothing else
    return runtime


def stored(weights: Path, name: str, make: Callable[[], ov.Model]) -> ov.Model:
    """A network that was cut or reshaped from weights, kept beside the compiled ones.

    Reading a TensorFlow graph takes a second, reading its OpenVINO form a tenth of that.

    Args:
        weights: Where it comes from; part of the key.
        name: What was made of it; the rest of the key.
        make: Makes it.
    """
    release = ov.get_version().partition("-")[0]
    name = f"{weights.stem}-{name}-{release}-{_FORM}.xml"
    path = models.cache_folder() / "compiled" / name
    runtime = ov.Core()
    if (sums := _sums(path)) is not None and sums == _read(path.with_suffix(".sums")):
        return runtime.read_model(path)
    model = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".ir-", dir=path.parent) as scratch:
            made = Path(scratch) / path.name
            ov.save_model(model, made, compress_to_fp16=False)
            made.with_suffix(".sums").write_text(_sums(made) or "")
            for suffix in (".bin", ".xml", ".sums"):  # what verifies the others comes last
                os.replace(made.with_suffix(suffix), path.with_suffix(suffix))
    except (OSError, RuntimeError):
        pass  # a cache that cannot be written costs a second at each start, nothing else
    return model


def _sums(path: Path) -> str | None:
    """Return the checksums of a network's two files; None where one is missing."""
    try:
        parts = [path.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")]
    except OSError:
        return None
    return " ".join(hashlib.sha256(part).hexdigest() for part in parts)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


class Network:
    """One compiled network with a single image input.

    Args:
        model: One input of fixed shape.
        layout: Of that input: ``NCHW`` or ``NHWC``.
        mean: Subtracted from each channel of the 0 to 255 RGB image.
        scale: Divides each channel afterwards.
        bgr: Whether the network wants blue first.
        precision: The floating-point type to compute in; by default the processor's fastest.
    """

    def __init__(
        self,
        model: ov.Model,
        *,
        layout: str = "NCHW",
        mean: float = 0.0,
        scale: float = 1.0,
        bgr: bool = False,
        precision: str | None = None,
    ):
        shape = dict(zip(layout, model.input(0).shape, strict=True))
        self.height, self.width = int(shape["H"]), int(shape["W"])
        # Threads that stay where the system puts them: several processes that bind theirs would
        # choose the same cores, and whoever decodes or tracks would wait for one of them.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "ENABLE_CPU_PINNING": False}
        if threads := cores.share():
            settings["INFERENCE_NUM_THREADS"] = threads
        if precision is not None:
            settings["INFERENCE_PRECISION_HINT"] = precision
        self._compiled = core().compile_model(
            _with_preprocessing(model, layout, mean, scale, bgr), "CPU", settings
        )
        self._outputs = len(self._compiled.outputs)
        self._depth = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + _READY

    def run(
        self, items: Iterable[T], fill: Callable[[T, Image], None]
    ) -> Iterator[tuple[T, Outputs]]:
        """Infer each item's image; results come in the items' order. Runs may go on side by side.

        Args:
            items: Anything that an image can be made of.
            fill: Puts an item's RGB image into the input, of shape (height, width, 3).

        Yields:
            Each item and the network's outputs; valid until the next one is asked for.
        """
        idle: deque[Any] = deque()
        busy: deque[tuple[T, Any]] = deque()
        try:
            for item in items:
                request = idle.popleft() if idle else self._compiled.create_infer_request()
                fill(item, request.get_input_tensor().data[0])
                request.start_async()
                busy.append((item, request))
                if len(busy) == self._depth:
                    yield from self._finish(busy, idle)
            while busy:
                yield from self._finish(busy, idle)
        finally:
            for _, request in busy:
                request.wait()

    def _finish(self, busy: deque[tuple[T, Any]], idle: deque[Any]) -> Iterator[tuple[T, Outputs]]:
        item, request = busy.popleft()
        request.wait()
        yield item, [request.get_output_tensor(i).data for i in range(self._outputs)]
        idle.append(request)


def stretch(frame: Frame, target: Image) -> None:
    """Put the frame's image into an input of any size."""
    target[:] = frame.stretched(target.shape[1], target.shape[0])


class SizedNetworks:
    """One network for pictures of several sizes, compiled when a size first comes.

    Args:
        make: Makes the network with an input of a width and height.
        input_size: The input's width and height for pictures of a width and height.
    """

    def __init__(
        self,
        make: Callable[[int, int], Network],
        input_size: Callable[[int, int], tuple[int, int]],
    ) -> None:
        self._make = make
        self._input_size = input_size
        self._made: dict[tuple[int, int], Network] = {}
        self._lock = threading.Lock()

    def of(self, width: int, height: int) -> Network:
        """The network for pictures of a size."""
        size = self._input_size(width, height)
        with self._lock:
            if size not in self._made:
                if len(self._made) >= _SIZES:
                    self._made.pop(next(iter(self._made)))
                self._made[size] = self._make(*size)
            return self._made[size]

    def run(
        self,
        frames: Iterable[Frame],
        fill: Callable[[Frame, Image], None] = stretch,
    ) -> Iterator[tuple[Frame, Outputs, Network]]:
        """Infer each frame, stretched to the input of the network for its size, or as filled in."""
        for network, run in groupby(frames, key=lambda frame: self.of(frame.width, frame.height)):
            for frame, outputs in network.run(run, fill):
                yield frame, outputs, network


def fit_sides(width: int, height: int, area: int, multiple: int) -> tuple[int, int]:
    """Width and height of a network's input: the frame's shape, about ``area`` pixels.

    Both are multiples of ``multiple``. Where these cannot have the shape and the area, a shape
    that is off by a tenth weighs as much as an area that is off by a third.
    """
    ratio = np.clip(width / height, 1 / _WIDEST, _WIDEST)

    def off(size: tuple[int, int]) -> float:
        shape, pixels = size[0] / size[1], size[0] * size[1]
        return float(3 * abs(np.log(shape / ratio)) + abs(np.log(pixels / area)))

    steps = [multiple * n for n in range(1, int((2 * area * _WIDEST) ** 0.5) // multiple + 2)]
    return min(((across, down) for across in steps for down in steps), key=off)


def _with_preprocessing(
    model: ov.Model, layout: str, mean: float, scale: float, bgr: bool
) -> ov.Model:
    steps = PrePostProcessor(model)
    image = steps.input()
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout(layout))
    if model.input(0).get_element_type() == ov.Type.u8:
        return steps.build()
    convert = image.preprocess().convert_element_type(ov.Type.f32)
    if bgr:
        convert = convert.reverse_channels()
    if mean:
        convert = convert.mean(mean)
    if scale != 1.0:
        convert.scale(scale)
    return steps.build()
