"""Filters that are decided without the engine, and others; see `tests/property`, too."""

import pytest

from stream_app.expressions.expression import SKIP, compile_expression
from stream_app.expressions.filters import DEPTH_MAX, TOKENS_MAX
from stream_app.records import TopicPartition
from tests.unit.expressions.test_expression import record

SOURCE = TopicPartition("events", 1)
EVENT = (
    b'{"a":"x\\u0079z","b":{"c":5,"d":null},"e":"","f":-0.0,"g":true,"h":[1],"i":false,'
    b'"j":12345678901234567890}'
)


def decided(condition: str) -> bool | None:
    """Return whether the event passes; None: the engine decides."""
    expression = compile_expression(f"{condition} ? $event.b : undefined")
    assert expression.fast_path is not None
    assert expression.fast_path.decide is not None
    return expression.fast_path.decide(EVENT)


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        ("$event.a === 'xyz'", True),
        ("$event.a !== 'xyz'", False),
        ("$event.a === 'xy'", False),
        ('"xyz" === $event.a', True),
        ("$event.e === ''", True),
        ("$event.b.c === 5", True),
        ("5.0 === $event['b'].c", True),
        ("$event.b.c === '5'", False),
        ("$event.a === 5", False),
        ("$event.b.d === null", True),
        ("$event.b.d === undefined", False),
        ("$event.b.x === undefined", True),
        ("$event.b?.x !== undefined", False),
        ("$event.g === true", True),
        ("$event.i === false", True),
        ("$event.b.c > 4 && $event.b.c >= 5 && $event.b.c < 6 && $event.b.c <= 5", True),
        ("4 < $event.b.c && 5 <= $event.b.c && 6 > $event.b.c && 5 >= $event.b.c", True),
        ("$event.f === 0", True),
        ("$event.f < -1", False),
        # 2^53 + 1 is no number of JavaScript, and the largest integers are rounded likewise.
        ("$event.j === 12345678901234567000", True),
        ("$event.a", True),
        ("$event.e", False),
        ("$event.f", False),
        ("$event.b", True),
        ("$event.b.d", False),
        ("$event.i", False),
        ("$event.x", False),
        ("!$event.x", True),
        ("!!$event.x", False),
        ("!($event.x || $event.a)", False),
        ("$event.x || $event.e || $event.g", True),
        ("($event.a && ($event.x))", False),
        ("typeof $event.a === 'string'", True),
        ("typeof $event.b.c === 'number'", True),
        ("typeof $event.b.d === 'object' && typeof $event.h === 'object'", True),
        ("typeof $event.g !== 'boolean'", False),
        ("typeof $event.x === 'undefined'", True),
        ("$event.a.startsWith('x')", True),
        ("!$event.a.endsWith('z')", False),
        ("$event.a . includes( 'y' )", True),
        ("$event.e.includes('y')", False),
        # JavaScript converts, finds an inherited property, or throws.
        ("$event.a < 5", None),
        ("$event.x < 5", None),
        ("$event.b.toString", None),
        ("$event.x.y === 5", None),
        ("$event.b.d.y === 5", None),
        ("$event.a.length === 3", None),
        ("$event.h.includes('y')", None),
        ("$event.x.includes('y')", None),
        # What is not evaluated decides nothing.
        ("$event.x && $event.a < 5", False),
        ("$event.g || $event.a < 5", True),
    ],
)
def test_condition_is_decided_as_in_javascript(condition: str, *, passes: bool | None) -> None:
    assert decided(condition) is passes
    text = f"{condition} ? $event.b : undefined"
    (outcome,) = compile_expression(text).evaluate([record(EVENT)], "a", SOURCE)
    (as_value,) = compile_expression(f"{condition} ? true : false").evaluate(
        [record(EVENT)], "a", SOURCE
    )
    if as_value in {b"true", b"false"}:
        assert outcome == (b'{"c":5,"d":null}' if as_value == b"true" else SKIP)
        assert passes in {None, as_value == b"true"}
    else:
        assert outcome == as_value, "the same error"
        assert passes is None


