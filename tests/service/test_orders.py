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


def labels(cloud, rekognition, get=None, **start):
    job_id = rekognition.start_label_detection(Video=cloud.video(rows=30), **start)["JobId"]
    return ended(rekognition, "label_detection", job_id, **(get or {}))


def names(page):
    return {label["Label"]["Name"] for label in page["Labels"]}


def test_labels_below_50_percent_are_left_out_unless_asked_for(cloud, rekognition):
    page = labels(cloud, rekognition)
    assert names(page) == {"Person", "Car"}
    assert page["LabelModelVersion"]
    assert page["GetRequestMetadata"] == {"SortBy": "TIMESTAMP", "AggregateBy": "TIMESTAMPS"}
    car = next(x["Label"] for x in page["Labels"] if x["Label"]["Name"] == "Car")
    assert car["Parents"] == [{"Name": "Vehicle"}, {"Name": "Transportation"}]
    assert car["Aliases"] == [{"Name": "Automobile"}]
    assert car["Categories"] == [{"Name": "Vehicles and Automotive"}]
    assert car["Instances"][0]["BoundingBox"]["Width"] == pytest.approx(0.2)
    assert names(labels(cloud, rekognition, MinConfidence=10)) == {"Person", "Car", "Dog"}
    assert names(labels(cloud, rekognition, MinConfidence=90)) == {"Person"}


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"LabelInclusionFilters": ["Car", "Boat"]}, {"Car"}),
        ({"LabelExclusionFilters": ["Car"]}, {"Person"}),
        ({"LabelCategoryInclusionFilters": ["Person Description"]}, {"Person"}),
        ({"LabelCategoryExclusionFilters": ["Person Description"]}, {"Car"}),
        (
            {
                "LabelInclusionFilters": ["Person"],
                "LabelCategoryInclusionFilters": ["Vehicles and Automotive"],
                "LabelExclusionFilters": ["Person"],
            },
            {"Car"},
        ),
    ],
)
def test_labels_are_filtered_by_name_and_category(cloud, rekognition, filters, left):
    page = labels(cloud, rekognition, Settings={"GeneralLabels": filters})
    assert names(page) == left


def test_labels_by_name_come_in_groups_by_falling_confidence(cloud, rekognition):
    rows = labels(cloud, rekognition, {"SortBy": "NAME"})["Labels"]
    keys = [(x["Label"]["Name"], -x["Label"]["Confidence"]) for x in rows]
    assert keys == sorted(keys)
    assert len(rows) == 20


def test_labels_by_segments_tell_from_when_to_when_and_no_instances(cloud, rekognition):
    page = labels(cloud, rekognition, {"AggregateBy": "SEGMENTS"})
    assert page["GetRequestMetadata"] == {"SortBy": "TIMESTAMP", "AggregateBy": "SEGMENTS"}
    car, person = sorted(page["Labels"], key=lambda x: x["Label"]["Name"])
    assert person["Label"]["Name"] == "Person"
    assert (car["Timestamp"], car["StartTimestampMillis"], car["EndTimestampMillis"]) == (
        0,
        0,
        1800,
    )
    assert car["DurationMillis"] == 1800
    assert car["Label"]["Confidence"] == 74.0
    assert "Instances" not in car["Label"]
