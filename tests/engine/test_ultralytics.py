"""The detector ``ultralytics:``, under Ultralytics itself: ``make ultralytics`` runs this."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from rekognition_dagster.engine import analyze, open_detector
from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors.ultralytics import UltralyticsDetector, _half
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.errors import ModelError

ultralytics = pytest.importorskip("ultralytics", reason="make ultralytics runs this")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pt file as Ultralytics saves one: YOLO11n, untrained, and sure of everything."""
    torch.manual_seed(0)
    model = ultralytics.YOLO("yolo11n.yaml", task="detect")
    head = model.model.model[-1]
    for level in head.cv3:
        torch.nn.init.normal_(level[-1].weight, std=3.0)
        torch.nn.init.constant_(level[-1].bias, 0.0)
    names = {i: f"thing {i}" for i in range(80)} | {0: "Person"}
    model.model.names = names
    path = tmp_path_factory.mktemp("weights") / "untrained.pt"
    model.save(str(path))
    return path


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    random = np.random.default_rng(1)
    coarse = random.integers(0, 255, (5, 12, 16, 3), np.uint8)
    pictures = coarse.repeat(16, axis=1).repeat(16, axis=2)  # 256x192
    return [Frame.from_image(p, i, 40 * i) for i, p in enumerate(pictures)]


def same(ours, theirs) -> bool:
    rows = theirs.boxes.data.float().numpy()
    return (
        len(rows) > 0
        and np.allclose(ours.xyxy, rows[:, :4], atol=0.01)
        and np.allclose(ours.confidence, rows[:, 4], atol=1e-4)
        and (ours.class_id == rows[:, 5]).all()
    )


def test_it_finds_what_ultralytics_finds(weights, frames):
    detector = open_detector(f"ultralytics:{weights}")
    assert open_detector(f"ultralytics:{weights}") is detector
    assert detector.labels[0] == "person"
    assert detector.labels[3] == "thing 3"
    alone = ultralytics.YOLO(str(weights))
    found = list(detector.detect(frames))
    assert len(found) == len(frames)
    for frame, ours in zip(frames, found, strict=True):
        bgr = np.ascontiguousarray(frame.image[:, :, ::-1])
        (theirs,) = alone.predict(bgr, conf=detector.scores.noise, verbose=False)
        assert same(ours, theirs)


@pytest.mark.parametrize("whole", [False, True])
def test_batches_keep_the_order_and_the_last_one_may_be_short(weights, frames, whole):
    one_by_one = list(open_detector(f"ultralytics:{weights}").detect(frames))
    detector = UltralyticsDetector(str(weights))
    detector._batch, detector._whole_batches = 2, whole
    found = list(detector.detect(frames))
    assert len(found) == 5
    for ours, alone in zip(found, one_by_one, strict=True):
        assert len(ours) == len(alone)
        assert np.allclose(ours.xyxy, alone.xyxy, atol=0.05)


def test_half_precision_is_asked_for_as_this_release_has_it(weights, frames):
    detector = UltralyticsDetector(str(weights))
    detector._options |= _half(ultralytics)
    assert len(list(detector.detect(frames[:1]))) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_it_works_in_half_precision_and_batches(weights, frames):
    detector = UltralyticsDetector(str(weights))
    found = list(detector.detect(frames * 8))
    assert len(found) == len(frames) * 8
    opened = detector._model.predictor.model
    assert opened.device.type == "cuda"
    assert opened.fp16
    assert detector._batch > 1


def test_a_video_is_analysed_with_it(weights, make_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video = make_video(times_ms=range(0, 400, 40))
    before = sorted(tmp_path.iterdir())
    labels: list[dict] = []
    analyze(
        video,
        {"person_tracking": [].extend, "label_detection": labels.extend},
        detector=f"ultralytics:{weights}",
    )
    assert labels
    assert {row["timestamp_ms"] for row in labels} <= set(range(0, 400, 40))
    assert sorted(tmp_path.iterdir()) == before  # nothing is strewn about


def test_another_file_under_the_same_name_is_another_detector(weights, tmp_path):
    path = tmp_path / "w.pt"
    shutil.copy(weights, path)
    first = open_detector(f"ultralytics:{path}")
    os.utime(path, ns=(1, 1))
    assert open_detector(f"ultralytics:{path}") is not first


def test_it_tells_nobody_and_installs_nothing(weights):
    code = (
        "import sys\n"
        "from rekognition_dagster.engine import open_detector\n"
        "open_detector('ultralytics:' + sys.argv[1])\n"
        "from ultralytics.utils import AUTOINSTALL\n"
        "from ultralytics.utils.events import events\n"
        "print(events.enabled, AUTOINSTALL)"
    )
    command = [sys.executable, "-c", code, str(weights)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO_", "PYTEST_"))}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "False False"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/nowhere/yolo.pt", "there is no model /nowhere/yolo.pt"),
        ("yolo11n.yaml", "no weights"),
        ("text.pt", "cannot open"),
    ],
)
def test_what_is_no_model_is_told(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ModelError, match=said):
        open_detector(f"ultralytics:{name}")


def test_a_classifier_is_no_detector(tmp_path):
    path = tmp_path / "classifier.pt"
    ultralytics.YOLO("yolo11n-cls.yaml").save(str(path))
    with pytest.raises(ModelError, match="task classify"):
        open_detector(f"ultralytics:{path}")


def test_on_the_same_weights_both_runtimes_find_the_same_people(shared_file):
    folder = shared_file("models/yolo11n_int8_openvino_model")
    with open_video(shared_file("videos/vtest.avi")) as opened:
        frame = next(iter(opened.frames()))
    found = []
    for kind in ("ultralytics", "openvino"):
        detector = open_detector(f"{kind}:{folder}")
        (all_found,) = detector.detect([frame])
        sure = np.asarray(all_found.confidence) > 0.4
        found.append(all_found.xyxy[sure & (all_found.class_id == 0)])
    theirs, ours = found
    assert len(ours) == len(theirs) >= 3
    assert (sv.box_iou_batch(ours, theirs).max(axis=1) > 0.9).all()
