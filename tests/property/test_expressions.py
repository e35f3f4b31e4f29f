"""The fast path and the engine are one language, and nothing makes either raise."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.errors import ExpressionError
from stream_app.expressions.engine import CompiledExpression, Engine
from stream_app.expressions.expression import (
    SKIP,
    Expression,
    Failure,
    Route,
    compile_expression,
    evaluate,
)
from stream_app.records import TopicPartition
from tests.profiles import examples
from tests.spelling import as_engine, exact, has_clash, is_clash, is_same

ENGINE = Engine()


SOURCE = TopicPartition("events", 1)


@dataclass(frozen=True)
class Made:
    """A record without Kafka."""

    value: bytes | None
    offset: int = 2
    timestamp: int = 3
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


KEYS = st.sampled_from(
    [
        "a",
        "b",
        "x-y",
        "é",
        "0",
        "1",
        "length",
        "__proto__",
        "constructor",
        "toString",
        "a.b",
        "%b",
        "",
    ]
)
SPACE = st.sampled_from(["", "", "", " ", "\n", "\r\n  ", "\t"])
LARGE = st.sampled_from(
    ["9007199254740992", "9007199254740993", "-9007199254740993", "12345678901234567890",
     "12345678901234567891", "-12345678901234567890", "10000000000000000000000",
     "12345678901234567890123", "1" * 400]
) | st.integers(2**53, 2**64).map(str)  # fmt: skip
NUMBERS = LARGE | st.sampled_from(
    ["0", "-0", "1.0", "1e2", "1e5", "1E-7", "0.1", "0.1000000000000000055", "1e22", "1E400",
     "9007199254740993.0", "-1e999", "5e-324", "1e-400", "1700000000123456"]
)  # fmt: skip
STRINGS = st.builds(
    lambda text, ascii_only: json.dumps(text, ensure_ascii=ascii_only),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.booleans(),
) | st.sampled_from(
    [
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\/"',
        '"\\\\ud83d"',
        '"\\\\\\uDBFF\\uD83D\\uDE00"',
        '"\u2028"',
        '"a"',
        '"\\u0061"',
        '"POST"',
        '""',
    ]
)
LEAVES = st.sampled_from(["null", "true", "false", "{}", "[]"]) | NUMBERS | STRINGS


def _join(brackets: str, space: str, parts: list[str]) -> str:
    return brackets[0] + space + f"{space},{space}".join(parts) + space + brackets[1]


# Objects may repeat keys, as bytes on a topic may.
EVENTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(
            lambda space, parts: _join("[]", space, parts), SPACE, st.lists(inner, max_size=3)
        )
        | st.builds(
            lambda space, parts: _join(
                "{}", space, [f"{json.dumps(k, ensure_ascii=False)}{space}:{v}" for k, v in parts]
            ),
            SPACE,
            st.lists(st.tuples(KEYS, inner), max_size=4),
        )
    ),
    max_leaves=12,
)
VALUES = (
    st.builds(lambda before, text, after: (before + text + after).encode(), SPACE, EVENTS, SPACE)
    | st.builds(
        lambda text, at, byte: (
            text.encode()[: at % (len(text) + 1)] + byte + text.encode()[at % (len(text) + 1) :]
        ),
        EVENTS,
        st.integers(0, 200),
        st.binary(min_size=1, max_size=2) | st.sampled_from([b"\xef\xbb\xbf", b"NaN", b"Infinity"]),
    )
    | st.none()
)
STEPS = st.builds(
    lambda key, form: (
        f".{key}" if form == "." and key.isidentifier() and key.isascii()
        else f"?.{key}" if form == "?." and key.isidentifier() and key.isascii()
        else f"[{json.dumps(key, ensure_ascii=False)}]" if form != "'" else f"?.['{key}']"
    ),
    KEYS,
    st.sampled_from([".", "?.", "[", "'"]),
)  # fmt: skip
PATHS = st.builds(
    lambda root, steps: root + "".join(steps),
    st.sampled_from(["$event", "event"]),
    st.lists(STEPS, max_size=3),
)
OBJECTS = st.builds(
    lambda fields: (
        "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {p}" for k, p in fields) + "}"
    ),
    st.lists(st.tuples(KEYS, PATHS), min_size=1, max_size=3).filter(
        lambda fields: [key for key, _ in fields].count("__proto__") < 2  # A syntax error.
    ),
)


TEXTS = st.sampled_from(['"a"', "'POST'", '"é"', '""', "'\"'", '"\t"', '"A😀"'])
LITERALS = TEXTS | st.sampled_from(
    ["0", "-1", "5.5", "1e2", "9007199254740993", "undefined", "null", "true", "false", "-0", "7.0"]
)


def choose(draw: st.DrawFn, *texts: str) -> str:
    return draw(st.sampled_from(texts))


# Composites, since the descriptions of nested strategies would be megabytes.
@st.composite
def conditions(draw: st.DrawFn, paths: st.SearchStrategy[str], depth: int = 0) -> str:
    """Return a condition over paths, also such that only the engine computes."""

    def operand() -> str:
        endings = (".length", "?.length", ".toLowerCase()", ".toUpperCase()", "?.at(0)")
        return draw(paths) + choose(draw, "", "", "", *endings)

    kind = draw(st.integers(0, 11 if depth < 2 else 7))
    if kind <= 1:
        other = operand() if draw(st.integers(0, 3)) == 0 else draw(LITERALS)
        pair = [operand(), other]
        signs = ("===", "!==", "<", "<=", ">", ">=", "==")
        return (
            choose(draw, " {} ", "{}")
            .format(choose(draw, *signs))
            .join(pair if draw(st.booleans()) else pair[::-1])
        )
    if kind == 2:
        types = ("undefined", "object", "boolean", "number", "string", "a")
        return f"typeof {operand()} {choose(draw, '===', '!==')} '{choose(draw, *types)}'"
    if kind <= 5:
        part = draw(TEXTS) if draw(st.booleans()) else operand()
        names = (".startsWith", ".endsWith", ".includes", "?.includes", ".at")
        return f"{operand()}{choose(draw, *names)}({part})"
    if kind == 6:
        return f"[{', '.join(draw(st.lists(LITERALS, max_size=3)))}].includes({operand()})"
    inner = [operand() if kind == 7 else draw(conditions(paths, depth + 1)) for _ in range(2)]
    form = choose(draw, "{}", "!{}", "({})", "{} && {}", "{} || {}", "({} ?? {})", "!({} && {})")
    return form.format(*inner)


@st.composite
def filters(draw: st.DrawFn, paths: st.SearchStrategy[str]) -> str:
    condition, result = draw(conditions(paths)), draw(PATHS | OBJECTS | paths)
    space = draw(SPACE)
    form = choose(draw, "{0}{2}?{2}{1} : undefined{2}", "{0} ? undefined{2}:{2}{1}")
    return form.format(condition, result, space)


@st.composite
def results(draw: st.DrawFn, paths: st.SearchStrategy[str], depth: int = 0) -> str:
    """Return an expression as the fast path knows it, or of some that it does not know."""

    def inner() -> str:
        return draw(results(paths, depth + 1))

    kind = draw(st.integers(0, 9 if depth < 3 else 4))
    if kind <= 3:
        return draw((paths, paths, LITERALS, conditions(paths))[kind])
    if kind == 4:
        parts = draw(st.lists(paths | LITERALS | conditions(paths), max_size=3))
        texts = [choose(draw, "", "a", "é $ '", '"{}', "\t") for _ in parts]
        return (
            "`"
            + "".join(f"{text}${{{part}}}" for text, part in zip(texts, parts, strict=True))
            + "`"
        )
    if kind <= 6:
        return f"{draw(conditions(paths))} ? {inner()} : {inner()}"
    if kind == 7:
        form = choose(draw, "({}) {} ({})", "{} {} {}", "{} {} {}")
        return form.format(inner(), choose(draw, "??", "||", "&&"), inner())
    names = dict.fromkeys(draw(st.lists(KEYS, max_size=3)))
    members = (f"{json.dumps(name, ensure_ascii=False)}: {inner()}" for name in names)
    return "{" + ", ".join(members) + "}"


ENGINE_CONDITIONS = st.sampled_from(
    [
        "$event.a == {}", "[$event.a, event.d].some(it => it === {})", "[{}, $event.b.c].at(-1)",
        "($event.a = {}, $event.d)", "/a?[b/]/.test($event.a + {})", "Object.keys(event.b) == {}",
        "(() => {{ delete event.b.c; return {} }})()", "$event.b.c?.toString() + `?${{ {} }}:`",
        "$event.a.sort?.() && {}", "[$event.b].map(it => it.c ??= {}).length", "$event.a % 2 || {}",
        "Object.isFrozen($event.b) ? {} : 1", "(event => event.x)($event.b) ?? {}",
        "JSON.stringify($event) != {}", "Math.random() < 0.5 && {}", "$event.b?.c.x.y === {}",
    ]
)  # fmt: skip


@examples(600)
@given(st.one_of(PATHS, OBJECTS, filters(PATHS)), st.lists(VALUES, min_size=1, max_size=4))
@example("$event", [b'{"a":\n1e999}'])
@example("$event.a", [b'{"a":5,"a":{"b":1}}', b'{"a":"\xff"}', b'{"b":"\xff","a":1}'])
@example("$event.a.b", [b'{"a":{"b":1},"a":{}}', b'{"a":{"b":1},"a":5}', b'{"a":{"b":1},"a":null}'])
@example("{a: $event.a, b: $event.b}", [b'{"a":12345678901234567890}', b'{"a":1.0,"b":1E400}'])
@example("{a: $event.a, b: $event.b['0']}", ['{"a":1.0,"b":"\U0001f600"}'.encode()])
def test_fast_path_and_engine_agree(text: str, values: list[bytes | None]) -> None:
    assert_agree(text, values)


def by_engine(text: str) -> Expression:
    """Return the expression without fast path, over whole events."""
    expression = Expression(text, CompiledExpression(text), None, ENGINE)
    expression.questions.reader = None
    return expression


def assert_agree(text: str, values: list[bytes | None]) -> None:
    try:
        expression = compile_expression(text, engine=ENGINE)
    except ExpressionError:
        return  # `a ?? b || c`, for example.
    records = [Made(value, offset=offset) for offset, value in enumerate(values)]
    fast = expression.evaluate(records, "archive", SOURCE)
    slow = by_engine(text).evaluate(records, "archive", SOURCE)
    other = Route(by_engine("[event]"), "archive", records)
    together = evaluate([Route(expression, "archive", records), other], SOURCE)
    assert together[0] == fast
    for value, one, two in zip(values, fast, slow, strict=True):
        assert one is SKIP or isinstance(one, Failure | bytes)
        if isinstance(one, bytes):
            assert not set(one) & {0x0A, 0x0D}
            # UTF-8 has no half of a surrogate pair, whether it is escaped or not.
            json.dumps(exact(one), ensure_ascii=False).encode()
        assert is_same(value, one, two), (one, two)


NEAR_PATHS = st.sampled_from(["$event.a", "event['b'].c", "$event.b?.c", "$event.d"])
NEAR_EVENTS = st.builds(
    lambda a, c, d: f'{{"a":{a},"b":{{"c":{c}}}{d}}}'.encode(),
    LEAVES,
    LEAVES,
    LEAVES.map(',"d":{}'.format) | st.just(""),
)


@examples(600)
@given(filters(NEAR_PATHS), st.lists(NEAR_EVENTS, min_size=1, max_size=4))
def test_filters_decide_as_the_engine_does(text: str, values: list[bytes | None]) -> None:
    assert_agree(text, values)


@examples(1_500)
@given(results(NEAR_PATHS | PATHS), st.lists(NEAR_EVENTS | VALUES, min_size=1, max_size=4))
def test_results_of_all_kinds_are_those_of_the_engine(
    text: str, values: list[bytes | None]
) -> None:
    assert_agree(text, values)


@examples(600)
@given(
    ENGINE_CONDITIONS,
    LITERALS | NEAR_PATHS,
    st.builds("{} : {}".format, results(NEAR_PATHS), results(NEAR_PATHS))
    | st.just("$event : undefined"),
    st.lists(NEAR_EVENTS, min_size=1, max_size=3),
)
def test_condition_of_the_engine_has_the_results_of_the_engine(
    condition: str, operand: str, branches: str, values: list[bytes | None]
) -> None:
    text = f"{condition.format(operand)} ? {branches}"
    assert_agree(text, values)
    assert_agree(condition.format(operand), values)


def found(value: object, keys: Sequence[str]) -> object:
    """Return what own properties of a decoded event lead to, or None."""
    for key in keys:
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key in {f"{it}" for it in range(len(value))}:
            value = value[int(key)]
        else:
            return None
    return value


FIELDS = st.lists(
    st.tuples(KEYS, st.lists(KEYS, max_size=3)), max_size=3, unique_by=lambda it: it[0]
)


@examples(600)
@given(FIELDS | FIELDS.map(lambda fields: [*fields, ("none", ["none", "?"])]), EVENTS)
@example([("a", ["a"]), ("b", ["b"])], '{"a":12345678901234567890}')
@example([("a", ["a", "0"]), ("b", ["b", "c"])], '{"a":[1.0],"b":{"a":9007199254740993}}')
def test_plain_path_has_the_digits_of_the_event_whatever_else_is_missing(
    fields: list[tuple[str, list[str]]], event: str
) -> None:
    parts = (
        f"{json.dumps(name)}: $event" + "".join(f"?.[{json.dumps(key)}]" for key in keys)
        for name, keys in fields
    )
    expression = compile_expression(f"{{{','.join(parts)}}}", engine=ENGINE)
    if expression.uses_engine:
        return  # One of the paths goes through another's end, for example.
    (line,) = expression.evaluate([Made(event.encode())], "archive", SOURCE)
    assert isinstance(line, bytes), line
    members = exact(line)
    assert isinstance(members, dict)
    # Half a surrogate pair is for the engine, with the whole of its event.
    decoded = json.loads(event, object_pairs_hook=list)  # With members of equal names.
    is_sliced = re.search("[\ud800-\udfff]", json.dumps(decoded, ensure_ascii=False)) is None
    for name, keys in fields:
        value = found(exact(event), keys)
        if value is not None and is_sliced:
            assert members[name] == value
        elif value is not None:
            assert as_engine(members[name]) == as_engine(value)


WHOLE = ["($event)", "[$event][0]", "(it => it)($event)", "true ? event : 0"]
DEEP_COPY = """(copy => copy($event))(function copy(it) {
  if (Array.isArray(it)) return it.map(copy);
  if (it === null || typeof it !== "object") return it;
  return Object.fromEntries(Object.entries(it).map(([key, member]) => [key, copy(member)]));
})"""
COPIES = ["[$event].map(it => Array.isArray(it) ? [...it] : it)[0]", DEEP_COPY]


@examples(600)
@given(EVENTS)
@example('{"a":12345678901234567890,"b":[12345678901234567891]}')
@example('["12345678901234567890\\"",12345678901234567890,"\\\\"]')
@example('{"a":10000000000000000000000,"b":1e22}')
def test_integers_have_their_digits_through_the_engine_or_the_event_fails(event: str) -> None:
    whole, copies = (
        [
            compile_expression(it, engine=ENGINE).evaluate([Made(event.encode())], "a", SOURCE)[0]
            for it in texts
        ]
        for texts in (WHOLE, COPIES)
    )
    expected = as_engine(exact(event))
    for line in whole + copies:
        if isinstance(line, bytes):
            assert as_engine(exact(line)) == expected
        else:
            assert is_clash(line)
            assert has_clash(event.encode())
    if isinstance(exact(event), dict | list):
        assert not any(map(is_clash, whole))


TOKENS = [
    *(
        "$event",
        "event",
        "$context",
        ".a",
        "?.",
        "a:",
        "x",
        "1",
        "1n",
        "0x",
        "é",
        "Object",
        "Array",
    ),
    *(
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "=>",
        "...",
        ",",
        ":",
        ";",
        "?",
        "#",
        "=",
        "==",
        "+",
        "++",
        "-",
    ),
    *("'", '"', "`", "${", "\\", "/", "//", "/*", "*/", "\n", " ", "\u2028", "\0", "\ud800"),
    *("new ", "class ", "function ", "async ", "await ", "yield ", "throw ", "return ", "typeof "),
    *("delete ", "this", "arguments", "eval", "import(", "Math.random()"),
]


@examples(400)
@given(st.lists(st.sampled_from(TOKENS) | st.text(max_size=2), max_size=8).map("".join), VALUES)
def test_any_text_is_refused_or_gives_an_outcome(text: str, value: bytes | None) -> None:
    try:
        expression = compile_expression(text, engine=ENGINE)
    except ExpressionError:
        return
    (outcome,) = expression.evaluate([Made(value)], "archive", SOURCE)
    if isinstance(outcome, Failure):
        assert 0 < len(outcome.error) <= 200
        assert outcome.error.isprintable()  # Also where it quotes what no font has.
    else:
        assert outcome is SKIP or json.loads(outcome) is not pytest


@examples(200)
@given(st.lists(VALUES, min_size=1, max_size=5))
def test_outcome_does_not_depend_on_the_batch(values: list[bytes | None]) -> None:
    text = "[Math.random(), $event, $event.a.b]"
    records = [Made(value, offset=offset) for offset, value in enumerate(values)]
    expression = compile_expression(text, engine=ENGINE)
    together = expression.evaluate(records, "archive", SOURCE)
    assert together == [expression.evaluate([record], "archive", SOURCE)[0] for record in records]


READS = PATHS | OBJECTS | st.sampled_from(["[$event]", "Math.random()", "$event.a.b", "undefined"])


def plain(path: str) -> str:
    return path.replace("?.[", "[").replace("?.", ".")


CHANGES = st.builds(
    lambda form, path, key: form.replace("@P", plain(path)).replace("@K", json.dumps(key)),
    st.sampled_from(
        [
            "(@P[@K] = 1, $event)",
            "(delete @P[@K], $event)",
            "(@P.length = 0, event)",
            "@P.push(1)",
            "@P.sort()",
            "[@P.splice(0, 1), $event]",
            "Object.assign(@P, { [@K]: 1 }) && $event",
            "Object.defineProperty(@P, @K, { value: 1 }) && $event",
            "(Reflect.deleteProperty(@P, @K), $event)",
            "(Object.setPrototypeOf(@P, null), $event)",
            "(@P.__proto__ = [], $event.map)",
            "(() => { try { @P[@K] = 1; } catch {} return $event; })()",
            "(Function('o', 'k', 'o[k] = 1')(@P, @K), $event)",
            "Object.isFrozen(Object.freeze(@P))",
        ]
    ),
    PATHS,
    KEYS,
)


@examples(300)
@given(st.lists(READS | CHANGES, min_size=2, max_size=5), st.lists(VALUES, min_size=1, max_size=3))
@example(["(Object.setPrototypeOf($event.toString.toString, null), $event)", "$event.a"], [b"[]"])
def test_destinations_that_share_an_event_have_the_outcomes_of_each_alone(
    texts: list[str], values: list[bytes | None]
) -> None:
    records = [Made(value, offset=offset) for offset, value in enumerate(values)]
    expressions = [compile_expression(text, engine=ENGINE) for text in texts]
    together = evaluate([Route(it, "archive", records) for it in expressions], SOURCE)
    alone = [
        compile_expression(it, engine=ENGINE).evaluate(records, "archive", SOURCE) for it in texts
    ]
    assert together == alone
