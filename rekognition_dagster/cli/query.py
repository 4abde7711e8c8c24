"""``query``: SQL over a lake, for people and for machines."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rekognition_dagster.cli import options
from rekognition_dagster.cli.endings import fail
from rekognition_dagster.environment import PREFIX
from rekognition_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.lake.storage import Storage

_LAKES = ("lake", ".rekognition-dagster/lake")
_PRINTED_ROWS = 60


@click.command()
@click.argument("sql")
@options.lake
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help=f"table: for reading, at most {_PRINTED_ROWS} rows. csv: with a header. "
    "json: an array of objects for each statement.",
)
def query(sql: str, url: str | None, form: str) -> None:
    """Run SQL (DuckDB's) over a lake, with a view per table.

    Tables: the results of each operation, such as person_detections; videos, jobs, and what the
    analytics add: person_paths, video_summary, activity_by_minute, and by the clock on the wall
    zone_visits, line_crossings, occupancy, heat, encounters, activity_by_hour, activity_by_day.
    Of several statements, separated by semicolons, each result is shown.

    \b
      rekognition-dagster query "SELECT video, people, most_faces_at_once FROM video_summary"
      rekognition-dagster query "SELECT * FROM person_paths" --format csv > paths.csv
      rekognition-dagster query "FROM jobs" --format json | python3 -m json.tool
    """
    import duckdb

    from rekognition_dagster.answers import write_answer
    from rekognition_dagster.lake.storage import lake_errors

    if not sql.strip():
        raise click.BadParameter("it is empty", param_hint="SQL")
    lake = open_lake(url)
    with lake_errors(lake.storage, "", "read"):
        if not any(_is_table(lake.storage, f) for f in lake.storage.folders()):
            raise ConfigurationError(
                f"there is no lake in {lake.url}: no table is there. Check the address"
                + ("" if lake.storage.is_local else ", its bucket and prefix")
            )
    try:
        with lake.connect() as connection:
            repair = connection.leave_out_damaged
            write_answer(connection, sql, form, sys.stdout, rows=_PRINTED_ROWS, repair=repair)
            sys.stdout.flush()
            made = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        if made:
            click.echo(
                f"note: {', '.join(name for (name,) in made)} ended with this command. Keep rows "
                "with COPY (SELECT ...) TO 'file.parquet', or tables in the catalogue",
                err=True,
            )
    except duckdb.CatalogException as error:
        fail(f"{error}\ntables of {lake.url}: {', '.join(lake.tables())}")
    except duckdb.Error as error:
        fail(str(error))


def _is_table(storage: Storage, folder: str) -> bool:
    return folder.isidentifier() and any(d.startswith("date=") for d in storage.folders(folder))


def open_lake(url: str | None) -> Lake:
    """Open a lake that exists, with the settings of cameras in the environment.

    Raises:
        ConfigurationError: There is no lake, or a setting is wrong.
    """
    from rekognition_dagster.lake import Lake
    from rekognition_dagster.lake.cameras import Cameras

    check_day("ZONES_SINCE")
    return Lake(existing_lake(url), cameras=Cameras.from_env(os.environ))


def check_day(name: str) -> None:
    """Refuse a variable that is no day.

    Raises:
        ConfigurationError: It is none.
    """
    value = os.environ.get(f"{PREFIX}{name}")
    try:
        date.fromisoformat(value or "2026-01-31")
    except ValueError:
        raise ConfigurationError(
            f"{PREFIX}{name}: {value!r} is no day; write e.g. 2026-01-31"
        ) from None


def existing_lake(url: str | None) -> str:
    """Return the address of a lake; by default that of the stack in the current folder.

    Raises:
        ConfigurationError: There is no lake; the text says what was probably meant.
    """
    from rekognition_dagster.lake import TABLES

    if url is None:
        url = next((u for u in _LAKES if Path(u).is_dir()), None)
        if url is None:
            raise ConfigurationError(
                "which lake? Name it with --lake or REKOGNITION_DAGSTER_LAKE; "
                f"there is none in {' or '.join(_LAKES)}"
            )
        others = [u for u in _LAKES if u != url and Path(u).is_dir()]
        if others:
            click.echo(f"note: the lake is {url}; for the other one, --lake {others[0]}", err=True)
    folder = Path(url).expanduser()
    if "://" not in url and folder.is_file():
        raise ConfigurationError(f"{url} is a file; a lake is the folder with its tables")
    if "://" not in url and folder.name in TABLES and folder.is_dir():
        lake = shlex.quote(str(folder.parent))
        raise ConfigurationError(f"{url} is a table of a lake; did you mean --lake {lake}?")
    if "://" not in url and not folder.is_dir():
        raise ConfigurationError(f"there is no lake in {url}: no such folder")
    if "://" not in url and (folder / "lake").is_dir():
        lake = shlex.quote(str(folder / "lake"))
        raise ConfigurationError(f"{url} is no lake; did you mean --lake {lake}?")
    return url
