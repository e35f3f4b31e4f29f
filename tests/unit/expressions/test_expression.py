"""Outcomes of payload expressions; `test_engine` has containment, `property/` has agreement."""

import json
from typing import Any

import orjson
import pytest
from aiokafka.structs import ConsumerRecord

from stream_app.errors import ExpressionError
from stream_app.expressions.engine import SourcePosition
from stream_app.expressions.expression import (
    ERROR_LENGTH_MAX,
    EXPRESSION_LENGTH_MAX,
    LINE_BYTES_MAX,
    SKIP,
    Failure,
    Outcome,
    Route,
    compile_expression,
    evaluate,
)
from stream_app.expressions.shape import INHERITED
from stream_app.records import Record, TopicPartition


def record(
    value: bytes | None,
    offset: int = 7,
    key: bytes | None = b"orders",
    timestamp: int = 1_500_000_000_000,
    headers: tuple[tuple[str, Any], ...] = (),
) -> Record:
    made: Record = ConsumerRecord(
        "events", 3, offset, timestamp, 0, key, value, None, 0, 0, headers
    )
    return made


def outcome(text: str, value: bytes | None) -> Outcome:
    (only,) = compile_expression(text).evaluate([record(value)], "archive", SOURCE)
    return only


SOURCE = TopicPartition("events", 3)
NAME = "events/3@7"
EVENT = b'{"body":{"id":5,"user":{"e-mail":"a@b.c"}},"inSample":true,"n":null,"text":"abc"}'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("$event", EVENT),
        ("event", EVENT),
        (" \n$event\t", EVENT),
        ("$event.body.id", b"5"),
        ("event.body.id", b"5"),
        ("$event?.body?.id", b"5"),
        ('$event.body.user["e-mail"]', b'"a@b.c"'),
        ("$event.body?.['user'] [ 'e-mail' ]", b'"a@b.c"'),
        ("$event.n", b"null"),
        ("{ id: $event.body.id }", b'{"id":5}'),
        ("{ id: $event.body.id, 'the text': event.text, }", b'{"id":5,"the text":"abc"}'),
        ('{ "50%": $event.text, a: $event.text }', b'{"50%":"abc","a":"abc"}'),
        ("{ all: $event, again: $event }", b'{"all":' + EVENT + b',"again":' + EVENT + b"}"),
        ("{\n  a: $event.body.user,\n  b: $event.n\n}", b'{"a":{"e-mail":"a@b.c"},"b":null}'),
    ],
)
def test_plain_paths_are_sliced_from_the_record(text: str, line: bytes) -> None:
    assert outcome(text, EVENT) == line
    assert not compile_expression(text).uses_engine


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("$event.inSample == true ? $event : undefined", EVENT),
        ("$event.text + '!'", b'"abc!"'),
        ("{ ...$event.body, id: undefined }", b'{"user":{"e-mail":"a@b.c"}}'),
        ("$event.body // the body", b'{"id":5,"user":{"e-mail":"a@b.c"}}'),
        ("{ '2': $event.n, '1': $event.text }", b'{"1":"abc","2":null}'),
        ("{ a: $event.n, b: $event.n, a: $event.text }", b'{"a":"abc","b":null}'),
        ("{ __proto__: $event.body, a: $event.n }", b'{"a":null}'),
        ("{ a: $event['te\\x78t'] }", b'{"a":"abc"}'),
        ("$event['te\txt'] ?? 1", b"1"),
        ("(x => x)($event.body.id)", b"5"),
        ("$eventual?.x ?? 1", None),
    ],
)
def test_everything_else_enters_the_engine(text: str, line: bytes | None) -> None:
    expression = compile_expression(text)
    assert expression.uses_engine
    if line is not None:
        assert expression.evaluate([record(EVENT)], "archive", SOURCE) == [line]


