"""Rows can be seen on the frames they came from."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from rekognition_dagster.engine.draw import color_of, draw

BOX = {"left": 0.25, "top": 0.25, "width": 0.5, "height": 0.5}


def rows():
    return [
        {"timestamp_ms": t, "person_index": 3, "bounding_box": BOX, "confidence": 90.0}
        for t in range(0, 2000, 40)
    ]


def test_a_sheet_shows_the_box_in_its_persons_color(make_video, tmp_path):
    sheet = draw(make_video(), rows(), tmp_path / "sheet.png", tiles=4, columns=2)
    image = cv2.imread(str(sheet))
    assert image is not None
    assert image.shape == (720, 960, 3)
    distance = np.abs(image[:, :, ::-1].astype(int) - color_of(3)).max(axis=2)
    assert (distance < 40).sum() > 500


def test_a_video_shows_every_frame_at_its_time(make_video, tmp_path):
    drawn = draw(make_video(), rows(), tmp_path / "drawn.mp4")
    with av.open(str(drawn)) as container:
        times = [round(f.time * 1000) for f in container.decode(video=0) if f.time is not None]
    assert times == list(range(0, 2000, 40))


def test_faces_and_labels_are_drawn_too(make_video, tmp_path):
    face = {"bounding_box": BOX, "landmarks": [{"type": "nose", "x": 0.5, "y": 0.5}]}
    label = {"timestamp_ms": 40, "name": "Dog", "instances": [{"bounding_box": BOX}]}
    facts = [{"timestamp_ms": 40, "face": face}, label]
    assert draw(make_video(), facts, tmp_path / "x.png").stat().st_size > 1000


def test_another_kind_of_file_is_refused(make_video, tmp_path):
    with pytest.raises(ValueError, match="png"):
        draw(make_video(), [], tmp_path / "x.gif")


def test_a_sheet_shows_moments_that_have_rows(make_video, tmp_path):
    sampled = [row for row in rows() if row["timestamp_ms"] % 200 == 0]
    sheet = draw(make_video(), sampled, tmp_path / "sheet.png", tiles=4, columns=2)
    image = cv2.imread(str(sheet))
    assert image is not None
    distance = np.abs(image[:, :, ::-1].astype(int) - color_of(3)).max(axis=2) < 40
    tiles = [distance[y : y + 360, x : x + 480] for y in (0, 360) for x in (0, 480)]
    assert all(tile.sum() > 100 for tile in tiles)
