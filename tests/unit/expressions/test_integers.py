"""Integers beyond 2^53 keep their digits through the engine, or the event fails and says why."""

import json
from dataclasses import replace

import pytest

from stream_app.expressions.engine import (
    CompiledExpression,
    Engine,
    EvaluationResult,
    Event,
    Limits,
    ScriptError,
)
from stream_app.expressions.expression import (
    SKIP,
    Failure,
    Outcome,
    Route,
    compile_expression,
    evaluate,
)
from stream_app.expressions.integers import Integers, integers_of
from stream_app.records import TopicPartition
from tests.unit.core.builders import Sample

SOURCE = TopicPartition("events", 1)
BIG = 12345678901234567890
NEXT = BIG + 1
"""The same number in JavaScript."""
LONG = "1" * 400
"""Infinity in JavaScript."""
CLASH = (
    f"RangeError: the event's {BIG} and {NEXT} are one number in JavaScript: deliver them by plain "
    "paths or in an object of the event, or send strings"
)


def outcome(text: str, event: str) -> Outcome:
    record = Sample(2, 3, None, event.encode())
    (only,) = compile_expression(text).evaluate([record], "archive", SOURCE)
    return only


def delivered(text: str, event: str) -> str:
    line = outcome(text, event)
    assert isinstance(line, bytes), line
    return line.decode()


# --- What is found -------------------------------------------------------------------------------


def test_digits_are_known_by_the_spelling_of_javascript() -> None:
    text = (
        f'{{"12345678901234567":{BIG},"a":"\\"","b":[-12345678901234567,9007199254740993\n],'
        f'"c\\\\":{"9" * 22},"d":1e25,"e":[true,false,1234567890123456789012345]}}'
    )
    assert integers_of(text.encode()) == Integers(
        {
            b"12345678901234567000": f"{BIG}".encode(),
            b"-12345678901234568": b"-12345678901234567",
            b"9007199254740992": b"9007199254740993",
            b"1e+22": b"9" * 22,
            b"1.2345678901234568e+24": b"1234567890123456789012345",
        },
        None,
    )


@pytest.mark.parametrize(
    ("text", "twin", "pairs"),
    [
        (f'{{"a":[{BIG},{NEXT}],"b":[{BIG},{-BIG},5]}}',
         f'{{"a":["{BIG}","{NEXT}"],"b":["{BIG}",{-BIG},5]}}', [(BIG, NEXT)]),
        (f'["\\"{BIG}",{BIG},"\\\\",{NEXT},"\\\\\\"{BIG}"]',
         f'["\\"{BIG}","{BIG}","\\\\","{NEXT}","\\\\\\"{BIG}"]', [(BIG, NEXT)]),
        (f"[{BIG},1.2345678901234567890e19]", f'["{BIG}",1.2345678901234567890e19]',
         [("1.2345678901234567890e19", BIG)]),
        (f"[{BIG},12345678901234567890.0]", f'["{BIG}",12345678901234567890.0]',
         [(BIG, "12345678901234567890.0")]),
        (f"[{LONG}]", f'["{LONG}"]', [("1111111111111111… (400 digits)", "infinity")]),
    ],
)  # fmt: skip
def test_engine_gets_the_integers_that_clash_as_strings(
    text: str, twin: str, pairs: list[tuple[object, object]]
) -> None:
    integers = integers_of(text.encode())
    assert integers is not None
    assert integers.clashes is not None
    assert f'{{"event":{twin},"clashes":[[' in integers.clashes
    clashes = json.loads(integers.clashes)["clashes"]
    assert [error.partition(" are one")[0] for _, error in clashes] == [
        f"RangeError: the event's {one} and {two}" for one, two in pairs
    ]
    assert {float(number) for number, _ in clashes} <= {float(BIG), float("inf")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"a":123456789012345}',
        '{"micros":1700000000123456,"more":1234567890123456}',
        '{"a":"12345678901234567"}',
        '{"a":"\\",12345678901234567"}',
        '["\\\\\\",12345678901234567,\\""]',
        "[0.12345678901234567890]",
        "[12345678901234567.0]",
        "[12345678901234567e1]",
        "[9007199254740991]",
        "[1e12345678901234567]",
        "[1e-12345678901234567]",
        "[1.5e+12345678901234567]",
        "12345678901234567-12345678901234567",
        "{12345678901234567e",
        "e12345678901234567",
        '"12345678901234567',
    ],
)
def test_event_without_large_integers_has_none(text: str) -> None:
    assert integers_of(text.encode()) is None


