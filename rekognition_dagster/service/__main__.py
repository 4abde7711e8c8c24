"""``python -m rekognition_dagster.service``: the service in a process of its own.

Prints the URL on standard output once it listens, and logs to standard error. Its options are the
table of :mod:`~rekognition_dagster.service.settings`.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from rekognition_dagster.environment import PREFIX, check_environment
from rekognition_dagster.errors import RekognitionDagsterError
from rekognition_dagster.service import serve
from rekognition_dagster.service.logs import configure
from rekognition_dagster.service.settings import Setting, table


def option(setting: Setting) -> click.Option:
    """Return the command line's option of a setting."""
    environment = f" [env: {PREFIX}{setting.environment}]" if setting.environment else ""
    help_ = f"{setting.help} [default: {setting.default_text}]{environment}"
    if setting.type is bool:
        return click.Option([setting.option, setting.name], is_flag=True, help=setting.help)
    return click.Option(
        [setting.option, setting.name],
        type=_type(setting),
        metavar=setting.metavar,
        help=help_,
    )


def _type(setting: Setting) -> click.ParamType | None:
    if setting.choices:
        return click.Choice(setting.choices)
    least = setting.above if setting.least is None else setting.least
    bounds: Any = {
        "min": least,
        "max": setting.most,
        "min_open": setting.above is not None,
    }
    if setting.type is int:
        return click.IntRange(**bounds)
    return click.FloatRange(**bounds) if setting.type is float else click.STRING


def main_command(**settings: Any) -> None:
    """Serve the Rekognition Video API until SIGTERM or SIGINT."""
    configure(settings["log_format"] or "text")
    try:
        check_environment()
        serve(**settings, on_ready=lambda url: print(url, flush=True))
    except RekognitionDagsterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


main = click.Command(
    "serve",
    params=[option(setting) for setting in table()],
    callback=main_command,
    help=main_command.__doc__,
)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as mistake:
        print(f"error: {mistake.format_message()}", file=sys.stderr)
        sys.exit(mistake.exit_code)
    except click.Abort:
        sys.exit(130)
