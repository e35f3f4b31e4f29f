"""docs/configuration.md documents every setting as the code has it."""

import json
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from stream_app.config.parser import environment_name, parse
from stream_app.config.settings import TABLES, Destination, setting_spec

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
    expected = [default(setting), spec.help, spec.constraint.expected]
    variable = [f"`{environment_name(table, setting.name)}`"] if table else []
    assert rows(table)[setting.name] == expected + variable


@pytest.mark.parametrize("table", HEADINGS)
def test_no_setting_is_documented_that_does_not_exist(table: str) -> None:
    assert set(rows(table)) == {setting.name for where, setting in SETTINGS if where == table}


@pytest.mark.parametrize("number", range(3))
def test_example_is_a_right_configuration(number: int) -> None:
    environment = {"STREAM_APP_KAFKA_SASL_PASSWORD": "x"} if "sasl" in EXAMPLES[number] else {}
    assert parse(EXAMPLES[number], environment, "docs/configuration.md").destinations


def test_all_examples_are_checked() -> None:
    assert len(EXAMPLES) == 3
