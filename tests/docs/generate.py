"""Generator of the parts of the documents that come from code, schema and example programs.

    python -m tests.docs.generate            writes them into docs/, and the values of the chart

A generated part is between `<!-- generated: NAME -->` and `<!-- end -->`. The tables of settings in
`docs/configuration.md` need no marks: they are below the headings of their tables. A test fails if
a generated part is out of date.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import click

from stream_app import log_events
from stream_app.cli.common import MEANINGS
from stream_app.cli.main import stream_app
from stream_app.config.settings import (
    DESTINATION_VARIABLES,
    TABLES,
    Destination,
    environment_name,
    setting_spec,
)
from stream_app.log_declaration import LogEvent
from stream_app.log_fields import FIELDS
from stream_app.monitoring.metrics import METRICS
from tests.docs import chart

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "stream_app"
SCHEMA = ROOT / "schemas" / "receipt.schema.json"
PLACE = re.compile(r"(<!-- generated: (\S[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
HELP_COLUMNS = 100
LANGUAGES = {
    ".java": "java",
    ".js": "js",
    ".json": "json",
    ".py": "python",
    ".service": "ini",
    ".sh": "bash",
    ".toml": "toml",
    ".yaml": "yaml",
}


def table(*rows: tuple[str, ...]) -> str:
    """Return a table in Markdown; the first row is its head."""
    head, *body = [f"| {' | '.join(row)} |\n" for row in rows]
    return head + "|" + "---|" * len(rows[0]) + "\n" + "".join(body)


def shown_default(setting: "Field[Any]") -> str:
    """Return a setting's default as the documents write it."""
    if setting.default is MISSING:
        return "needed"
    return "left out" if setting.default is None else f"`{json.dumps(setting.default)}`"


def settings_table(name: str) -> str:
    """Return the settings of one table of the configuration; of a destination without a name."""
    rows = [("key", "default", "meaning", "values", "variable")]
    for setting in fields(TABLES[name] if name else Destination):
        spec = setting_spec(setting)
        has_variable = spec.constraint.kind is not dict
        variable = f"`{environment_name(name or DESTINATION_VARIABLES, setting.name)}`"
        cells = (f"`{setting.name}`", shown_default(setting), spec.help, spec.constraint.expected)
        rows.append((*cells, variable if has_variable else "none"))
    return table(*rows)


def configuration(text: str) -> str:
    """Put each table of settings under its heading."""
    for name in (*TABLES, ""):
        heading = f"## `[{name}]`\n" if name else "## `[[destinations]]`\n"
        before, found, after = text.partition(heading)
        assert found, f"docs/configuration.md has no heading {heading.strip()}"
        section = re.match(r"(?P<words>(?:[^|\n#].*\n|\n)*)(?P<table>(?:\|.*\n)*)", after)
        assert section, heading
        rest = after[section.end() :]
        text = before + found + section["words"] + settings_table(name) + rest
    return text


def receipt_fields() -> str:
    """Return every field of the receipt, as its schema has it."""
    return table(("field", "type", "meaning"), *_fields(json.loads(SCHEMA.read_text("utf-8"))))


def metrics() -> str:
    """Return every metric, as the code declares it."""
    rows = [("metric", "type", "labels", "meaning")]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append((f"`{metric.name}`", str(metric.kind), labels, metric.help))
    return table(*rows)


def log_events_table() -> str:
    """Return every log event, as the code declares it."""
    declared = [it for it in vars(log_events).values() if isinstance(it, LogEvent)]
    rows = [
        (f"`{it.name}`", it.level, ", ".join(f"`{field}`" for field in it.fields), it.meaning)
        for it in declared
    ]
    return table(("event", "level", "fields", "meaning"), *rows)


def log_fields() -> str:
    """Return every field of these events."""
    rows = [(f"`{name}`", meaning) for name, meaning in sorted(FIELDS.items())]
    return table(("field", "meaning"), *rows)


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    named = schema["$defs"]

    def walk(path: str, part: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        if path:
            yield f"`{path}`", shown_type(part, named), part["description"].replace("|", "\\|")
        for name, inner in part.get("properties", {}).items():
            yield from walk(f"{path}.{name}" if path else name, inner)
        if "items" in part:
            yield from walk(f"{path}[]", part["items"])

    return walk("", schema)


def shown_type(part: dict[str, Any], named: dict[str, Any]) -> str:
    """Return in words which values a part of the schema allows."""
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return "time" if name == "time" else shown_type(named[name], named)
    if "anyOf" in part:
        return " or ".join(shown_type(one, named) for one in part["anyOf"])
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
    return " or ".join("text" if kind == "string" else kind for kind in kinds)


def modules() -> str:
    """Return every module of the package by room, with the first line of its docstring."""
    files = sorted(PACKAGE.rglob("*.py"), key=lambda file: (_room(file), file.name))
    rows = [("room", "module", "content")]
    for file in files:
        name = file.relative_to(PACKAGE / _room(file)).as_posix()
        if name == "__init__.py":
            rows.append((f"**`{_room(file) or PACKAGE.name}`**", "", f"**{_first_line(file)}**"))
        else:
            rows.append(("", f"`{name}`", _first_line(file)))
    return table(*rows)


def _room(file: Path) -> str:
    """Return the folder of a module, relative to the package; nothing for the ground."""
    room = file.parent.relative_to(PACKAGE).as_posix()
    return "" if room == "." else room


def _first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8")))
    assert docstring, f"{file} has no docstring"
    return docstring.partition("\n")[0].replace("|", "\\|")


def commands() -> str:
    """Return the help text of every command."""
    return "\n".join(
        f"### `stream-app {name}`\n\n```text\n{help_of(name)}\n```\n"
        for name in sorted(stream_app.commands)
    )


def exit_statuses() -> str:
    """Return the meaning of each exit status."""
    return table(
        ("status", "meaning"), *((str(status), meaning) for status, meaning in MEANINGS.items())
    )


def help_of(name: str) -> str:
    """Return the help text of a command, at 100 columns."""
    # As a run has it: click keeps the first help option that it has made of a command.
    settings = {**stream_app.context_settings, "terminal_width": HELP_COLUMNS}
    group = click.Context(stream_app, info_name="stream-app", **settings)
    context = click.Context(
        stream_app.commands[name], parent=group, info_name=name, terminal_width=HELP_COLUMNS
    )
    return context.command.get_help(context)


def chart_values() -> str:
    """Return every value of the chart, as its schema declares it."""
    return table(("value", "default", "meaning"), *chart.values_rows())


GENERATED = {
    "chart values": chart_values,
    "commands": commands,
    "exit statuses": exit_statuses,
    "fields": log_fields,
    "log_events": log_events_table,
    "metrics": metrics,
    "modules": modules,
    "receipt fields": receipt_fields,
}
"""Writer of each place, but for the programs in `docs/examples/`."""


def generated(name: str) -> str | None:
    """Return what stands at a place; None when it is none of ours."""
    if name.startswith("examples/"):
        file = DOCS / name
        return f"```{LANGUAGES[file.suffix]}\n{file.read_text('utf-8')}```\n"
    return GENERATED[name]() if name in GENERATED else None


def renewed(document: Path) -> str:
    """Return the document with every place as the code has it."""
    text = document.read_text("utf-8")
    if document.name == "configuration.md":
        text = configuration(text)

    def put(place: re.Match[str]) -> str:
        begin, name, end = place.groups()
        content = generated(name)
        return place[0] if content is None else begin + content + end

    return PLACE.sub(put, text)


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(renewed(path), "utf-8")
    chart.VALUES.write_text(chart.values_text(), "utf-8")
