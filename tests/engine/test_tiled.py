"""Tiles find small people, each once, and lose nobody whom the whole picture shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv

from rekognition_dagster.engine.detectors import ScoreScale, open_detector
from rekognition_dagster.engine.detectors.tiled import Tiled
from rekognition_dagster.engine.frame import Frame
from rekognition_dagster.errors import ModelError

SIZE = (800, 600)
INPUT = 200  # the width to which the double shrinks what it looks at
BRIGHT = 200


class Squares:
    """Finds bright rectangles that are six pixels wide once the picture is shrunk. Reads ahead."""

    labels: Mapping[int, str] = {0: "person"}
    scores = ScoreScale(noise=0.1, sure=0.3)

    def __init__(self) -> None:
        self.looks = 0

    def network_for(self, frame: Frame) -> Squares:
        return self

    width = INPUT

    def detect(self, frames: Iterable[Frame]) -> Iterator[sv.Detections]:
        for frame in list(frames):
            self.looks += 1
            scale = INPUT / frame.width
            size = (INPUT, round(frame.height * scale))
            small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)[:, :, 0]
            _, _, found, _ = cv2.connectedComponentsWithStats(
                (small > BRIGHT // 2).astype(np.uint8)
            )
            boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in found[1:] if w >= 6]
            xyxy = np.array(boxes, np.float32).reshape(-1, 4) / scale
            yield sv.Detections(
                xyxy=xyxy,
                confidence=np.full(len(xyxy), 0.9, np.float32),
                class_id=np.zeros(len(xyxy), int),
            )


def picture(*boxes: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> Frame:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = BRIGHT
    return Frame.from_image(image)


def found(detector: Squares | Tiled, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    (seen,) = detector.detect([picture(*boxes)])
    return seen.xyxy[np.lexsort(seen.xyxy.T)]


SMALL = (100, 100, 116, 140)
LARGE = (200, 150, 640, 500)


def test_who_is_too_small_in_the_whole_picture_is_found_in_a_tile() -> None:
    assert len(found(Squares(), SMALL)) == 0
    np.testing.assert_allclose(found(Tiled(Squares()), SMALL), [SMALL], atol=4)


@pytest.mark.parametrize("left", range(0, 785, 35))
def test_small_people_are_found_once_wherever_they_are(left: int) -> None:
    boxes = [(left, top, left + 16, top + 40) for top in (0, 190, 280, 380, 560)]
    np.testing.assert_allclose(found(Tiled(Squares()), *boxes), boxes, atol=4)


def test_who_is_larger_than_a_tile_is_one_person() -> None:
    np.testing.assert_allclose(found(Tiled(Squares(), 10), LARGE), [LARGE], atol=6)


def test_nobody_is_nobody() -> None:
    assert len(found(Tiled(Squares()))) == 0


def test_frames_come_out_in_order_each_with_its_own() -> None:
    frames = [picture((x, 50, x + 16, 90)) for x in range(0, 700, 70)] + [picture()]
    lefts = [seen.xyxy[:, 0].tolist() for seen in Tiled(Squares()).detect(frames)]
    assert [round(x[0] / 70) if x else None for x in lefts] == [*range(10), None]


@pytest.mark.parametrize(
    ("passes", "width", "looks"),
    [
        (5, 800, 5),
        (9, 800, 5),
        (10, 800, 10),
        (17, 800, 17),
        (99, 800, 17),
        (1, 800, 1),
        (5, 290, 1),
    ],
)
def test_no_more_looks_than_were_asked_for_and_no_more_than_show_something_new(
    passes: int, width: int, looks: int
) -> None:
    eye = Squares()
    list(Tiled(eye, passes).detect([picture(size=(width, width * 3 // 4))]))
    assert eye.looks == looks


def test_tiles_cover_the_frame_to_its_edges() -> None:
    for width, height in [(801, 601), (1999, 1123), (640, 1136)]:
        tiles = Tiled(Squares(), 10).tiles(picture(size=(width, height)))
        seen = np.zeros((height, width), bool)
        for tile in tiles:
            seen[tile.top : tile.bottom, tile.left : tile.right] = True
        assert len(tiles) == 9
        assert seen.all()
        assert (tiles[-1].right, tiles[-1].bottom) == (width, height)


@pytest.mark.parametrize("spec", ["tiled", "tiled:10", "tiled:embedded", "tiled:10:embedded:fine"])
def test_specs_name_it(spec: str, sample: Callable[[str], Path]) -> None:
    sample("object-efficientdet-lite0")
    detector = open_detector(spec)
    assert isinstance(detector, Tiled)
    assert detector.labels[0] == "person"


def test_a_spec_of_nothing_known_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown detector 'nothing'"):
        open_detector("tiled:10:nothing")
