"""Log events are declared once, and each call of `log_event` gives what its event declares.

`generate` writes the declarations into docs/reference.md.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from stream_app import log_events
from stream_app.log_declaration import LogEvent
from stream_app.log_fields import FIELDS
from tests.docs.blocks import ROOT, section

PACKAGE = ROOT / "stream_app"
DECLARED = {name: it for name, it in vars(log_events).items() if isinstance(it, LogEvent)}
WITHOUT_CALL = {"SUPPRESSED", "LIBRARY"}
"""Log events that `logs` itself emits."""
EXPANSIONS = {
    "error_fields": log_events.ERROR,
    "partition_fields": log_events.PARTITION,
    "window_fields": log_events.WINDOW,
    "delivery_fields": ("subject", *log_events.DELIVERY),
    "_memory": log_events.MEMORY,
    "_hidden_fields": (*log_events.PARTITION, "first_offset", "hidden", "seconds"),
    "_progress": log_events.PROGRESS,
    "_failing_fields": ("destination", "events", "counted", "failed"),
    "progress": log_events.PROGRESS,
    "state": log_events.STATE,
}
"""Fields of functions and variables that a call expands by `**`; their own tests prove them."""
NOT_ALWAYS = {"window", *log_events.OFFSETS}
"""Fields of `delivery_fields` that an open window does not have."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text("utf-8"))


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a function or method in the package, with its position."""
    for name, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Call):
                yield f"{name}:{node.lineno}", node


def named(node: ast.expr) -> set[str]:
    """Return the declared events that an argument can be; empty if it may be anything else."""
    match node:
        case ast.Attribute(value=ast.Name(id="log_events"), attr=name) if name in DECLARED:
            return {name}
        case ast.Name(id=name) if name in DECLARED:
            return {name}
        case ast.IfExp(body=one, orelse=other):
            return named(one) | named(other) if named(one) and named(other) else set()
    return set()


def given(where: str, call: ast.Call) -> tuple[set[str], set[str]]:
    """Return the values that a call gives, and those of them that it gives always."""
    values: set[str] = set()
    always: set[str] = set()
    for keyword in call.keywords:
        if keyword.arg is not None:
            values.add(keyword.arg)
            always.add(keyword.arg)
            continue
        expanded = keyword.value.func if isinstance(keyword.value, ast.Call) else keyword.value
        name = expanded.attr if isinstance(expanded, ast.Attribute) else getattr(expanded, "id", "")
        assert name in EXPANSIONS, f"{where}: what does **{ast.unparse(keyword.value)} hold?"
        values.update(EXPANSIONS[name])
        unsure = NOT_ALWAYS if name == "delivery_fields" else set()
        always.update(set(EXPANSIONS[name]) - unsure)
    return values, always


def logged() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield each event that a call of `log_event` can log, with the call and its position."""
    for where, call in calls():
        function = call.func
        if (
            getattr(function, "id", None) == "log_event"
            or getattr(function, "attr", "") == "log_event"
        ):
            assert len(call.args) == 2, where
            names = named(call.args[1])
            assert names, f"{where}: name the event in the call"
            for name in sorted(names):
                yield where, name, call


def placeholders(text: str) -> set[str]:
    """Return the names of the values in a text; there is no other `%` in it."""
    pattern = r"%\((\w+)\)(?:s|d|\.\df)"
    assert "%" not in re.sub(pattern, "", text), text
    return set(re.findall(pattern, text))


def test_names_are_one_for_each_event() -> None:
    names = [it.name for it in DECLARED.values()]
    assert len(names) == len(set(names))


def test_every_field_of_an_event_is_declared_and_every_declared_one_is_used() -> None:
    assert {field for it in DECLARED.values() for field in it.fields} == set(FIELDS)


@pytest.mark.parametrize("name", DECLARED)
def test_every_placeholder_of_a_text_is_a_declared_value_and_every_text_only_value_is_in_it(
    name: str,
) -> None:
    event = DECLARED[name]
    assert set(event.fields).isdisjoint(event.text_only)
    if event is not log_events.LIBRARY:
        used = placeholders(event.text)
        assert used <= {*event.fields, *event.text_only}
        assert set(event.text_only) <= used


def test_end_of_a_summary_has_fields_of_its_state() -> None:
    assert placeholders(log_events.SUMMARY_STATE) == set(log_events.STATE)


def test_every_event_is_logged_by_a_call_with_all_its_values_and_no_others() -> None:
    values: dict[str, set[str]] = defaultdict(set)
    for where, name, call in logged():
        event = DECLARED[name]
        possible, always = given(where, call)
        assert possible <= {*event.fields, *event.text_only}, f"{where}: {name}"
        assert placeholders(event.text) <= always, f"{where}: {name}"
        values[name] |= possible
    assert values == {
        name: {*it.fields, *it.text_only}
        for name, it in DECLARED.items()
        if name not in WITHOUT_CALL
    }


def test_every_message_is_of_a_declared_event() -> None:
    levels = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    found = [
        where
        for where, call in calls()
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in levels
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in {"logger", "logging"}
    ]
    # The Inspector is a program of its own; its log is for the person who has started it.
    own = [where for where in found if not where.startswith("inspector/")]
    assert {where.partition(":")[0] for where in own} == {"logs.py"}
    assert len(found) > len(own), "the Inspector's calls are found"


def test_what_to_do_is_written_for_each_warning_and_error_and_for_no_other() -> None:
    table = section((ROOT / "docs" / "operations.md").read_text("utf-8"), "By log event")
    assert re.findall(r"^\| `([\w-]+)` \| .{12,} \|$", table, re.MULTILINE) == [
        it.name for it in DECLARED.values() if str(it.level) in ("warning", "error")
    ]
