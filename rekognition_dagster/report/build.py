"""Building a report: facts from the lake, charts and pictures from them, one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rekognition_dagster.errors import ConfigurationError, VideoError
from rekognition_dagster.outputs import new_file
from rekognition_dagster.report import charts
from rekognition_dagster.report.facts import NO_CAMERA, Facts, Row, Scope, ask_heat, gather
from rekognition_dagster.report.page import CameraPart, Moment, Page, Picture

if TYPE_CHECKING:
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.pictures.timeline import Blur

_MOST_STILLS = 12
"""On one page, of the busiest moments of all."""


@dataclass(frozen=True)
class Report:
    """A report that was made.

    Args:
        page: What it says.
        html: The page.
    """

    page: Page
    html: str


def build_report(
    lake: Lake,
    scope: Scope,
    *,
    pictures: bool = True,
    blur: Blur | None = "people",
    client: Any = None,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """Make a report about days of cameras.

    Args:
        lake: The lake; its tables per day are as they are.
        scope: Days and cameras.
        pictures: Whether videos are opened for backgrounds and stills.
        blur: What is covered in stills.
        client: A boto3 ``s3`` client for the videos; None is one of the default session.
        progress: Called with the fraction done, 0 to 1.

    Raises:
        LakeError: The lake cannot be read.
        ConfigurationError: It has no such camera.
    """
    tell = progress or (lambda _: None)
    facts = gather(lake, scope)
    tell(0.1)
    page = Page(scope, facts, lake.url, datetime.now(timezone.utc), notes=[*facts.notes])
    page.charts = _overview(facts, scope)
    by_camera = {name: _of(getattr(facts, name)) for name in _PARTS}
    shown = _shown(facts.moments)
    films = _Films(lake, facts.moments if pictures else (), client, blur)
    page.blur = blur if pictures else None
    for number, totals in enumerate(facts.cameras):
        own = {name: rows.get(totals["camera"], []) for name, rows in by_camera.items()}
        page.cameras.append(_camera(totals, own, films, shown))
        tell(0.1 + 0.9 * (number + 1) / len(facts.cameras))
    page.notes += films.notes
    return Report(page, page.html())


def heat_pictures(lake: Lake, day: date, most: int = 3) -> dict[str, Picture]:
    """Return heat maps of the busiest cameras of a day, by camera, without any frame of a video."""
    from rekognition_dagster.report import stills

    by_camera = _of(ask_heat(lake, Scope(day, day)))
    busiest = sorted(by_camera, key=lambda c: -sum(r["person_seconds"] for r in by_camera[c]))
    return {
        camera or NO_CAMERA: stills.picture(stills.heat_map(by_camera[camera], None))
        for camera in busiest[:most]
    }


def write_report(report: Report, output: Path) -> Path:
    """Write a report's page to a file, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    with new_file(output) as beside:
        beside.write_text(report.html, encoding="utf-8")
    return output


_PARTS = ("by_hour", "minutes", "heat", "crossings", "stays", "dwell", "moments")


def _of(rows: Iterable[Row]) -> dict[str | None, list[Row]]:
    found: dict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["camera"]].append(row)
    return found


def _shown(moments: Sequence[Row]) -> set[tuple[str, int]]:
    """The moments that have a still: the busiest of each camera first."""
    order = sorted(moments, key=lambda m: -m["people"])
    first: dict[str | None, Row] = {}
    for moment in order:
        first.setdefault(moment["camera"], moment)
    chosen = [*first.values(), *(m for m in order if m not in first.values())]
    return {(m["video"], m["timestamp_ms"]) for m in chosen[:_MOST_STILLS]}


def _overview(facts: Facts, scope: Scope) -> list[charts.Chart]:
    found: list[charts.Chart] = []
    if len(facts.by_day) > 1:
        found.append(charts.trend(facts.by_day, scope.since))
    if len(facts.cameras) > 1:
        found.append(charts.by_hour(facts.by_hour, "People by hour of the day, all cameras"))
        found.append(charts.cameras_by_hour(facts.by_hour))
    if facts.labels:
        found.append(charts.labels(facts.labels))
    return found


