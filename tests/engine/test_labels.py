"""Labels and their ancestors are named, grouped and ordered as the API does."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from rekognition_dagster.engine.detectors import coco
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.labels import Label, label, label_rows, taxonomy_rows
from rekognition_dagster.lake.lake import Lake
from rekognition_dagster.operations import LABEL_DETECTION
from rekognition_dagster.videos import Video

from .scripted import found

NAMES = dict(enumerate(coco.NAMES))
FRAME = Frame.from_image(np.zeros((100, 200, 3), np.uint8), timestamp_ms=80)

# Source: AmazonRekognitionLabelCategories_v3.0, of the published label list.
CATEGORIES = frozenset(
    """
    Actions;Animals and Pets;Apparel and Accessories;Beauty and Personal Care;
    Buildings and Architecture;Colors and Visual Composition;Damage Detection;Education;
    Events and Attractions;Everyday Objects;Expressions and Emotions;Food and Beverage;
    Furniture and Furnishings;Health and Fitness;Hobbies and Interests;Home and Indoors;
    Home Appliances;Kitchen and Dining;Materials;Medical;Nature and Outdoors;
    Offices and Workspaces;Patterns and Shapes;Performing Arts;Person Description;
    Plants and Flowers;Popular Landmarks;Profession;Public Safety;Religion;Sports;
    Symbols and Flags;Technology and Computing;Text and Documents;Tools and Machinery;
    Toys and Gaming;Transport and Logistics;Travel and Adventure;Vehicles and Automotive;
    Weapons and Military
    """.replace("\n", "")
    .replace(";    ", ";")
    .strip()
    .split(";")
)


def seen(**scores: float) -> list[dict]:
    """The rows of a frame with one instance of each class; underscores stand for spaces."""
    classes = [coco.NAMES.index(name.replace("_", " ")) for name in scores]
    things = found(*[(0, 0, 20, 50)] * len(scores), scores=list(scores.values()), classes=classes)
    return label_rows(things, FRAME, NAMES, minimum=0.3)


@pytest.fixture(scope="module")
def taxonomy() -> dict[str, dict[str, str]]:
    rows = taxonomy_rows()
    assert len({row["label"] for row in rows}) == len(rows)
    return {row["label"]: row for row in rows}


def cell(row: dict[str, str], column: str) -> list[str]:
    return row[column].split("; ") if row[column] else []


def test_the_taxonomy_has_every_coco_class_once(taxonomy):
    classes = [row["class"] for row in taxonomy.values() if row["class"]]
    assert sorted(classes) == sorted(coco.NAMES)


def test_every_ancestor_is_a_label_and_ancestors_are_complete(taxonomy):
    for name, row in taxonomy.items():
        parents = cell(row, "parents")
        assert parents == sorted(set(parents))
        assert name not in parents
        for parent in parents:
            assert set(cell(taxonomy[parent], "parents")) < set(parents), (name, parent)


def test_every_label_but_those_of_classes_is_an_ancestor(taxonomy):
    ancestors = {parent for row in taxonomy.values() for parent in cell(row, "parents")}
    assert {name for name, row in taxonomy.items() if not row["class"]} <= ancestors


def test_categories_are_those_of_the_api(taxonomy):
    assert len(CATEGORIES) == 40
    for name, row in taxonomy.items():
        categories = cell(row, "categories")
        assert categories, name
        assert set(categories) <= CATEGORIES, name


def test_every_label_says_where_it_is_from(taxonomy):
    assert {row["label_source"] for row in taxonomy.values()} == {"published", "ours"}
    sources = {row["parents_source"] for row in taxonomy.values()}
    assert sources == {"response", "documentation", "inferred"}


def test_names_and_aliases_are_unique(taxonomy):
    names = list(taxonomy) + [a for row in taxonomy.values() for a in cell(row, "aliases")]
    assert len({name.casefold() for name in names}) == len(names)


def test_every_label_is_found_by_its_class_its_name_and_its_aliases(taxonomy):
    for name, row in taxonomy.items():
        for text in [name, name.upper(), row["class"], *cell(row, "aliases")]:
            if text:
                assert label(text).name == name
    assert label("traffic_light") == label("traffic light")


def test_labels_are_as_published_responses_have_them():
    assert label("car") == Label(
        "Car", ("Transportation", "Vehicle"), ("Vehicles and Automotive",), ("Automobile",)
    )
    assert label("person") == Label("Person", (), ("Person Description",), ("Human",))
    assert label("tv").parents == (
        "Computer Hardware",
        "Electronics",
        "Hardware",
        "Monitor",
        "Screen",
    )
    assert label("fire hydrant") == Label("Fire Hydrant", ("Hydrant",), ("Public Safety",))
    assert label("Hydrant") == Label("Hydrant", (), ("Tools and Machinery",))
    assert label("stop sign").name == "Stopsign"


def test_a_class_that_the_taxonomy_lacks_is_a_label_in_title_case():
    assert label("forklift truck") == label("forklift_truck") == Label("Forklift Truck")
    assert label("driver's seat").name == "Driver's Seat"
    things = found((0, 0, 20, 50), scores=[0.8], classes=[3])
    (row,) = label_rows(things, FRAME, {3: "forklift truck"}, 0.5)
    assert (row["name"], row["parents"], row["categories"]) == ("Forklift Truck", [], [])
    (row,) = label_rows(things, FRAME, {}, 0.5)
    assert row["name"] == "3"


def test_a_class_has_its_instances_best_first():
    boxes = [(0, 0, 20, 50), (100, 0, 120, 50), (50, 50, 100, 100), (0, 0, 10, 10)]
    things = found(*boxes, scores=[0.6, 0.8, 0.7, 0.2], classes=[0, 0, 16, 0])
    rows = {row["name"]: row for row in label_rows(things, FRAME, NAMES, minimum=0.5)}
    person, dog = rows["Person"], rows["Dog"]
    assert [round(i["confidence"]) for i in person["instances"]] == [80, 60]
    assert round(person["confidence"]) == 80
    assert person["timestamp_ms"] == 80
    assert person["instances"][0]["bounding_box"] == {
        "left": 0.5,
        "top": 0.0,
        "width": pytest.approx(0.1),
        "height": 0.5,
    }
    assert dog["parents"] == ["Animal", "Canine", "Mammal", "Pet"]


def test_each_ancestor_is_a_label_of_its_own_without_instances():
    rows = {row["name"]: row for row in seen(dog=0.7)}
    assert sorted(rows) == ["Animal", "Canine", "Dog", "Mammal", "Pet"]
    assert [name for name, row in rows.items() if row["instances"]] == ["Dog"]
    canine = rows["Canine"]
    assert canine["timestamp_ms"] == 80
    assert canine["parents"] == ["Animal", "Mammal"]
    assert canine["categories"] == ["Animals and Pets"]
    assert label_rows(found((0, 0, 9, 9)), FRAME, {0: "person"}, 0.5)[0]["aliases"] == ["Human"]


def test_an_ancestors_confidence_is_its_surest_descendants():
    rows = {row["name"]: row["confidence"] for row in seen(bus=0.5, car=0.9, airplane=0.6)}
    assert rows == pytest.approx(
        {"Airplane": 60, "Aircraft": 60, "Bus": 50, "Car": 90, "Transportation": 90, "Vehicle": 90}
    )


@pytest.mark.parametrize(("vehicle", "car"), [(0.9, 0.6), (0.6, 0.9)])
def test_a_class_that_is_also_an_ancestor_is_one_label_with_its_own_instances(vehicle, car):
    things = found((0, 0, 9, 9), (0, 0, 9, 9), scores=[vehicle, car], classes=[0, 1])
    rows = label_rows(things, FRAME, {0: "vehicle", 1: "car"}, 0.5)
    assert [row["name"] for row in rows] == ["Car", "Transportation", "Vehicle"]
    assert rows[2]["confidence"] == pytest.approx(90)
    assert [i["confidence"] for i in rows[2]["instances"]] == [pytest.approx(100 * vehicle)]


def test_classes_of_one_label_share_its_instances():
    things = found((0, 0, 9, 9), (0, 0, 9, 9), scores=[0.6, 0.9], classes=[0, 1])
    (row,) = label_rows(things, FRAME, {0: "person", 1: "human"}, 0.5)
    assert [i["confidence"] for i in row["instances"]] == pytest.approx([90, 60])


def test_confidences_are_percentages_in_single_precision():
    things = found((0, 0, 9, 9), scores=[0.9])
    (row,) = label_rows(things, FRAME, {0: "person"}, 0.5)
    assert row["confidence"] == row["instances"][0]["confidence"] == 90.0


def test_a_detection_at_the_threshold_counts():
    assert label_rows(found((0, 0, 9, 9), scores=[0.5]), FRAME, {0: "person"}, 0.5)


def test_rows_share_nothing_that_can_change():
    first, second = seen(dog=0.7), seen(dog=0.7)
    expected = pickle.dumps(second)
    for row in first:
        for name in ("instances", "parents", "categories", "aliases"):
            row[name].clear()
    assert pickle.dumps(second) == expected
    assert seen(dog=0.7) == second


def test_a_frame_without_a_sure_detection_has_no_row():
    assert label_rows(found(), FRAME, {0: "person"}, 0.5) == []
    assert label_rows(found((0, 0, 5, 5), scores=[0.3]), FRAME, {0: "person"}, 0.5) == []


def test_the_lakes_files_are_sorted_by_time_and_name(tmp_path):
    frames = [seen(dog=0.7, car=0.9), [{**row, "timestamp_ms": 120} for row in seen(person=0.8)]]
    video = Video("cameras", "2026-01-31/a.mp4", etag="e", size=7)
    lake = Lake(str(tmp_path))
    with lake.writer(LABEL_DETECTION.table, video) as writer:
        for rows in frames:
            writer.write([{**row, "video": video.uri, "job_id": "1"} for row in rows])
    (file,) = tmp_path.rglob("*.parquet")
    table = pq.read_table(file, columns=["timestamp_ms", "name", "instances"]).to_pylist()
    keys = [(row["timestamp_ms"], row["name"]) for row in table]
    assert keys == sorted(keys)
    assert len(keys) == 9
    assert [row["name"] for row in table if row["instances"]] == ["Car", "Dog", "Person"]
