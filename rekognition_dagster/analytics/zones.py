"""zones.yaml: polygons and lines by camera, read and checked, with errors that name the line.

Points are ratios of the picture, ``[0, 0]`` at the top left. What the models read of it are the
tables that :func:`shapes_of` returns; the ground plane becomes a 3x3 matrix.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, time, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.lake.storage import Storage, lake_errors

Point = tuple[float, float]
_SHIFT = (1.3e-6, 2.9e-6)
"""Moves every shape by a millionth of the picture, more than a float32 is wrong by: one who stands
exactly on an edge stays on one side of it."""


@dataclass(frozen=True)
class Shape:
    """A zone or a line of some cameras.

    Args:
        kind: Which of the two.
        name: Its name.
        cameras: Names of cameras; they may have ``*``.
        points: A polygon's corners, or a line's points from its first to its last.
        settle_s: A person has crossed its border when they stay on either side for so long.
        directions: Names of a line's directions to the left and to the right side, for one who
            looks from its first point to its last.
        since: The camera's local time from which on it holds.
        until: The camera's local time from which on it no longer holds.
        line: Where the file has it.
    """

    kind: Literal["zone", "line"]
    name: str
    cameras: tuple[str, ...]
    points: tuple[Point, ...]
    settle_s: float
    directions: tuple[str, str] = ("to left", "to right")
    since: datetime | None = None
    until: datetime | None = None
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Ground:
    """The ground plane of some cameras: the matrix from the picture to metres."""

    cameras: tuple[str, ...]
    matrix: tuple[float, ...]
    kind: ClassVar[Literal["ground"]] = "ground"
    since: datetime | None = None
    until: datetime | None = None
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Options:
    """What the tables of people's movement depend on, for all cameras.

    Args:
        point: Where a person is: the bottom centre of the box, or its centre.
        settle_s: A border is crossed by one who stays on either side for so long.
        gap_s: Between two detections that are further apart in time a person is not followed.
        still: One who moves slower stands still: body heights a second, or metres with a ground
            plane.
        near: Two people that are nearer meet: body heights, or metres with a ground plane.
        near_s: For so long at least.
    """

    point: Literal["bottom", "centre"] = "bottom"
    settle_s: float = 0.5
    gap_s: float = 5.0
    still: float = 0.2
    near: float = 1.0
    near_s: float = 3.0


@dataclass(frozen=True)
class Zones:
    """The content of zones.yaml; empty where there is none."""

    shapes: tuple[Shape, ...] = ()
    grounds: tuple[Ground, ...] = ()
    options: Options = Options()
    source: str = field(default="zones.yaml", compare=False)

    def of(self, camera: str | None, at: datetime | None) -> Zones:
        """The shapes and the ground plane of a camera.

        Args:
            camera: Its name; only ``*`` matches one that is not known.
            at: A local time, for those that hold then; all by default.

        Raises:
            ConfigurationError: Two have the same name, or two ground planes hold.
        """

        def holds(one: Shape | Ground) -> bool:
            if at is None:
                return True
            return (one.since is None or one.since <= at) and (one.until is None or at < one.until)

        shapes = tuple(s for s in self.shapes if _matches(s.cameras, camera) and holds(s))
        grounds = tuple(g for g in self.grounds if _matches(g.cameras, camera) and holds(g))
        if at is not None:
            self._check_unique(camera, shapes, grounds)
        return replace(self, shapes=shapes, grounds=grounds)

    def _check_unique(
        self, camera: str | None, shapes: Sequence[Shape], grounds: Sequence[Ground]
    ) -> None:
        seen: dict[tuple[str, str], int] = {}
        for one in (*shapes, *grounds):
            key = (one.kind, one.name) if isinstance(one, Shape) else ("ground", "plane")
            if key in seen:
                raise ConfigurationError(
                    f"{self.source}:{one.line}: camera {camera or 'unknown'} has the "
                    f"{' '.join(key)} twice at the same time; the other one is in line "
                    f"{seen[key]}. Rename one, or say from when until when it holds"
                )
            seen[key] = one.line

    def digest(self, camera: str | None, day: date, kinds: Collection[str]) -> str:
        """A text that changes when anything changes that concerns a camera on a day.

        Args:
            camera: The camera.
            day: The day.
            kinds: What counts: ``zone``, ``line``, ``ground``; the options always do.
        """
        ours = self.of(camera, None)
        # A recording of the day may have begun on the one before.
        first = datetime.combine(day, time()) - timedelta(1)
        last = first + timedelta(2)
        content = sorted(
            json.dumps({**asdict(p), "line": 0, "cameras": ""}, default=str)
            for p in (*ours.shapes, *ours.grounds)
            if p.kind in kinds
            and (p.since is None or p.since < last)
            and (p.until is None or p.until > first)
        )
        options = {**asdict(self.options), "settle_s": 0}  # each shape has it
        text = json.dumps([content, options], default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _matches(patterns: Iterable[str], camera: str | None) -> bool:
    if camera is None:
        return "*" in patterns
    return any(fnmatch.fnmatchcase(camera, p) for p in patterns)


def read_zones(place: str | Path | None) -> Zones:
    """Read zones.yaml.

    Args:
        place: Its path, or ``s3://bucket/key``; None is a file without zones.

    Raises:
        ConfigurationError: It is not there, or wrong; the text names the line.
        LakeError: S3 cannot be read.
    """
    if place is None or not str(place):
        return Zones()
    text = str(place)
    if text.startswith("s3://"):
        folder, _, name = text.rpartition("/")
        storage = Storage.at(folder)
        with lake_errors(storage, name, "read"):
            content = storage.read(name)
    else:
        path = Path(text).expanduser()
        content = path.read_bytes() if path.is_file() else None
        text = text if content is not None else str(path.absolute())
    if content is None:
        raise ConfigurationError(f"{text}: there is no such file. Check the path of the zones")
    return parse_zones(_decoded(content, text), text)


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{source}:{line}: this is not UTF-8. Save the file with the encoding UTF-8"
        ) from None


def parse_zones(text: str, source: str = "zones.yaml") -> Zones:
    """Read the text of zones.yaml.

    Raises:
        ConfigurationError: It is wrong; the text names the line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark, position = (getattr(error, n, None) for n in ("problem_mark", "position"))
        line = mark.line + 1 if mark else text.count("\n", 0, position or 0) + 1
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise ConfigurationError(f"{source}:{line}: this is no YAML: {problem}") from None
    if root is None:
        return Zones(source=source)
    return _Reader(source).zones(root)


