"""The documentation names what there is, and what it shows works."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
import yaml
from documents import operations_table

from rekognition_dagster import (
    Lake,
    LocalBackfillConfig,
    RekognitionVideoComponent,
    Settings,
    build_definitions,
    load_models,
)
from rekognition_dagster.cli import main
from rekognition_dagster.engine.models import FILES, Address
from rekognition_dagster.lake import TABLES
from rekognition_dagster.operations import OPERATIONS, Operation

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md"]
PAGES += sorted(DOCS.glob("*.md"))


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def all_blocks(language: str) -> list[Any]:
    """Every block of a language, with an id that names its page and position."""
    return [
        pytest.param(block, id=f"{page.stem}-{i}")
        for page in PAGES
        for i, block in enumerate(blocks(page, language))
    ]


def commands(group: click.Group, before: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}"


# -- what there is, is named ----------------------------------------------------------------------


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_configuration(name: str) -> None:
    row = f"| `REKOGNITION_DAGSTER_{name.upper()}` | `{name}` |"
    (line,) = (line for line in text("configuration.md").splitlines() if line.startswith(row))
    default = Settings.model_fields[name].default
    if isinstance(default, list):
        assert all(f"`{one}`" in line for one in default)
    elif default not in (None, "", {}) and name != "date_pattern":
        assert f"| `{default}` |" in line


def test_every_attribute_of_the_component_is_in_the_configuration() -> None:
    for name in set(RekognitionVideoComponent.model_fields) - set(Settings.model_fields):
        assert f"| `{name}` |" in text("configuration.md")


def test_no_setting_is_documented_that_is_not_there() -> None:
    known = {f"REKOGNITION_DAGSTER_{name.upper()}" for name in Settings.model_fields}
    rows = re.findall(r"^\| `(REKOGNITION_DAGSTER_\w+)` \| `", text("configuration.md"), re.M)
    assert set(rows) == known


@pytest.mark.parametrize("command", list(commands(main, "rekognition-dagster")))
def test_every_command_is_in_the_configuration(command: str) -> None:
    assert f"| `{command}` |" in text("configuration.md")


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_in_the_data(table: str) -> None:
    (section,) = re.findall(rf"^### `{table}`\n(.*?)(?=^##|\Z)", text("data.md"), re.M | re.S)
    for column in TABLES[table].schema.names:
        assert f"`{column}`" in section


@pytest.mark.parametrize("page", ["engine.md", "service.md"])
def test_every_operation_has_its_row(page: str) -> None:
    rows = operations_table(page)
    lines = text(page).splitlines()
    at = lines.index(rows[0])
    assert lines[at : at + len(rows) + 1] == [*rows, ""]


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: o.name)
def test_every_operation_is_where_operations_are_named(operation: Operation) -> None:
    (setting,) = (x for x in text("configuration.md").splitlines() if "_OPERATIONS` |" in x)
    (column,) = (x for x in text("data.md").splitlines() if x.startswith("| `operation` |"))
    assert f"`{operation.name}`" in setting
    assert f"`{operation.name}`" in column
    assert f"| `{operation.table}` |" in (ROOT / "README.md").read_text(encoding="utf-8")
    policy = (ROOT / "examples" / "iam" / "pipeline.json").read_text(encoding="utf-8")
    # Amazon no longer has person tracking.
    assert (f'"rekognition:{operation.start_api}"' in policy) == (
        operation.name != "person_tracking"
    )


def test_every_analytics_table_is_in_the_data() -> None:
    for model in load_models():
        assert f"| `{model.name}` |" in text("data.md")


def test_every_setting_of_the_backfill_is_in_its_page() -> None:
    for name, field in LocalBackfillConfig.model_fields.items():
        assert f"| `{field.alias or name}` |" in text("backfill.md")


def test_every_model_is_in_its_page_with_licence_and_notice() -> None:
    for file in FILES.values():
        row = f"| `{file.name}` | {file.purpose} | {file.size / 1e6:.1f} | {file.licence} |"
        (line,) = (one for one in text("models.md").splitlines() if one.startswith(row))
        assert file.notice in line


def test_every_source_of_a_model_is_in_its_page() -> None:
    for file in FILES.values():
        lines = [o for o in text("models.md").splitlines() if o.startswith(f"| `{file.name}` |")]
        for source in file.sources:
            words = [source.url] if isinstance(source, Address) else [f"`{source.project}`"]
            words += [] if isinstance(source, Address) else [source.version]
            assert all(word in lines[1] for word in words)


def test_every_sensor_is_in_how_it_works() -> None:
    for sensor in build_definitions(Settings()).sensors or []:
        name = sensor.name.removeprefix("rekognition_dagster_")  # type: ignore[union-attr]
        assert f"`{name}`" in text("how-it-works.md")


# -- what it shows, works -------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_relative_link_resolves(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", sorted((DOCS / "images").iterdir()), ids=lambda page: page.name)
def test_pictures_are_small(page: Path) -> None:
    assert page.stat().st_size < 300_000


@pytest.mark.parametrize("config", blocks(DOCS / "backfill.md", "yaml"))
def test_every_recipe_is_a_valid_configuration(config: str) -> None:
    job = build_definitions(Settings()).resolve_job_def("rekognition_dagster_local_backfill")
    dg.validate_run_config(job, yaml.safe_load(config))


@pytest.mark.parametrize(
    "component",
    [
        *blocks(ROOT / "README.md", "yaml"),
        *blocks(DOCS / "configuration.md", "yaml"),
        *(b for b in blocks(DOCS / "operations.md", "yaml") if b.startswith("type:")),
    ],
)
def test_every_component_has_attributes_that_there_are(component: str) -> None:
    document = yaml.safe_load(component)
    assert document["type"] == "rekognition_dagster.RekognitionVideoComponent"
    RekognitionVideoComponent.resolve_from_yaml(yaml.safe_dump(document["attributes"]))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "iam").iterdir()), ids=lambda p: p.name
)
def test_every_statement_of_a_policy_is_explained(path: Path) -> None:
    assert f"(../examples/iam/{path.name})" in text("operations.md")
    document = json.loads(path.read_text())
    assert document["Version"] == "2012-10-17"
    explained = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text("operations.md"), re.M)
    named = {sid for cell in explained for sid in re.findall(r"\w+", cell)}
    assert {statement["Sid"] for statement in document["Statement"]} <= named


@pytest.mark.parametrize("sql", blocks(DOCS / "data.md", "sql"))
def test_every_question_can_be_asked(sql: str, tmp_path: Path) -> None:
    with Lake(tmp_path).connect() as connection:
        for model in load_models():
            if model.day_column is not None:
                continue  # docs/answers.md runs its questions
            connection.execute(
                f"CREATE VIEW {model.name} AS SELECT *, NULL::DATE AS date FROM ({model.sql})"
            )
        assert connection.execute(sql).fetchall() == []


@pytest.mark.parametrize("source", all_blocks("python"))
def test_every_piece_of_python_parses(source: str) -> None:
    ast.parse(source)


def test_the_readme_shows_how_to_build_definitions() -> None:
    source = blocks(ROOT / "README.md", "python")[0]
    made: dict[str, Any] = {}
    exec(source, made)
    assert isinstance(made["defs"], dg.Definitions)