# --- Digits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("($event)", f'{{"id":{BIG},"list":[1,{-BIG}]}}'),
        ("$event.id >> 0 ? $event.id : $event.id + 0", f"{BIG}"),
        ("{ ...$event, list: undefined }", f'{{"id":{BIG}}}'),
        ("(({ id, ...rest }) => ({ rest, id }))($event)",
         f'{{"rest":{{"list":[1,{-BIG}]}},"id":{BIG}}}'),
        ("$event.list.map(x => x)", f"[1,{-BIG}]"),
        ("[...$event.list].reverse()", f"[{-BIG},1]"),
        ("($event.list.reverse(), $event)", f'{{"id":{BIG},"list":[{-BIG},1]}}'),
        ("($event.id = $event.list[1], $event.id)", f"{-BIG}"),
        ("(() => { try { $event.x = 1; } finally { return $event; } })()",
         f'{{"id":{BIG},"list":[1,{-BIG}],"x":1}}'),
        ("JSON.parse(JSON.stringify($event))", f'{{"id":{BIG},"list":[1,{-BIG}]}}'),
        # To the expression it is a number like any other.
        ("[typeof $event.id, $event.id === 12345678901234567890, $event.id % 16, $event.id / 1e19]",
         '["number",true,0,1.2345678901234567]'),
        ("[$event.id * 2, $event.id - 5000, `${$event.id}`]",
         '[24691357802469134000,12345678901234563000,"12345678901234567000"]'),
        ("$event.id + 1 === $event.id ? $event.id + 1 : 0", f"{BIG}"),
        ("[1 / 0, NaN, 2 ** 60]", "[null,null,1152921504606847000]"),
    ],
)  # fmt: skip
def test_integer_keeps_its_digits_through_the_engine(text: str, line: str) -> None:
    assert compile_expression(text).uses_engine
    assert delivered(text, f'{{"id":{BIG},"list":[1,{-BIG}]}}') == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("($event)", f'{{"a":[{BIG},{NEXT}],"b":{LONG}}}'),
        ("$event.a.length > 1 ? $event.a : undefined", f"[{BIG},{NEXT}]"),
        ("{ list: $event.a, first: 1 }", f'{{"list":[{BIG},{NEXT}],"first":1}}'),
        ("[$event.a].filter(it => it.length)", f"[[{BIG},{NEXT}]]"),
        ("[$event.a[0] === $event.a[1], $event.b === Infinity]", "[true,true]"),
    ],
)
def test_integers_equal_in_javascript_keep_their_digits_in_objects_of_the_event(
    text: str, line: str
) -> None:
    assert delivered(text, f'{{"a":[{BIG},{NEXT}],"b":{LONG}}}') == line


@pytest.mark.parametrize(
    "text",
    [
        "$event.a[0] > 5 ? $event.a[0] : 0",
        "{ ...$event.a }",
        "$event.a.map(x => x)",
        "$event.a.reverse()",
        "($event.a.splice(0, 1), $event.a)",
        "([$event.a[0], $event.a[1]] = [$event.a[1], $event.a[0]], $event)",
        "new Proxy($event.a, {})",
        "(() => { try { return $event; } finally {} })()",
        "12345678901234567890",
    ],
)
def test_integers_that_javascript_cannot_distinguish_fail_their_event(text: str) -> None:
    failed = outcome(text, f'{{"a":[{BIG},{NEXT}]}}')
    assert isinstance(failed, Failure)
    assert failed.error == CLASH


@pytest.mark.parametrize("text", ["[$event[0]]", "[1 / 0]", "[...$event]"])
def test_integer_beyond_all_numbers_of_javascript_fails_its_event(text: str) -> None:
    failed = outcome(text, f"[{LONG},1]")
    assert isinstance(failed, Failure)
    assert failed.error.startswith(
        "RangeError: the event's 1111111111111111… (400 digits) and infinity are one number in"
    )
    assert len(failed.error) <= 200


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (f"[{BIG},{BIG},1e999]", f"[{BIG},{BIG},null]"),
        ("[10000000000000000000000,1e22,1.5]", None),
        ("[9007199254740992,9007199254740992.0,0]", None),
        ("[99999999999999999,1e18,1.0]", "[99999999999999999,1000000000000000000,1]"),
    ],
)
def test_other_numbers_of_the_event_count_as_javascript_writes_them(
    event: str, line: str | None
) -> None:
    seen = outcome("[...$event]", event)
    assert seen == line.encode() if line else isinstance(seen, Failure)


