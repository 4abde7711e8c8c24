"""A network in eight bits finds what it finds as it was trained, and only known bounds are used."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import boxes, quantise, ssdlite

RANDOM = np.random.default_rng(5)
MEAN, DEVIATION = np.array([1.0, -2.0, 0.5]), np.array([0.5, 0.25, 1.0])


def numbers(*shape):
    return ops.constant(RANDOM.normal(size=shape).astype(np.float32))


def pointwise(of, channels_in=3, channels_out=3):
    weights = numbers(channels_out, channels_in, 1, 1)
    return ops.convolution(of, weights, [1, 1], [0, 0], [0, 0], [1, 1])


def normalised(of, mean=MEAN, deviation=DEVIATION):
    """Batch normalisation as TensorFlow's graphs have it, of numbers whose own it is."""
    mean, deviation = (v.astype(np.float32).reshape(1, -1, 1, 1) for v in (mean, deviation))
    return ops.add(ops.multiply(of, ops.constant(deviation)), ops.constant(mean))


def marks(model):
    """Bounds and steps of what each convolution reads, where they are marked."""
    found = []
    for node in model.get_ordered_ops():
        if "Convolution" not in node.get_type_name():
            continue
        read, weights = (node.input(i).get_source_output().get_node() for i in (0, 1))
        marked = [n.get_type_name() == "FakeQuantize" for n in (read, weights)]
        assert marked[0] == marked[1]
        if marked[0]:
            low, high = (
                float(read.input(i).get_source_output().get_node().data.item()) for i in (1, 2)
            )
            found.append((low, high, read.get_attributes()["levels"]))
        else:
            found.append(None)
    return found


def quantised(make):
    image = ops.parameter([1, 3, 8, 8], np.float32)
    model = ov.Model([make(image).output(0)], [image], "made")  # pyright: ignore[reportGeneralTypeIssues]
    quantise.quantise(model)
    return model


def test_what_relu6_leaves_is_between_0_and_6():
    assert marks(quantised(lambda x: pointwise(ops.clamp(x, 0, 6)))) == [(0, 6, 256)]


def test_the_bounds_of_a_normalised_channel_are_told_from_its_mean_and_deviation():
    ((low, high, steps),) = marks(quantised(lambda x: pointwise(normalised(x))))
    assert low == pytest.approx(-(0.5 + 6 * 1.0))
    assert steps == 256
    assert high == pytest.approx(-low * 127 / 128)  # zero is one of the steps


def test_sums_of_normalised_channels_have_sums_of_means_and_variances():
    bounds = marks(quantised(lambda x: pointwise(ops.add(normalised(x), normalised(ops.sin(x))))))
    assert bounds[0][0] == pytest.approx(-(1.0 + 6 * np.sqrt(2)), rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        pointwise,
        lambda x: pointwise(ops.add(x, ops.constant(np.float32(1)))),
        lambda x: pointwise(ops.add(normalised(x), x)),
        lambda x: ops.convolution(
            ops.clamp(x, 0, 6), numbers(3, 3, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]
        ),
        lambda x: ops.group_convolution(
            ops.clamp(x, 0, 6), numbers(3, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]
        ),
    ],
    ids=["unknown", "shifted", "half known", "three by three", "depthwise"],
)
def test_what_is_not_known_or_tells_much_stays_as_it_is(make):
    assert marks(quantised(make)) == [None]


def test_what_two_convolutions_read_is_marked_once():
    def fork(x):
        shared = ops.clamp(x, 0, 6)
        return ops.add(pointwise(shared), pointwise(shared))

    names = [n.get_type_name() for n in quantised(fork).get_ordered_ops()]
    assert names.count("FakeQuantize") == 3  # with the weights of both


def test_the_embedded_detector_finds_the_same_people_in_eight_bits(sample):
    with open_video(sample("bikes.mp4")) as opened:
        frames = [f for f in opened.frames() if f.index % 10 == 5]
    detectors = [ssdlite.SsdLite(eight_bits=eight) for eight in (True, False)]
    shared, off = 0, []
    for ours, trained in zip(*(d.detect(frames) for d in detectors), strict=True):
        sure = trained.confidence >= ssdlite.SsdLite.scores.clear
        if not sure.any():
            continue
        alike = boxes.iou(trained.xyxy[sure], ours.xyxy)
        assert (alike.max(axis=1) > 0.8).all()
        shared += int(sure.sum())
        off += list(np.abs(ours.confidence[alike.argmax(axis=1)] - trained.confidence[sure]))
    assert shared >= 5
    assert np.mean(off) < 0.05
