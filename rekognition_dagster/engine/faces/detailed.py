"""A face detector that also tells every attribute that the API names and a model here knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

import numpy as np
import numpy.typing as npt
import openvino as ov
import supervision as sv

from rekognition_dagster.engine import models
from rekognition_dagster.engine.detectors import Detector, ScoreScale, yunet
from rekognition_dagster.engine.detectors.inference import Network, stored
from rekognition_dagster.engine.detectors.yunet import LANDMARKS
from rekognition_dagster.engine.faces import attributes
from rekognition_dagster.engine.faces.mesh import Mesh, Square, mesh_network
from rekognition_dagster.engine.faces.pose import pose
from rekognition_dagster.engine.faces.record import DETAILS, DETAILS_KEY
from rekognition_dagster.engine.frame import Frame, Image

_FRAMES = 8  # whose faces are in the networks together


@lru_cache(maxsize=2)
def face_detector(detailed: bool) -> Detector:
    """Return the face detector that all videos share: of boxes and landmarks, or of everything."""
    return DetailedFaces(yunet.shared()) if detailed else yunet.shared()


@dataclass
class _Face:
    """A face on its way through the networks."""

    frame: Frame
    box: npt.NDArray
    points: npt.NDArray
    record: npt.NDArray
    square: Square = field(init=False)
    mesh: Mesh = field(init=False)

    @property
    def height(self) -> float:
        return float(self.box[3] - self.box[1])

    @property
    def is_clear(self) -> bool:
        return self.height >= attributes.LEAST_HEIGHT and self.mesh.presence > 0


class DetailedFaces:
    """Adds records of type ``DETAILS`` to what a face detector finds.

    Args:
        detector: Finds boxes and five landmarks.
    """

    labels: Mapping[int, str] = {0: "face"}

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.scores: ScoreScale = detector.scores
        task, old, moved = (
            models.path(name) for name in ("face-landmarker", "face-age", "face-emotion")
        )
        # In half precision, points would be off by a pixel.
        self._mesh = Network(
            stored(task, "mesh", lambda: mesh_network(task)),
            layout="NHWC",
            scale=255.0,
            precision="f32",
        )
        self._person = Network(
            stored(old, "gender", lambda: attributes.age_and_gender_network(_read))
        )
        self._mood = Network(
            stored(moved, "emotions", lambda: attributes.emotions_network(moved)),
            layout="NHWC",
            mean=127.5,
            scale=127.5,
        )

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        """See :class:`rekognition_dagster.engine.detectors.Detector`."""
        waiting: deque[Frame] = deque()

        def remembered() -> Iterator[Frame]:
            for frame in frames:
                waiting.append(frame)
                yield frame

        found = ((waiting.popleft(), faces) for faces in self._detector.detect(remembered()))
        while some := list(islice(found, _FRAMES)):
            self._add_details(some)
            yield from (faces for _, faces in some)

    def _add_details(self, found: list[tuple[Frame, sv.Detections]]) -> None:
        faces: list[_Face] = []
        for frame, seen in found:
            records = seen.data[DETAILS_KEY] = _unknown(len(seen))
            points = np.asarray(seen.data[LANDMARKS], np.float32)
            each = zip(
                seen.xyxy, points, (records[i : i + 1] for i in range(len(seen))), strict=True
            )
            faces += [_Face(frame, *parts) for parts in each]
        for face, outputs in self._mesh.run(faces, _fill_square):
            points, presence, expressions = (output.copy() for output in outputs)
            face.mesh = Mesh(points, float(presence.ravel()[0]), expressions)
            _tell(face)
        clear = [face for face in faces if face.is_clear]
        for face, outputs in self._person.run(clear, _fill_aligned):
            ages, genders = (output[0] for output in outputs)
            face.record["age"] = attributes.age(ages, face.height)
            face.record["female"] = attributes.female(genders, face.height)
        for face, outputs in self._mood.run(clear, _fill_grey):
            face.record["emotions"] = attributes.emotions(outputs[0][0], face.mesh, face.height)


def _read(name: str) -> ov.Model:
    return ov.Core().read_model(models.path(name))


def _unknown(count: int) -> npt.NDArray:
    records = np.zeros(count, DETAILS)
    for name in DETAILS.names or ():
        records[name] = np.nan
    return records


def _tell(face: _Face) -> None:
    """Enter what the mesh alone tells, or what the detector does where the mesh does not fit."""
    record = face.record
    record["landmarks"][0, :5] = face.points
    record["pose"] = pose(face.points)
    if not face.is_clear:
        return
    to_frame, mesh = face.square.to_frame, face.mesh
    record["landmarks"] = mesh.landmarks @ to_frame[:, :2].T + to_frame[:, 2]
    roll, yaw, pitch = mesh.pose
    record["pose"] = (roll + face.square.roll + 180) % 360 - 180, yaw, pitch
    places = mesh.points[:, :2] @ to_frame[:, :2].T + to_frame[:, 2]
    inside = ((places >= 0) & (places < (face.frame.width, face.frame.height))).all(axis=1)
    for name, likely in attributes.flags(mesh, face.height, 1 - inside.mean()).items():
        record[name] = likely
    open_eyes = float(record["eyes_open"][0])
    record["eye_direction"] = attributes.eye_direction(mesh, open_eyes, face.height)


def _fill_square(face: _Face, target: Image) -> None:
    face.square = Square.of(face.frame, face.box, face.points)
    target[:] = face.square.image


def _fill_aligned(face: _Face, target: Image) -> None:
    target[:] = attributes.aligned(face.square.image, face.mesh)


def _fill_grey(face: _Face, target: Image) -> None:
    target[:] = attributes.grey_face(face.square.image)
