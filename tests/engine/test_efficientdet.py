"""The embedded detector: its input, its anchors, what it finds, in every precision."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import supervision as sv

from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import coco, efficientdet
from rekognition_dagster.engine.detectors.efficientdet import AREA, FINE_AREA, EfficientDet
from rekognition_dagster.engine.detectors.inference import Network, SizedNetworks, fit_sides
from rekognition_dagster.engine.frame import Frame

CLEAR = 0.6


@pytest.fixture
def weights(sample: Callable[[str], Path]) -> Path:
    return sample("object-efficientdet-lite0")


@pytest.fixture
def street(sample: Callable[[str], Path]) -> list[Frame]:
    with open_video(sample("bikes.mp4")) as opened:
        return [frame for frame in opened.frames() if frame.index % 5 == 0]


def found_of(detections: sv.Detections, minimum: float) -> list[tuple[str, np.ndarray, float]]:
    assert detections.confidence is not None
    assert detections.class_id is not None
    each = zip(detections.class_id, detections.xyxy, detections.confidence, strict=True)
    return [(coco.NAMES[c], box, float(score)) for c, box, score in each if score >= minimum]


@pytest.mark.parametrize(
    ("size", "usual", "fine"),
    [
        ((768, 576), (512, 384), (640, 480)),
        ((1920, 1080), (576, 320), (736, 416)),
        ((300, 300), (448, 448), (544, 544)),
        ((4000, 40), (704, 288), (864, 352)),
    ],
)
def test_the_input_has_the_videos_shape(size, usual, fine):
    width, height = size
    assert fit_sides(width, height, AREA, 32) == usual
    assert fit_sides(width, height, FINE_AREA, 32) == fine
    assert fit_sides(height, width, AREA, 32) == usual[::-1]


def test_the_classes_are_those_that_the_weights_name(weights):
    with zipfile.ZipFile(weights) as archive:
        names = archive.read("labels.txt").decode().splitlines()
    assert tuple(names[c] for c in efficientdet._COLUMNS) == coco.NAMES
    assert {names[c] for c in efficientdet._UNUSED} == {"???"}


@pytest.mark.parametrize("size", [(320, 320), (416, 320), (512, 288), (288, 512)])
@pytest.mark.parametrize("precision", ["int8", "f32"])
def test_every_output_has_its_anchors(weights, size, precision):
    network = EfficientDet(size[0] * size[1], precision=precision)._networks.of(*size)
    assert (network.width, network.height) == size
    shapes = [tuple(output.shape) for output in network._compiled.outputs]
    anchors = efficientdet._anchors(*size)
    assert shapes[:2] == [(len(anchors), 9), (len(anchors), 9, 4)]
    assert sum(cells for cells, _, _ in shapes[2:]) == len(anchors)
    assert {shape[1:] for shape in shapes[2:]} == {(9, 80)}


def test_an_anchor_without_offset_is_its_own_box():
    anchors = efficientdet._anchors(320, 320)
    assert anchors.shape == (1600 + 400 + 100 + 25 + 9, 9, 4)
    assert anchors[0, 0] * 320 == pytest.approx([4, 4, 24, 24])
    assert anchors[1, 1, :2] * 320 == pytest.approx([4, 12])
    assert anchors[0, 1, 2:] * 320 == pytest.approx([24 / 2**0.5, 24 * 2**0.5])
    assert anchors[-1, 6] * 320 == pytest.approx([320, 320, *[3 * 128 * 2 ** (2 / 3)] * 2])
    still = efficientdet._boxes(np.zeros((1, 4), np.float32), anchors[0, :1])
    assert still[0] * 320 == pytest.approx([-8, -8, 16, 16], abs=1e-4)


def test_it_finds_people_and_things_in_a_street(weights, street):
    found = [found_of(detections, CLEAR) for detections in EfficientDet().detect(iter(street))]
    assert {"person", "bicycle", "car"} <= {name for each in found for name, _, _ in each}
    people = [box for each in found for name, box, _ in each if name == "person"]
    heights = [box[3] - box[1] for box in people]
    assert len(people) >= 8
    assert min(heights) > 40


def exact_eight_bits(weights: Path, width: int, height: int) -> Network:
    """The network with its eight-bit steps, in floats: what a processor that sums products of
    eight bits exactly computes."""
    cut = efficientdet._cut(ov.Core().read_model(weights), width, height)
    return Network(efficientdet._fold_weights(cut), layout="NHWC", precision="f32")


def agreement(one: EfficientDet, other: EfficientDet, frames: list[Frame]) -> tuple[int, int]:
    """How many detections one of two is clear about, and how many of these the other has with an
    overlap above 0.8 and a score that differs by less than 0.1."""
    pairs = list(zip(one.detect(iter(frames)), other.detect(iter(frames)), strict=True))
    clear = alike = 0
    for mine, theirs in [*pairs, *((b, a) for a, b in pairs)]:
        rivals = found_of(theirs, 0.0)
        for name, box, score in found_of(mine, CLEAR):
            same = [(b, s) for n, b, s in rivals if n == name] or [(np.zeros(4), 0.0)]
            overlaps = sv.box_iou_batch(box[None], np.array([b for b, _ in same]))[0]
            best = int(overlaps.argmax())
            clear += 1
            alike += bool(overlaps[best] > 0.8 and abs(same[best][1] - score) < 0.1)
    return clear, alike


def test_eight_bits_find_what_floats_find(weights, street):
    floats, eight = EfficientDet(precision="f32"), EfficientDet(precision="f32")
    eight._networks = SizedNetworks(partial(exact_eight_bits, weights), eight._networks._input_size)
    clear, alike = agreement(floats, eight, street)
    assert clear >= 60
    assert alike >= 0.98 * clear


def test_the_processors_own_precision_finds_what_floats_find(weights, street):
    clear, alike = agreement(EfficientDet(), EfficientDet(precision="f32"), street)
    assert clear >= 60
    assert alike >= 0.98 * clear


def test_boxes_lie_in_the_frame(weights, street):
    for detections in EfficientDet().detect(iter(street)):
        assert (detections.xyxy >= 0).all()
        assert (detections.xyxy <= [640, 272, 640, 272]).all()
        assert (detections.xyxy[:, 2:] > detections.xyxy[:, :2]).all()


def test_nothing_is_in_a_blank_picture(weights):
    for size in ((640, 272), (640, 480), (176, 144), (720, 1280), (480, 480)):
        frames = [
            Frame.from_image(np.full((size[1], size[0], 3), grey, np.uint8))
            for grey in (0, 90, 128, 200, 255)
        ]
        for detections in EfficientDet().detect(frames):
            assert not found_of(detections, EfficientDet.scores.noise)
