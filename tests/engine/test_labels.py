"""Labels are called, grouped and ordered as the API does."""

from __future__ import annotations

import numpy as np

from rekognition_dagster.engine.detectors import coco
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.labels import label, label_rows

from .scripted import found


def test_every_coco_class_has_a_label_in_the_apis_writing():
    names = [label(name).name for name in coco.NAMES]
    assert len(set(names)) == len(coco.NAMES) == 80
    assert all(name[0].isupper() for name in names)
    assert label("car").parents == ("Transportation", "Vehicle")
    assert label("person").categories == ("Person Description",)
    assert label("forklift truck").name == "Forklift Truck"


def test_a_frame_gives_one_row_a_label_with_its_instances_best_first():
    frame = Frame.from_image(np.zeros((100, 200, 3), np.uint8), timestamp_ms=80)
    boxes = [(0, 0, 20, 50), (100, 0, 120, 50), (50, 50, 100, 100), (0, 0, 10, 10)]
    things = found(*boxes, scores=[0.6, 0.8, 0.7, 0.2], classes=[0, 0, 16, 0])
    dog, person = label_rows(things, frame, dict(enumerate(coco.NAMES)), minimum=0.5)
    assert (dog["name"], person["name"]) == ("Dog", "Person")
    assert [round(i["confidence"]) for i in person["instances"]] == [80, 60]
    assert round(person["confidence"]) == 80
    assert person["timestamp_ms"] == 80
    assert person["instances"][0]["bounding_box"]["left"] == 0.5
    assert dog["parents"] == ["Animal", "Canine", "Mammal", "Pet"]


def test_a_frame_without_anything_sure_gives_no_row():
    frame = Frame.from_image(np.zeros((10, 10, 3), np.uint8))
    assert label_rows(found(), frame, {0: "person"}, 0.5) == []
    assert label_rows(found((0, 0, 5, 5), scores=[0.3]), frame, {0: "person"}, 0.5) == []
