"""``find``: who was where and when, with the place in the video."""

from __future__ import annotations

import re
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.endings import ended_by_sigterm, fail
from rekognition_dagster.cli.refresh import DAY

if TYPE_CHECKING:
    from rekognition_dagster.finding import Found
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.pictures.timeline import Blur

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS_AGO = {"today": 0, "yesterday": 1}
_ROWS = 60
_DAY_S = 86400


class TimeOfDay(click.ParamType):
    """A time of day as seconds since midnight; 24:00 is the end of the day."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds."""
        found = re.fullmatch(r"(\d?\d):(\d\d)(?::(\d\d))?", str(value))
        hour, minute, second = (int(n or 0) for n in found.groups()) if found else (0, 60, 0)
        seconds = hour * 3600 + minute * 60 + second
        if minute > 59 or second > 59 or seconds > _DAY_S:
            self.fail(f"{value} is no time of day; write e.g. 14:30", param, ctx)
        return seconds


@click.command()
@options.lake
@click.option("--camera", default="*", help="The camera; names may have *.")
@click.option(
    "--on",
    "on",
    metavar="DAY",
    help="A day: 2026-01-31, today, yesterday; or a day of the week: tuesday.",
)
@click.option("--since", type=DAY, help="The first day.")
@click.option("--until", type=DAY, help="The last day.")
@click.option(
    "--between",
    nargs=2,
    type=TimeOfDay(),
    metavar="FROM UNTIL",
    help="Times of day by the camera's clock: 14:00 15:00; past midnight 22:00 06:00; the whole "
    "day 00:00 24:00.",
)
@click.option("--zone", help="Who was in this zone.")
@click.option("--line", help="Who crossed this line.")
@click.option("--crossed", metavar="DIRECTION", help="Who crossed a line in this direction.")
@click.option("--label", help="Where this label was seen, such as Bicycle.")
@click.option("--with-face", is_flag=True, help="Only people whose face was seen meanwhile.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--clips",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also cut each moment out of its video, into this folder.",
)
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also lay out a still of each moment, as a .png.",
)
@options.blur
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=3600),
    default=2.0,
    show_default=True,
    help="Seconds of clips before and after the moment.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Clips begin at the first frame of the margin; without it at a keyframe before, and their "
    "pictures are copied, not encoded.",
)
@options.form
def find(
    url: str | None,
    camera: str,
    on: str | None,
    since: datetime | None,
    until: datetime | None,
    between: tuple[int, int] | None,
    zone: str | None,
    line: str | None,
    crossed: str | None,
    label: str | None,
    with_face: bool,
    limit: int,
    clips: Path | None,
    sheet: Path | None,
    blur: Blur | None,
    margin: float,
    exact: bool,
    form: str,
) -> None:
    """Find moments: who was at a camera, in a zone or crossed a line, and when.

    Prints camera, time by its clock, person, and the place in the video. With several choices,
    all of them hold; a label counts where it was seen while the person was there. With --clips and
    --sheet it shows them, too. A video that is gone does not stop the others; the exit status
    reports it at the end.

    \b
      rekognition-dagster find --camera north --on tuesday --between 14:00 15:00 --zone door
      rekognition-dagster find --crossed in --with-face --since 2026-01-01 --format csv
      rekognition-dagster find --zone door --clips clips --sheet door.png --blur faces
    """
    import duckdb

    from rekognition_dagster.answers import write_answer
    from rekognition_dagster.cli.query import open_lake
    from rekognition_dagster.cli.refresh import check_range
    from rekognition_dagster.finding import Moments, collect_moments, find_moments

    if on and (since or until):
        raise click.UsageError("name --on, or --since and --until")
    check_range(since, until)
    if blur and not (clips or sheet):
        raise click.UsageError("--blur is for --clips and --sheet")
    if sheet and sheet.suffix.lower() != ".png":
        raise click.BadParameter(f"{sheet}: write a .png", param_hint="--sheet")
    _check_times(between)
    lake = open_lake(url)
    day, weekday = _day(on, lake.cameras.timezone_of(camera))
    what = Moments(
        camera=camera,
        since=day or (since.date() if since else None),
        until=day or (until.date() if until else None),
        weekday=weekday,
        between=between,
        zone=zone,
        line=line,
        crossed=crossed,
        label=label,
        with_face=with_face,
        limit=limit,
    )
    try:
        with lake.connect() as connection:
            sql, is_more = collect_moments(lake, connection, what)
            repair = connection.leave_out_damaged
            write_answer(connection, sql, form, sys.stdout, rows=_ROWS, repair=repair)
            if is_more:
                sys.stdout.flush()
                click.echo(f"the first {limit}; more with --limit", err=True)
            wanted = find_moments(lake, connection, what) if clips or sheet else []
    except duckdb.Error as error:
        fail(str(error))
    if clips or sheet:
        sys.stdout.flush()
        how = {"margin_ms": round(margin * 1000), "exact": exact, "blur": blur}
        _show(lake, wanted, clips, sheet, **how)


def _show(
    lake: Lake, moments: list[Found], clips: Path | None, sheet: Path | None, **how: Any
) -> None:
    """Write clips and a sheet of moments; end with status 1 where a video was not there."""
    from rekognition_dagster.cli.progress import progress_bars
    from rekognition_dagster.pictures.moments import show

    with ended_by_sigterm(), progress_bars() as progress:
        shown = show(
            lake, moments, clips, sheet, progress=lambda done: progress("pictures", done), **how
        )
    for note in shown.notes:
        click.echo(f"note: {note}", err=True)
    for error in shown.errors:
        click.echo(f"error: {error}", err=True)
    if clips:
        copied = sum(clip.is_copy for clip in shown.clips)
        click.echo(f"{clips}: {len(shown.clips)} clips, {copied} of them copied", err=True)
    if sheet:
        click.echo(f"{sheet}: {shown.stills} stills", err=True)
    if shown.errors:
        fail(f"{len(shown.errors)} of the videos cannot be shown")


def _day(text: str | None, timezone: str) -> tuple[date | None, str | None]:
    """A day, or a day of the week; today is that of a time zone."""
    if text is None:
        return None, None
    if text.lower() in _DAYS_AGO:
        today = datetime.now(ZoneInfo(timezone)).date()
        return today - timedelta(_DAYS_AGO[text.lower()]), None
    named = [d for d in _WEEKDAYS if len(text) >= 3 and d.startswith(text.lower())]
    if named:
        return None, named[0]
    try:
        return date.fromisoformat(text), None
    except ValueError:
        raise click.BadParameter(
            f"{text} is no day; write 2026-01-31, today, yesterday or tuesday", param_hint="--on"
        ) from None


def _check_times(between: tuple[int, int] | None) -> None:
    """Refuse a beginning at the end of a day, and times without anything between them."""
    first, last = between or (0, _DAY_S)
    if first == _DAY_S:
        raise click.BadParameter(
            "24:00 is the end of a day; begin at 00:00", param_hint="--between"
        )
    if first == last:
        at = f"{first // 3600:02}:{first // 60 % 60:02}"
        raise click.BadParameter(
            f"{at} to {at} is no time; the whole day is 00:00 24:00", param_hint="--between"
        )