@pytest.mark.parametrize("length", [32, 33])
def test_path_of_any_length_is_followed(length: int) -> None:
    value = b'{"a":' * length + b"1" + b"}" * length
    expression = compile_expression("$event" + ".a" * length)
    assert expression.evaluate([record(value)], "archive", SOURCE) == [b"1"]
    assert expression.uses_engine == (length > 32)


@pytest.mark.parametrize("count", [256, 257, 2_000])
def test_object_of_any_size_is_built(count: int) -> None:
    fields = ",".join(f"f{number}:$event.n" for number in range(count))
    expression = compile_expression(f"{{{fields}}}")
    (line,) = expression.evaluate([record(EVENT)], "archive", SOURCE)
    assert isinstance(line, bytes)
    assert len(json.loads(line)) == count
    assert expression.uses_engine == (count > 1_000)


def test_key_that_msgspec_refuses_enters_the_engine() -> None:
    value = json.dumps({"a\tb": 1}).encode()
    expression = compile_expression("$event['a\tb']")
    assert expression.uses_engine
    assert expression.evaluate([record(value)], "archive", SOURCE) == [b"1"]


@pytest.mark.parametrize(
    "text",
    ["$event.missing", "$event.text.nope", "() => 1", "Symbol()", "undefined", "(1, void 0)"],
)
def test_undefined_functions_and_symbols_skip(text: str) -> None:
    assert outcome(text, EVENT) is SKIP


@pytest.mark.parametrize("text", ["$event", "$event.body", "{ a: $event.body }", "Date.now()"])
def test_tombstone_is_skipped(text: str) -> None:
    assert outcome(text, None) is SKIP


def test_field_that_is_missing_is_left_out_of_an_object() -> None:
    assert outcome("{ a: $event.missing, id: $event.body.id }", EVENT) == b'{"id":5}'


def test_names_that_every_object_has_are_those_of_the_engine() -> None:
    names = outcome("Reflect.ownKeys(Object.prototype)", b"1")
    assert isinstance(names, bytes)
    assert set(json.loads(names)) == INHERITED


@pytest.mark.parametrize("name", sorted(INHERITED))
def test_name_that_every_object_has_is_for_the_engine(name: str) -> None:
    text = f"{{ a: $event.{name}, b: $event.b }}"
    by_engine = outcome(f"({text})", b'{"b":1}')
    assert isinstance(by_engine, bytes)
    assert outcome(text, b'{"b":1.0}') == by_engine.replace(b"1", b"1.0")
    assert outcome(text, f'{{"{name}":1.0}}'.encode()) == b'{"a":1.0}'


def test_length_of_a_string_is_no_key() -> None:
    assert outcome("$event.text.length", EVENT) == b"3"


def test_path_through_null_fails() -> None:
    expected = Failure(
        NAME,
        "TypeError: cannot read property 'x' of null, at line 1, column 1",
        SourcePosition(1, 1),
    )
    assert outcome("$event.n.x", EVENT) == expected
    assert outcome("$event.n?.x", EVENT) is SKIP


def test_throw_fails_with_the_engines_message() -> None:
    assert outcome("$event.missing.x", EVENT) == Failure(
        NAME,
        "TypeError: cannot read property 'x' of undefined, at line 1, column 1",
        SourcePosition(1, 1),
    )


