"""Expressions that are computed without the engine, and why others are not."""

import json
from collections import Counter

import pytest

from stream_app.expressions.expression import SKIP, Outcome, compile_expression
from stream_app.expressions.parser import DEPTH_MAX, TOKENS_MAX, RefusedError, parse, parse_branches
from stream_app.expressions.shape import PATH_LENGTH_MAX
from stream_app.records import TopicPartition
from tests.unit.expressions.test_expression import record

SOURCE = TopicPartition("events", 1)
EVENT = (
    b'{"a":"x\\u0079z","b":{"c":5,"d":null,"x":{"y":[1, 2.0]}},"e":"","f":-0.0,"g":true,'
    b'"h":[1,"i",null],"i":false,"j":12345678901234567890,"k":"Ab\\u00c9 \\"",'
    b'"l":{"length":1E3},"m":"\xc4\xb0","n":-7.50,"o":1e-7,"p":"\xf0\x9f\x98\x80",'
    b'"q":"\xee\x80\x80","r":"AB","s":"ABC"}'
)


def outcome(text: str, event: bytes = EVENT) -> Outcome:
    (found,) = compile_expression(text).evaluate([record(event)], "a", SOURCE)
    return found


def by_engine(text: str, event: bytes = EVENT) -> Outcome:
    """Return the outcome of the same, in which a call of a function needs the engine."""
    same = f"(it => it)({text})"
    assert compile_expression(same).uses_engine
    return outcome(same, event)


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
        ("$event.b.x.z === undefined", True),
        ("$event.b?.x.z !== undefined", False),
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
        ("$event.none", False),
        ("!$event.none", True),
        ("!!$event.none", False),
        ("!($event.none || $event.a)", False),
        ("$event.none || $event.e || $event.g", True),
        ("($event.a && ($event.none))", False),
        ("typeof $event.a === 'string'", True),
        ("typeof $event.b.c === 'number'", True),
        ("typeof $event.b.d === 'object' && typeof $event.h === 'object'", True),
        ("typeof $event.g !== 'boolean'", False),
        ("typeof $event.none === 'undefined'", True),
        ("typeof 5 === 'number'", True),
        ("$event.a.startsWith('x')", True),
        ("!$event.a.endsWith('z')", False),
        ("$event.a . includes( 'y' )", True),
        ("$event.e.includes('y')", False),
        ("$event.h.includes(1) && !$event.h.includes('1')", True),
        ("['a', 'xyz', null, 5].includes($event.a)", True),
        ("['a', 5.0, -1].includes($event.b.c)", True),
        ("[].includes($event.a)", False),
        ("$event.none?.includes('a')", False),
        ("$event.b.d?.length === undefined", True),
        ("$event.a?.startsWith('x')", True),
        # Several paths in one another, and conversions of none.
        ("$event.b && $event.b.x && $event.b.x.y.length === 2", True),
        ("$event && $event.b.c === 5", True),
        ("$event.a === $event.a && $event.b.c === $event.b.c", True),
        ("$event.b === 5 || $event.a === $event.b", False),
        ("$event.r < $event.s && $event.r < 'B'", True),
        ("$event.p < $event.q", True),  # By code units.
        ("$event.none?.x.y === undefined", True),
        ("$event.b?.d?.x === undefined", True),
        ("$event.a.length === 3 && $event.p.length === 2", True),
        ("($event.none ?? $event.g) === true", True),
        ("($event.b.d ?? 5) === 5", True),
        ("($event.b.c ? $event.g : $event.i)", True),
        ("`${$event.b.c}` === '5'", True),
        ("{ a: $event.a }", True),
        ("$event.a.toLowerCase().includes('xyz')", True),
        ("'xyz'.includes($event.a)", True),
        ("('x' ?? 5).length === 1", True),
        # JavaScript converts, finds an inherited property, or throws.
        ("$event.a < 5", None),
        ("$event.none < 5", None),
        ("$event.a < $event.b.c", None),
        ("$event.b.toString", None),
        ("$event.constructor?.x", None),
        ("$event.none.y === 5", None),
        ("$event.b.d.y === 5", None),
        ("$event.none.length === 5", None),
        ("$event.b?.none.y", None),
        ("$event.f < $event.b.c", True),
        ("$event.b.c.length === 5", None),
        ("$event.a?.x?.y", None),
        ("$event.b === $event.b", None),
        ("$event.h.includes($event.b)", False),
        ("$event.none.includes('y')", None),
        ("$event.b.c.includes('y')", None),
        ("$event.m.toLowerCase() === 'i'", False),
        ("`${$event.b}` === ''", None),
        ("`${$event.o}` === '1e-7'", None),
        # What is not evaluated decides nothing.
        ("$event.none && $event.a < 5", False),
        ("$event.g || $event.a < 5", True),
    ],
)
def test_condition_is_decided_as_in_javascript(condition: str, *, passes: bool | None) -> None:
    text = f"{condition} ? $event.b : undefined"
    expression = compile_expression(text)
    assert expression.reason is None
    assert expression.takes_fast_path(record(EVENT), SOURCE) is (passes is not None)
    found, as_value = outcome(text), by_engine(f"{condition} ? true : false")
    if as_value in {b"true", b"false"}:
        assert found == (b'{"c":5,"d":null,"x":{"y":[1, 2.0]}}' if as_value == b"true" else SKIP)
        assert passes in {None, as_value == b"true"}
    else:
        assert str(found).partition(", at")[0] == str(as_value).partition(", at")[0]
        assert passes is None


