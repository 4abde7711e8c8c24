"""Running a network with OpenVINO: compiled for throughput, several requests in flight, in order.

What goes in is an image as the decoder gives it; scaling and layout are part of the graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, TypeVar

import cv2
import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

from rekognition_dagster.engine import models
from rekognition_dagster.engine.decode import Frame, Image

T = TypeVar("T")
Outputs = list[np.ndarray]


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


def resized(image: Image, width: int, height: int) -> Image:
    """The image stretched or shrunk to a size, bilinearly as the networks were trained."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


class Network:
    """One compiled network with a single image input.

    Args:
        model: Input of shape (1, 3, height, width), fixed.
        mean: Subtracted from each channel of the 0 to 255 RGB image.
        scale: Divides each channel afterwards.
        bgr: Whether the network wants blue first.
    """

    def __init__(
        self,
        model: ov.Model,
        *,
        mean: float = 0.0,
        scale: float = 1.0,
        bgr: bool = False,
    ):
        shape = model.input(0).shape
        self.height, self.width = int(shape[2]), int(shape[3])
        self._compiled = core().compile_model(
            _with_preprocessing(model, mean, scale, bgr), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"}
        )
        # One more than run at once, so that the next is ready while results are being read.
        self._depth = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        self._requests = [self._compiled.create_infer_request() for _ in range(self._depth)]

    def run(self, items: Iterable[T], prepare: Callable[[T], Image]) -> Iterator[tuple[T, Outputs]]:
        """Infer each item's image; results come in the items' order.

        Args:
            items: Anything that an image can be made of.
            prepare: Makes the RGB image of shape (height, width, 3).

        Yields:
            Each item and the network's outputs; valid until the next one is asked for.
        """
        idle = deque(self._requests)
        busy: deque[tuple[T, Any]] = deque()
        try:
            for item in items:
                request = idle.popleft()
                # The request keeps no copy of its own: the image must live until it is done.
                request.set_input_tensor(ov.Tensor(prepare(item)[None], shared_memory=False))
                request.start_async()
                busy.append((item, request))
                if not idle:
                    yield from self._finish(busy, idle)
            while busy:
                yield from self._finish(busy, idle)
        finally:
            for _, request in busy:
                request.cancel()

    def stretch(self, frame: Frame) -> Image:
        """The frame's image in the size of the input."""
        return resized(frame.image, self.width, self.height)

    @staticmethod
    def _finish(busy: deque[tuple[T, Any]], idle: deque[Any]) -> Iterator[tuple[T, Outputs]]:
        item, request = busy.popleft()
        request.wait()
        yield item, [tensor.data for tensor in request.output_tensors]
        idle.append(request)


class SizedNetworks:
    """One network for pictures of several sizes, compiled when a size first comes.

    Args:
        make: Makes the network for pictures of a width and height.
    """

    def __init__(self, make: Callable[[int, int], Network]) -> None:
        self._make = make
        self._made: dict[tuple[int, int], Network] = {}

    def run(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Outputs, Network]]:
        """Infer each frame, stretched to the input of the network for its size."""
        for size, run in groupby(frames, key=lambda frame: (frame.width, frame.height)):
            if size not in self._made:
                self._made[size] = self._make(*size)
            network = self._made[size]
            for frame, outputs in network.run(run, network.stretch):
                yield frame, outputs, network


def _with_preprocessing(model: ov.Model, mean: float, scale: float, bgr: bool) -> ov.Model:
    steps = PrePostProcessor(model)
    image = steps.input()
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout("NCHW"))
    convert = image.preprocess().convert_element_type(ov.Type.f32)
    if bgr:
        convert = convert.reverse_channels()
    if mean:
        convert = convert.mean(mean)
    if scale != 1.0:
        convert.scale(scale)
    return steps.build()