@pytest.mark.parametrize("text", ["$event", "$event.body", "{ b: $event.body }", "[$event]"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "Unexpected end of JSON input"),
        (b"plain text", "unexpected token: 'plain'"),
        (b'{"body":1}x', "unexpected data at the end"),
        (b'\xef\xbb\xbf{"body":1}', "Unexpected token '\\ufeff' in JSON"),
        (b'{"body":NaN}', "unexpected token: 'NaN'"),
        (b'{"body":"a\nb"}', "Bad control character in string literal"),
        (b'{"body":1}\x00', "unexpected data at the end"),
        (b'{"body":1,"other":"\xff"}', "not UTF-8 at byte 19"),
        (b"\xff", "not UTF-8 at byte 0"),
    ],
)
def test_value_that_is_not_json_fails_alike_on_both_paths(
    text: str, value: bytes, reason: str
) -> None:
    failed = outcome(text, value)
    assert isinstance(failed, Failure)
    assert failed.error.startswith(f"the record's value is not JSON: {reason}")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (b' {"body" : 1}\t', b'{"body" : 1}'),
        (b'{\n  "body": [\r\n    1.50,\n    "a b"\n  ]\n}\n', b'{"body":[1.50,"a b"]}'),
        (b'{\n"body": 12345678901234567890123}', b'{"body":12345678901234567890123}'),
        (b'{"body":\n"\\ud800"}', '{"body":"\ufffd"}'.encode()),
        (b'{"body": "\\uDBFF"}', '{"body":"\ufffd"}'.encode()),
        ('{"body":"é\u2028"}'.encode(), '{"body":"é\u2028"}'.encode()),
    ],
)
def test_whole_event_is_one_line(value: bytes, line: bytes) -> None:
    assert outcome("$event", value) == line


@pytest.mark.parametrize(
    ("text", "value", "line"),
    [
        ("$event.a", r'{"a":"x\ud83dy"}', '"x\ufffdy"'),
        ("$event.a", r'{"a":"\ude00\ud83d"}', '"\ufffd\ufffd"'),
        ("$event.a", r'{"a":"\ud83d\ude00"}', r'"\ud83d\ude00"'),
        ("{ a: $event.a, b: $event.b }", r'{"a":1.0,"b":"\uDE00"}', '{"a":1,"b":"\ufffd"}'),
        (
            '{ a: $event.a["0"], b: $event.b }',
            '{"a":"\U0001f600","b":1.0}',
            '{"a":"\ufffd","b":1.0}',
        ),
        ("($event)", r'{"\ud83d":"\\ud83d\\\ud83d\\"}', '{"\ufffd":"\\\\ud83d\\\\\ufffd\\\\"}'),
        (
            "[$event.n, $event.a]",
            r'{"n":12345678901234567890,"a":"\ud83d"}',
            '[12345678901234567890,"\ufffd"]',
        ),
        (
            "$event.n > 1 ? $event : 0",
            r'{"n":12345678901234567890,"m":12345678901234567891,"a":"\ud83d"}',
            '{"n":12345678901234567890,"m":12345678901234567891,"a":"\ufffd"}',
        ),
    ],
)
def test_half_a_surrogate_pair_is_written_as_a_replacement_character(
    text: str, value: str, line: str
) -> None:
    assert outcome(text, value.encode()) == line.encode()
    orjson.loads(line)


def test_deeply_nested_event_fails_alone() -> None:
    deep = record(b"[" * 100_000 + b"]" * 100_000)
    failed, right = compile_expression("$event").evaluate([deep, record(EVENT)], "archive", SOURCE)
    assert isinstance(failed, Failure)
    assert "too deep" in failed.error
    assert right == EVENT


def test_outcomes_keep_the_order_of_the_records() -> None:
    values = [b'{"a":1}', None, b"{}", b"x", b'{"a":{}}', b'{"a":"\xff"}', b"null", b'{"a":2}']
    records = [record(value, offset) for offset, value in enumerate(values)]
    for text in ("$event.a", "[$event.a][0]"):
        one, two, three, four, five, six, seven, eight = compile_expression(text).evaluate(
            records, "archive", SOURCE
        )
        assert (one, two, three, five, eight) == (b"1", SKIP, SKIP, b"{}", b"2")
        assert isinstance(four, Failure)
        assert isinstance(six, Failure)
        assert seven == Failure(
            "events/3@6",
            f"TypeError: cannot read property 'a' of null, at line 1, column {text.index('$') + 1}",
            SourcePosition(1, text.index("$") + 1),
        )


def test_no_records_give_no_outcomes() -> None:
    assert compile_expression("$event").evaluate([], "archive", SOURCE) == []
    assert compile_expression("1").evaluate([], "archive", SOURCE) == []


