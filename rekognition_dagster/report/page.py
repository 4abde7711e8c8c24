"""The page: facts, charts and pictures in one HTML file without scripts."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from rekognition_dagster.report.charts import Chart
from rekognition_dagster.report.facts import Facts, Row, Scope

_PREVIEW_WIDTH = 320
_MOST_TABLE_ROWS = 60
"""A chart of more rows has its data as CSV alone."""


@dataclass(frozen=True)
class Picture:
    """A picture on the page.

    Args:
        jpeg: The file.
        width: In pixels.
        height: In pixels.
    """

    jpeg: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """An address that contains the picture."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"

    def markdown(self, title: str) -> str:
        """A small one in Markdown, as Dagster shows it."""
        return f"![{plain_markdown(title)}]({self.preview().uri})"

    def preview(self) -> Picture:
        """A small one, of some kilobytes."""
        import cv2
        import numpy as np

        image: Any = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        width, height = _PREVIEW_WIDTH, round(_PREVIEW_WIDTH * self.height / self.width)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        return Picture(encoded.tobytes(), width, height)

    @property
    def size(self) -> Markup:
        """Its size as attributes, so that the page does not move when it is shown."""
        return Markup(f'width="{self.width}" height="{self.height}"')


@dataclass
class Moment:
    """A busiest moment.

    Args:
        row: The facts.
        image: A still; None where the video is gone or stills are not asked for.
    """

    row: Row
    image: Picture | None = None


@dataclass
class CameraPart:
    """What the page says of one camera.

    Args:
        name: Its name.
        totals: Of the days.
        heat: Where people were.
        heat_note: What the picture shows.
        cells: What it is drawn from.
        charts: Charts.
        stays: By zone.
        crossings: By line and direction.
        moments: The busiest.
    """

    name: str
    totals: Row
    heat: Picture | None = None
    heat_note: str = ""
    cells: Sequence[Row] = ()
    charts: list[Chart] = field(default_factory=list)
    stays: list[Row] = field(default_factory=list)
    crossings: list[Row] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)


@dataclass
class Page:
    """A report before it is written.

    Args:
        scope: What it is about.
        facts: What the lake says.
        lake: The lake.
        made_at: When it was made, UTC.
        charts: Of all cameras.
        cameras: Of each, the busiest first.
        notes: What a reader should know.
        blur: What is covered in stills, or None.
    """

    scope: Scope
    facts: Facts
    lake: str
    made_at: datetime
    charts: list[Chart] = field(default_factory=list)
    cameras: list[CameraPart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blur: str | None = None

    @property
    def summary(self) -> str:
        """People and cameras in words."""
        total = self.totals
        cameras = counted(total["cameras"], "camera", "cameras")
        return f"{counted(total['people'], 'person', 'people')} at {cameras}"

    @property
    def totals(self) -> dict[str, Any]:
        """Sums over the cameras."""
        rows = self.facts.cameras
        return {
            "cameras": len(rows),
            "people": sum(r["people"] for r in rows),
            "person_hours": sum(r["person_hours"] for r in rows),
            "recorded_hours": sum(r["recorded_hours"] for r in rows),
            "visits": sum(r["visits"] for r in rows),
            "crossings": sum(r["crossings"] for r in rows),
            "begun_mid_picture": sum(r["begun_mid_picture"] for r in rows),
            "busiest": max(self.facts.moments, key=lambda m: m["people"], default=None),
        }

    def html(self) -> str:
        """The page."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("rekognition_dagster.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "people": lambda n: counted(n, "person", "people"),
            "whole": lambda n: f"{n:,.0f}",
            "percent": lambda n: "unknown" if n is None else f"{100 * n:.0f} %",
            "length": duration,
            "csv": csv_uri,
            "cells": cells,
            "file_name": file_name,
            "clock": clock,
            "moment": lambda t: f"{t:%Y-%m-%d %H:%M:%S}" if t else "",
        }
        return environment.get_template("page.html").render(
            page=self, facts=self.facts, scope=self.scope, most_rows=_MOST_TABLE_ROWS
        )


def counted(number: int, one: str, several: str) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else several}"


def plain_markdown(text: str) -> str:
    """A name that Markdown takes for nothing else."""
    for character in "\\`*_{}[]()<>#+!|~":
        text = text.replace(character, f"\\{character}")
    return text[:120]


def file_name(*parts: object) -> str:
    """A name of letters, digits and hyphens."""
    return re.sub(r"[^\w]+", "-", " ".join(map(str, parts)).lower()).strip("-")


def clock(time_ms: int) -> str:
    """A place in a video, as players and ``draw --from`` have it: ``1:02:03``."""
    minutes, seconds = divmod(int(time_ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"


def csv_uri(rows: Sequence[Row]) -> str:
    """Rows as CSV in an address that contains them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(cells(rows))
    return "data:text/csv;charset=utf-8," + quote(text.getvalue(), safe=",:-./")


def cells(rows: Sequence[Row]) -> Iterable[list[Any]]:
    """A header, and a line a row."""
    if rows:
        yield list(rows[0])
        yield from ([_cell(value) for value in row.values()] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return value.isoformat() if isinstance(value, (date, datetime)) else value