_YamlNode = yaml.Node


@dataclass(frozen=True)
class _Reader:
    """Reads YAML's nodes, which have their lines."""

    source: str

    def wrong(self, node: _YamlNode, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self.source}:{node.start_mark.line + 1}: {what}")

    def zones(self, root: _YamlNode) -> Zones:
        members = self.mapping(root, "the file", ("cameras", *_OPTIONS))
        options = replace(
            Options(),
            **{
                _OPTIONS[name]: self._option(node, name, name)
                for name, node in members.items()
                if name != "cameras"
            },
        )
        shapes: list[Shape] = []
        grounds: list[Ground] = []
        for entry in self.sequence(members.get("cameras"), "cameras"):
            some, ground = self._camera(entry, options)
            shapes += some
            grounds += [ground] if ground else []
        return Zones(tuple(shapes), tuple(grounds), options, self.source)

    def _option(self, node: _YamlNode, name: str, what: str) -> Any:
        if name == "point":
            value = self.text(node, what)
            if value not in ("bottom", "centre"):
                raise self.wrong(node, f"{what} is {value}; write bottom or centre")
            return value
        return self.number(node, what, least=0.0, most=_MOST[name])

    def _camera(self, entry: _YamlNode, options: Options) -> tuple[list[Shape], Ground | None]:
        known = ("camera", "zones", "lines", "ground", "from", "until", "settle")
        members = self.mapping(entry, "an entry of cameras", known)
        if "camera" not in members:
            raise self.wrong(entry, "names no camera; write camera: north, or camera: '*'")
        cameras = tuple(
            self.text(n, "camera")
            for n in (
                members["camera"].value
                if isinstance(members["camera"], yaml.SequenceNode)
                else [members["camera"]]
            )
        )
        whose = f"of camera {', '.join(cameras)}"
        settle = options.settle_s
        if "settle" in members:
            settle = self._option(members["settle"], "settle", f"settle {whose}")
        since, until = (
            self.moment(members[m], f"{m} {whose}") if m in members else None for m in _TIMES
        )
        if since and until and since >= until:
            raise self.wrong(
                members["until"],
                f"until {whose} is {_shown(members['until'])}; write a time after from, "
                f"{_shown(members['from'])}",
            )
        facts: Any = {"cameras": cameras, "since": since, "until": until}
        shapes = [
            *self._shapes(members.get("zones"), "zone", whose, settle, facts),
            *self._shapes(members.get("lines"), "line", whose, settle, facts),
        ]
        plane = members.get("ground")
        ground = None if plane is None or _is_null(plane) else self._ground(plane, whose, facts)
        return shapes, ground

    def _shapes(
        self, node: _YamlNode | None, kind: Any, whose: str, settle: float, facts: Any
    ) -> Iterator[Shape]:
        if node is None or _is_null(node):
            return
        for name, shape in self.mapping(node, f"{kind}s {whose}").items():
            what = f"the {kind} {name} {whose}"
            found: dict[str, Any] = {"settle_s": settle}
            points = shape
            if isinstance(shape, yaml.MappingNode):
                sides = ("left", "right", "to_left", "to_right") if kind == "line" else ()
                members = self.mapping(shape, what, ("points", "settle", *sides))
                if "points" not in members:
                    raise self.wrong(shape, f"{what} has no points")
                points = members.pop("points")
                if "settle" in members:
                    node = members.pop("settle")
                    found["settle_s"] = self._option(node, "settle", f"settle of {what}")
                if kind == "line":
                    found |= self._directions(shape, members, what)
            corners = self.points(points, what, 3 if kind == "zone" else 2)
            if kind == "zone" and _meets_itself(corners, across=True):
                raise self.wrong(
                    points,
                    f"the border of {what} crosses itself: {_shown(points)}. Write its corners in "
                    "order, around the zone",
                )
            if kind == "zone" and abs(_area(corners)) < 1e-6:
                raise self.wrong(
                    points,
                    f"{what} has no area: {_shown(points)}. Write corners that are not on one line",
                )
            if kind == "line" and (twice := [a for a, b in pairwise(corners) if a == b]):
                raise self.wrong(
                    points,
                    f"{what} has the same point twice in a row: [{twice[0][0]:g}, "
                    f"{twice[0][1]:g}]. Write it once",
                )
            line = points.start_mark.line + 1
            yield Shape(kind, name, points=corners, line=line, **facts, **found)

    def _directions(
        self, shape: _YamlNode, members: Mapping[str, _YamlNode], what: str
    ) -> dict[str, tuple[str, str]]:
        """The names of a line's directions."""
        names = {m: self.text(n, f"{m} of {what}") for m, n in members.items()}
        directions: list[str] = []
        for side in ("left", "right"):
            direction = f"to {names.get(side, side)}"
            given = names.get(f"to_{side}", direction)
            if side in names and given != direction:
                raise self.wrong(
                    members[f"to_{side}"],
                    f"{what} has {side}: {names[side]}, which calls the direction {direction}, and "
                    f"to_{side}: {given}. Write one of the two",
                )
            directions.append(given)
        if directions[0] == directions[1]:
            raise self.wrong(
                shape,
                f"both directions of {what} are called {directions[0]}. Write two names",
            )
        return {"directions": (directions[0], directions[1])}

    def _ground(self, node: _YamlNode, whose: str, facts: Any) -> Ground:
        what = f"the ground {whose}"
        members = self.mapping(node, what, ("points", "metres"))
        if missing := {"points", "metres"} - set(members):
            raise self.wrong(node, f"{what} has no {' and no '.join(sorted(missing))}")
        points = self.points(members["points"], f"points of {what}", 4, 4)
        metres = self.points(members["metres"], f"metres of {what}", 4, 4, of_picture=False)
        for name, four in (("points", points), ("metres", metres)):
            if any(abs(_area(three)) < 1e-6 for three in combinations(four, 3)):
                raise self.wrong(
                    members[name],
                    f"three of the four {name} of {what} lie on a line: "
                    f"{_shown(members[name])}. Write the four corners of an area",
                )
        try:
            matrix = homography(points, metres)
        except ValueError as error:
            raise self.wrong(
                members["metres"],
                f"{what}: {error}: metres are {_shown(members['metres'])}, "
                f"points are {_shown(members['points'])}. Write both around the area, from "
                "the same corner and in the same direction",
            ) from None
        return Ground(matrix=matrix, line=node.start_mark.line + 1, **facts)

    # -- values -------------------------------------------------------------------------------

    def mapping(
        self, node: _YamlNode, what: str, known: Sequence[str] | None = None
    ) -> dict[str, _YamlNode]:
        if not isinstance(node, yaml.MappingNode):
            names = f": {', '.join(known)}" if known else ""
            raise self.wrong(node, f"{what} is {_shown(node)}; write names and values{names}")
        found: dict[str, _YamlNode] = {}
        for key, value in node.value:
            name = self.text(key, f"a name in {what}")
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}? The names are" if near else "the names are"
                raise self.wrong(key, f"unknown name {name} in {what}; {hint} {', '.join(known)}")
            if name in found:
                raise self.wrong(key, f"{name} is there twice in {what}. Write it once")
            found[name] = value
        return found

    def sequence(self, node: _YamlNode | None, what: str) -> list[_YamlNode]:
        if node is None or _is_null(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise self.wrong(node, f"{what} is {_shown(node)}; write a list")
        return node.value

    def text(self, node: _YamlNode, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value or _is_null(node):
            is_null = isinstance(node, yaml.ScalarNode) and node.value and _is_null(node)
            hint = f"; {node.value} is nothing in YAML, quote it if it is meant" if is_null else ""
            raise self.wrong(node, f"{what} is {_shown(node)}; write a text{hint}")
        return node.value

    def number(self, node: _YamlNode, what: str, *, least: float, most: float) -> float:
        try:
            value = float(node.value)
        except (TypeError, ValueError):
            value = math.nan
        if not least <= value <= most:
            raise self.wrong(
                node, f"{what} is {_shown(node)}; write a number from {least:.9g} to {most:.9g}"
            )
        return value

    def moment(self, node: _YamlNode, what: str) -> datetime:
        try:
            found = datetime.fromisoformat(self.text(node, what))
        except ValueError:
            found = None
        if found is None or found.tzinfo is not None:
            raise self.wrong(
                node,
                f"{what} is {_shown(node)}; write a day or a time by the camera's clock: "
                "2026-01-31 or 2026-01-31T14:30",
            )
        return found

    def points(
        self,
        node: _YamlNode,
        what: str,
        least: int,
        most: int | None = None,
        *,
        of_picture: bool = True,
    ) -> tuple[Point, ...]:
        found: list[Point] = []
        for pair in self.sequence(node, what):
            if not isinstance(pair, yaml.SequenceNode) or len(pair.value) != 2:
                raise self.wrong(pair, f"a point of {what} is {_shown(pair)}; write [x, y]")
            first, last = (0, 1) if of_picture else (-_FAR, _FAR)
            x, y = (
                self.number(n, f"{axis} of a point of {what}", least=first, most=last)
                for axis, n in zip("xy", pair.value, strict=True)
            )
            found.append((x, y))
        if len(found) < least or (most is not None and len(found) > most):
            count = f"{least}" if least == most else f"{least} or more"
            raise self.wrong(node, f"{what} needs {count} points; it has {len(found)}")
        return tuple(found)


def _shown(node: _YamlNode) -> str:
    """A value as the file has it, on one line."""
    begin, end = node.start_mark, node.end_mark
    text = " ".join(str(begin.buffer)[begin.pointer : end.pointer].split())
    return (text if len(text) <= _WIDEST else f"{text[:_WIDEST]}...") or "empty"


def _is_null(node: _YamlNode) -> bool:
    return node.tag == "tag:yaml.org,2002:null"


_MOST = {"settle": 3600, "gap": 3600, "still": 100, "near": 1000, "near_for": 86400}
"""The largest values, in the option's unit; what is larger is a slip."""
_FAR = 1e6
"""Metres; what is further away is a slip."""
_WIDEST = 80
"""Characters of a value in an error."""
_TIMES = ("from", "until")
_OPTIONS: Mapping[str, str] = {
    "point": "point",
    "settle": "settle_s",
    "gap": "gap_s",
    "still": "still",
    "near": "near",
    "near_for": "near_s",
}


_NOTHING = 1e-9
_NOT_IN_ORDER = "the corners of metres are not in the order of the points"


def homography(points: Sequence[Point], metres: Sequence[Point]) -> tuple[float, ...]:
    """The 3x3 matrix, row by row, that maps four points to four others.

    Raises:
        ValueError: There is none that maps the area between them.
    """
    # Seen from their middle, for the picture's own origin may lie on the horizon.
    mx, my = (sum(p[axis] for p in points) / 4 for axis in (0, 1))
    rows: list[list[float]] = []
    for (px, py), (u, v) in zip(points, metres, strict=True):
        x, y = px - mx, py - my
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, v])
    for n in range(8):
        pivot = max(range(n, 8), key=lambda r: abs(rows[r][n]))
        rows[n], rows[pivot] = rows[pivot], rows[n]
        if abs(rows[n][n]) < _NOTHING:
            raise ValueError(_NOT_IN_ORDER)
        rows[n] = [value / rows[n][n] for value in rows[n]]
        for r in range(8):
            if r != n:
                rows[r] = [a - rows[r][n] * b for a, b in zip(rows[r], rows[n], strict=True)]
    h = (*(row[8] for row in rows), 1.0)
    if any(h[6] * (x - mx) + h[7] * (y - my) + 1 < _NOTHING for x, y in points):
        raise ValueError(_NOT_IN_ORDER)  # the horizon lies between the points
    moved = (value for a, b, c in (h[:3], h[3:6], h[6:]) for value in (a, b, c - a * mx - b * my))
    return tuple(moved)


