"""The parts of the documents that are drawn from the code, the schema and the example programs.

    python -m tests.docs.generate            writes them into docs/

A place begins with `<!-- generated: NAME -->` and ends with `<!-- end -->`. The tables of settings
in `docs/configuration.md` need none: they stand under the headings of their tables. A test fails
where a document does not have what would be written here.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import click

from stream_app.cli import stream_app
from stream_app.config import environment_name
from stream_app.exits import MEANINGS
from stream_app.metrics import METRICS
from stream_app.settings import TABLES, Destination, about

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
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
    rows = [("key", "default", "what for", "values", *(["variable"] if name else []))]
    for setting in fields(TABLES[name] if name else Destination):
        told = about(setting)
        variable = [f"`{environment_name(name, setting.name)}`"] if name else []
        rows.append(
            (f"`{setting.name}`", shown_default(setting), told.help, told.wanted, *variable)
        )
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
    return table(("field", "type", "what it is"), *_fields(json.loads(SCHEMA.read_text("utf-8"))))


def metrics() -> str:
    """Return every metric, as the code declares it."""
    rows = [("metric", "type", "labels", "what it says")]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append((f"`{metric.name}`", str(metric.kind), labels, metric.help))
    return table(*rows)


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


def commands() -> str:
    """Return what `--help` says of every command."""
    return "\n".join(
        f"## `stream-app {name}`\n\n```text\n{help_of(name)}\n```\n"
        for name in sorted(stream_app.commands)
    )


def exit_statuses() -> str:
    """Return what each exit status means."""
    return table(("status", "meaning"), *((str(it), told) for it, told in MEANINGS.items()))


def help_of(name: str) -> str:
    """Return what a command says of itself, on a page of 100 columns."""
    group = click.Context(stream_app, info_name="stream-app", terminal_width=HELP_COLUMNS)
    context = click.Context(
        stream_app.commands[name], parent=group, info_name=name, terminal_width=HELP_COLUMNS
    )
    return context.command.get_help(context)


def generated(name: str) -> str | None:
    """Return what stands at a place; None when it is none of ours."""
    if name == "commands":
        return commands()
    if name == "exit statuses":
        return exit_statuses()
    if name == "receipt fields":
        return receipt_fields()
    if name == "metrics":
        return metrics()
    if name.startswith("examples/"):
        file = DOCS / name
        return f"```{LANGUAGES[file.suffix]}\n{file.read_text('utf-8')}```\n"
    return None


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
