"""Scripted walks give exact visits and crossings."""

from __future__ import annotations

from pathlib import Path

import pytest
from walks import Place, compute, rows, straight, walked, write_walks

LINE = """
cameras:
  - camera: north
    lines:
      door: {points: [[0.5, 0.0], [0.5, 1.0]], left: shop, right: street, settle: 0.5}
"""
# Looking from the top to the bottom, the left-hand side is the right half of the picture.
TO_THE_RIGHT, TO_THE_LEFT = "to shop", "to street"
ZONE = """
cameras:
  - camera: north
    zones:
      counter: {points: [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]], settle: 0.5}
"""
KEY = "north/2026-01-31/120000.mp4"


def crossings(
    tmp_path: Path, *people: list[Place], zones: str = LINE
) -> list[tuple[int, str, int]]:
    lake = walked(tmp_path)
    write_walks(lake, KEY, people)
    compute(lake, zones)
    sql = "SELECT person_index, direction, crossed_ms FROM line_crossings ORDER BY ALL"
    return rows(lake, sql)


def visits(tmp_path: Path, *people: list[Place], zones: str = ZONE) -> list[tuple[object, ...]]:
    lake = walked(tmp_path)
    write_walks(lake, KEY, people)
    compute(lake, zones)
    return rows(
        lake,
        "SELECT person_index, entered_ms, left_ms, dwell_s, inside_at_start, inside_at_end "
        "FROM zone_visits ORDER BY ALL",
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(straight((0, 0.2, 0.5), (10, 0.8, 0.5)), [(TO_THE_RIGHT, 5000)], id="through"),
        pytest.param(straight((0, 0.8, 0.5), (10, 0.2, 0.5)), [(TO_THE_LEFT, 5000)], id="back"),
        pytest.param(straight((0, 0.4, 0.2), (10, 0.4, 0.8)), [], id="along"),
        pytest.param(straight((0, 0.5, 0.2), (10, 0.5, 0.8)), [], id="on the line"),
        pytest.param(
            straight((0, 0.2, 0.5), (4, 0.6, 0.5), (8, 0.2, 0.5)),
            [(TO_THE_RIGHT, 3000), (TO_THE_LEFT, 5000)],
            id="back and forth",
        ),
        pytest.param(
            straight((0, 0.2, 0.5), (3, 0.5, 0.5), (6, 0.2, 0.5)), [], id="touching from the left"
        ),
        pytest.param(
            straight((0, 0.8, 0.5), (3, 0.5, 0.5), (6, 0.8, 0.5)), [], id="touching from the right"
        ),
        pytest.param(
            straight((0, 0.2, 0.5), (3, 0.51, 0.5), (6, 0.2, 0.5)), [], id="a step over and back"
        ),
        pytest.param(
            [
                *straight((0, 0.2, 0.5), (2.9, 0.49, 0.5)),
                *((3 + n / 10, 0.49 if n % 2 else 0.51, 0.5) for n in range(31)),
                *straight((6.1, 0.52, 0.5), (9, 0.8, 0.5)),
            ],
            [(TO_THE_RIGHT, 5950)],
            id="flicker, then over",
        ),
        pytest.param(
            [
                *straight((0, 0.2, 0.5), (2.9, 0.49, 0.5)),
                *((3 + n / 10, 0.49 if n % 2 else 0.51, 0.5) for n in range(30)),
                *straight((6.1, 0.48, 0.5), (9, 0.2, 0.5)),
            ],
            [],
            id="flicker, then back",
        ),
        pytest.param(
            straight((0, 0.1, 0.5), (8, 0.9, 0.5), fps=1), [(TO_THE_RIGHT, 4000)], id="one a second"
        ),
        pytest.param(
            [*straight((0, 0.2, 0.5), (2, 0.4, 0.5)), *straight((4, 0.6, 0.5), (6, 0.8, 0.5))],
            [(TO_THE_RIGHT, 3000)],
            id="gone for a moment in the middle",
        ),
        pytest.param(
            [*straight((0, 0.2, 0.5), (2, 0.4, 0.5)), *straight((10, 0.6, 0.5), (12, 0.8, 0.5))],
            [],
            id="gone for too long",
        ),
        pytest.param(
            straight((0, 0.49, 0.5), (0.3, 0.52, 0.5), (5, 0.9, 0.5)),
            [],
            id="not settled before",
        ),
        pytest.param(
            straight((0, 0.1, 0.5), (5, 0.49, 0.5), (5.3, 0.52, 0.5)), [], id="not settled after"
        ),
    ],
)
def test_a_person_crosses_a_line_once_where_settled_on_both_sides(
    tmp_path: Path, path: list[Place], expected: list[tuple[str, int]]
) -> None:
    assert crossings(tmp_path, path) == [(0, *e) for e in expected]


