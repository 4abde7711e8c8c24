"""One table of the settings: the command line, the checks and the documentation come from it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from rekognition_dagster.environment import KNOWN, PREFIX, check_environment
from rekognition_dagster.errors import ConfigurationError
from rekognition_dagster.orchestration.settings import check_names
from rekognition_dagster.service import Settings
from rekognition_dagster.service.__main__ import main
from rekognition_dagster.service.settings import Setting, table

NUMBERS = {s.name: s for s in table() if s.type in (int, float)}
PAGE = Path(__file__).parents[2] / "docs" / "service.md"


def row_of(setting: Setting) -> str:
    variable = f" Set by {PREFIX}{setting.environment} too." if setting.environment else ""
    return f"| {setting.option} | {setting.default_text} | {setting.help}{variable} |"


def test_the_documentation_has_every_setting_as_the_table_has_it():
    section = PAGE.read_text().partition("| option | default |")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", row).replace("`", "") for row in rows]
    assert plain == [row_of(setting) for setting in table()]


def test_every_field_is_an_option_with_its_description():
    shown = " ".join(CliRunner().invoke(main, ["--help"], terminal_width=400).output.split())
    assert [s.name for s in table()] == [f.name for f in fields(Settings)]
    for setting in table():
        assert f" {setting.option} " in shown
        assert setting.help in shown


def test_the_variables_of_settings_are_known_wherever_the_environment_is_checked():
    names = {s.environment for s in table() if s.environment}
    assert names == {"STORE", "CREDENTIALS", "MAX_PIXELS"}
    assert names <= KNOWN
    environment = dict.fromkeys((f"{PREFIX}{name}" for name in names), "x")
    check_environment(environment)
    check_names(environment, ())


@pytest.mark.parametrize(
    "setting", [s for s in table() if s.type in (int, float)], ids=lambda s: s.name
)
def test_a_number_out_of_its_range_is_refused_by_python_and_the_command_line(setting):
    low = setting.above if setting.least is None else setting.least - 1
    with pytest.raises(ConfigurationError, match=setting.name):
        Settings.of(**{setting.name: low})
    result = CliRunner().invoke(main, [setting.option, f"{low:g}"])
    assert result.exit_code == 2
    assert setting.option in result.stderr


def test_a_value_that_is_no_choice_is_refused():
    with pytest.raises(ConfigurationError, match="log_format"):
        Settings.of(log_format="xml")