@pytest.mark.parametrize(
    "text",
    [
        "$event.a ? $event : null",
        "$event.a ? undefined : undefined.x",
        "$event.a ? $event.b + 1 : undefined",
        "$event.a ? $event : $event.undefined",
        "$event.a == 5 ? $event : undefined",
        "$event.a < '5' ? $event : undefined",
        "$event.a === $event.b ? $event : undefined",
        "$event.a === 1e3 ? $event : undefined",
        "$event.a === 'a\\n' ? $event : undefined",
        "$event.a === 5 === true ? $event : undefined",
        "!$event.a === true ? $event : undefined",
        "!5 ? $event : undefined",
        "5 ? $event : undefined",
        "$event.a ?? $event.b ? $event : undefined",
        "$event.a + 1 ? $event : undefined",
        "$event === 5 ? $event : undefined",
        "$event.a && $event.a.b ? $event : undefined",
        "$event.a?.includes('a') ? $event : undefined",
        "$event.a.includes('a', 1) ? $event : undefined",
        "$event.a.includes(5) ? $event : undefined",
        "$event.a.at('a') ? $event : undefined",
        "$event.a['includes']('a') ? $event : undefined",
        "typeof $event.a ? $event : undefined",
        "typeof $event.a === 5 ? $event : undefined",
        "typeof 5 === 'number' ? $event : undefined",
        "$event.a === typeof 5 ? $event : undefined",
        "($event.a, 5) ? $event : undefined",
        "(5) ? $event : undefined",
        "/* a */ $event.a ? $event : undefined",
        "($event.a ? $event : undefined)",
        "$event['\t'] ? $event : undefined",
        "$event.a && 5",
        f"{'!' * (DEPTH_MAX + 1)}$event.a ? $event : undefined",
        f"{' && '.join(['$event.a'] * TOKENS_MAX)} ? $event : undefined",
    ],
)
def test_everything_else_enters_the_engine(text: str) -> None:
    assert compile_expression(text).uses_engine


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("$event.a ? $event : undefined", [b'{"a": 1}', SKIP]),
        ("$event.a ? undefined : $event", [SKIP, b'{"b" :2}']),
        ("!$event.a\n?\n{n: $event.b}\n:\nundefined\n", [SKIP, b'{"n":2}']),
        ("$event.a ? $event.b : undefined", [SKIP, SKIP]),
    ],
)
def test_line_of_an_event_that_passes_is_sliced(text: str, lines: list[object]) -> None:
    expression = compile_expression(text)
    records = [record(b'{"a": 1}'), record(b'{"b" :2}')]
    assert expression.evaluate(records, "a", SOURCE) == lines
    assert all(expression.takes_fast_path(it, SOURCE) for it in records)


@pytest.mark.parametrize("value", [None, b"{", b'{"a":"\xff"}', b"5", b'[{"a":1}]', b"null"])
def test_value_without_an_object_has_the_outcome_of_the_engine(value: bytes | None) -> None:
    usual = compile_expression("$event.a ? $event : undefined")
    other = compile_expression("$event.a ? ($event) : undefined")
    assert other.uses_engine
    outcomes = [it.evaluate([record(value)], "a", SOURCE) for it in (usual, other)]
    assert outcomes[0] == outcomes[1]
    assert not usual.takes_fast_path(record(value), SOURCE)


def test_bytes_of_a_line_do_not_depend_on_who_has_decided() -> None:
    expression = compile_expression("$event.a.b === 5 || $event.c ? $event.d : undefined")
    one, two = record(b'{"a":{"b":5},"d":{"n": 1.0}}'), record(b'{"a":"","c":1,"d":{"n": 1.0}}')
    assert expression.takes_fast_path(one, SOURCE)
    assert not expression.takes_fast_path(two, SOURCE)
    assert expression.evaluate([one, two], "a", SOURCE) == [b'{"n": 1.0}'] * 2
