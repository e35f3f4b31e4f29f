"""The fast path and the engine are one language, and nothing makes either raise."""

import json
import math
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_app.engine import Engine, Program
from stream_app.errors import ExpressionError
from stream_app.expressions import (
    SKIP,
    TP,
    Expression,
    Failure,
    Outcome,
    Route,
    compile_expression,
    evaluate,
)

ENGINE = Engine()


SOURCE = TP("events", 1)


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
NUMBERS = st.sampled_from(
    ["0", "-0", "1.0", "1e5", "1E-7", "0.1", "9007199254740993", "12345678901234567890123", "1e999",
     "-1e999", "1" * 400, "5e-324", "1e-400"]
)  # fmt: skip
STRINGS = st.builds(
    lambda text, ascii_only: json.dumps(text, ensure_ascii=ascii_only),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.booleans(),
) | st.sampled_from(['"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\/"', '"\u2028"'])
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


def comparable(outcome: Outcome) -> object:
    """Return an outcome with numbers as doubles; JavaScript writes those beyond as null."""
    if not isinstance(outcome, bytes):
        return outcome

    def double(text: str) -> float | None:
        number = float(text)
        return number if math.isfinite(number) else None

    return json.loads(outcome, parse_int=double, parse_float=double)


@settings(max_examples=600, deadline=None)
@given(st.one_of(PATHS, OBJECTS), st.lists(VALUES, min_size=1, max_size=4))
@example("$event", [b'{"a":\n1e999}'])
@example("$event.a", [b'{"a":5,"a":{"b":1}}', b'{"a":"\xff"}', b'{"b":"\xff","a":1}'])
@example("$event.a.b", [b'{"a":{"b":1},"a":{}}', b'{"a":{"b":1},"a":5}', b'{"a":{"b":1},"a":null}'])
def test_fast_path_and_engine_agree(text: str, values: list[bytes | None]) -> None:
    expression = compile_expression(text, engine=ENGINE)
    by_engine = Expression(text, Program(text), None, ENGINE)
    records = [Made(value, offset=offset) for offset, value in enumerate(values)]
    fast = expression.evaluate(records, "archive", SOURCE)
    slow = by_engine.evaluate(records, "archive", SOURCE)
    assert [comparable(outcome) for outcome in fast] == [comparable(outcome) for outcome in slow]
    for outcome in fast:
        assert outcome is SKIP or isinstance(outcome, Failure | bytes)
        if isinstance(outcome, bytes):
            assert not set(outcome) & {0x0A, 0x0D}


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


@settings(max_examples=400, deadline=None)
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


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=300, deadline=None)
@given(st.lists(READS | CHANGES, min_size=2, max_size=5), st.lists(VALUES, min_size=1, max_size=3))
def test_destinations_that_share_an_event_answer_as_if_alone(
    texts: list[str], values: list[bytes | None]
) -> None:
    records = [Made(value, offset=offset) for offset, value in enumerate(values)]
    expressions = [compile_expression(text, engine=ENGINE) for text in texts]
    together = evaluate([Route(it, "archive", records) for it in expressions], SOURCE)
    alone = [
        compile_expression(it, engine=ENGINE).evaluate(records, "archive", SOURCE) for it in texts
    ]
    assert together == alone