def test_other_number_equal_to_an_integer_is_javascripts_in_objects_of_the_event() -> None:
    event = f'{{"a":{BIG},"b":1.2345678901234567890e19,"c":[1e999,{LONG}]}}'
    line = f'{{"a":{BIG},"b":12345678901234567000,"c":[null,{LONG}]}}'
    assert delivered("($event)", event) == line
    assert isinstance(outcome("[$event.b]", event), Failure)
    assert isinstance(outcome("[$event.c[0]]", event), Failure)


def test_last_of_equal_names_counts() -> None:
    assert delivered("($event)", f'{{"a":{NEXT},"b":1,"a":{BIG}}}') == f'{{"a":{BIG},"b":1}}'
    assert (
        delivered("[$event.a]", f'{{"a":{{"x":{NEXT}}},"a":{{"x":{BIG}}}}}') == f'[{{"x":{BIG}}}]'
    )


def test_event_that_is_an_integer_keeps_its_digits() -> None:
    assert delivered("[$event]", f" {BIG}\n") == f"[{BIG}]"
    assert delivered("-$event", f"{BIG}") == "-12345678901234567000"


@pytest.mark.parametrize("depth", [90, 500])
def test_integer_at_any_depth_keeps_its_digits(depth: int) -> None:
    event = "[" * depth + f"{BIG},{NEXT}" + "]" * depth
    assert delivered("($event)", event) == event


def test_event_that_is_not_json_fails_as_without_integers() -> None:
    for text in ("[$event]", "(() => { try { return $event; } finally {} })()"):
        failed = outcome(text, f"[{BIG}}}")
        assert isinstance(failed, Failure)
        assert failed.error.startswith("the record's value is not JSON: ")


# --- The two ways --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        *(f"{BIG}", f"[{BIG},{NEXT}]", "1.0", "1E400", "-0", "1e2", "0.1000000000000000055"),
        *('"\\u0061"', '{"b": 1,"a":2}'),
    ],
)
@pytest.mark.parametrize("other", ["", ',"opt":null', ',"opt":5', ',"opt":[1.0,2]'])
def test_missing_field_changes_no_byte_of_another(spelling: str, other: str) -> None:
    text = '{ big: $event.body.big, "0pt": $event.opt.length, list: $event.opt?.["0"] }'
    line = outcome(text, f'{{"body":{{"big":{spelling}}}{other}}}')
    if other in ("", ',"opt":null'):
        assert isinstance(line, Failure)
        assert line.error.startswith("TypeError: cannot read property 'length' of ")
        text = "{ big: $event.body.big, none: $event.none, 'n%': $event.opt?.none }"
        line = outcome(text, f'{{"body":{{"big":{spelling}}}{other}}}')
    assert (
        line
        == (
            f'{{"big":{spelling},"0pt":2,"list":1.0}}' if "[" in other else f'{{"big":{spelling}}}'
        ).encode()
    )


def test_element_of_an_array_keeps_its_bytes() -> None:
    event = f'{{"list":[1.0,{BIG},{NEXT}]}}'
    text = "{ a: $event.list['1'], b: $event.list['2'], c: $event.list['3'], d: $event.none }"
    assert delivered(text, event) == f'{{"a":{BIG},"b":{NEXT}}}'
    assert delivered("$event.list['0']", event) == "1.0"
    assert delivered("$event.list?.['0']['0'] ?? 1", event) == "1"


def test_value_beyond_reach_of_the_slices_keeps_its_integers() -> None:
    # Half a surrogate pair is a name for the engine only, and so is what Python finds too deep.
    assert (
        delivered("{ a: $event.a, b: $event.b }", f'{{"\\ud800":1,"a":{BIG}}}') == f'{{"a":{BIG}}}'
    )
    deep = f'{{"a":{"[" * 990}{BIG}{"]" * 990}}}'
    assert delivered("{ a: $event.a, b: $event.b }", deep) == deep