def warnings_of(zones: Zones) -> list[str]:
    """What is allowed in zones.yaml and is probably not meant."""
    found: list[str] = []
    for shape in zones.shapes:
        if shape.kind == "zone" and _meets_itself(shape.points):
            found.append(
                f"{zones.source}:{shape.line}: the border of the zone {shape.name} touches itself. "
                "Check the order of its corners"
            )
        if shape.kind == "line":
            named = [d != n for d, n in zip(shape.directions, Shape.directions, strict=True)]
            if any(named) and not all(named):
                other, name = (("to_left", "left"), ("to_right", "right"))[named.index(False)]
                found.append(
                    f"{zones.source}:{shape.line}: only one direction of the line {shape.name} "
                    f"has a name; the other one is called {Shape.directions[named.index(False)]}. "
                    f"Write {other} or {name}, too"
                )
            for axis in (0, 1):
                values = {p[axis] for p in shape.points}
                if values <= {0.0} or values <= {1.0}:
                    found.append(
                        f"{zones.source}:{shape.line}: the line {shape.name} lies on the border of "
                        "the picture, where no crossing can be seen. Move it into the picture"
                    )
            if zones.options.point == "bottom" and all(p[1] < 0.02 for p in shape.points):
                found.append(
                    f"{zones.source}:{shape.line}: the line {shape.name} lies at the top of the "
                    "picture, where no feet are, so that no crossing can be seen"
                )
            length = sum(math.dist(a, b) for a, b in pairwise(shape.points))
            if length < 0.01:
                found.append(
                    f"{zones.source}:{shape.line}: the line {shape.name} is shorter than a "
                    "hundredth of the picture: hardly any path crosses it"
                )
    return found


