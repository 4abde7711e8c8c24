"""The report's charts: Vega-Lite, through Altair, as SVG that follows the page's colours."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import altair as alt

from rekognition_dagster.report.facts import NO_CAMERA, Row, dwell_bins

_WIDTH, _HEIGHT = 300, 120
_ROW_HEIGHT = 16
_PADDING = {"left": 2, "top": 2, "right": 2, "bottom": 2}
_NAMES_LEFT = 24
"""Beside names: the reader's font may be wider than the one that the chart is laid out with."""


@dataclass(frozen=True)
class Chart:
    """A chart.

    Args:
        title: What it shows.
        svg: The picture.
        rows: What it is drawn from.
    """

    title: str
    svg: str
    rows: Sequence[Row]


def trend(rows: Sequence[Row], first: Any) -> Chart:
    """People a day; the days before the report's are paler."""
    data = [{"day": f"{r['day']}", "people": r["people"], "now": r["day"] >= first} for r in rows]
    chart = _chart(data).mark_bar().encode(
        x=alt.X("day:O", title=None, axis=alt.Axis(labelAngle=-60)),
        y=_y("people"),
        opacity=alt.condition("datum.now", alt.value(1.0), alt.value(0.45)),
    )  # fmt: skip
    return _made("People a day", chart, rows)


def by_hour(rows: Sequence[Row], title: str = "People by hour of the day") -> Chart:
    """People in each hour, of all cameras of the rows."""
    chart = _chart(rows).mark_bar().encode(x=_hours(), y=_y("people", "sum(people):Q"))
    return _made(title, chart, rows)


def cameras_by_hour(rows: Sequence[Row]) -> Chart:
    """Which camera saw people when: a row a camera, fuller for more people."""
    data = [{**r, "camera": _name(r["camera"])} for r in rows]
    count = len({r["camera"] for r in data})
    chart = _chart(data, height=_ROW_HEIGHT * count).mark_rect().encode(
        x=_hours(),
        y=alt.Y("camera:N", title=None, axis=alt.Axis(labelLimit=110)),
        opacity=alt.Opacity(
            "people:Q",
            scale=alt.Scale(range=[0.04, 1], domainMin=0),
            legend=alt.Legend(orient="bottom", title="people", symbolType="square"),
        ),
    )  # fmt: skip
    return _made("Cameras by hour", chart, rows, _NAMES_LEFT)


def occupancy(rows: Sequence[Row]) -> Chart:
    """The most people at once, and a line of the mean, over time."""
    data: list[Row] = []
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        values = {"most": row["most"], "mean": row["mean"]}
        data.append({"at": row["starts"].isoformat(), **values})
        if after is None or after["starts"] != row["ends"]:  # a gap, which is not drawn across
            end = row["ends"].isoformat()
            data += [{"at": end, **values}, {"at": end, "most": None, "mean": None}]
    is_short = rows[-1]["ends"] - rows[0]["starts"] <= timedelta(days=1)
    axis = alt.Axis(tickCount=6, format="%H:%M" if is_short else "%d %b")
    base = _chart(data).encode(x=alt.X("at:T", title=None, axis=axis))
    most = base.mark_area(interpolate="step-after", opacity=0.35).encode(
        y=_y("people at once", "most:Q")
    )
    mean = base.mark_line(interpolate="step-after", strokeWidth=1.5).encode(y=alt.Y("mean:Q"))
    return _made("People at once: most (area) and mean (line)", most + mean, rows)


def crossings(rows: Sequence[Row]) -> Chart:
    """Crossings of lines by hour, a row for each line and direction."""
    data = [{**r, "way": f"{r['line']}: {r['direction']}"} for r in rows]
    chart = _chart(data, height=60).mark_bar().encode(
        x=_hours(), y=_y("crossings", "sum(crossings):Q"), row=_facet("way")
    )  # fmt: skip
    return _made("Crossings by hour of the day", chart, rows)


def dwell(rows: Sequence[Row]) -> Chart:
    """How long people stayed, a row for each zone."""
    names = dwell_bins()
    data = [{**r, "stay": names[r["bin"]]} for r in rows]
    chart = _chart(data, height=60).mark_bar().encode(
        x=alt.X("stay:O", sort=names, scale=alt.Scale(domain=names), title="length of the stay"),
        y=_y("visits", "sum(visits):Q"),
        row=_facet("zone"),
    )  # fmt: skip
    return _made("How long people stayed", chart, data)


def labels(rows: Sequence[Row]) -> Chart:
    """Seconds in which each label was seen."""
    chart = _chart(rows, height=_ROW_HEIGHT * len(rows)).mark_bar().encode(
        x=alt.X("seconds:Q", title="seconds in view", axis=alt.Axis(tickCount=4)),
        y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=110)),
    )  # fmt: skip
    return _made("Labels", chart, rows, _NAMES_LEFT)


def _chart(rows: Sequence[Row], height: int = _HEIGHT) -> alt.Chart:
    values: Any = [{k: _plain(v) for k, v in row.items()} for row in rows]
    return alt.Chart(alt.Data(values=values)).properties(width=_WIDTH, height=height)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _name(camera: str | None) -> str:
    return NO_CAMERA if camera is None else camera


def _hours() -> alt.X:
    axis = alt.Axis(values=list(range(0, 24, 3)), labelAngle=0)
    return alt.X(
        "hour:O", title="hour of the day", scale=alt.Scale(domain=list(range(24))), axis=axis
    )


def _y(title: str, shorthand: str | None = None) -> alt.Y:
    return alt.Y(shorthand or f"{title}:Q", title=title, axis=alt.Axis(tickCount=4, format="~s"))


def _facet(name: str) -> alt.Row:
    header = alt.Header(labelOrient="top", labelAnchor="start", labelLimit=_WIDTH)
    return alt.Row(f"{name}:N", title=None, header=header)


def _made(title: str, chart: Any, rows: Sequence[Row], left: int = 2) -> Chart:
    import vl_convert

    spec = (
        chart.configure(background="transparent", padding={**_PADDING, "left": left}, **_marks())
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="var(--muted)",
            titleColor="var(--muted)",
            gridColor="var(--grid)",
            domainColor="var(--grid)",
            tickColor="var(--grid)",
            titleFontWeight="normal",
            labelFontSize=11,
            titleFontSize=11,
        )
        .configure_legend(labelColor="var(--muted)", titleColor="var(--muted)")
        .configure_header(labelColor="var(--ink)", labelFontWeight="bold")
    )
    svg = vl_convert.vegalite_to_svg(spec.to_dict())
    named = f'<svg role="img" aria-label="{html.escape(title, quote=True)}" '
    return Chart(title, svg.replace("<svg ", named, 1), rows)


@cache
def _marks() -> dict[str, Any]:
    accent = "var(--accent)"
    return {
        "bar": alt.BarConfig(fill=accent),
        "rect": alt.RectConfig(fill=accent),
        "area": alt.AreaConfig(fill=accent),
        "line": alt.LineConfig(stroke=accent),
        "font": "system-ui, sans-serif",
    }