@pytest.mark.parametrize(
    "text",
    [
        *("5", "'a\t\"é'", "null", "true", "-0", "5.50", "undefined", '"\x7f\u2028"', "-1"),
        *("$event.a.length", "$event.h.length", "$event.k.length", "$event.p.length"),
        *("$event.a.toLowerCase()", "$event.k.toUpperCase()", "$event.r.toLowerCase()"),
        *("$event.k.toLowerCase().toUpperCase()", '`a${$event.a}\n"${$event.k}`', "``", "`$a${5}`"),
        "`${$event.b.c} ${$event.b.d} ${$event.none} ${$event.g} ${$event.n}${$event.e}$`",
        "`${`${$event.a}` ?? 1}}`",
        *("$event.none ?? 'x'", "$event.b.c ?? 'x'", "$event.e || 'x'", "$event.r || 'x'"),
        *("$event.e && 5", "$event.a && $event.b.c", "$event.none && 1", "!$event.a"),
        *("$event.b.c > 3 ? 'many' : $event.b.c > 1 ? 'some' : 'few'", "typeof $event.a"),
        "{ a: $event.a.length, 'b c': $event.none ?? null, c: $event.none, d: { e: 'f', g: 1 } }",
        "{ a: $event.g ? 'yes' : 'no', b: $event.i ? 1 : undefined, event: `${$event.r}`, if: 5 }",
        *(
            "{}",
            "$event.g ? undefined : undefined",
            "$event.g ? null : $event",
            "$event.i || undefined",
        ),
        *(
            "$event.a.startsWith('x')",
            "['a'].includes($event.a)",
            "$event.b.c === 5",
            "$event.b.c < 5",
        ),
        *("$event.none?.length", "$event.none?.toLowerCase()", "$event.x?.y.z", "$event?.none?.x"),
        *("$event.a?.length", "($event.none || $event.a).length", "($event.b.d)?.length"),
    ],
)
def test_value_is_spelled_as_by_the_engine(text: str) -> None:
    expression = compile_expression(text)
    assert expression.takes_fast_path(record(EVENT), SOURCE)
    assert outcome(text) == by_engine(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("$event.none ?? $event.n", b"-7.50"),
        ("$event.n ?? $event.none", b"-7.50"),
        ("$event.i || $event.n", b"-7.50"),
        ("$event.f || $event.none || $event.l", b'{"length":1E3}'),
        ("$event.f && $event.n", b"-0.0"),
        ("$event.g ? $event.n : $event.f", b"-7.50"),
        ("{ a: $event.i ? 5 : $event.b.x, b: $event.b.c }", b'{"a":{"y":[1, 2.0]},"b":5}'),
        ("{ all: $event.b.x, one: $event.b.x.y }", b'{"all":{"y":[1, 2.0]},"one":[1, 2.0]}'),
        ("$event.l.length", b"1E3"),
        ("$event.l?.length ?? 5", b"1E3"),
        ("{ n: $event.l.length }", b'{"n":1E3}'),
        ("$event.g ? ($event.i ? 1 : $event.n) : 3", b"-7.50"),
        ("($event.none ?? $event.n)", b"-7.50"),
    ],
)
def test_paths_keep_their_bytes(text: str, line: bytes) -> None:
    assert compile_expression(text).takes_fast_path(record(EVENT), SOURCE)
    assert outcome(text) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # The engine decides about `$event.a < 1`, or `toString`, or `$event.h.length`.
        ("$event.a < 1 ? 5 : $event.n", b"-7.50"),
        ("$event.a < 1 ? 5 : { n: $event.n, s: 'a[1,\"2]', none: $event.none }",
         b'{"n":-7.50,"s":"a[1,\\"2]"}'),
        ("{ a: $event.toString, b: $event.n, c: $event.constructor.name }",
         b'{"b":-7.50,"c":"Object"}'),
        ("{ a: $event.none ?? $event.toString?.none ?? $event.n, b: $event.a < 1 }",
         b'{"a":-7.50,"b":false}'),
        ("$event.a < 1 || $event.none || $event.n", b"-7.50"),
        ("$event.a < 1 ? 1 : $event.none || $event.n", b"-7.50"),
        ("$event.a < 1 ? 1 : $event.f && $event.n", b"-0.0"),
        ("$event.a < 1 ? 1 : $event.g && $event.n", b"-7.50"),
        ("$event.a < 1 ? 1 : $event.b.x", b'{"y":[1, 2.0]}'),
        ("$event.a < 1 ? 1 : $event.h.length", b"3"),
        ("$event.a < 1 ? 1 : $event.l.length", b"1E3"),
        ("$event.a < 1 ? 1 : $event.h['1']", b'"i"'),
        ("$event.a < 1 ? 1 : $event.h['3'] ?? $event.h.map?.x ?? 7", b"7"),
        ("$event.a < 1 ? 1 : { x: { y: $event.h, z: `${$event.b.c}` } }",
         b'{"x":{"y":[1,"i",null],"z":"5"}}'),
        ("$event.a < 1 ? 1 : $event.none", SKIP),
        ("$event.a < 1 ? 1 : $event.b.d", b"null"),
    ],
)  # fmt: skip
def test_bytes_do_not_depend_on_who_has_decided(text: str, line: bytes) -> None:
    assert compile_expression(text).reason is None
    assert not compile_expression(text).takes_fast_path(record(EVENT), SOURCE)
    assert outcome(text) == line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$event.items.map(it => it)", "calls .map at column 13"),
        ("$event.items\n  .map(it => it)", "calls .map at line 2, column 3"),
        ("$event.a?.at(0) ? 5 : 6", "its condition calls ?.at at column 9"),
        ("$event.a ?.  b\n.at(0)", "calls .at at line 2, column 1"),
        ("$event.a['includes']('a')", "uses [ at column 9"),
        ("$event.a.toLowerCase().trim()", "calls .trim at column 23"),
        ("$event.a.toLowerCase().x", "uses .x at column 23"),
        ("$event.a.includes('a', 1)", "uses , at column 22"),
        ("$event.a.toLowerCase(5)", "uses 5 at column 22"),
        ("Math.random() < 0.1 ? $event : undefined", "its condition calls Math.random at column 1"),
        ("$context", "uses $context at column 1"),
        ("x => x", "uses x at column 1"),
        ("$event.a + 1", "uses + at column 10"),
        ("$event.a == 5 ? $event : null", "its condition uses == at column 10"),
        ("$event.a === 1e3", "uses 1e3 at column 14"),
        ("9007199254740992", "uses 9007199254740992 at column 1"),
        ("0.00001", "uses 0.00001 at column 1"),
        ("$event.a // all", "has a comment at column 10"),
        ("/* a */ $event", "has a comment at column 1"),
        ("'a\\n'", "has a text with a backslash at column 1"),
        ("`a\\n`", "uses \\ at column 3"),
        ("`${$event.a + 1}`", "uses + at column 13"),
        ("é", "uses é at column 1"),
        ("($event)", "uses ( at column 1"),
        ("$event.a ? ({ a: $event.a }) : 5", "uses ( at column 12"),
        ("$event.a ?? ($event.b)", "uses ( at column 13"),
        ("$event.b && ($event.a)", "uses ( at column 13"),
        ("{ a: ($event.a) }", "uses ( at column 6"),
        ("{ ...$event }", "uses ... at column 3"),
        ("{ $event }", "uses $event at column 3"),
        ("{ '1': $event.a }", "has the name 1 at column 3"),
        ("{ a: 1, a: 2 }", "has the name a at column 9"),
        ("{ __proto__: $event }", "has the name __proto__ at column 3"),
        ("{ [$event.a]: 1 }", "uses [ at column 3"),
        ("{ a() {} }", "calls a at column 3"),
        ("{ a: 1 + 1 }", "uses + at column 8"),
        ("['a', $event.a].includes(5)", "uses [ at column 1"),
        ("['a', undefined].includes(5)", "uses undefined at column 7"),
        ("['a', typeof 5].includes(5)", "uses typeof at column 7"),
        ("['a', 5]", "uses [ at column 1"),
        ("['a' + 1].includes(5)", "uses + at column 6"),
        ("$event['\t']", "has an unusual name at column 1"),
        ("$event.a ? 5 : $event.b.map(it => it)", "calls .map at column 24"),
        ("'a'.length.x", "uses .x at column 11"),
        ("'a' . \n constructor", "uses .constructor at line 1, column 5"),
        (f"{'!' * (DEPTH_MAX + 1)}$event.a", f"has more than {DEPTH_MAX} parts in one another"),
        (f"$event{'.a' * (PATH_LENGTH_MAX + 1)}",
         f"has a path of more than {PATH_LENGTH_MAX} names"),
        (f"{' && '.join(['$event.a'] * TOKENS_MAX)}",
         f"has more than {TOKENS_MAX} names, literals and signs"),
        (f"{'a' * 50} + 1", f"uses {'a' * 40}… at column 1"),
    ],
)  # fmt: skip
def test_everything_else_enters_the_engine_and_the_reason_is_known(text: str, reason: str) -> None:
    assert compile_expression(text).reason == reason
    assert compile_expression(text).uses_engine


