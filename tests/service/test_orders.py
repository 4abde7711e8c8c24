"""The orders, selections and aggregations that Start and Get requests can ask for."""

from __future__ import annotations

import pytest
from service.serving import ended, refused


def pages(call, **arguments):
    """All rows of a job, over all pages."""
    rows, token = [], None
    while True:
        page = call(**arguments, **({"NextToken": token} if token else {}))
        rows += next(v for k, v in page.items() if k in ("Persons", "Faces", "Labels"))
        token = page.get("NextToken")
        if not token:
            return rows


def test_by_index_each_persons_elements_come_by_falling_confidence(cloud, rekognition):
    job_id = rekognition.start_person_tracking(Video=cloud.video(rows=9001))["JobId"]
    ended(rekognition, "person_tracking", job_id)
    rows = pages(rekognition.get_person_tracking, JobId=job_id, SortBy="INDEX", MaxResults=999)
    assert len(rows) == 9001
    indexes = [r["Person"]["Index"] for r in rows]
    assert indexes == sorted(indexes)
    assert "Confidence" not in rows[0]["Person"]
    by_time = pages(rekognition.get_person_tracking, JobId=job_id)

    def key(row):
        return (row["Timestamp"], row["Person"]["Index"])

    assert sorted(map(key, rows)) == list(map(key, by_time))
    # The script gives row i of person i % 7 the confidence 60 + 13 i % 40.
    confidences = [60 + (r["Timestamp"] // 40 * 7 + r["Person"]["Index"]) * 13 % 40 for r in rows]
    for index in range(7):
        own = [c for c, i in zip(confidences, indexes, strict=True) if i == index]
        assert own == sorted(own, reverse=True)


def test_a_page_token_is_bound_to_its_job_and_its_order(cloud, rekognition):
    job_id, other = (
        rekognition.start_person_tracking(Video=cloud.video(rows=50))["JobId"] for _ in range(2)
    )
    for job in (job_id, other):
        ended(rekognition, "person_tracking", job)
    token = rekognition.get_person_tracking(JobId=job_id, MaxResults=10)["NextToken"]
    assert len(token) <= 255
    changed = ("A" if token[0] != "A" else "B") + token[1:]
    for arguments in (
        {"JobId": other, "NextToken": token},
        {"JobId": job_id, "NextToken": token, "SortBy": "INDEX"},
        {"JobId": job_id, "NextToken": changed},
        {"JobId": job_id, "NextToken": token[:-1]},
        {"JobId": job_id, "NextToken": "ö"},
        {"JobId": job_id, "NextToken": "page 2"},
    ):
        code, _, status = refused(rekognition.get_person_tracking, **arguments)
        assert (code, status) == ("InvalidPaginationTokenException", 400)
    second = rekognition.get_person_tracking(JobId=job_id, NextToken=token, MaxResults=10)
    assert second["Persons"][0]["Timestamp"] == 40


def test_an_empty_token_is_the_first_page_and_more_than_1000_results_are_1000(cloud, rekognition):
    job_id = rekognition.start_face_detection(Video=cloud.video(rows=1001))["JobId"]
    ended(rekognition, "face_detection", job_id)
    page = rekognition.get_face_detection(JobId=job_id, NextToken="", MaxResults=5000)
    assert len(page["Faces"]) == 1000
    last = rekognition.get_face_detection(JobId=job_id, NextToken=page["NextToken"])
    assert len(last["Faces"]) == 1
    assert "NextToken" not in last


@pytest.mark.parametrize(("asked", "smile"), [(None, False), ("DEFAULT", False), ("ALL", True)])
def test_face_attributes_are_those_asked_for(cloud, rekognition, asked, smile):
    more = {"FaceAttributes": asked} if asked else {}
    job_id = rekognition.start_face_detection(Video=cloud.video(rows=2), **more)["JobId"]
    faces = ended(rekognition, "face_detection", job_id)["Faces"]
    assert ("Smile" in faces[1]["Face"]) is smile
    assert set(faces[0]["Face"]) == {"BoundingBox", "Confidence", "Landmarks", "Pose", "Quality"}


def test_faces_in_video_never_tell_occlusion_or_eye_direction(cloud, rekognition):
    video = cloud.video(rows=2)
    job_id = rekognition.start_face_detection(Video=video, FaceAttributes="ALL")["JobId"]
    face = ended(rekognition, "face_detection", job_id)["Faces"][1]["Face"]
    assert "Smile" in face
    assert "FaceOccluded" not in face


STREET = {
    0: {"person": [0.99, 0.6], "car": [0.74], "dog": [0.3]},
    200: {"person": [0.98], "bus": [0.8, 0.55], "car": [0.7]},
    400: {"car": [0.72], "truck": [0.4], "dog": [0.3]},
}
"""A scene: by time in ms and by class, the score of each instance."""


def labels(cloud, rekognition, scene=STREET, get=None, **start):
    job_id = rekognition.start_label_detection(Video=cloud.video(scene=scene), **start)["JobId"]
    return ended(rekognition, "label_detection", job_id, **(get or {}))


def names(page):
    return {label["Label"]["Name"] for label in page["Labels"]}


def label_at(page, time_ms, name):
    (found,) = (
        x["Label"]
        for x in page["Labels"]
        if (x["Timestamp"], x["Label"]["Name"]) == (time_ms, name)
    )
    return found


VEHICLES = {"Car", "Bus", "Vehicle", "Transportation"}
ANIMALS = {"Dog", "Animal", "Canine", "Mammal", "Pet"}


def test_labels_below_50_percent_are_left_out_unless_asked_for(cloud, rekognition):
    page = labels(cloud, rekognition)
    assert names(page) == {"Person"} | VEHICLES
    assert page["LabelModelVersion"]
    assert page["GetRequestMetadata"] == {"SortBy": "TIMESTAMP", "AggregateBy": "TIMESTAMPS"}
    car = label_at(page, 0, "Car")
    assert car["Parents"] == [{"Name": "Transportation"}, {"Name": "Vehicle"}]
    assert car["Aliases"] == [{"Name": "Automobile"}]
    assert car["Categories"] == [{"Name": "Vehicles and Automotive"}]
    assert car["Instances"][0]["BoundingBox"]["Width"] == pytest.approx(0.2)
    everything = {"Person", "Truck"} | VEHICLES | ANIMALS
    assert names(labels(cloud, rekognition, MinConfidence=10)) == everything


def test_min_confidence_holds_for_labels_their_instances_and_their_ancestors(cloud, rekognition):
    page = labels(cloud, rekognition, MinConfidence=70)
    assert len(label_at(page, 0, "Person")["Instances"]) == 1
    assert label_at(page, 0, "Vehicle")["Confidence"] == 74.0
    assert label_at(page, 200, "Vehicle")["Confidence"] == 80.0
    page = labels(cloud, rekognition, MinConfidence=75)
    found = {(x["Timestamp"], x["Label"]["Name"]) for x in page["Labels"]}
    vehicles = {(200, name) for name in ("Bus", "Transportation", "Vehicle")}
    assert found == {(0, "Person"), (200, "Person")} | vehicles


def test_every_ancestor_is_a_label_without_instances(cloud, rekognition):
    page = labels(cloud, rekognition, MinConfidence=10)
    assert [x["Label"]["Name"] for x in page["Labels"] if x["Timestamp"] == 400] == [
        "Animal",
        "Canine",
        "Car",
        "Dog",
        "Mammal",
        "Pet",
        "Transportation",
        "Truck",
        "Vehicle",
    ]
    vehicle = label_at(page, 400, "Vehicle")
    assert vehicle["Instances"] == []
    assert vehicle["Parents"] == [{"Name": "Transportation"}]
    assert vehicle["Categories"] == [{"Name": "Vehicles and Automotive"}]
    assert vehicle["Confidence"] == 72.0
    for label in page["Labels"]:
        parents = {parent["Name"] for parent in label["Label"]["Parents"]}
        same_time = {
            x["Label"]["Name"] for x in page["Labels"] if x["Timestamp"] == label["Timestamp"]
        }
        assert parents <= same_time


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"LabelInclusionFilters": ["Car", "Boat"]}, {"Car"}),
        ({"LabelInclusionFilters": ["Vehicle"]}, {"Vehicle"}),
        ({"LabelExclusionFilters": ["Car"]}, {"Person", "Bus", "Vehicle", "Transportation"}),
        ({"LabelExclusionFilters": ["Vehicle", "Transportation"]}, {"Person", "Car", "Bus"}),
        ({"LabelCategoryInclusionFilters": ["Person Description"]}, {"Person"}),
        ({"LabelCategoryInclusionFilters": ["Vehicles and Automotive"]}, VEHICLES),
        ({"LabelCategoryExclusionFilters": ["Person Description"]}, VEHICLES),
        ({"LabelCategoryExclusionFilters": ["Vehicles and Automotive"]}, {"Person"}),
        (
            {
                "LabelInclusionFilters": ["Person"],
                "LabelCategoryInclusionFilters": ["Vehicles and Automotive"],
            },
            {"Person"} | VEHICLES,
        ),
        (
            {
                "LabelInclusionFilters": ["Person"],
                "LabelCategoryInclusionFilters": ["Vehicles and Automotive"],
                "LabelExclusionFilters": ["Person", "Transportation"],
            },
            {"Car", "Bus", "Vehicle"},
        ),
        (
            {
                "LabelInclusionFilters": ["Person", "Car"],
                "LabelCategoryExclusionFilters": ["Vehicles and Automotive"],
            },
            {"Person"},
        ),
        ({"LabelInclusionFilters": ["car"]}, set()),
    ],
)
def test_labels_are_filtered_by_name_and_category(cloud, rekognition, filters, left):
    page = labels(cloud, rekognition, Settings={"GeneralLabels": filters})
    assert names(page) == left


