"""Faces are sampled beside people, and every look has its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pytest
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale
from rekognition_dagster.engine.detectors.yunet import LANDMARKS
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.engine.looking import SPAN_MS, look
from tests.engine.scripted import found

PEOPLE = "person_tracking"
STEP_MS = 100


class Somebody:
    """One person, near enough for a face."""

    labels: Mapping[int, str] = {0: "person"}
    scores = ScoreScale(noise=0.1, sure=0.5)

    def __init__(self, height=200.0) -> None:
        self.seen: list[int] = []
        self._height = height

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in frames:
            self.seen.append(frame.timestamp_ms)
            yield found((20, 5, 90, 5 + self._height))


class Faces:
    """A face where the time says so."""

    labels: Mapping[int, str] = {0: "face"}
    scores = ScoreScale(noise=0.3, sure=0.5)

    def __init__(self, shown=lambda time: True) -> None:
        self.asked: list[int] = []
        self._shown = shown

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in frames:
            self.asked.append(frame.timestamp_ms)
            face = found(*[(40, 10, 60, 35)] * self._shown(frame.timestamp_ms))
            points = np.array([[45, 18], [55, 18], [50, 24], [46, 29], [54, 29]], np.float32)
            face.data[LANDMARKS] = np.tile(points, (len(face), 1, 1))
            yield face


def frames(seconds):
    image = np.full((240, 320, 3), 90, np.uint8)
    return [Frame.from_image(image, i, i * STEP_MS) for i in range(round(seconds * 10))]


def looks(seconds, faces, people=None):
    return list(look(frames(seconds), [PEOPLE], people or Somebody(), faces))


@pytest.mark.parametrize("shown", [True, False])
def test_faces_are_sampled_five_times_a_second(shown):
    faces = Faces(lambda time: shown)
    seen = looks(5, faces)
    assert faces.asked == list(range(0, 5000, 200))
    assert [look.timestamp_ms for look in seen] == [i * STEP_MS for i in range(50)]
    assert [look.timestamp_ms for look in seen if len(look.faces)] == faces.asked * shown


def test_each_span_is_sampled_as_if_it_were_alone():
    faces = Faces()
    list(look(frames(35)[1:], [PEOPLE], Somebody(), faces))  # begins between two samples
    assert faces.asked == [*range(100, SPAN_MS, 200), *range(SPAN_MS, 35_000, 200)]


def test_nobody_is_asked_for_faces_of_people_who_are_too_small():
    faces = Faces()
    looks(3, faces, Somebody(height=30.0))
    assert faces.asked == []


def test_people_are_looked_for_while_faces_are():
    people = Somebody()
    later = threading.Event()

    class Slow(Faces):
        def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
            assert later.wait(10), "nobody looked for people meanwhile"
            yield from super().detect(frames)

    class Watched(Somebody):
        def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
            for number, frame in enumerate(frames):
                if number == 5:
                    later.set()
                yield next(people.detect([frame]))

    seen = looks(2, Slow(), Watched())
    assert [len(look.faces) for look in seen] == [1, 0] * 10


def test_what_goes_wrong_with_faces_is_told():
    class Broken(Faces):
        def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
            raise RuntimeError("no memory for faces")
            yield

    with pytest.raises(RuntimeError, match="no memory for faces"):
        looks(2, Broken())