def _camera(
    totals: Row,
    own: dict[str, list[Row]],
    films: _Films,
    shown: set[tuple[str, int]],
) -> CameraPart:
    part = CameraPart(totals["camera"] or NO_CAMERA, totals)
    part.charts.append(charts.by_hour(own["by_hour"]))
    if own["minutes"]:
        part.charts.append(charts.occupancy(own["minutes"]))
    if own["crossings"]:
        part.charts.append(charts.crossings(own["crossings"]))
        part.crossings = _by_direction(own["crossings"])
    if own["dwell"]:
        part.charts.append(charts.dwell(own["dwell"]))
        part.stays = [{k: v for k, v in row.items() if k != "camera"} for row in own["stays"]]
    part.moments = [Moment(row) for row in own["moments"]]
    films.add_to(part, own["heat"], shown)
    return part


def _by_direction(rows: Sequence[Row]) -> list[Row]:
    found: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        found[row["line"], row["direction"]] += row["crossings"]
    return [{"line": line, "direction": way, "crossings": n} for (line, way), n in found.items()]


class _Films:
    """Opens each camera's videos once, for its background and its stills; none without moments."""

    def __init__(
        self,
        lake: Lake,
        moments: Sequence[Row],
        client: Any,
        blur: Blur | None,
    ) -> None:
        from rekognition_dagster.pictures.moments import facts_of

        self._lake = lake
        self._client = client
        self._is_asked = bool(moments)
        self._said: list[str] = []
        self._failures: dict[str, list[str]] = {}
        self._no_s3 = ""
        self._blur: Blur | None = blur
        self._facts = facts_of(lake, sorted({str(moment["video"]) for moment in moments}))

    @property
    def notes(self) -> list[str]:
        """What a reader should know: each reason once, with how many videos it is about."""
        found = list(dict.fromkeys(self._said))
        for reason, uris in self._failures.items():
            more = f" and {len(uris) - 1} more" if len(uris) > 1 else ""
            found.append(f"No picture of {uris[0]}{more}: {reason}")
        return found

    def _failed(self, uri: str, reason: str) -> None:
        self._failures.setdefault(reason, []).append(uri)

    def add_to(self, part: CameraPart, heat: Sequence[Row], shown: set[tuple[str, int]]) -> None:
        """Add pictures to a camera's part."""
        from rekognition_dagster.pictures.moments import filmed
        from rekognition_dagster.report import stills

        background = None
        by_video: dict[str, list[Moment]] = defaultdict(list)
        for moment in part.moments:
            by_video[moment.row["video"]].append(moment)
        for uri, moments in by_video.items():
            wanted = [m for m in moments if (uri, m.row["timestamp_ms"]) in shown]
            if not self._is_asked or (background is not None and not wanted):
                continue
            if self._no_s3 and uri.startswith("s3://"):
                self._failed(uri, self._no_s3)
                continue
            try:
                known = self._facts.get(uri)
                with filmed(self._lake, uri, self._client, self._said, known) as film:
                    if background is None:
                        background = stills.without_people(film)
                    for m in wanted:
                        image = stills.moment(film, m.row["timestamp_ms"], self._blur)
                        m.image = stills.picture(image)
            except VideoError as error:
                self._failed(uri, str(error).removeprefix(f"{uri}: "))
            except ConfigurationError as error:  # which would be so for each
                self._no_s3 = str(error).removeprefix(f"{uri}: ")
                self._failed(uri, self._no_s3)
        if heat:
            image = stills.heat_map(heat, background)
            part.heat = stills.picture(image)
            part.cells = heat
            most = max(row["person_seconds"] for row in heat)
            total = sum(row["person_seconds"] for row in heat)
            part.heat_note = (
                f"brighter is longer: up to {most:,.0f} of {total:,.0f} person-seconds in one of "
                f"32 x 18 cells; arrows point the way of people who walk"
                + ("." if background is not None else ". It lies on no frame of the camera.")
            )