def test_labels_by_name_come_in_groups_by_time(cloud, rekognition):
    page = labels(cloud, rekognition, get={"SortBy": "NAME"})
    keys = [(x["Label"]["Name"], x["Timestamp"]) for x in page["Labels"]]
    assert keys == sorted(keys)
    assert [time for name, time in keys if name == "Vehicle"] == [0, 200, 400]
    confidences = [x["Label"]["Confidence"] for x in page["Labels"] if x["Label"]["Name"] == "Car"]
    assert confidences == [74.0, 70.0, 72.0]
    job_id = page["JobId"]
    rows = pages(rekognition.get_label_detection, JobId=job_id, SortBy="NAME", MaxResults=3)
    assert [(x["Label"]["Name"], x["Timestamp"]) for x in rows] == keys


def spans(page):
    """When each label's segments start and end."""
    found = {}
    for x in page["Labels"]:
        assert x["Timestamp"] == x["StartTimestampMillis"]
        assert x["DurationMillis"] == x["EndTimestampMillis"] - x["StartTimestampMillis"]
        assert "Instances" not in x["Label"]
        confidence = pytest.approx(x["Label"]["Confidence"])
        span = (x["StartTimestampMillis"], x["EndTimestampMillis"], confidence)
        found.setdefault(x["Label"]["Name"], []).append(span)
    return found


