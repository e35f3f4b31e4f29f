"""Conditions of expressions that need the engine, and what they read of their events."""

import json

import pytest

from stream_app.expressions.engine import CompiledExpression, Engine
from stream_app.expressions.expression import (
    SKIP,
    Expression,
    Failure,
    Outcome,
    Route,
    compile_expression,
    evaluate,
)
from stream_app.expressions.scanner import (
    READ_PATHS_MAX,
    SKIPPED_EVENTS,
    Reader,
    changes_nothing,
    condition_end,
    read_paths,
)
from stream_app.expressions.shape import PATH_LENGTH_MAX
from stream_app.records import TopicPartition
from tests.unit.expressions.test_expression import record

SOURCE = TopicPartition("events", 1)


@pytest.mark.parametrize(
    "condition",
    [
        "$event.a == 5",
        "$event.items.some(it => it.n > 5 ? true : false)",
        "/a?[/?]b\\/?/i.test($event.a)",
        "$event.a / 2 > 1 && 4 / $event.b / 1",
        "$event.a?.b?.['?'] ?? f(x, y = 1)",
        "`a ? ${$event.a ? `${1}` : '}'} ?` != ''",
        '\'?\' + "\\"?" == 1',
        "(a, b => c)(`\\`?`, {a: 1})",
        "typeof /a?/ == 1 || 5 / 2",
        "[1][0] / 2 == (1) / 2",
        "a?.5:1 ? 2 : 3",
        "a >= 1 && b <= 2 && c !== 1.5 && d << 2 == 3 ** 2",
        "x.in / 2 == 1e3 / 1 && x?.new / 2",
    ],
)
def test_condition_ends_at_the_first_question_mark_outside_of_brackets(condition: str) -> None:
    if "?.5" in condition:
        assert condition_end(condition) == 1
        return
    assert condition_end(f"{condition} ? $event : undefined") == len(condition) + 1


@pytest.mark.parametrize(
    "text",
    [
        "$event.items.map(it => it ? 1 : 2)",
        "x => x ? 1 : 2",
        "a = b ? 1 : 2",
        "a ||= b ? 1 : 2",
        "a >>>= b ? 1 : 2",
        "1, b ? 1 : 2",
        "a // b\n ? 1 : 2",
        "a /* b */ ? 1 : 2",
        "a <!-- b\n ? 1 : 2",
        "a --> b ? 1 : 2",
        "a++ / 2 ? 1 : 2",
        "{} / 2 ? 1 : 2",
        "/[[a]/]/v.test(a) ? 1 : 2",
        "(() => { if (a) /b/.test(c) })() / 2 ? 1 : 2",
        "(() => { if (a) /b/.test(c) })() || /a/ ? 1 : 2",
        "a\ufeff/ b ? 1 : 2",
        "\\u0061 ? 1 : 2",
        "a) ? 1 : 2",
        "(a] ? 1 : 2",
        "(a ? 1 : 2",
        "`${a} ? 1 : 2",
        "'a",
        "a + 1",
    ],
)
def test_text_without_a_certain_condition_has_none(text: str) -> None:
    assert condition_end(text) is None


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("$event.a + event['b c'].d", [("a",), ("b c", "d")]),
        ("$event.items.filter(it => it.n)", [("items",)]),
        ("$event.items.map?.(f) + $event . a\n?.b`x`", [("a",), ("items",)]),
        ("$event.a.length + $event.a.b /2", [("a",)]),
        ("$event.a.b + $event.a + $event.a.b.c", [("a",)]),
        ("x.event.y + { ...event.z }.q", [("z",)]),
        ("Math.random() < 0.1", []),
        ("(event => event.x)($event.a)", None),
        ("$event", None),
        ("$event[$event.a]", None),
        ("$event.length", None),
        ("$event.hasOwnProperty('a')", None),
        ("éevent.a + event.b + event2.c", [("b",)]),
        ("eval('1') + $event.a", None),
        ("\\u0065vent + $event.a", None),
        ("$event['a\tb'] + 1", None),
        (f"$event{'.a' * (PATH_LENGTH_MAX + 1)} + 1", None),
        (" + ".join(f"$event.a{number}" for number in range(READ_PATHS_MAX + 1)), None),
    ],
)
def test_paths_that_an_expression_reads_are_known(
    text: str, paths: list[tuple[str, ...]] | None
) -> None:
    assert read_paths(text) == paths


