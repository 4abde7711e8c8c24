"""A user's network is recognised from shapes and metadata, and its input follows the video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
import supervision as sv

from rekognition_dagster.engine.detectors.generic import GenericDetector
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.errors import ModelError

SIDE = 96
CELLS = 12 * 12 + 6 * 6 + 3 * 3
WANTED = (16.0, 8.0, 32.0, 40.0)  # left, top, right, bottom in the network's input
CXCYWH = (24.0, 24.0, 16.0, 32.0)
DOG = 16


def saved(model: ov.Model, folder: Path, **told: object) -> Path:
    """The network as OpenVINO IR, with metadata as OpenVINO keeps that of an ONNX file."""
    model = model.clone()
    for key, value in told.items():
        model.set_rt_info(str(value), ["framework", key])
    path = folder / "model.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def network_of(*outputs: np.ndarray, side: int = SIDE, channels: int = 3) -> ov.Model:
    """A network that always says the same."""
    image = ops.parameter([1, channels, side, side], np.float32, name="images")
    zero = ops.multiply(ops.reduce_max(image, [0, 1, 2, 3]), np.float32(0))
    results = []
    for out in outputs:
        whole = np.issubdtype(out.dtype, np.integer)
        constant = ops.constant(out.astype(np.int64 if whole else np.float32))
        results.append(ops.add(constant, ops.convert(zero, "i64") if whole else zero))
    return ov.Model(results, [image], "net")  # pyright: ignore[reportGeneralTypeIssues]


def black(width: int = SIDE, height: int = SIDE) -> Frame:
    return Frame.from_image(np.zeros((height, width, 3), np.uint8))


# -- each family ----------------------------------------------------------------------------------


def yolov8(cells: int = CELLS, more: int = 0, dog: int = DOG, classes: int = 80) -> np.ndarray:
    out = np.zeros((1, 4 + classes + more, cells))
    out[0, 4 + classes :] = 50.0  # of masks or joints: no scores
    out[0, :4, 5], out[0, 4 + dog, 5] = CXCYWH, 0.8
    out[0, :4, 6], out[0, 4 + dog, 6] = CXCYWH, 0.7  # suppressed by the one above
    return out


def yolov5(cells: int = CELLS) -> np.ndarray:
    out = np.zeros((1, 3 * cells, 85))
    out[0, 7, :4], out[0, 7, 4], out[0, 7, 5 + DOG] = CXCYWH, 0.9, 0.89
    return out


def yolox() -> np.ndarray:
    out = np.zeros((1, CELLS, 85))
    cell = 2 * 12 + 3  # row 2, column 3 of the finest grid, stride 8
    out[0, cell, :4] = (24 / 8 - 3, 24 / 8 - 2, np.log(16 / 8), np.log(32 / 8))
    out[0, cell, 4], out[0, cell, 5 + DOG] = 0.9, 0.89
    return out


def end_to_end(columns: int = 6, dog: int = DOG) -> np.ndarray:
    out = np.zeros((1, 300, columns))
    out[0, 0, :6] = (*WANTED, 0.8, dog)
    return out


def rtdetr(classes: int = 80, dog: int = DOG) -> np.ndarray:
    out = np.zeros((1, 300, 4 + classes))
    out[0, 3, :4], out[0, 3, 4 + dog] = np.array(CXCYWH) / SIDE, 0.8
    return out


def detr_logits() -> Sequence[np.ndarray]:
    logits, places = np.full((1, 300, 80), -9.0), np.zeros((1, 300, 4))
    logits[0, 3, DOG], places[0, 3] = np.log(0.8 / 0.2), np.array(CXCYWH) / SIDE
    return logits, places


TWO = {"names": {0: "Person", 1: "dog"}}
MASKS = np.zeros((1, 32, 24, 24))
RAW = np.zeros((1, 3, 12, 12, 85))  # a level of the pyramid, as older exports give it too


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        pytest.param([yolov8()], {}, id="YOLO v8, 11, 26"),
        pytest.param([yolov8(dog=1, classes=2)], TWO, id="YOLO v8 of two classes"),
        pytest.param(
            [yolov8(more=32, dog=1, classes=2), MASKS],
            {**TWO, "task": "segment"},
            id="YOLO v8 with masks",
        ),
        pytest.param(
            [yolov8(more=51, dog=0, classes=1)],
            {"names": {0: "dog"}, "task": "pose"},
            id="YOLO v8 with joints",
        ),
        pytest.param([yolov8(24 * 24 + CELLS)], {}, id="YOLO v8 with a finer grid"),
        pytest.param([yolov5()], {}, id="YOLO v5 and v7"),
        pytest.param([yolov5(), RAW], {}, id="YOLO v5 with its levels"),
        pytest.param([yolov5(CELLS + 1)], {}, id="YOLO v5 with a coarser grid"),
        pytest.param([yolov5(6 * 6 + 3 * 3)], {}, id="YOLO v3 tiny"),
        pytest.param([yolox()], {}, id="YOLOX"),
        pytest.param([end_to_end()], {}, id="end to end"),
        pytest.param([end_to_end(dog=1)], TWO, id="end to end of two classes"),
        pytest.param(
            [end_to_end(6 + 32), MASKS],
            {"task": "segment", "end2end": True},
            id="end to end with masks",
        ),
        pytest.param([rtdetr()], {}, id="RT-DETR"),
        pytest.param(
            [rtdetr(2, dog=1)], {**TWO, "head": "RTDETRDecoder"}, id="RT-DETR of two classes"
        ),
        pytest.param(detr_logits(), {}, id="RT-DETR, logits and boxes"),
        pytest.param(detr_logits()[::-1], {}, id="RT-DETR, boxes and logits"),
    ],
)
def test_each_family_is_recognised_and_read(tmp_path, outputs, told):
    detector = GenericDetector(str(saved(network_of(*outputs), tmp_path, **told)))
    found = list(detector.detect([black(), black()]))
    assert len(found) == 2
    for detections in found:
        assert detections.xyxy.tolist() == [pytest.approx(WANTED, abs=0.01)]
        assert detections.confidence == pytest.approx([0.8], abs=0.01)
        names = [detector.labels[i] for i in np.asarray(detections.class_id, int).tolist()]
        assert names == ["dog"]


def test_an_rtdetr_that_asks_for_the_pictures_size_is_told_the_inputs(tmp_path):
    image = ops.parameter([-1, 3, 64, SIDE], np.float32, name="images")
    sizes = ops.parameter([-1, 2], np.int64, name="orig_target_sizes")
    zero = ops.multiply(ops.reduce_max(image, [0, 1, 2, 3]), np.float32(0))
    places = np.zeros((1, 300, 4), np.float32)
    places[0, 3] = (0.25, 0.5, 0.75, 1.0)
    twice = ops.tile(ops.convert(sizes, "f32"), [1, 2])
    boxes = ops.multiply(ops.constant(places), ops.unsqueeze(twice, 1))
    scores = np.zeros((1, 300), np.float32)
    scores[0, 3] = 0.8
    labels = np.zeros((1, 300), np.int64)
    labels[0, 3] = DOG
    results = [ops.constant(labels), boxes, ops.add(ops.constant(scores), zero)]
    model = ov.Model(results, [image, sizes], "net")  # pyright: ignore[reportGeneralTypeIssues]
    detector = GenericDetector(str(saved(model, tmp_path)))
    (found,) = detector.detect([black(200, 100)])
    assert found.xyxy.tolist() == [pytest.approx([50, 50, 150, 100], abs=0.01)]
    assert np.asarray(found.class_id).tolist() == [DOG]


@pytest.mark.parametrize(
    ("output", "told", "said"),
    [
        (np.zeros((1, 10)), {}, "no known layout"),
        (np.zeros((1, 8400, 7)), {}, "no known layout"),
        (yolov8(more=1), {"task": "obb"}, "task obb"),
        (yolov8(classes=3, dog=1), {}, r"3 classes.*metadata\.yaml"),
    ],
)
def test_what_is_not_known_is_told(tmp_path, output, told, said):
    with pytest.raises(ModelError, match=said):
        GenericDetector(str(saved(network_of(output), tmp_path, **told)))


def test_what_is_no_image_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"\[1,3,height,width\]"):
        GenericDetector(str(saved(network_of(yolov8(), channels=1), tmp_path)))


# -- metadata -------------------------------------------------------------------------------------


def test_class_names_come_from_beside_the_model(tmp_path):
    path = saved(network_of(yolov8(classes=2, dog=1)), tmp_path)
    (tmp_path / "metadata.yaml").write_text("task: detect\nnames:\n  0: cart\n  1: person\nx: 1\n")
    detector = GenericDetector(str(tmp_path))
    assert dict(detector.labels) == {0: "cart", 1: "person"}
    (tmp_path / "metadata.yaml").write_text("names: [cart, PERSON]\n")
    assert dict(GenericDetector(str(path)).labels) == {0: "cart", 1: "person"}


def test_class_names_come_in_the_way_of_the_model_api(tmp_path):
    model = network_of(yolov8(classes=2, dog=1))
    model.set_rt_info("person traffic_light", ["model_info", "labels"])
    detector = GenericDetector(str(saved(model, tmp_path)))
    assert dict(detector.labels) == {0: "person", 1: "traffic light"}


@pytest.mark.parametrize(
    "hostile", ["!!python/object/apply:os.system ['x']", "names: {a: b}", ":\n- {", "[]", "\0"]
)
def test_metadata_that_is_none_is_passed_over(tmp_path, hostile):
    path = saved(network_of(yolov8()), tmp_path)
    (tmp_path / "metadata.yaml").write_text(hostile)
    assert GenericDetector(str(path)).labels[DOG] == "dog"


# -- the input's shape ----------------------------------------------------------------------------


def redness(shape: Sequence[int], grid: Sequence[int] | None = None) -> ov.Model:
    """A network like YOLO v8 that sees a person of 32 pixels wherever a cell is red.

    Args:
        shape: Of its input; -1 where that is open.
        grid: Rows and columns of the finest grid, written into the graph as exporters do that
            trace one size; none leaves the size open.
    """
    image = ops.parameter(list(shape), np.float32, name="images")
    red, green, _ = ops.split(image, 1, 3).outputs()
    levels = []
    for stride in (8, 16, 32):
        window = {"kernel_shape": [stride] * 2, "rounding_type": "floor", "auto_pad": "explicit"}
        red_here = ops.avg_pool(
            ops.subtract(red, green), [stride] * 2, [0, 0], [0, 0], exclude_pad=False, **window
        )
        score = ops.multiply(red_here, np.float32(stride == 8))
        one = ops.add(ops.multiply(score, np.float32(0)), np.float32(1))
        x, y = (
            ops.multiply(
                ops.subtract(ops.cum_sum(one, np.int64(axis)), np.float32(0.5)), np.float32(stride)
            )
            for axis in (3, 2)
        )
        side = ops.multiply(one, np.float32(32))
        level = ops.concat([x, y, side, side, score], 1)
        cells = -1 if grid is None else grid[0] * grid[1] * 64 // stride**2
        levels.append(ops.reshape(level, [1, 5, cells], special_zero=False))
    return ov.Model([ops.concat(levels, 2)], [image], "redness")  # pyright: ignore


def scene(width: int, height: int) -> Frame:
    """Black, with a red square a quarter in from the left and from the top."""
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 4 : height // 4 + 24, width // 4 : width // 4 + 24, 0] = 255
    return Frame.from_image(image)


def best_of(found: sv.Detections) -> np.ndarray:
    return found.xyxy[np.argmax(np.asarray(found.confidence))]


OPEN = redness([-1, 3, -1, -1])
RESHAPEABLE = redness([1, 3, 320, 320])
FIXED = redness([1, 3, 320, 320], grid=(40, 40))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (320, 256)),
        ((1920, 1080), (320, 192)),
        ((1080, 1920), (192, 320)),
        ((320, 320), (320, 320)),
        ((4000, 40), (320, 32)),
    ],
)
@pytest.mark.parametrize(
    ("model", "told"), [(RESHAPEABLE, {}), (OPEN, {"imgsz": [320, 320], "names": {0: "person"}})]
)
def test_a_network_that_can_be_reshaped_follows_the_video(tmp_path, model, told, size, expected):
    detector = GenericDetector(str(saved(model, tmp_path, **told)))
    assert detector.input_size(*size) == expected
    network = detector.network_for(black(*size))
    assert (network.width, network.height) == expected


def test_a_network_that_cannot_be_reshaped_stays_as_it_is(tmp_path):
    detector = GenericDetector(str(saved(FIXED, tmp_path)))
    network = detector.network_for(black(1920, 1080))
    assert (network.width, network.height) == (320, 320)
    assert detector.network_for(black(640, 480)) is network


def test_a_network_of_open_size_that_tells_none_takes_640(tmp_path):
    assert GenericDetector(str(saved(OPEN, tmp_path))).input_size(1280, 720) == (640, 384)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (960, 540)])
def test_the_same_is_found_in_the_videos_shape_as_in_the_square(tmp_path, size):
    (tmp_path / "fixed").mkdir()
    follows = GenericDetector(str(saved(RESHAPEABLE, tmp_path)))
    stays = GenericDetector(str(saved(FIXED, tmp_path / "fixed")))
    frame = scene(*size)
    (seen,), (expected,) = follows.detect([frame]), stays.detect([frame])
    assert len(expected) > 0
    best, same = (best_of(found) for found in (seen, expected))
    scale = max(size) / 320
    assert best == pytest.approx(same, abs=8 * scale)  # a cell, for the grids lie otherwise
    centre = (best[:2] + best[2:]) / 2
    assert centre == pytest.approx([size[0] / 4 + 12, size[1] / 4 + 12], abs=8 * scale)


def test_videos_of_several_shapes_share_a_detector(tmp_path):
    detector = GenericDetector(str(saved(RESHAPEABLE, tmp_path)))
    frames = [scene(640, 480), scene(480, 640), scene(640, 480)]
    found = list(detector.detect(frames))
    assert len(found) == 3
    assert found[0].xyxy.tolist() == found[2].xyxy.tolist()
    for detections, frame in zip(found, frames, strict=True):
        box = best_of(detections)
        assert (box[:2] + box[2:]) / 2 == pytest.approx(
            [frame.width / 4 + 12, frame.height / 4 + 12], abs=16
        )


def test_boxes_come_back_through_the_letterbox(tmp_path):
    detector = GenericDetector(str(saved(network_of(yolov8()), tmp_path)))
    (found,) = detector.detect([black(200, 100)])  # 96x48 between bars of 24 rows
    scale = 200 / SIDE
    expected = [16 * scale, 0, 32 * scale, 16 * scale]
    assert found.xyxy.tolist() == [pytest.approx(expected, abs=0.01)]


@pytest.mark.parametrize(("kind", "white"), [(np.float32, 1), (np.float16, 1), (np.uint8, 255)])
def test_inputs_of_other_types_are_fed_in_their_scale(tmp_path, kind, white):
    image = ops.parameter([1, 3, SIDE, SIDE], kind, name="images")
    brightest = ops.reduce_max(ops.convert(image, "f32"), [0, 1, 2, 3])
    right = ops.convert(ops.equal(brightest, np.float32(white)), "f32")
    out = ops.multiply(ops.constant(yolov8().astype(np.float32)), right)
    model = ov.Model([out], [image], "net")  # pyright: ignore[reportGeneralTypeIssues]
    frame = Frame.from_image(np.full((SIDE, SIDE, 3), 255, np.uint8))
    (found,) = GenericDetector(str(saved(model, tmp_path))).detect([frame])
    assert found.xyxy.tolist() == [pytest.approx(WANTED, abs=0.01)]
