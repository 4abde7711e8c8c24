"""A video's rows of people, faces and labels, streamed from the lake in the order of time.

Rows are read in windows of time, so that hours of video take no more memory than seconds of it.
What they say of a moment between two of them is in :mod:`timeline`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from rekognition_dagster.operations import FACE_DETECTION, LABEL_DETECTION, PERSON_TRACKING

if TYPE_CHECKING:
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.videos import Video

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in ratios of the picture."""
Kind = Literal["person", "head", "face", "label"]
_WINDOW_MS = 20_000


class Row(NamedTuple):
    """One person, face or label at a time.

    Args:
        time_ms: Milliseconds since the start of the video.
        kind: What it is; ``head`` is the face of a person who is followed.
        key: The person's number, or the label's name; None of a face.
        box: Where; None of a label without a place.
        points: A face's landmarks, x and y in ratios of the picture.
    """

    time_ms: int
    kind: Kind
    key: int | str | None
    box: Box | None
    points: tuple[tuple[float, float], ...] = ()


_FACE_POINTS = "list_transform(face.landmarks, lambda p: [p.x, p.y])"
_SELECTS: dict[str, tuple[tuple[str, str, str, str, str, str], ...]] = {
    PERSON_TRACKING.table: (
        ("'person'", "person_index", "NULL", "bounding_box", "NULL", "true"),
        ("'head'", "person_index", "NULL", "face.bounding_box", _FACE_POINTS, "face IS NOT NULL"),
    ),
    FACE_DETECTION.table: (("'face'", "NULL", "NULL", "face.bounding_box", _FACE_POINTS, "true"),),
    LABEL_DETECTION.table: (("'label'", "NULL", "name", "NULL", "NULL", "true"),),
}
"""Of each table: kind, number, name, box, landmarks and condition of its rows."""


def rows_of(
    lake: Lake,
    video: Video,
    tables: Collection[str],
    *,
    from_ms: int = 0,
    until_ms: int | None = None,
    around: Sequence[tuple[int, int]] = (),
) -> Iterator[Row]:
    """Stream a video's rows in the order of time.

    Args:
        lake: The lake.
        video: The video, located.
        tables: The tables that are read.
        from_ms: From this time.
        until_ms: Until this time, itself excluded.
        around: Only these spans, in order and apart; in the place of the two.

    Raises:
        LakeError: The lake cannot be read.
    """
    if not tables:
        return
    with lake.connect(sorted(tables), [video]) as connection:
        latest = max(
            connection.execute(f"SELECT coalesce(max(timestamp_ms), -1) FROM {table}").fetchall()[0]
            for table in tables
        )[0]
        end = latest + 1 if until_ms is None else min(until_ms, latest + 1)
        select = " UNION ALL ".join(text for table in sorted(tables) for text in _selects(table))
        spans = around or [
            (start, min(end, start + _WINDOW_MS))
            for start in range(max(0, from_ms), end, _WINDOW_MS)
        ]
        for first, last in spans:
            window = f"timestamp_ms >= {first} AND timestamp_ms < {last}"
            found = connection.execute(
                f"{select.format(window=window)} ORDER BY time_ms, kind, key"
            )
            for time_ms, kind, number, name, box, points in found.fetchall():
                key = name if number is None else number
                yield Row(time_ms, kind, key, _box(box), tuple(map(tuple, points or ())))


def _selects(table: str) -> Iterator[str]:
    for kind, number, name, box, points, condition in _SELECTS[table]:
        corners = _CORNERS.format(box) if box != "NULL" else "NULL::FLOAT[]"
        yield (
            f"SELECT timestamp_ms AS time_ms, {kind} AS kind, {number}::BIGINT AS key, "
            f"{name}::VARCHAR AS name, {corners} AS box, {points}::FLOAT[][] AS points "
            f"FROM {table} WHERE {{window}} AND {condition}"
        )
    if table == LABEL_DETECTION.table:  # and a row for each place of a label
        yield (
            f"SELECT time_ms, 'label', NULL, name, {_CORNERS.format('one.bounding_box')}, NULL "
            "FROM (SELECT timestamp_ms AS time_ms, name, unnest(instances) AS one "
            f"FROM {table} WHERE {{window}})"
        )


_CORNERS = "[{0}.left, {0}.top, {0}.left + {0}.width, {0}.top + {0}.height]"


def _box(corners: list[float | None] | None) -> Box | None:
    if corners is None or None in corners:
        return None
    left, top, right, bottom = (float(c or 0) for c in corners)
    return left, top, right, bottom
