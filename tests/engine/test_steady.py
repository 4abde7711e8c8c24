"""A face that is followed has one age and one gender."""

from __future__ import annotations

import numpy as np
import pytest

from rekognition_dagster.engine import analyze, open_workers
from rekognition_dagster.engine.faces import (
    DETAILED,
    FACE,
    Follower,
    Steadier,
    SteadyFaces,
    face_struct,
)

DETAILS = ("face-yunet", "face-landmarker", "face-age", "face-gender", "face-emotion")


def faces_at(time, *middles, female=0.9, age=30.0, spread=7.0):
    records = np.zeros(len(middles), DETAILED)
    for record, middle in zip(records, middles, strict=True):
        record["timestamp_ms"] = time
        record["box"] = middle - 0.03, 0.22, middle + 0.03, 0.32
        record["female"], record["age"] = female, (age, spread)
    return records


def test_a_face_keeps_its_number_while_it_moves_and_a_new_one_gets_another():
    follower = Follower()
    paths = [(0.2 + 0.01 * i, 0.8 - 0.01 * i) for i in range(20)]
    numbers = [follower.update(faces_at(40 * i, *path)).tolist() for i, path in enumerate(paths)]
    assert numbers == [[0, 1]] * 20
    assert follower.update(faces_at(800, 0.5)).tolist() == [2]
    assert follower.update(faces_at(840)).tolist() == []


def test_one_whim_does_not_change_what_most_frames_say():
    steadier = Steadier()
    rows = [*[(0.95, 30.0)] * 9, (0.2, 60.0)]
    for female, age in rows:
        steadier.add([7], faces_at(0, 0.5, female=female, age=age))
    (steady,) = steadier.steadied([7], faces_at(0, 0.5, female=0.2, age=60.0))
    assert steady["female"] > 0.8
    assert steady["age"].tolist() == pytest.approx([33, 7])


def test_surer_frames_weigh_more():
    steadier = Steadier()
    for female, age, spread in ((0.95, 30.0, 6.0), *[(0.45, 50.0, 24.0)] * 4):
        steadier.add([0], faces_at(0, 0.5, female=female, age=age, spread=spread))
    (steady,) = steadier.steadied([0], faces_at(0, 0.5))
    assert steady["female"] > 0.9
    assert steady["age"][0] == pytest.approx(34, abs=0.1)


def test_people_do_not_mix_and_an_unknown_frame_gets_what_the_others_say():
    steadier = Steadier()
    for time in range(5):
        two = faces_at(time, 0.2, 0.8)
        two["female"], two["age"][:, 0] = (0.9, 0.1), (20, 60)
        steadier.add([0, 1], two)
    unknown = faces_at(9, 0.2, 0.8, 0.5, female=np.nan, age=np.nan, spread=np.nan)
    steady = steadier.steadied([0, 1, 2], unknown)
    assert steady["female"][:2] == pytest.approx([0.9, 0.1], abs=0.01)
    assert steady["age"][:2, 0] == pytest.approx([20, 60])
    assert np.isnan(steady["female"][2])
    structs = [face_struct(record) for record in steady]
    assert [s.get("gender", {}).get("value") for s in structs] == ["Female", "Male", None]
    assert "age_range" not in structs[2]


def test_lean_records_pass_through():
    lean = np.zeros(2, FACE)
    steadier = Steadier()
    steadier.add([0, 0], lean)
    assert steadier.steadied([0, 0], lean) is lean


def test_a_videos_faces_come_back_in_order_each_with_its_runs_age():
    steady = SteadyFaces()
    for i in range(3000):
        records = faces_at(40 * i, 0.2, 0.8)
        records["age"][:, 0] = (20 + 10 * (i % 2), 60)
        steady.add(records)
    chunks = list(steady.chunks())
    steady.close()
    assert len(chunks) > 1
    everything = np.concatenate(chunks)
    assert everything["timestamp_ms"].tolist() == [40 * (i // 2) for i in range(6000)]
    assert everything["age"][::2, 0] == pytest.approx(25)
    assert everything["age"][1::2, 0] == pytest.approx(60)


# -- in the engine --------------------------------------------------------------------------------


def rows_of(path, **how):
    rows = {"face_detection": [], "person_tracking": []}
    analyze(path, {name: some.extend for name, some in rows.items()}, sample_fps=5, **how)
    return rows


@pytest.fixture(scope="module")
def detailed_rows(sample):
    for name in ("object-efficientdet-lite0", *DETAILS):
        sample(name)
    return rows_of(sample("carphone_pristine.mp4"), face_attributes="all")


def test_all_attributes_come_with_every_face(detailed_rows):
    faces = [row["face"] for row in detailed_rows["face_detection"]]
    assert len(faces) == 20
    assert {len(face["landmarks"]) for face in faces} == {30}
    known = {"age_range", "gender", "smile", "eyes_open", "mouth_open", "face_occluded", "emotions"}
    assert all(known <= set(face) for face in faces)
    assert all(("eye_direction" in face) is face["eyes_open"]["value"] for face in faces)
    assert len({(f["age_range"]["low"], f["age_range"]["high"]) for f in faces}) == 1
    assert {f["gender"]["value"] for f in faces} == {"Male"}
    times = [row["timestamp_ms"] for row in detailed_rows["face_detection"]]
    assert times == sorted(times)
    people = [row["face"] for row in detailed_rows["person_tracking"] if "face" in row]
    assert people
    assert all(known <= set(face) for face in people)


def test_workers_find_the_same_attributes(sample, detailed_rows):
    with open_workers(2) as workers:
        path = sample("carphone_pristine.mp4")
        assert rows_of(path, face_attributes="all", workers=workers) == detailed_rows


def test_by_default_faces_are_lean(sample):
    sample("face-yunet")
    rows = []
    analyze(sample("carphone_pristine.mp4"), {"face_detection": rows.extend}, sample_fps=1)
    default = {"bounding_box", "confidence", "landmarks", "pose", "quality"}
    assert [set(row["face"]) for row in rows] == [default] * 4
    assert {len(row["face"]["landmarks"]) for row in rows} == {5}


def test_other_attributes_do_not_exist(sample):
    path = sample("carphone_pristine.mp4")
    with pytest.raises(ValueError, match="must be default or all"):
        analyze(path, {"face_detection": list}, face_attributes="some")  # pyright: ignore
