"""The face detector finds real faces: small, mirrored, tilted, several at once."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import supervision as sv

from rekognition_dagster.engine.decode import open_video
from rekognition_dagster.engine.detectors import yunet
from rekognition_dagster.engine.frame import Frame


@pytest.fixture(scope="module")
def detector(sample):
    sample("face-yunet")
    return yunet.shared()


@pytest.fixture(scope="module")
def pictures(sample):
    """One man's face, 12 pictures of 176x144."""
    with open_video(sample("carphone_pristine.mp4")) as opened:
        return [frame.image for frame in opened.frames(3)]


def find(detector, image):
    (found,) = detector.detect([Frame.from_image(np.ascontiguousarray(image))])
    return found


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (896, 512)),
        ((1080, 1920), (512, 896)),
        ((640, 480), (768, 576)),
        ((176, 144), (352, 288)),  # twice the picture's size at most
        ((16, 16), (32, 32)),
    ],
)
def test_the_input_follows_the_videos_shape(size, expected):
    assert yunet.input_size(*size) == expected


def test_the_man_in_the_car_has_one_face_in_each_picture(detector, pictures):
    for image in pictures:
        found = find(detector, image)
        assert len(found) == 1
        assert found.confidence[0] > 0.8
        (points,) = found.data[yunet.LANDMARKS]
        left, top, right, bottom = found.xyxy[0]
        assert ((points > (left, top)) & (points < (right, bottom))).all()
        eye_left, eye_right, nose, mouth_left, mouth_right = points
        assert eye_left[0] < eye_right[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(eye_left[1], eye_right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


def test_a_mirrored_picture_has_the_mirrored_face(detector, pictures):
    for image in pictures:
        seen, mirrored = find(detector, image), find(detector, image[:, ::-1])
        width = image.shape[1]
        flipped = mirrored.xyxy[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width, 0, width, 0)
        assert sv.box_iou_batch(seen.xyxy, flipped)[0, 0] > 0.8
        points = mirrored.data[yunet.LANDMARKS][0][[1, 0, 2, 4, 3]] * (-1, 1) + (width, 0)
        assert seen.data[yunet.LANDMARKS][0] == pytest.approx(points, abs=6)


@pytest.mark.parametrize("degrees", [-25, -10, 10, 25])
def test_a_tilted_face_is_found(detector, pictures, degrees):
    found = 0
    for image in pictures:
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
        turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        found += bool((find(detector, turned).confidence > detector.scores.sure).any())
    assert found == len(pictures)


def placed(pictures, tall):
    """A grey 640x480 picture with four of the pictures, shrunk so that faces are so tall."""
    canvas = np.full((480, 640, 3), 128, np.uint8)
    places = []
    for n, image in enumerate(pictures[:4]):
        scale = tall / 67  # his face's height in the video
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x, y = 60 + 300 * (n % 2), 40 + 220 * (n // 2)
        canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
        places.append((x, y, scale))
    return canvas, places


@pytest.mark.parametrize(("tall", "least"), [(14, 3), (16, 4), (24, 4), (60, 4)])
def test_small_faces_are_found_where_they_are(detector, pictures, tall, least):
    canvas, places = placed(pictures, tall)
    expected = np.concatenate(
        [
            find(detector, image).xyxy * scale + (x, y, x, y)
            for image, (x, y, scale) in zip(pictures, places, strict=False)
        ]
    )
    found = find(detector, canvas)
    assert (sv.box_iou_batch(expected, found.xyxy) > 0.4).any(axis=1).sum() >= least
    assert len(found) <= 4


def test_a_blank_picture_has_no_face(detector):
    for grey in (0, 90, 255):
        assert not len(find(detector, np.full((240, 320, 3), grey, np.uint8)))
