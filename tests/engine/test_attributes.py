"""Every attribute of real faces: turned, mirrored, shrunk, darkened, with a warped expression."""

from __future__ import annotations

from itertools import pairwise

import botocore.session
import cv2
import numpy as np
import openvino as ov
import pytest

from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors.inference import Network
from rekognition_dagster.engine.faces import LANDMARK_NAMES, describe, face_struct
from rekognition_dagster.engine.faces.attributes import emotions_network, similarity
from rekognition_dagster.engine.faces.detailed import face_detector
from rekognition_dagster.engine.frame import Frame

SURE = 80.0
FLAGS = ("smile", "eyes_open", "mouth_open", "face_occluded")


@pytest.fixture(scope="module")
def detector(sample):
    for name in ("face-yunet", "face-landmarker", "face-age", "face-gender", "face-emotion"):
        sample(name)
    return face_detector(True)


@pytest.fixture(scope="module")
def pictures(sample):
    """A man of about thirty who talks, 12 pictures of 176x144; his face is 67 pixels tall."""
    with open_video(sample("carphone_pristine.mp4")) as opened:
        return [frame.image for frame in opened.frames(3)]


def faces(detector, image):
    frame = Frame.from_image(np.ascontiguousarray(image))
    (found,) = detector.detect([frame])
    return [face_struct(record) for record in describe(found, frame)]


def face(detector, image):
    (only,) = faces(detector, image)
    return only


def points(face, image):
    """Landmarks in pixels, by name."""
    height, width = image.shape[:2]
    return {m["type"]: np.array([m["x"] * width, m["y"] * height]) for m in face["landmarks"]}


def test_the_landmarks_are_those_that_the_api_names():
    model = botocore.session.get_session().get_service_model("rekognition")
    assert set(LANDMARK_NAMES) == set(model.shape_for("LandmarkType").enum)
    assert len(LANDMARK_NAMES) == 30


def test_every_attribute_is_known_of_a_clear_face(detector, pictures):
    for image in pictures:
        found = face(detector, image)
        assert found["eyes_open"]["value"] is True
        assert found["smile"]["value"] is False
        assert found["face_occluded"]["value"] is False
        assert found["gender"]["value"] == "Male"
        assert min(found[name]["confidence"] for name in (*FLAGS, "gender")) >= 50
        ages = found["age_range"]
        assert 0 <= ages["low"] < ages["high"] <= 60
        assert len(found["landmarks"]) == 30
        confidences = [e["confidence"] for e in found["emotions"]]
        assert sum(confidences) == pytest.approx(100, abs=0.1)
        assert confidences == sorted(confidences, reverse=True)
        assert not {"eyeglasses", "sunglasses", "beard", "mustache"} & set(found)


def test_landmarks_lie_where_their_names_say(detector, pictures):
    from_left_to_right = (
        ("leftEyeBrowLeft", "leftEyeBrowUp", "leftEyeBrowRight"),
        ("rightEyeBrowLeft", "rightEyeBrowUp", "rightEyeBrowRight"),
        ("leftEyeLeft", "leftPupil", "leftEyeRight", "rightEyeLeft", "rightPupil"),
        ("rightPupil", "rightEyeRight"),
        ("upperJawlineLeft", "noseLeft", "nose", "noseRight", "upperJawlineRight"),
        ("midJawlineLeft", "mouthLeft", "chinBottom", "mouthRight", "midJawlineRight"),
    )
    downwards = (
        ("leftEyeBrowUp", "leftEyeUp", "leftEyeDown", "noseLeft", "mouthUp", "mouthDown"),
        ("rightEyeBrowUp", "rightEyeUp", "rightEyeDown", "noseRight", "mouthUp"),
        ("eyeLeft", "nose", "mouthLeft", "chinBottom"),
        ("upperJawlineLeft", "midJawlineLeft", "chinBottom"),
    )
    for image in pictures:
        found = face(detector, image)
        at = points(found, image)
        roll = np.radians(found["pose"]["roll"])
        turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        upright = {name: turn @ place for name, place in at.items()}
        for names in from_left_to_right:
            assert all(upright[a][0] < upright[b][0] for a, b in pairwise(names)), names
        for names in downwards:
            assert all(upright[a][1] < upright[b][1] for a, b in pairwise(names)), names


def test_the_mesh_agrees_with_the_detectors_landmarks(detector, pictures):
    for image in pictures:
        frame = Frame.from_image(image)
        (found,) = detector.detect([frame])
        mesh = found.data["details"]["landmarks"][0, :5]
        assert np.abs(mesh - found.data["landmarks"][0]).max() < 0.15 * 67