@pytest.mark.parametrize("text", ["$event", "$event.a", "{ a: $event.a }", "[$event]"])
def test_payload_beyond_its_limit_fails(text: str) -> None:
    failed = outcome(text, b'{"a":"' + b"x" * LINE_BYTES_MAX + b'"}')
    assert isinstance(failed, Failure)
    assert failed.error.startswith("the payload has 10485")
    assert "at most 1048576 are delivered" in failed.error


@pytest.mark.parametrize("text", ["$event", "[$event][0]"])
def test_payload_at_its_limit_is_delivered(text: str) -> None:
    value = b'"' + b"x" * (LINE_BYTES_MAX - 2) + b'"'
    assert outcome(text, value) == value


def test_failure_is_one_short_line() -> None:
    failed = outcome("(() => { throw 'a\\nb\\u2028c' + 'x'.repeat(1000); })()", EVENT)
    assert isinstance(failed, Failure)
    assert failed.error.startswith("a b cx")
    assert failed.error.endswith("x…")
    assert len(failed.error) == ERROR_LENGTH_MAX


def test_exception_without_a_text_is_described() -> None:
    assert outcome("(() => { throw ''; })()", EVENT) == Failure(NAME, "an exception without a text")


def test_position_of_a_long_failure_is_kept() -> None:
    failed = outcome("(() => {\n throw new Error('x'.repeat(1000)); })()", EVENT)
    assert isinstance(failed, Failure)
    assert failed.error.startswith("Error: xx")
    assert failed.error.endswith("xx…, at line 2, column 22")
    assert len(failed.error) == ERROR_LENGTH_MAX
    assert failed.position == SourcePosition(2, 22)


def test_error_of_text_that_does_not_compile_has_the_position() -> None:
    for text, position in (("a b", (1, 3)), ("{\n a: 1,", (2, 7)), (" ", None)):
        with pytest.raises(ExpressionError) as caught:
            compile_expression(text)
        assert caught.value.position == position


# --- Several destinations ------------------------------------------------------------------------


def test_each_route_has_the_outcomes_of_its_own_records() -> None:
    one, two, three = (record(b'{"n":%d}' % it, offset=it) for it in (1, 2, 3))
    routes = [
        Route(compile_expression("$event.n + 1"), "a", [one, two, three]),
        Route(compile_expression("$event.n"), "b", [one, three]),
        Route(compile_expression("[$context.destination, $event.n]"), "c", [two, three]),
        Route(compile_expression("$context.destination + $event.n"), "d", [three]),
        Route(compile_expression("$event.missing"), "e", [two]),
        Route(compile_expression("$event"), "f", []),
    ]
    assert evaluate(routes, SOURCE) == [
        [b"2", b"3", b"4"],
        [b"1", b"3"],
        [b'["c",2]', b'["c",3]'],
        [b'"d3"'],
        [SKIP],
        [],
    ]
    assert evaluate([], SOURCE) == []


@pytest.mark.parametrize(("value", "expected"), [(None, SKIP), (b"\xff", None), (b"{", None)])
def test_record_without_an_event_has_one_outcome_for_all_routes(
    value: bytes | None, expected: Any
) -> None:
    records = [record(value)]
    routes = [Route(compile_expression(it), "a", records) for it in ("[$event]", "event + 1")]
    (one,), (two,) = evaluate(routes, SOURCE)
    assert one == two
    assert one is expected if expected else isinstance(one, Failure)