@pytest.mark.parametrize(
    "text",
    [
        "$event.items.some(it => it.price > 6)",
        "$event.items.filter((it, at) => it.n === at && !it.x).length >= 2 || $event.a == 5",
        "/^a[{]$/.test($event.a) && `${$event.a}++` != '= {'",
        "Math.random() < 0.1",
        "$event.items[0].a?.[1] + $event . b % 2 > 1.5",
        "[1, 2].indexOf($event.a) !== -1",
        "Number($event.a) > Number.MAX_SAFE_INTEGER",
        "typeof $event.a.map(it => [it]) === 'object'",
    ],
)
def test_expression_that_changes_nothing_is_known(text: str) -> None:
    assert changes_nothing(text)


@pytest.mark.parametrize(
    "text",
    [
        *("$event.a = 5", "$event.a++", "--$event.a", "$event.a ||= 1", "$event.a <<= 1"),
        *("delete $event.a", "$event.a.push(1)", "$event.a?.sort()", "[5].some($event.a.push)"),
        *("$event.a['push'](1)", "$event.a[$event.b](1)", "$event.a['pu' + 'sh'](1)"),
        *("Object.assign($event)", "[...Object.keys($event)]", "new Set($event.a)", "this"),
        *(
            "(({ push }) => push)($event.a)",
            "(() => { return 1 })()",
            "f($event)",
            "$context.offset",
        ),
        *("(globalThis => 1)(2) || globalThis.Object", "(Object => 1)(2) || Object.assign($event)"),
        *("[null].map($event.__lookupSetter__('a'), $event)", "$event.a.map.call(1)", "a // b"),
        *("$event.constructor.assign(1)", "Number.prototype", "((a = 1) => a)(2)", "\\u0061"),
    ],
)
def test_expression_that_might_change_something_is_known(text: str) -> None:
    assert not changes_nothing(text)


REST = {"rest": "x" * 100}


@pytest.mark.parametrize(
    ("paths", "value", "part"),
    [
        ([("a",)], {"a": [1]} | REST, {"a": [1]}),
        ([("a", "b"), ("a", "c%"), ("d",)], {"d": 1, "a": {"c%": 2, "b": 3}} | REST,
         {"a": {"b": 3, "c%": 2}, "d": 1}),
        ([("a",), ("é",)], {"é": "ü", "b": 1} | REST, {"é": "ü"}),
        ([("a", "b"), ("c",)], {"a": {}} | REST, {"a": {}}),
        ([("a", "b")], {"c": 1} | REST, None),
        ([("a", "b")], {"a": None} | REST, None),
        ([("a", "b")], {"a": [1]} | REST, None),
        ([], REST, None),
        ([], [REST], None),
    ],
)  # fmt: skip
def test_part_has_what_the_paths_lead_to(
    paths: list[tuple[str, ...]], value: object, part: object
) -> None:
    found = Reader(paths).part(json.dumps(value, ensure_ascii=False).encode())
    assert (None if found is None else json.loads(found)) == part


def test_part_of_an_event_that_is_no_json_is_the_event() -> None:
    assert Reader([("a",)]).part(b'{"a":1,' + b" " * 100) is None


def test_events_of_which_much_is_read_are_taken_whole_for_a_while() -> None:
    reader = Reader([("a",)])
    small = json.dumps({"a": 1} | REST).encode()
    assert reader.part(small) == '{"a":1}'
    assert reader.part(b'{"a":"xxxxxxxxxxxxxxxxxxxx"}') is None
    assert [reader.part(small) for _ in range(SKIPPED_EVENTS)] == [None] * SKIPPED_EVENTS
    assert reader.part(small) == '{"a":1}'


ENGINE = Engine()


def outcomes(text: str, events: list[bytes]) -> tuple[list[Outcome], list[Outcome]]:
    """Return the outcomes of an expression, and those of the engine over whole events."""
    whole = Expression(text, CompiledExpression(text), None, ENGINE)
    whole.questions.reader = None
    records = [record(it, offset) for offset, it in enumerate(events)]
    usual = compile_expression(text, engine=ENGINE)
    return usual.evaluate(records, "a", SOURCE), whole.evaluate(records, "a", SOURCE)