def mirrored_name(name):
    other = {"left": "right", "Left": "Right", "right": "left", "Right": "Left"}
    side = next((s for s in other if name.startswith(s)), None)
    name = other[side] + name[len(side) :] if side else name
    last = next((s for s in ("Left", "Right") if name.endswith(s)), None)
    return name[: -len(last)] + other[last] if last else name


def test_a_mirrored_face_turns_leans_and_looks_to_the_other_side(detector, pictures):
    for image in pictures:
        one, other = face(detector, image), face(detector, image[:, ::-1])
        for axis, sign in (("yaw", -1), ("roll", -1), ("pitch", 1)):
            assert other["pose"][axis] == pytest.approx(sign * one["pose"][axis], abs=9)
        yaw = one["eye_direction"]["yaw"]
        assert other["eye_direction"]["yaw"] == pytest.approx(-yaw, abs=9)
        here, there = points(one, image), points(other, image)
        for name, place in here.items():
            x, y = there[mirrored_name(name)]
            assert place == pytest.approx((image.shape[1] - x, y), abs=6), name


@pytest.mark.parametrize("degrees", [-25, 25])
def test_a_tilted_face_rolls_and_does_nothing_else(detector, pictures, degrees):
    changes = []
    for image in pictures[:8]:
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
        tilted = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        one, other = face(detector, image)["pose"], face(detector, tilted)["pose"]
        changes.append([other[axis] - one[axis] for axis in ("roll", "yaw", "pitch")])
    assert np.median(changes, axis=0) == pytest.approx((degrees, 0, 0), abs=5)


def test_in_the_dark_a_face_looks_the_same(detector, pictures):
    for image in pictures:
        dark = face(detector, (image * 0.4).astype(np.uint8))
        assert dark["eyes_open"]["value"] is True
        assert dark["gender"]["value"] == "Male"
        assert dark["pose"]["yaw"] == pytest.approx(face(detector, image)["pose"]["yaw"], abs=6)


def shrunk(image, tall):
    small = cv2.resize(image, None, fx=tall / 67, fy=tall / 67, interpolation=cv2.INTER_AREA)
    canvas = np.full((240, 320, 3), 128, np.uint8)
    canvas[20 : 20 + small.shape[0], 20 : 20 + small.shape[1]] = small
    return canvas


def test_the_smaller_a_face_the_less_is_known_of_it(detector, pictures):
    clear, small, tiny = (
        [f for image in pictures for f in faces(detector, shrunk(image, tall))]
        for tall in (60, 30, 14)
    )
    assert len(clear) == len(small) == len(pictures)
    much, little = (np.mean([f["gender"]["confidence"] for f in some]) for some in (clear, small))
    assert much > little + 10
    assert all("eyes_open" in f for f in clear)
    assert not any("eyes_open" in f or "eye_direction" in f for f in small)
    ages = ([f["age_range"] for f in some] for some in (clear, small))
    narrow, wide = (np.mean([age["high"] - age["low"] for age in some]) for some in ages)
    assert narrow < wide
    assert tiny
    for found in tiny:
        assert set(found) == {"bounding_box", "confidence", "landmarks", "pose", "quality"}
        assert len(found["landmarks"]) == 5


# -- expressions, painted and warped --------------------------------------------------------------


def enlarged(image):
    return cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)


def smiling(image, at):
    """The mouth's corners, drawn apart and up."""
    width = np.linalg.norm(at["mouthRight"] - at["mouthLeft"])
    y, x = np.indices(image.shape[:2], np.float32)
    from_x, from_y = x.copy(), y.copy()
    for name, aside in (("mouthLeft", -0.25), ("mouthRight", 0.25)):
        apart = (x - at[name][0]) ** 2 + (y - at[name][1]) ** 2
        near = np.exp(-apart / (2 * (0.25 * width) ** 2))
        from_x -= near * aside * width
        from_y += near * 0.35 * width
    return cv2.remap(image, from_x, from_y, cv2.INTER_LINEAR)


