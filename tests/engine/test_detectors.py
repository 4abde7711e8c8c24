"""Specs name detectors, shapes tell a network's family, boxes are in the frame's pixels."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from rekognition_dagster.engine import open_detector
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.errors import ModelError

from . import scripted

OWN = scripted.__name__


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("yolo", "unknown detector 'yolo'.*openvino:PATH"),
        ("openvino:", "unknown detector"),
        ("openvino:/nowhere.xml", "no model /nowhere.xml"),
        ("onnx:/nowhere.onnx", "no model"),
        ("ultralytics:yolo11n.pt", r"rekognition-dagster\[ultralytics\]"),
        ("no.such.module:Class", "No module named"),
        (f"{OWN}:Missing", "Missing"),
        (f"{OWN}:NoDetector", "needs labels, scores and detect"),
        (f"{OWN}:Unmakeable", "no licence"),
        ("os;import:x", "unknown detector"),
    ],
)
def test_a_bad_spec_says_what_to_write(spec, said):
    if spec.startswith("ultralytics") and find_spec("ultralytics"):
        pytest.skip("the extra is installed")
    with pytest.raises(ModelError, match=said):
        open_detector(spec)


def test_ones_own_detector_is_named_by_its_import_path():
    assert isinstance(open_detector(f"{OWN}:Walkers"), scripted.Walkers)


def test_files_of_the_wrong_kind_are_told(tmp_path):
    text = tmp_path / "model.onnx"
    text.write_text("no protobuf")
    with pytest.raises(ModelError, match="no model that OpenVINO can read"):
        open_detector(f"onnx:{text}")
    with pytest.raises(ModelError, match=r"no \.xml file"):
        open_detector(f"openvino:{text}")
    with pytest.raises(ModelError, match=r"holds 0 \.xml files"):
        open_detector(f"openvino:{tmp_path}")


def test_real_networks_find_people(shared_file):
    video = shared_file("videos/vtest.avi")
    with open_video(video) as opened:
        frame = next(iter(opened.frames()))
    for spec in (
        f"openvino:{shared_file('models/yolo11n_int8_openvino_model')}",
        f"onnx:{shared_file('models/yolox_nano_416.onnx')}",
    ):
        detector = open_detector(spec)
        (found,) = detector.detect([frame])
        sure = np.asarray(found.confidence) > detector.scores.sure
        assert 3 <= np.sum(sure & (found.class_id == 0)) <= 12


def test_openvino_reports_nothing_to_its_makers():
    code = (
        "import sys; from rekognition_dagster.engine.detectors import efficientdet, inference\n"
        "import openvino.tools.ovc\n"
        "print([m for m in sys.modules if m.startswith('openvino_telemetry') and sys.modules[m]])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
