"""docs/configuration.md documents every setting as the code has it."""

import json
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from stream_app.config.files import FOLDER_FILES_MAX
from stream_app.config.parser import folder_of, settings_of, toml
from stream_app.config.settings import (
    DESTINATION_VARIABLES,
    DESTINATIONS_DIR_SPEC,
    TABLES,
    Destination,
    environment_name,
    setting_spec,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
HEADINGS = {**{table: f"## `[{table}]`" for table in TABLES}, "": "## `[[destinations]]`"}
SETTINGS = [
    (table, setting)
    for table, kind in {**TABLES, "": Destination}.items()
    for setting in fields(kind)
]


def rows(table: str) -> dict[str, list[str]]:
    """Return the cells of a section's table, by key."""
    section = DOCUMENT.split(HEADINGS[table] + "\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.strip("`"): rest for first, *rest in cells}


def default(setting: "Field[Any]") -> str:
    if setting.default is MISSING:
        return "needed"
    return "left out" if setting.default is None else f"`{json.dumps(setting.default)}`"


@pytest.mark.parametrize(("table", "setting"), SETTINGS)
def test_setting_is_documented_as_it_is(table: str, setting: "Field[Any]") -> None:
    spec = setting_spec(setting)
    variable = f"`{environment_name(table or DESTINATION_VARIABLES, setting.name)}`"
    if spec.constraint.kind is dict:
        variable = "none"
    expected = [default(setting), spec.help, spec.constraint.expected, variable]
    assert rows(table)[setting.name] == expected


@pytest.mark.parametrize("table", HEADINGS)
def test_no_setting_is_documented_that_does_not_exist(table: str) -> None:
    assert set(rows(table)) == {setting.name for where, setting in SETTINGS if where == table}


@pytest.mark.parametrize("number", range(6))
def test_example_is_a_right_configuration(number: int) -> None:
    document = toml(EXAMPLES[number], "docs/configuration.md")
    folder = folder_of(document, {})
    files = {} if folder is None else {f"{folder}/a.toml": EXAMPLES[0].partition("[[")[2]}
    files = {name: f"[[{text}" for name, text in files.items()}
    assert settings_of(document, {}, "docs/configuration.md", files).destinations


def test_all_examples_are_checked() -> None:
    assert len(EXAMPLES) == 6


def test_folder_and_its_bound_are_documented_as_they_are() -> None:
    assert DESTINATIONS_DIR_SPEC.help in DOCUMENT
    assert f"up to {FOLDER_FILES_MAX:,} of them" in DOCUMENT