TRAFFIC = {
    **{t: {"car": [0.8 if t == 400 else 0.7]} for t in range(0, 1001, 200)},
    **{t: {"bus": [0.9 if t == 1400 else 0.85]} for t in range(1200, 2001, 200)},
    2200: {"truck": [0.3]},
    4000: {"car": [0.6]},
}


def test_labels_by_segments_tell_from_when_to_when_and_no_instances(cloud, rekognition):
    page = labels(cloud, rekognition, TRAFFIC, {"AggregateBy": "SEGMENTS"})
    assert page["GetRequestMetadata"] == {"SortBy": "TIMESTAMP", "AggregateBy": "SEGMENTS"}
    starts = [x["Timestamp"] for x in page["Labels"]]
    assert starts == sorted(starts)
    found = spans(page)
    assert found["Car"] == [(0, 1000, 80.0), (4000, 4000, 60.0)]
    assert found["Bus"] == [(1200, 2000, 90.0)]
    car = next(x["Label"] for x in page["Labels"] if x["Label"]["Name"] == "Car")
    assert car["Parents"] == [{"Name": "Transportation"}, {"Name": "Vehicle"}]


def test_an_ancestors_segment_lasts_while_any_of_its_descendants_is_there(cloud, rekognition):
    found = spans(labels(cloud, rekognition, TRAFFIC, {"AggregateBy": "SEGMENTS"}))
    assert set(found) == VEHICLES
    for ancestor in ("Vehicle", "Transportation"):
        assert found[ancestor] == [(0, 2000, 90.0), (4000, 4000, 60.0)]
    get = {"AggregateBy": "SEGMENTS", "SortBy": "NAME"}
    page = labels(cloud, rekognition, TRAFFIC, get, MinConfidence=80)
    assert [(x["Label"]["Name"], x["Timestamp"]) for x in page["Labels"]] == [
        ("Bus", 1200),
        ("Car", 400),
        ("Transportation", 400),
        ("Vehicle", 400),
    ]
    assert spans(page)["Vehicle"] == [(400, 2000, 90.0)]
