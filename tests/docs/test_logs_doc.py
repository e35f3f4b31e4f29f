"""docs/logs.md says of every message what the code says, and the code says nothing else."""

import ast
import re
from collections.abc import Iterator

from stream_app import happenings
from stream_app.happenings import FIELDS, Happening
from tests.docs.blocks import ROOT

DOCUMENT = (ROOT / "docs" / "logs.md").read_text("utf-8")
DECLARED = {name: it for name, it in vars(happenings).items() if isinstance(it, Happening)}
QUIET = {"LEFT_OUT", "LIBRARY"}
"""Those that `logs` itself writes."""

INSPECTOR = {it.name for it in (ROOT / "stream_app" / "inspector").glob("*.py")}


def shown(section: str) -> str:
    """Return what stands between the marks of a section."""
    found = re.search(rf"<!-- generated: {section} -->\n(.*?)<!-- end -->", DOCUMENT, re.DOTALL)
    assert found, section
    return found[1]


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a function or method in the package, with where it is."""
    for path in sorted((ROOT / "stream_app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.name}:{node.lineno}", node


def test_table_of_events_is_the_one_of_the_code() -> None:
    rows = ["| event | level | fields | what it says |", "|---|---|---|---|"]
    for it in DECLARED.values():
        fields = ", ".join(f"`{field}`" for field in it.fields)
        rows.append(f"| `{it.name}` | {it.level} | {fields} | {it.meaning} |")
    assert shown("happenings").splitlines() == rows


def test_table_of_fields_is_the_one_of_the_code() -> None:
    rows = ["| field | what it says |", "|---|---|"]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in sorted(FIELDS.items())]
    assert shown("fields").splitlines() == rows


def test_names_are_one_for_each_event() -> None:
    names = [it.name for it in DECLARED.values()]
    assert len(names) == len(set(names))


def test_every_field_of_an_event_is_declared_and_every_declared_one_is_used() -> None:
    assert {field for it in DECLARED.values() for field in it.fields} == set(FIELDS)


def test_every_event_is_said_somewhere_and_none_that_is_not_declared() -> None:
    said = set()
    for path in (ROOT / "stream_app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "happenings":
                    said.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and node.module == "stream_app.happenings":
                said |= {it.name for it in node.names} & set(DECLARED)
    assert said - {"Happening"} == set(DECLARED)


def test_fields_that_are_said_are_those_of_their_event() -> None:
    for where, call in calls():
        if not (isinstance(call.func, ast.Name) and call.func.id == "say"):
            continue
        named = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for argument in call.args
            for node in ast.walk(argument)
            if isinstance(node, ast.Attribute | ast.Name)
        } & set(DECLARED)
        given = {it.arg for it in call.keywords if it.arg is not None}
        for name in named:
            assert given <= set(DECLARED[name].fields), f"{where}: {name}"


def test_every_message_is_of_a_declared_kind() -> None:
    logging_calls = {"debug", "info", "warning", "error", "exception", "critical"}
    bare = [
        where
        for where, call in calls()
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in logging_calls
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in {"logger", "logging"}
        and not where.startswith("logs.py:")
        # The Inspector is a program of its own; its log is for the person who has started it.
        and where.partition(":")[0] not in INSPECTOR
    ]
    assert bare == []