def test_one_who_walks_around_the_end_of_a_line_has_not_crossed_it(tmp_path: Path) -> None:
    short = LINE.replace("[0.5, 1.0]", "[0.5, 0.4]")
    around = straight((0, 0.3, 0.3), (2, 0.3, 0.6), (4, 0.7, 0.6), (6, 0.7, 0.3))
    through = straight((0, 0.3, 0.3), (4, 0.7, 0.3))
    assert crossings(tmp_path, around, through, zones=short) == [(1, TO_THE_RIGHT, 2000)]


def test_a_line_of_several_pieces_is_crossed_once_at_its_corner(tmp_path: Path) -> None:
    bent = LINE.replace("[[0.5, 0.0], [0.5, 1.0]]", "[[0.5, 0.0], [0.5, 0.5], [0.5, 1.0]]")
    path = straight((0, 0.2, 0.5), (10, 0.8, 0.5))
    assert crossings(tmp_path, path, zones=bent) == [(0, TO_THE_RIGHT, 5000)]


def test_names_of_directions_are_the_user_s(tmp_path: Path) -> None:
    named = LINE.replace("left: shop, right: street", "to_left: in, to_right: out")
    path = straight((0, 0.2, 0.5), (10, 0.8, 0.5))
    assert crossings(tmp_path, path, zones=named) == [(0, "in", 5000)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(
            straight((0, 0.2, 0.5), (10, 0.7, 0.5)),
            [(4000, 8000, 4.0, False, False)],
            id="through",
        ),
        pytest.param(straight((0, 0.2, 0.3), (10, 0.8, 0.3)), [], id="past"),
        pytest.param(straight((0, 0.2, 0.4), (10, 0.8, 0.4)), [], id="along its border"),
        pytest.param(
            straight((0, 0.5, 0.5), (4, 0.7, 0.5), (6, 0.8, 0.5)),
            [(0, 2000, 2.0, True, False)],
            id="inside at the start",
        ),
        pytest.param(
            straight((0, 0.2, 0.5), (6, 0.5, 0.5)),
            [(4000, 6000, 2.0, False, True)],
            id="inside at the end",
        ),
        pytest.param(
            straight((0, 0.5, 0.5), (6, 0.5, 0.5)),
            [(0, 6000, 6.0, True, True)],
            id="stands inside",
        ),
        pytest.param(
            straight((0, 0.2, 0.5), (3, 0.5, 0.5), (5, 0.5, 0.7), (7, 0.2, 0.7)),
            [(2000, 4000, 2.0, False, False)],
            id="out by the other side",
        ),
        pytest.param(
            straight((0, 0.3, 0.5), (1, 0.5, 0.5), (2, 0.3, 0.5), (3, 0.5, 0.5), (4, 0.3, 0.5)),
            [(500, 1500, 1.0, False, False), (2500, 3500, 1.0, False, False)],
            id="in and out twice",
        ),
        pytest.param(
            straight(
                (0, 0.2, 0.5),
                (3, 0.5, 0.5),
                (4, 0.59, 0.5),
                (4.2, 0.61, 0.5),
                (4.4, 0.59, 0.5),
                (5, 0.5, 0.5),
                (8, 0.2, 0.5),
            ),
            [(2000, 6000, 4.0, False, False)],
            id="a foot outside for a moment",
        ),
        pytest.param(
            straight((0, 0.2, 0.5), (4, 1.0, 0.5), fps=1),
            [(1000, 2000, 1.0, False, False)],
            id="one a second",
        ),
        pytest.param(
            straight((0, 0.35, 0.5), (1, 0.65, 0.5), (3, 0.9, 0.5), fps=1),
            [(167, 833, 0.667, True, False)],
            id="between two detections, not settled outside before",
        ),
        pytest.param(
            straight((0, 0.1, 0.5), (1, 0.2, 0.5), (2, 0.7, 0.5), (4, 0.9, 0.5), fps=1),
            [],
            id="through between two detections, for too short",
        ),
        pytest.param(
            straight((0, 0.2, 0.5), (2, 0.3, 0.5), (3.5, 0.65, 0.5), (6, 0.9, 0.5), fps=0.5),
            [(2429, 3286, 0.857, False, False)],
            id="through between two detections",
        ),
    ],
)
def test_a_visit_lasts_from_the_settled_border_to_the_next(
    tmp_path: Path, path: list[Place], expected: list[tuple[object, ...]]
) -> None:
    assert visits(tmp_path, path) == [(0, *e) for e in expected]