@pytest.mark.parametrize(
    ("text", "value", "fast"),
    [
        ("$event.n", b'{"n":1}', True),
        ("$event.n", b"{}", True),
        ("{ n: $event.n, a: $event.a.b }", b"{}", False),
        ("{ n: $event.n, a: $event.a?.b }", b"{}", True),
        ("$event.toString", b"{}", False),
        ("$event.a?.b?.c", b'{"a":{}}', True),
        ("$event.a?.b?.c", b'{"a":{"b":{}}}', True),
        ("$event.n", b"[]", False),
        ("$event.n + 1", b'{"n":1}', False),
        ("$event", None, True),
    ],
)
def test_path_that_a_record_takes_is_known(text: str, value: bytes | None, *, fast: bool) -> None:
    assert compile_expression(text).takes_fast_path(record(value), SOURCE) is fast


# --- $context ------------------------------------------------------------------------------------


def test_context_names_the_record() -> None:
    made = record(b"{}", headers=(("a", b"1"), ("b", b"\xff"), ("a", b"2"), ("c", None)))
    (line,) = compile_expression("$context").evaluate([made], "archive", SOURCE)
    assert isinstance(line, bytes)
    assert list(json.loads(line).items()) == [
        ("topic", "events"),
        ("partition", 3),
        ("offset", 7),
        ("timestamp", "2017-07-14T02:40:00.000Z"),
        ("pipeline", "orders"),
        ("headers", {"a": "2", "b": "\ufffd", "c": None}),
        ("destination", "archive"),
    ]


def test_record_without_key_has_no_pipeline() -> None:
    made = record(b"{}", key=None)
    assert compile_expression("$context.pipeline").evaluate([made], "d", SOURCE) == [b"null"]


@pytest.mark.parametrize(
    "text",
    ["$context.offset", "\\u0024context.offset", "eval('$con' + 'text.offset')"],
)
def test_context_exists_in_every_spelling(text: str) -> None:
    assert outcome(text, EVENT) == b"7"


@pytest.mark.parametrize("text", ["$context.offset = 1", "$context.headers.a = 1"])
def test_context_is_frozen(text: str) -> None:
    failed = outcome(text, EVENT)
    assert isinstance(failed, Failure)
    assert failed.error.startswith("TypeError: ")


def test_same_record_gives_the_same_bytes() -> None:
    text = "[Math.random(), Date.now(), new Date(), $context]"
    records = [record(EVENT, offset) for offset in (1, 2, 1)]
    one, two, again = compile_expression(text).evaluate(records, "archive", SOURCE)
    assert one == again != two
    assert compile_expression(text).evaluate(records[:1], "archive", SOURCE) == [one]


def test_event_may_be_changed_by_its_expression_only() -> None:
    text = "($event.n = ($event.n ?? 0) + 1, $event.n)"
    assert compile_expression(text).evaluate([record(EVENT)] * 3, "archive", SOURCE) == [b"1"] * 3
    assert outcome("$event.n", EVENT) == b"null"


# --- Texts that are no expression ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the expression is empty; use $event to deliver the whole event"),
        (" \n", "the expression is empty"),
        ("a\0b", "the expression holds a NUL"),
        (
            "'\ud800'",
            "the expression holds a NUL, half a surrogate pair, or bytes that are no text",
        ),
        ("1 +", "SyntaxError: the expression is not complete, at its end"),
        ("{ a: 1,\n b c }", "SyntaxError: Unexpected identifier 'c', at line 2, column 4"),
        (
            "1" * (EXPRESSION_LENGTH_MAX + 1),
            "the expression has 65537 characters; use at most 65536",
        ),
    ],
)
def test_message_of_a_mistake_has_its_position(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert str(caught.value).startswith(message)
    assert "statement" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "return $event",
        "$event.body;",
        "if (1) { 2 }",
        "const x = 1",
        "throw 1",
        "for(;;){}",
        "var a",
    ],
)
def test_statement_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"at line 1, .*write an expression, not a statement"):
        compile_expression(text)


@pytest.mark.parametrize("text", ["$event" + " " * 60_000 + "x", "{a" + " " * 60_000 + "b}"])
def test_long_white_space_costs_no_time(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text)
    assert compile_expression(text[:-2] + "?1:1" if text[0] == "$" else text[:-2] + ":1}")
