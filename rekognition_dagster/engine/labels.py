"""Labels: what a detector calls its classes, as the API calls its labels.

Parents, categories and aliases follow the API's published label list where it has the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import supervision as sv

from rekognition_dagster.engine.faces import box_struct
from rekognition_dagster.engine.frame import Moment


@dataclass(frozen=True)
class Label:
    """A label as the API describes it."""

    name: str
    parents: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


_VEHICLES = "Vehicles and Automotive"
_ANIMALS = "Animals and Pets"
_FOOD = "Food and Beverage"
_HOME = "Home and Indoors"
_FURNITURE = "Furniture and Furnishings"
_TECHNOLOGY = "Technology and Computing"
_SPORTS = "Sports"
_APPAREL = "Apparel and Accessories"
_PUBLIC = "Public Safety"
_KITCHEN = "Kitchen and Dining"
_TRANSPORT = ("Transportation", "Vehicle")
_MAMMAL = ("Animal", "Mammal")

_FOODS = ("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "pizza", "donut", "cake")

_KNOWN = {
    "person": Label("Person", (), ("Person Description",), ("Human",)),
    "bicycle": Label("Bicycle", _TRANSPORT, (_VEHICLES,), ("Bike",)),
    "car": Label("Car", _TRANSPORT, (_VEHICLES,), ("Automobile",)),
    "motorcycle": Label("Motorcycle", _TRANSPORT, (_VEHICLES,), ("Motorbike",)),
    "airplane": Label("Airplane", ("Aircraft", *_TRANSPORT), (_VEHICLES,), ("Plane",)),
    "bus": Label("Bus", _TRANSPORT, (_VEHICLES,)),
    "train": Label("Train", _TRANSPORT, (_VEHICLES,)),
    "truck": Label("Truck", _TRANSPORT, (_VEHICLES,)),
    "boat": Label("Boat", _TRANSPORT, (_VEHICLES,)),
    "traffic light": Label("Traffic Light", ("Light",), (_PUBLIC,)),
    "fire hydrant": Label("Fire Hydrant", ("Hydrant",), (_PUBLIC,)),
    "bird": Label("Bird", ("Animal",), (_ANIMALS,)),
    "cat": Label("Cat", (*_MAMMAL, "Pet"), (_ANIMALS,)),
    "dog": Label("Dog", ("Animal", "Canine", "Mammal", "Pet"), (_ANIMALS,)),
    "horse": Label("Horse", _MAMMAL, (_ANIMALS,)),
    "sheep": Label("Sheep", ("Animal", "Livestock", "Mammal"), (_ANIMALS,)),
    "cow": Label("Cow", ("Animal", "Cattle", "Livestock", "Mammal"), (_ANIMALS,)),
    "elephant": Label("Elephant", ("Animal", "Mammal", "Wildlife"), (_ANIMALS,)),
    "bear": Label("Bear", ("Animal", "Mammal", "Wildlife"), (_ANIMALS,)),
    "zebra": Label("Zebra", ("Animal", "Mammal", "Wildlife"), (_ANIMALS,)),
    "giraffe": Label("Giraffe", ("Animal", "Mammal", "Wildlife"), (_ANIMALS,)),
    "backpack": Label("Backpack", ("Bag",), (_APPAREL,)),
    "handbag": Label("Handbag", ("Accessories", "Bag"), (_APPAREL,)),
    "tie": Label("Tie", ("Accessories", "Formal Wear"), (_APPAREL,), ("Necktie",)),
    "sports ball": Label("Sports Ball", ("Ball", "Sport"), (_SPORTS,)),
    "wine glass": Label("Wine Glass", ("Glass",), (_KITCHEN,)),
    "chair": Label("Chair", ("Furniture",), (_FURNITURE,)),
    "couch": Label("Couch", ("Furniture",), (_FURNITURE,)),
    "potted plant": Label("Potted Plant", ("Plant",), (_HOME,)),
    "bed": Label("Bed", ("Furniture",), (_FURNITURE,)),
    "dining table": Label("Dining Table", ("Furniture", "Table"), (_FURNITURE,)),
    "tv": Label("TV", ("Electronics", "Screen"), (_TECHNOLOGY,), ("Television",)),
    "laptop": Label("Laptop", ("Computer", "Electronics", "Pc"), (_TECHNOLOGY,)),
    "cell phone": Label("Mobile Phone", ("Electronics", "Phone"), (_TECHNOLOGY,), ("Cell Phone",)),
    "hot dog": Label("Hot Dog", ("Food",), (_FOOD,)),
    "teddy bear": Label("Teddy Bear", ("Toy",), ("Toys and Gaming",)),
    **{name: Label(name.title(), ("Food",), (_FOOD,)) for name in _FOODS},
    **{name: Label(name.title(), ("Cutlery",), (_KITCHEN,)) for name in ("fork", "knife", "spoon")},
}


def label(name: str) -> Label:
    """The API's label for a class name; an unknown one is written in title case."""
    return _KNOWN.get(name.lower()) or Label(name.title())


def label_rows(
    found: sv.Detections, frame: Moment, names: Mapping[int, str], minimum: float
) -> list[dict[str, Any]]:
    """Lake rows for one frame, one for each label, in order of their names.

    Args:
        found: All detections of the frame.
        names: The detector's class names.
        minimum: Confidence (0 to 1) from which a detection counts.
    """
    if found.confidence is None or found.class_id is None or not len(found):
        return []
    size = np.tile(np.array([frame.width, frame.height], np.float32), 2)
    sure = np.flatnonzero(found.confidence >= minimum)
    instances: dict[str, list[dict[str, Any]]] = {}
    described: dict[str, Label] = {}
    for i in sure[np.argsort(-found.confidence[sure], kind="stable")]:
        what = label(names.get(int(found.class_id[i]), str(found.class_id[i])))
        described[what.name] = what
        box = np.clip(found.xyxy[i] / size, 0, 1).tolist()
        instances.setdefault(what.name, []).append(
            {"bounding_box": box_struct(box), "confidence": float(found.confidence[i]) * 100}
        )
    return [
        {
            "timestamp_ms": frame.timestamp_ms,
            "name": name,
            "confidence": instances[name][0]["confidence"],
            "instances": instances[name],
            "parents": list(described[name].parents),
            "categories": list(described[name].categories),
            "aliases": list(described[name].aliases),
        }
        for name in sorted(instances)
    ]
