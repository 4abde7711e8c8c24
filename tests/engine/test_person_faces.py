"""Between samples, a person's face is filled in from a time within a second, and marked."""

from __future__ import annotations

import numpy as np
import pytest

from rekognition_dagster.engine.faces import FACE
from rekognition_dagster.engine.spool import Spool
from rekognition_dagster.engine.tracking.person_faces import FaceFill, owned_type
from rekognition_dagster.engine.tracking.tracks import PERSON

OWNED = owned_type(FACE)
FACE_BOX = np.array([0.46, 0.12, 0.54, 0.22])


def person(time, left=0.4, index=0):
    record = np.zeros(1, PERSON)
    record["timestamp_ms"], record["index"], record["box"] = time, index, (left, 0.1, left + 0.2, 1)
    return record


def seen(time, left=0.4, index=0, wide=0.0):
    """A face in the middle of a person's head; ``wide`` makes it wider on both sides."""
    record = np.zeros(1, OWNED)
    face = record["face"]
    record["timestamp_ms"], record["index"], record["person"] = time, index, person(0, left)["box"]
    face["timestamp_ms"], face["confidence"] = time, 90 + time / 1000
    face["box"] = FACE_BOX + (left - 0.4) * np.array([1, 0, 1, 0]) + wide * np.array([-1, 0, 1, 0])
    face["landmarks"] = face["box"][:, None, :2] + 0.01
    return record


def filled(people, *faces):
    with Spool(OWNED) as owned:
        for face in faces:
            owned.append(face)
        return FaceFill(owned).of(np.concatenate(people))


def test_a_face_at_its_own_time_stays_as_it_is():
    found = filled([person(200)], seen(0, 0.1), seen(200), seen(400, 0.9))
    assert (found.present.tolist(), found.filled.tolist()) == ([True], [False])
    assert found.faces["box"][0] == pytest.approx(FACE_BOX, abs=1e-6)


def test_a_face_is_filled_in_for_a_second_and_no_longer():
    expected = {0: True, 1: False, 999: True, 1001: True, 1002: None, 3999: None, 4000: True}
    found = filled([person(time) for time in expected], seen(1), seen(5000))
    each = zip(found.present.tolist(), found.filled.tolist(), strict=True)
    assert [filled if present else None for present, filled in each] == list(expected.values())
    there = [time for time, face in expected.items() if face is not None]
    assert found.faces["timestamp_ms"][found.present].tolist() == there


def test_it_moves_with_the_head():
    found = filled([person(400, 0.6)], seen(0, 0.4))
    assert found.faces["box"][0] == pytest.approx([0.66, 0.12, 0.74, 0.22], abs=1e-6)
    assert found.faces["landmarks"][0, 0] == pytest.approx([0.67, 0.13], abs=1e-6)


def test_between_two_samples_it_changes_from_one_to_the_other():
    found = filled([person(50, 0.5)], seen(0), seen(200, wide=0.04))
    assert found.faces["box"][0] == pytest.approx([0.55, 0.12, 0.65, 0.22], abs=1e-6)
    assert found.faces["confidence"][0] == pytest.approx(90)  # what does not move is the nearer's


def test_everybody_has_their_own():
    people = [person(100, 0.1, 3), person(100, 0.6, 5), person(100, 0.3, 7)]
    found = filled(people, seen(0, 0.1, 3), seen(0, 0.6, 5))
    assert found.present.tolist() == [True, True, False]
    assert found.faces["box"][:2, 0] == pytest.approx([0.16, 0.66], abs=1e-6)


def test_the_result_does_not_depend_on_how_people_are_divided():
    people = [person(40 * i, 0.2 + 0.01 * i) for i in range(50)]
    faces = [seen(200 * i, 0.2 + 0.05 * i) for i in range(8)]
    whole = filled(people, *faces)
    with Spool(OWNED) as owned:
        for face in faces:
            owned.append(face)
        fill = FaceFill(owned)
        parts = [fill.of(np.concatenate(people[i : i + 7])) for i in range(0, 50, 7)]
    assert (np.concatenate([p.faces for p in parts]) == whole.faces).all()
    assert np.concatenate([p.filled for p in parts]).tolist() == whole.filled.tolist()


def test_nobody_has_no_face():
    assert len(filled([np.zeros(0, PERSON)], seen(0)).faces) == 0
