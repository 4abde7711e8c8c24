"""zones.yaml is checked, and what is wrong names its line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from rekognition_dagster.analytics.zones import homography, parse_zones, read_zones, warnings_of
from rekognition_dagster.errors import ConfigurationError

GOOD = """
settle: 0.7
cameras:
  - camera: [north, "side-*"]
    from: 2026-01-01
    until: 2026-03-01T12:00
    zones:
      counter: [[0.1, 0.1], [0.4, 0.1], [0.4, 0.4]]
      door: {points: [[0.5, 0.5], [0.9, 0.5], [0.9, 0.9]], settle: 0.2}
    lines:
      entrance: {points: [[0.1, 0.5], [0.9, 0.5]], left: street, to_right: in}
    ground:
      points: [[0.2, 0.3], [0.8, 0.3], [1, 1], [0, 1]]
      metres: [[0, 0], [5, 0], [5, 8], [0, 8]]
"""


def test_a_file_is_read_with_its_defaults() -> None:
    zones = parse_zones(GOOD)
    ours = zones.of("side-2", datetime(2026, 2, 1))
    assert [(s.kind, s.name, s.settle_s) for s in ours.shapes] == [
        ("zone", "counter", 0.7),
        ("zone", "door", 0.2),
        ("line", "entrance", 0.7),
    ]
    assert ours.shapes[2].directions == ("to street", "in")
    assert len(ours.grounds) == 1
    for at in (datetime(2025, 12, 31), datetime(2026, 3, 1, 12)):
        assert not zones.of("north", at).shapes
    assert not zones.of("south", datetime(2026, 2, 1)).shapes
    assert not zones.of(None, datetime(2026, 2, 1)).shapes


def test_the_ground_s_corners_are_mapped_where_the_file_says() -> None:
    h = parse_zones(GOOD).grounds[0].matrix
    for (x, y), metres in (((0.2, 0.3), (0, 0)), ((1, 1), (5, 8)), ((0.0, 1.0), (0, 8))):
        w = h[6] * x + h[7] * y + h[8]
        found = ((h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w)
        assert found == pytest.approx(metres, abs=1e-9)
    with pytest.raises(ValueError, match="not in the order"):
        homography([(0, 0), (1, 0), (1, 1), (0, 1)], [(0, 0), (10, 10), (10, 0), (0, 10)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "settle: 0.7",
            "setle: 0.7",
            r"zones.yaml:2: unknown name setle in the file; did you mean settle\?",
        ),
        ("settle: 0.7", "settle: -1", r":2: settle is -1; write a number from 0 to 3600"),
        ("settle: 0.7", "point: head", r":2: point is head; write bottom or centre"),
        (
            "[0.4, 0.1]",
            "[0.4, 1.1]",
            r":8: y of a point of the zone counter of camera north, side-\* is 1.1; write a number "
            "from 0 to 1$",
        ),
        (
            "[0.4, 0.1], ",
            "",
            r":8: the zone counter of camera north, side-\* needs 3 or more points; it has 2",
        ),
        (
            "[0.4, 0.1]",
            "[0.25, 0.25]",
            r":8: the zone counter .* has no area: \[\[0.1, 0.1\], \[0.25, 0.25\], \[0.4, 0.4\]\]",
        ),
        ("[0.4, 0.1]", "0.4", r":8: a point of the zone counter .* is 0.4; write \[x, y\]"),
        ("[0.4, 0.1]", "[0.4, x]", r":8: y of a point of the zone counter .* is x; write a number"),
        (
            "settle: 0.2",
            "setle: 0.2",
            r":9: unknown name setle in the zone door of camera .*; did you mean settle",
        ),
        (
            "[0.9, 0.5]]",
            "[0.1, 0.5]]",
            r":11: the line entrance of .* has the same point twice in a row: \[0.1, 0.5\]",
        ),
        (
            "to_right: in",
            "to_right: to street",
            r":11: both directions of the line entrance of .* are called to street",
        ),
        (
            "until: 2026-03-01T12:00",
            "until: 2025-01-01",
            r":6: until of camera .* is 2025-01-01; write a time after from, 2026-01-01",
        ),
        (
            "from: 2026-01-01",
            "from: yesterday",
            r":5: from of camera .* is yesterday; write a day or a time",
        ),
        (
            "camera: [north",
            "cam: [north",
            r":4: unknown name cam in an entry of cameras; did you mean camera",
        ),
        (
            "[0.8, 0.3]",
            "[0.1, 0.65]",
            r":13: three of the four points of the ground .* lie on a line",
        ),
        ("[5, 0]", "[0, 0]", r":14: three of the four metres of the ground of camera .* on a line"),
        (
            "[5, 0], [5, 8]",
            "[5, 8], [5, 0]",
            r":14: .*: the corners of metres are not in the order",
        ),
        ("[[0, 0], [5, 0]", "[[5, 0], [0, 0]", r":14: .*: metres are \[\[5, 0\], .*, points are"),
        ("[5, 8]", "[1, 2]", r":14: the ground of camera .*: the corners of metres are not in the"),
        (
            "to_right: in",
            "to_left: in",
            r":11: the line entrance of camera north, side-\* has left: street, which calls the "
            "direction to street, and to_left: in. Write one of the two",
        ),
        (
            "to_right: in",
            "right: []",
            r":11: right of the line entrance of .* is \[\]; write a text",
        ),
        ("counter: [[0.1, 0.1], [0.4, 0.1], [0.4, 0.4]]", "counter: 3", r":8: the zone .* is 3;"),
        (
            "metres:",
            "meters:",
            r":14: unknown name meters in the ground of camera .*; did you mean metres",
        ),
        ("counter:", "'door':", r":9: door is there twice in zones of camera north"),
        ("settle: 0.7", "settle: 1e9", r":2: settle is 1e9; write a number from 0 to 3600"),
        (
            "settle: 0.2",
            "settle: 1e9",
            r":9: settle of the zone door of camera .* is 1e9; write a number from 0 to 3600",
        ),
        (
            "[5, 0]",
            "[1e200, 0]",
            r":14: x of a point of metres of the .* is 1e200; write a number from -1000000 to "
            "1000000",
        ),
        (
            "counter:",
            "~:",
            r":8: a name in zones of camera .* is ~; write a text; ~ is nothing in YAML, quote it",
        ),
        ("[north", "[null", r":4: camera is null; write a text; null is nothing in YAML"),
        ("street,", "~,", r":11: left of the line entrance of .* is ~; write a text; ~ is nothing"),
        ("counter", "cou\x00nter", r"zones.yaml:8: this is no YAML: special characters"),
        ("settle: 0.7", "settle: [", r"zones.yaml:\d+: this is no YAML"),
    ],
)
def test_a_mistake_names_its_line(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigurationError, match=message):
        parse_zones(GOOD.replace(old, new, 1))


COUNTER = "[[0.1, 0.1], [0.4, 0.1], [0.4, 0.4]]"


@pytest.mark.parametrize(
    "bow",
    [
        "[[0.1, 0.1], [0.4, 0.4], [0.4, 0.1], [0.1, 0.5]]",
        "[[0.1, 0.1], [0.4, 0.4], [0.4, 0.1], [0.1, 0.4]]",  # as much on one side as on the other
        "[[0.1, 0.1], [0.4, 0.4], [0.4, 0.1], [0.1, 0.4], [0.1, 0.1]]",
    ],
)
def test_a_border_that_crosses_itself_is_refused(bow: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r":8: the border of the zone counter of .* crosses"
    ):
        parse_zones(GOOD.replace(COUNTER, bow))


def test_a_border_that_touches_itself_is_a_warning() -> None:
    eight = "[[0.1, 0.1], [0.3, 0.3], [0.5, 0.1], [0.5, 0.5], [0.3, 0.3], [0.1, 0.5]]"
    (found,) = warnings_of(parse_zones(GOOD.replace(COUNTER, eight)))
    assert found.startswith("zones.yaml:8: the border of the zone counter touches itself")
    closed = COUNTER.replace("]]", "], [0.1, 0.1]]")
    assert warnings_of(parse_zones(GOOD.replace(COUNTER, closed))) == []


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        ("to_right: in", "is called to left. Write to_left or left, too"),
        ("left: street", "is called to right. Write to_right or right, too"),
        ("left: a, right: b", None),
    ],
)
def test_a_direction_that_is_named_on_one_side_only_is_a_warning(
    names: str, warning: str | None
) -> None:
    text = GOOD.replace("left: street, to_right: in", names)
    found = warnings_of(parse_zones(text))
    assert [f.partition("; the other one ")[2] for f in found] == ([warning] if warning else [])
    assert all(f.startswith("zones.yaml:11: only one direction of the line ent") for f in found)


def test_what_is_left_empty_is_nothing() -> None:
    empty = """
