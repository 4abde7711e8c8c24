"""Painting a moment's rows on its frame: boxes, numbers, trails, faces, labels, zones, counters.

supervision's annotators paint. They take boxes in pixels of the frame that they paint on, whatever
its size.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import supervision as sv

from rekognition_dagster.analytics.zones import Shape
from rekognition_dagster.engine.frame import Image
from rekognition_dagster.pictures.cover import cover
from rekognition_dagster.pictures.rows import Row
from rekognition_dagster.pictures.shapes import Counts, paint_shapes
from rekognition_dagster.pictures.style import COLORS, PALETTE, Style, plain
from rekognition_dagster.pictures.timeline import Blur, Scene, Timeline

TRAIL_MS = 3000
_PERSON = "person"


@dataclass(frozen=True)
class Look:
    """What is painted.

    Args:
        people: Boxes, numbers and trails of people.
        only: Of this person alone.
        faces: Boxes and landmarks of faces.
        labels: Boxes and names of labels.
        shapes: Zones and lines.
        counts: Who is in them and crossed them.
        blur: Who is covered.
    """

    people: bool = True
    only: int | None = None
    faces: bool = False
    labels: bool = False
    shapes: Sequence[Shape] = ()
    counts: Counts | None = None
    blur: Blur | None = None


class Overlay:
    """Paints frames one after another; trails lead from one to the next.

    Args:
        timeline: The video's rows.
        look: What is painted.
        frames_per_second: Of the frames that follow, for the length of trails.
    """

    def __init__(self, timeline: Timeline, look: Look, frames_per_second: float = 25.0) -> None:
        self._timeline, self._look = timeline, look
        self._trail_frames = max(2, round(frames_per_second * TRAIL_MS / 1000))
        self._size: tuple[int, int] | None = None

    def follow(self, time_ms: int, image: Image) -> None:
        """Continue the trails on a frame that is not painted; ``image`` has its size."""
        self._fit(image)
        self._trails.trace.put(_people(self._timeline.at(time_ms).people, image))

    def paint(self, image: Image, time_ms: int) -> None:
        """Paint what the rows say of a time on an RGB picture, in place."""
        look = self._look
        self._fit(image)
        scene = self._timeline.at(time_ms)
        if look.blur:
            cover(image, self._timeline.covered(time_ms, look.blur))
        paint_shapes(image, look.shapes, look.counts, time_ms)
        if look.people:
            rows = [r for r in scene.people if look.only is None or r.key == look.only]
            people = _people(rows, image)
            self._trails.annotate(image, people)
            self._boxes.annotate(image, people)
            self._numbers.annotate(image, people, [str(row.key) for row in rows])
        if look.faces:
            self._paint_faces(image, scene.faces)
        if look.labels:
            self._paint_labels(image, scene)

    def _fit(self, image: Image) -> None:
        """Choose widths of lines and of letters for a size of pictures."""
        if self._size == image.shape[:2]:
            return
        self._size = image.shape[:2]
        self._style = style = Style.of(image)
        by_track, by_class = sv.ColorLookup.TRACK, sv.ColorLookup.CLASS
        text = {"text_scale": style.text, "text_padding": 2 * style.line}
        white = {"text_color": sv.Color.WHITE, **text}
        self._trails = sv.TraceAnnotator(
            PALETTE,
            sv.Position.BOTTOM_CENTER,
            self._trail_frames,
            style.line,
            color_lookup=by_track,
        )
        self._boxes = sv.BoxAnnotator(PALETTE, style.line, by_track)
        self._numbers = sv.LabelAnnotator(PALETTE, color_lookup=by_track, **white)
        self._places = sv.BoxAnnotator(PALETTE, style.line, by_class)
        self._names = sv.LabelAnnotator(PALETTE, color_lookup=by_class, **white)
        self._faces = sv.BoxAnnotator(sv.Color.WHITE, style.line)
        self._marks = sv.VertexAnnotator(sv.Color(0, 255, 255), 1 + style.line)

    def _paint_faces(self, image: Image, faces: Sequence[Row]) -> None:
        self._faces.annotate(image, _boxes(faces, image))
        points = [point for row in faces for point in row.points]
        if points:
            pixels = np.array([points]) * image.shape[1::-1]
            self._marks.annotate(image, sv.KeyPoints(pixels.astype(np.float32)))

    def _paint_labels(self, image: Image, scene: Scene) -> None:
        is_shown = [not (self._look.people and str(r.key).lower() == _PERSON) for r in scene.labels]
        shown = [row for row, it in zip(scene.labels, is_shown, strict=True) if it]
        placed = [row for row in shown if row.box is not None]
        places = _boxes(placed, image)
        places.class_id = np.array(
            [zlib.crc32(str(row.key).encode()) % COLORS for row in placed], int
        )
        self._places.annotate(image, places)
        self._names.annotate(image, places, [plain(str(row.key)) for row in placed])
        names = {str(row.key) for row in shown} - {str(row.key) for row in placed}
        if names:
            height = image.shape[0]
            self._style.write(image, ", ".join(sorted(names)), (0, height), sv.Color.BLACK)


def _boxes(rows: Sequence[Row], image: Image) -> sv.Detections:
    """Return boxes in pixels; the rows have some."""
    height, width = image.shape[:2]
    boxes = np.array([row.box for row in rows], np.float32).reshape(-1, 4)
    return sv.Detections(boxes * (width, height, width, height), class_id=np.zeros(len(rows), int))


def _people(rows: Sequence[Row], image: Image) -> sv.Detections:
    found = _boxes(rows, image)
    found.tracker_id = np.array([row.key for row in rows], int)
    return found