def _area(points: Sequence[Point]) -> float:
    pairs = zip(points, [*points[1:], points[0]], strict=True)
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs) / 2


def _meets_itself(points: Sequence[Point], *, across: bool = False) -> bool:
    """Whether two pieces of a border that are not neighbours touch, or cross (``across``)."""
    corners = [a for a, b in zip(points, [*points[1:], points[0]], strict=True) if a != b]
    edges = list(zip(corners, [*corners[1:], *corners[:1]], strict=True))
    most = -1e-12 if across else 1e-12

    def side(a: Point, b: Point, p: Point) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    def overlap(axis: int, *ends: Point) -> bool:
        a, b, c, d = (p[axis] for p in ends)
        return min(a, b) <= max(c, d) and min(c, d) <= max(a, b)

    return any(
        side(a, b, c) * side(a, b, d) <= most
        and side(c, d, a) * side(c, d, b) <= most
        and all(overlap(axis, a, b, c, d) for axis in (0, 1))
        for (i, (a, b)), (j, (c, d)) in combinations(enumerate(edges), 2)
        if 1 < j - i < len(edges) - 1
    )


# -- tables ---------------------------------------------------------------------------------------


def tables_of(
    zones: Zones, recordings: Iterable[tuple[int, str | None, datetime | None]]
) -> dict[str, list[dict[str, Any]]]:
    """The rows that models read of the zones that hold at the start of some recordings.

    Args:
        zones: All of them.
        recordings: Number, camera and local start of each.

    Returns:
        ``shapes``, a row a zone or line of a recording; ``edges``, a row a piece of its border;
        ``grounds``, a row a recording with a ground plane.

    Raises:
        ConfigurationError: Two shapes have the same name.
    """
    found: dict[str, list[dict[str, Any]]] = {"shapes": [], "edges": [], "grounds": []}
    numbers = {shape: n for n, shape in enumerate(dict.fromkeys(zones.shapes))}
    by_camera: dict[str | None, Zones] = {}
    for recording, camera, at in recordings:
        if camera not in by_camera:
            by_camera[camera] = zones.of(camera, None)
        ours = by_camera[camera].of(camera, at or datetime.min)
        for shape in ours.shapes:
            number = numbers[shape]
            found["shapes"].append(
                {
                    "recording": recording,
                    "shape": number,
                    "kind": shape.kind,
                    "name": shape.name,
                    "settle_ms": round(shape.settle_s * 1000),
                    "to_left": shape.directions[0],
                    "to_right": shape.directions[1],
                }
            )
            corners = [*shape.points, shape.points[0]] if shape.kind == "zone" else shape.points
            for (x1, y1), (x2, y2) in pairwise(corners):
                found["edges"].append(
                    {
                        "recording": recording,
                        "shape": number,
                        "kind": shape.kind,
                        "x1": x1 + _SHIFT[0],
                        "y1": y1 + _SHIFT[1],
                        "x2": x2 + _SHIFT[0],
                        "y2": y2 + _SHIFT[1],
                    }
                )
        for ground in ours.grounds:
            matrix = {f"h{n}": value for n, value in enumerate(ground.matrix)}
            found["grounds"].append({"recording": recording, **matrix})
    return found