def with_closed_eyes(image, at):
    """Skin from below over the eyes, with a line where lids meet."""
    closed = image.astype(float)
    for side in ("left", "right"):
        ends = at[f"{side}EyeLeft"], at[f"{side}EyeRight"]
        width = np.linalg.norm(ends[1] - ends[0])
        x, y = ((ends[0] + ends[1]) / 2).astype(int).tolist()
        below = slice(int(y + 0.75 * width), int(y + 1.1 * width))
        skin = image[below, int(x - 0.75 * width) : int(x + 0.75 * width)].mean(axis=(0, 1))
        lid = np.zeros(image.shape[:2], np.float32)
        cv2.ellipse(lid, (x, y), (int(0.7 * width), int(0.33 * width)), 0, 0, 360, 1.0, -1)
        lid = cv2.GaussianBlur(lid, (0, 0), float(width) * 0.08)[..., None]
        closed = closed * (1 - lid) + skin * lid
        line = tuple((skin * 0.4).tolist())
        place, size = (x, int(y + 0.1 * width)), (int(0.5 * width), int(0.12 * width))
        cv2.ellipse(closed, place, size, 0, 0, 180, line, 2)
    return closed.astype(np.uint8)


def test_mouth_corners_drawn_up_are_a_smile(detector, pictures):
    smiles = 0
    for image in map(enlarged, pictures):
        before = face(detector, image)
        assert before["smile"]["value"] is False
        after = face(detector, smiling(image, points(before, image)))
        smiles += after["smile"]["value"]
        happy = [
            next(e["confidence"] for e in found["emotions"] if e["type"] == "HAPPY")
            for found in (before, after)
        ]
        assert happy[1] > happy[0]
    assert smiles >= 0.75 * len(pictures)


def test_painted_lids_are_closed_eyes_that_look_nowhere(detector, pictures):
    for image in map(enlarged, pictures):
        found = face(detector, with_closed_eyes(image, points(face(detector, image), image)))
        assert found["eyes_open"]["value"] is False
        assert "eye_direction" not in found


def test_a_mouth_is_open_while_it_says_o(detector, pictures):
    found = [face(detector, image)["mouth_open"] for image in pictures]
    assert max(m["confidence"] for m in found if m["value"]) > 99
    least = min((m["confidence"] if m["value"] else 100 - m["confidence"]) for m in found)
    assert least < 65  # in between, his lips nearly meet


def test_a_face_that_the_pictures_edge_cuts_is_occluded(detector, pictures):
    cut = []
    for image in map(enlarged, pictures):
        chin = points(face(detector, image), image)["mouthUp"]
        cut += faces(detector, image[: int(chin[1])])
    known = [found["face_occluded"] for found in cut if "face_occluded" in found]
    assert len(known) >= len(pictures) / 2
    assert all(flag["value"] for flag in known)


# -- the machinery --------------------------------------------------------------------------------


def test_faces_of_many_frames_are_those_of_each_alone(detector, pictures):
    blank = np.full((144, 176, 3), 90, np.uint8)
    two = np.concatenate([pictures[0], pictures[6]], axis=1)
    images = [blank, *pictures, two, blank, pictures[3]]
    frames = [Frame.from_image(image) for image in images]
    together = [
        describe(f, frame) for f, frame in zip(detector.detect(frames), frames, strict=True)
    ]
    assert [len(records) for records in together] == [0, *[1] * 12, 2, 0, 1]
    for records, frame in zip(together, frames, strict=True):
        (alone,) = detector.detect([frame])
        assert describe(alone, frame).tobytes() == records.tobytes()


@pytest.mark.parametrize("run", range(8))
def test_the_emotions_network_is_the_same_whenever_it_is_compiled(sample, run):
    # from 8-bit weights, OpenVINO 2026.4 made garbage in a third of all compilations
    path = sample("face-emotion")
    grey = np.random.default_rng(0).integers(0, 255, (64, 64, 1), np.uint8)
    plain = ov.Core().compile_model(ov.Core().read_model(path), "CPU")
    expected = plain([(grey[None] / 127.5 - 1).astype(np.float32)])[0]
    network = Network(emotions_network(path), layout="NHWC", mean=127.5, scale=127.5)
    ((_, (found,)),) = network.run([grey], lambda image, target: np.copyto(target, image))
    assert found == pytest.approx(expected, abs=0.02)


def test_a_similarity_undoes_a_turn_a_scale_and_a_shift():
    rng = np.random.default_rng(1)
    source = rng.uniform(0, 50, (5, 2))
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    matrix = similarity(source, 1.7 * source @ turn.T + (3, -8))
    assert matrix == pytest.approx(np.column_stack([1.7 * turn, (3, -8)]), abs=1e-9)


def test_by_default_faces_have_no_details(sample):
    sample("face-yunet")
    (found,) = face_detector(False).detect([Frame.from_image(np.zeros((64, 64, 3), np.uint8))])
    assert "details" not in found.data