cameras:
  - camera: north
    zones:
    lines: ~
    ground: null
"""
    assert parse_zones(empty).shapes == ()
    assert parse_zones("cameras:\n").shapes == ()


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zones.yaml"
    path.write_bytes(GOOD.replace("door", "T\u00fcr").encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"zones.yaml:9: this is not UTF-8. Save"):
        read_zones(path)
    path.write_bytes(GOOD.replace("door", "T\u00fcr").encode("utf-8-sig"))
    assert read_zones(path).shapes[1].name == "T\u00fcr"


def test_a_name_may_come_again_at_another_time_only() -> None:
    again = """
  - camera: north
    from: {since}
    lines: {{entrance: [[0, 0.2], [1, 0.2]]}}
"""
    moved = parse_zones(GOOD + again.format(since="2026-03-01T12:00"))
    assert len(moved.of("north", datetime(2026, 3, 2)).shapes) == 1
    twice = parse_zones(GOOD + again.format(since="2026-02-01"))
    with pytest.raises(ConfigurationError, match=r":18: camera north has the line entrance twice"):
        twice.of("north", datetime(2026, 2, 2))


@pytest.mark.parametrize(
    ("points", "warning"),
    [
        ("[[0, 0.1], [0, 0.9]]", "no crossing can be seen"),
        ("[[0.1, 0.01], [0.9, 0.01]]", "no feet are"),
        ("[[0.5, 0.5], [0.501, 0.5]]", "hardly any path"),
    ],
)
def test_a_line_that_cannot_be_crossed_is_a_warning(points: str, warning: str) -> None:
    assert warnings_of(parse_zones(GOOD)) == []
    (found,) = warnings_of(parse_zones(GOOD.replace("[[0.1, 0.5], [0.9, 0.5]]", points)))
    assert warning in found
    assert found.startswith("zones.yaml:11:")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert read_zones(None).shapes == ()
    with pytest.raises(ConfigurationError, match="there is no such file"):
        read_zones(tmp_path / "zones.yaml")


def test_a_file_in_s3_is_read(bucket: str) -> None:
    import boto3

    s3 = boto3.client("s3")
    s3.put_object(Bucket=bucket, Key="site/zones.yaml", Body=GOOD.encode())
    s3.put_object(Bucket=bucket, Key="zones.yaml", Body=b"cameras: 3")
    assert len(read_zones(f"s3://{bucket}/site/zones.yaml").shapes) == 3
    with pytest.raises(
        ConfigurationError, match=rf"s3://{bucket}/zones.yaml:1: cameras is 3; write a list"
    ):
        read_zones(f"s3://{bucket}/zones.yaml")
    with pytest.raises(ConfigurationError, match=r"no.yaml: there is no such file"):
        read_zones(f"s3://{bucket}/no.yaml")