def test_branches_are_two_and_nothing_else() -> None:
    assert parse_branches("? 1 : 2", 1).otherwise is not None
    for text in ("? 1", "? 1 : 2 : 3", "? 1 :", "? 1 : ($event)"):
        with pytest.raises(RefusedError):
            parse_branches(text, 1)


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
    assert usual.takes_fast_path(record(value), SOURCE) is (value is None)


def test_case_of_every_character_that_is_changed_here_is_the_engines() -> None:
    texts = ["".join(map(chr, range(0x20, 0x180))), "aΣ", "ﬀ"]
    for method in ("toLowerCase", "toUpperCase"):
        text = f"$event.{method}()"
        for event in (json.dumps(it, ensure_ascii=False).encode() for it in texts):
            assert outcome(text, event) == by_engine(text, event)
        fast = [
            compile_expression(text).takes_fast_path(record(json.dumps(it).encode()), SOURCE)
            for it in texts
        ]
        assert fast == [True, False, False]


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "-0.0", "5", "1.0", "1E2", "0.1", "0.0001", "0.00001", "123456789012345", "1e15",
     "9007199254740991", "9007199254740993", "1e999", "-7.50", "1e21", "123456.789e3", "1e-400"],
)  # fmt: skip
def test_number_in_a_template_has_the_digits_of_javascript(number: str) -> None:
    assert outcome("`${$event}`", number.encode()) == by_engine("`${$event}`", number.encode())


def test_parsed_paths_are_marked_once_for_each_mention() -> None:
    parsed = parse("$event.a ? { a: $event.a, b: $event.b.length } : $event")
    keys = Counter(tuple(step.key for step in steps) for steps in parsed.leaves)
    assert keys == {("a",): 2, ("b",): 1, ("b", "length"): 1, (): 1}