def test_a_split_track_is_two_visits_that_nobody_saw_end_or_begin(tmp_path: Path) -> None:
    first = straight((0, 0.2, 0.5), (6, 0.5, 0.5))
    second = straight((6.5, 0.5, 0.5), (10, 0.85, 0.5))
    assert visits(tmp_path, first, second) == [
        (0, 4000, 6000, 2.0, False, True),
        (1, 6500, 7500, 1.0, True, False),
    ]


def test_a_joined_track_is_one_visit_that_says_how_much_was_filled_in(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    path = straight((0, 0.2, 0.5), (10, 0.7, 0.5))
    write_walks(lake, KEY, [path], filled=[(0, 5.0, 6.99)])
    compute(lake, ZONE)
    (row,) = rows(lake, "SELECT dwell_s, interpolated_share FROM zone_visits")
    assert row == (4.0, pytest.approx(0.5, abs=0.03))


def test_one_who_stands_still_moves_no_further(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    path = straight((0, 0.3, 0.5), (2, 0.5, 0.5), (12, 0.5, 0.5), (14, 0.7, 0.5))
    write_walks(lake, KEY, [path])
    compute(lake, ZONE)
    sql = "SELECT dwell_s, stood_still_s, distance, speed, unit FROM zone_visits"
    (row,) = rows(lake, sql)
    assert row[:2] == (12.0, pytest.approx(10.0, abs=0.5))
    # 0.2 of a square picture in a person's height of 0.25; half a second at either end is outside
    assert row[2] == pytest.approx(0.8, abs=0.1)
    assert row[3] == pytest.approx(0.8 / 12, abs=0.01)
    assert row[4] == "body heights"


def test_a_ground_plane_gives_metres(tmp_path: Path) -> None:
    ground = """
    ground:
      points: [[0.3, 0.4], [0.7, 0.4], [1.0, 1.0], [0.0, 1.0]]
      metres: [[0, 0], [4, 0], [4, 10], [0, 10]]
"""
    lake = walked(tmp_path)
    # along the edge from the far left corner to the near one: 10 m in 10 s, at any perspective
    write_walks(lake, KEY, [straight((0, 0.3, 0.4), (10, 0.0, 1.0))])
    everywhere = ZONE.replace(
        "[[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]", "[[0, 0], [1, 0], [1, 1], [0, 1]]"
    )
    compute(lake, everywhere.rstrip("\n") + ground)
    ((distance, speed, unit),) = rows(lake, "SELECT distance, speed, unit FROM zone_visits")
    assert unit == "m"
    assert distance == pytest.approx(10.0, abs=0.7)
    assert speed == pytest.approx(1.0, abs=0.07)


def test_two_who_stay_near_each_other_meet(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    still = straight((0, 0.5, 0.5), (20, 0.5, 0.5))
    # nearer than one body height, 0.25, from 5.5 to 12.5
    joins = straight((0, 0.9, 0.5), (6, 0.7, 0.5), (12, 0.7, 0.5), (18, 0.9, 0.5))
    passes = straight((0, 0.0, 0.5), (4, 1.0, 0.5))
    write_walks(lake, KEY, [still, joins, passes])
    compute(lake)
    found = rows(lake, "SELECT person_a, person_b, seconds, nearest, unit FROM encounters")
    assert found == [
        (0, 1, pytest.approx(9.0, abs=0.6), pytest.approx(0.8, abs=0.01), "body heights")
    ]


def test_heat_is_person_seconds_by_cell_and_flow(tmp_path: Path) -> None:
    lake = walked(tmp_path)
    write_walks(lake, KEY, [straight((0, 0.01, 0.51), (10, 0.99, 0.51))])
    compute(lake)
    found = rows(
        lake,
        "SELECT day::VARCHAR, cell_y, sum(person_seconds), min(flow_x), max(flow_x), "
        "max(abs(flow_y)), min(cell_x), max(cell_x) FROM heat GROUP BY ALL",
    )
    assert found == [
        (
            "2026-01-31",
            9,
            10.0,
            pytest.approx(0.098, abs=0.01),
            pytest.approx(0.098, abs=0.01),
            pytest.approx(0.0, abs=1e-6),
            0,
            31,
        )
    ]
