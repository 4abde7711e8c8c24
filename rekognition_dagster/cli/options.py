"""Options that several commands share, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from rekognition_dagster.engine import SampleFps, parse_sample_fps
from rekognition_dagster.engine.specs import SPECS

DEFAULT_HOME = Path(".rekognition-dagster")
PORT = click.IntRange(0, 65535)


class Operation(click.ParamType):
    """The name of an operation; ``-`` counts like ``_``.

    The table of operations is read when its names are needed: it loads Arrow.
    """

    name = "operation"

    @property
    def choices(self) -> tuple[str, ...]:
        """The names of the operations."""
        from rekognition_dagster.operations import OPERATIONS

        return tuple(OPERATIONS)

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """The names as ``--help`` shows them."""
        return "|".join(self.choices)

    def get_missing_message(self, *_: Any, **__: Any) -> str:
        """What to choose from, where none is given."""
        return f"Choose from: {', '.join(self.choices)}"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin like what is typed."""
        typed = incomplete.replace("-", "_")
        return [CompletionItem(name) for name in self.choices if name.startswith(typed)]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as the tables have it."""
        name = str(value).lower().replace("-", "_")
        if name not in self.choices:
            self.fail(
                f"{value!r} is no operation. Use {', '.join(self.choices)} (person-tracking is the "
                "same as person_tracking)",
                param,
                ctx,
            )
        return name


class SampleRate(click.ParamType):
    """Frames per second of video, or ``auto``."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> SampleFps:
        """The rate as the engine takes it."""
        try:
            return parse_sample_fps(value)
        except ValueError:
            self.fail(f"{value} is neither a positive number nor auto", param, ctx)


class Clock(click.ParamType):
    """A time in a video: seconds, ``MM:SS`` or ``HH:MM:SS``, in milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The milliseconds."""
        if isinstance(value, int):
            return value
        pieces = str(value).split(":")
        try:
            numbers = [*map(int, pieces[:-1]), float(pieces[-1])]
            if len(numbers) > 3 or any(n < 0 for n in numbers) or max(numbers[1:], default=0) >= 60:
                raise ValueError
            return round(sum(n * 60**power for power, n in enumerate(reversed(numbers))) * 1000)
        except (ValueError, OverflowError):
            self.fail(f"{value} is no time in a video; write 90, 1:30 or 0:01:30", param, ctx)


home = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_HOME,
    show_default=True,
    help="Folder of everything that it keeps: lake, Dagster's home, jobs, logs.",
)
videos = click.option(
    "--video",
    "videos",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A video of your own instead of the samples; repeatable.",
)
detector = click.option(
    "--detector", metavar="SPEC", help=f"What finds people and labels: {SPECS}."
)
sample_fps = click.option(
    "--sample-fps",
    type=SampleRate(),
    metavar="F|auto",
    help="Frames analyzed per second of video; auto takes as many as the scene needs and "
    "interpolates between them. Every frame by default.",
)


def operations(help: str, *, required: bool = False) -> Callable[[Any], Any]:  # noqa: A002
    """The option ``--operation``, which can be repeated."""
    return click.option(
        "--operation",
        "names",
        type=Operation(),
        multiple=True,
        required=required,
        help=help,
    )


lake: Callable[[Any], Any] = click.option(
    "--lake",
    "url",
    metavar="DIR",
    envvar="REKOGNITION_DAGSTER_LAKE",
    help="A folder or s3://bucket/prefix. None is ./lake, else the demo's. "
    "[env: REKOGNITION_DAGSTER_LAKE]",
)
zones: Callable[[Any], Any] = click.option(
    "--zones",
    metavar="FILE",
    envvar="REKOGNITION_DAGSTER_ZONES",
    help="zones.yaml, a path or s3://bucket/key. [env: REKOGNITION_DAGSTER_ZONES]",
)
blur: Callable[[Any], Any] = click.option(
    "--blur",
    type=click.Choice(["faces", "people"]),
    help="Cover faces and the tops of people's boxes, or people whole. Audio is left out.",
)
form: Callable[[Any], Any] = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How rows are printed.",
)