def test_line_is_one_line_and_has_its_limit_after_the_slices() -> None:
    assert delivered("{ a: $event.a, b: $event.b }", '{"a":[1.0,\n2]}') == '{"a":[1.0,2]}'
    assert delivered("$event.a['0']", '{"a":[\n[1.0,\r\n2]]}') == "[1.0,2]"
    failed = outcome("{ a: $event.a, b: $event.b }", f'{{"a":[1{" " * 1024 * 1024}]}}')
    assert isinstance(failed, Failure)
    assert failed.error.startswith("the payload has 10485")


def test_path_without_a_value_is_skipped_whatever_else_the_event_has() -> None:
    assert outcome("$event.none", f'{{"a":{BIG},"b":{NEXT}}}') is SKIP
    assert delivered("$event.a.length", f'{{"a":[{BIG},{NEXT}]}}') == "2"


# --- Several destinations, limits ----------------------------------------------------------------


def test_destinations_together_have_the_outcomes_of_each_alone() -> None:
    texts = [
        "($event)",
        "{ a: $event.a, none: $event.none }",
        "($event.a.reverse(), $event)",
        "$event.a.length",
        "[$event.a[0]]",
        "(() => { for (const it of $event.a) it.x.y; })()",
        "(() => { try { return [$event]; } finally {} })()",
        "[$event]",
    ]
    record = Sample(2, 3, None, f'{{"a":[{BIG},{NEXT}]}}'.encode())
    routes = [Route(compile_expression(it), "archive", [record]) for it in texts]
    for _ in range(2):
        together = [only for (only,) in evaluate(routes, SOURCE)]
        assert together == [outcome(it, f'{{"a":[{BIG},{NEXT}]}}') for it in texts]


def test_result_depends_on_no_earlier_event() -> None:
    expression = compile_expression("($event.b && $event.a.reverse(), $event)")
    events = [f'{{"a":[{BIG},{NEXT}]}}', '{"b":1,"a":[1,2]}', f'{{"a":[{BIG},{NEXT}]}}']
    records = [Sample(offset, 3, None, it.encode()) for offset, it in enumerate(events)]
    one, _, again = expression.evaluate(records, "archive", SOURCE)
    assert one == again == events[0].encode()


BUSY = "(() => { let n = 0; for (let i = 0; i < 300000; i++) n += i % 7; return n; })()"


def evaluated(
    engine: Engine, *texts: str, event: str = f"[{BIG},{NEXT}]"
) -> list[EvaluationResult]:
    integers = integers_of(event.encode())
    assert integers is not None
    made = Event(event, 3.0, "events/1@2", integers.clashes)
    with engine.session() as session:
        return [session.evaluate_clashing(made, CompiledExpression(it), None) for it in texts]


def test_result_depends_on_no_limit_that_was_hit_by_chance() -> None:
    texts = [f"{BUSY} && $event", f"{BUSY} && $event.reverse()", f"{BUSY} && $event[2].x", "$event"]
    patient = Engine(Limits(seconds_max=1e-6, retry_seconds_max=30))
    seen = evaluated(patient, *texts)
    assert seen == evaluated(Engine(Limits(seconds_max=30)), *texts)
    assert seen[0] == seen[3] == f"[{BIG},{NEXT}]"
    assert seen[1] == ScriptError(CLASH)


def test_endless_loop_over_an_event_with_clashes_fails() -> None:
    hasty = Engine(Limits(seconds_max=0.02, retry_seconds_max=0.05))
    failed, passed = evaluated(hasty, "(() => { for (;;); })()", "$event")
    assert isinstance(failed, ScriptError)
    assert failed.message.startswith("InternalError: interrupted")
    assert passed == f"[{BIG},{NEXT}]"


def test_limit_hit_when_the_event_is_frozen_is_hit_alone_again() -> None:
    small, long = Limits(memory_bytes_max=1_000_000), f'[{BIG},{NEXT},"{"x" * 600_000}"]'
    (failed,) = evaluated(Engine(small), "$event.length", event=long)
    assert isinstance(failed, ScriptError)
    assert failed.message.startswith("InternalError: out of memory")
    assert evaluated(Engine(small), "$event.length") == ["2"]
    roomy = replace(small, memory_bytes_max=64_000_000)
    assert evaluated(Engine(roomy), "$event.length", event=long) == ["3"]
