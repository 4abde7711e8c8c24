"""A face stays with the person who holds it most."""

from __future__ import annotations

import numpy as np

from rekognition_dagster.engine.faces import FACE
from rekognition_dagster.engine.tracking.heads import Heads
from rekognition_dagster.engine.tracking.tracks import PERSON


def people_at(time, *lefts):
    """People of one size, a fifth of the picture wide, each number at a left edge or nowhere."""
    there = [(n, left) for n, left in enumerate(lefts) if left is not None]
    records = np.zeros(len(there), PERSON)
    for record, (number, left) in zip(records, there, strict=True):
        record["timestamp_ms"], record["index"] = time, number
        record["box"] = left, 0.2, left + 0.2, 0.9
    return records


def faces_at(time, *middles):
    records = np.zeros(len(middles), FACE)
    for record, middle in zip(records, middles, strict=True):
        record["timestamp_ms"] = time
        record["box"] = middle - 0.03, 0.22, middle + 0.03, 0.32
    return records


def assigned(frames):
    """For each frame, which person has which face."""
    heads = Heads()
    for people, faces in frames:
        heads.learn(people, faces)
    found = []
    for people, faces in frames:
        answer = heads.assign(people, faces)
        found.append({int(people["index"][p]): f for p, f in answer.items()})
    return found


def test_a_passer_by_does_not_take_the_face_of_somebody_whom_they_hide():
    # the second one's back passes before the first, who stands and looks into the camera
    frames = [
        (people_at(40 * i, 0.42, 0.02 * i), faces_at(40 * i, 0.50 + 0.015 * (18 <= i < 26)))
        for i in range(40)
    ]
    assert assigned(frames) == [{0: 0}] * 40


def test_each_of_two_keeps_their_own_face_while_they_cross():
    frames = []
    for i in range(40):
        left, right = 0.02 * i, 0.78 - 0.02 * i
        frames.append((people_at(40 * i, left, right), faces_at(40 * i, left + 0.1, right + 0.1)))
    apart = [i for i in range(40) if abs(0.78 - 0.04 * i) > 0.12]
    answers = assigned(frames)
    assert [answers[i] for i in apart] == [{0: 0, 1: 1}] * len(apart)


def test_a_face_goes_nowhere_while_its_person_is_not_there():
    frames = [
        (people_at(40 * i, 0.42 if i < 20 else None, 0.5), faces_at(40 * i, 0.5)) for i in range(30)
    ]
    assert assigned(frames) == [{0: 0}] * 20 + [{}] * 10


def test_a_face_on_nobodys_shoulders_is_nobodys():
    frames = [(people_at(40 * i, 0.1), faces_at(40 * i, 0.6)) for i in range(5)]
    assert assigned(frames) == [{}] * 5


def test_glances_far_apart_are_told_one_by_one():
    frames = [
        (people_at(4000 * i, 0.02 * i, 0.7), faces_at(4000 * i, 0.02 * i + 0.1)) for i in range(9)
    ]
    assert assigned(frames) == [{0: 0}] * 9


def test_a_face_goes_to_whoever_is_there_where_the_tracker_counts_one_person_twice():
    # the same person is number 0 in 25 frames and number 1 in the next 15
    frames = [
        (people_at(40 * i, *((0.42, None) if i < 25 else (None, 0.42))), faces_at(40 * i, 0.52))
        for i in range(40)
    ]
    assert assigned(frames) == [{0: 0}] * 25 + [{1: 0}] * 15