@pytest.mark.parametrize(
    "text",
    [
        "$event.a.b.map(it => it.n)",
        "$event.a?.b[0]",
        "($event.a.c = 5, $event.a.c + $event.a.b.length)",
        "delete $event.a.b && $event.a.b",
        "$event.a.toString() + $event.a.constructor.name",
        "$event.a.b.includes($event.x.y)",
        "Math.random() < 0.5",
        "$event.n % 10",
    ],
)
def test_outcome_over_a_part_is_that_over_the_whole(text: str) -> None:
    rest = b'"rest":"' + b"x" * 200 + b'","n":12345678901234567890'
    events = [
        *(b'{"a":{"b":[{"n":1}]},%b}' % rest, b'{"a":null,%b}' % rest, b"{%b}" % rest),
        *(b'{"a":{"b":null},%b}' % rest, b'{"a":[1],"x":5,%b}' % rest, b"[%b" % rest, b"5"),
        b'{"a":5,"a":{"b":[1]},%b}' % rest,
    ]
    usual, whole = outcomes(text, events)
    assert usual == whole


EVENT = b'{"a":5,"n":1.0,"b":{"c":[3,4]},"d":"x"}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$event.a == '5' ? $event : undefined", EVENT),
        ("$event.a == '6' ? $event : undefined", SKIP),
        ("$event.b.c.some(it => it > 3) ? $event.n : $event.a", b"1.0"),
        ("$event.b.c.some(it => it > 4) ? $event.n : $event.b", b'{"c":[3,4]}'),
        ("[$event.a].every(it => it) && {} ? $event.n : $event.b", b"1.0"),
        ("$event.b.c.every(it => it > 3) ? $event.n : { n: $event.n }", b'{"n":1.0}'),
        ("$context.offset == 7 ? `${$event.d}` : 1", b'"x"'),
        # Undecided without the engine: `$event.d < 5`.
        ("$event.a == 5 ? { a: $event.d < 5, n: $event.n } : undefined", b'{"a":false,"n":1.0}'),
        ("$event.a == 5 ? $event.d < 5 ? 1 : undefined : 2", SKIP),
        # Changed: then the line is the engine's.
        ("($event.a = 6) ? $event : undefined", b'{"a":6,"n":1,"b":{"c":[3,4]},"d":"x"}'),
        ("$event.b.c.reverse() ? $event.b : undefined", b'{"c":[4,3]}'),
        ("Object.isFrozen($event) ? 1 : $event.n", b"1"),
        ("(() => { try { return $event.a = 1 } catch {} })() ? $event.a : 2", b"1"),
    ],
)
def test_condition_of_the_engine_leaves_the_result_to_the_fast_path(
    text: str, expected: object
) -> None:
    expression = compile_expression(text)
    assert expression.uses_engine
    assert not expression.takes_fast_path(record(EVENT), SOURCE)
    assert expression.evaluate([record(EVENT)], "a", SOURCE) == [expected]


@pytest.mark.parametrize("condition", ["$event.a.b.c == 5", "[$event.a.b.c] && {}"])
def test_condition_that_throws_fails_with_its_place(condition: str) -> None:
    text = f"{condition} ? $event : undefined"
    (found,) = compile_expression(text).evaluate([record(EVENT)], "a", SOURCE)
    assert isinstance(found, Failure)
    assert found.error.startswith("TypeError: cannot read property 'c' of undefined, at line 1, ")


@pytest.mark.parametrize(
    "condition",
    [
        "(function f(n) { return f(n + 1) + 1 })(0)",
        "(f => f(f))(f => f(f) + 1)",
    ],
)
def test_condition_that_hits_a_limit_fails(condition: str) -> None:
    text = f"{condition} ? $event : undefined"
    (found,) = compile_expression(text).evaluate([record(EVENT)], "a", SOURCE)
    assert isinstance(found, Failure)
    assert found.error.startswith("RangeError: Maximum call stack size exceeded")


def test_conditions_share_an_event_with_other_expressions() -> None:
    texts = [
        *("$event.b.c.some(it => it > 3) ? $event : 0", "[$event.a]", "$event.a + 1"),
        *("($event.a = 6) ? $event.a : 0", "$event.a == 5 ? $event.n : 0"),
    ]
    routes = [Route(compile_expression(it), "a", [record(EVENT)]) for it in texts]
    assert evaluate(routes, SOURCE) == [[EVENT], [b"[5]"], [b"6"], [b"6"], [b"1.0"]]
