"""Test cases of expressions: what is a case, what passes, and how expectations are written."""

import json

import pytest

from stream_app.errors import ConfigurationError
from stream_app.expressions import cases
from stream_app.expressions.cases import (
    Case,
    ChangedLine,
    Verdict,
    changed_lines,
    difference,
    judge,
    outcome_text,
    parse_cases,
    updated,
)
from stream_app.expressions.expression import SKIP, Failure, compile_expression
from stream_app.expressions.trial import Sample
from stream_app.records import TopicPartition

WHERE = "app.test.toml"
CASE = "[[cases]]\ndestination = 'orders'\nevent = '{\"n\": 1}'\n"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        parse_cases(text, WHERE)
    return list(raised.value.mistakes)


def case(expect: str | None) -> Case:
    return Case(WHERE, "a case", "orders", None, "{}", None, expect)


def test_a_case_has_a_place_and_a_name() -> None:
    one, other = parse_cases(
        f"{CASE}expect = '1'\n{CASE}name = 'second'\nfile = 'x'\n".replace(
            "event = '{\"n\": 1}'\nname", "pipeline = 'p'\nname"
        ),
        WHERE,
    )
    assert one == Case(f"{WHERE}: [[cases]] 1", "orders 1", "orders", None, '{"n": 1}', None, "1")
    assert (other.place, other.name) == (f"{WHERE}: [[cases]] 2", "second")
    assert (other.pipeline, other.event, other.file, other.expect) == ("p", None, "x", None)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[[cases", "write valid TOML there"),
        ("", "there is no case; write [[cases]] with its keys"),
        ("cases = 3", "there is no case; write [[cases]] with its keys"),
        (f"{CASE}[other]\nx = 1", "unknown: other; write [[cases]] only"),
        ("cases = [3]", "[[cases]] 1: it is not a table; write [[cases]]"),
        (f"{CASE}until = 'x'", "until is unknown; remove it, or write one of name, destination"),
        (f"{CASE}expect = 3", "expect is not text; write it in quotes"),
        (f"{CASE}file = 'x'", "event and file are both set; write the event's JSON as event"),
        ("[[cases]]\ndestination = 'a'", "event is missing; write the event's JSON as event"),
        ("[[cases]]\nevent = '1'", "destination is missing; write the id of one"),
        ("[[cases]]\ndestination = 'a'\nevent = '{'", "event: it is not JSON"),
        (f"{CASE}expect = 'lost'", "expect is neither a line nor an outcome; write one line of"),
        (f'{CASE}expect = "1\\n"', "expect is neither a line nor an outcome; write one line of"),
    ],
)
def test_a_wrong_case_has_one_line(text: str, mistake: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith(WHERE)
    assert mistake in found


def test_all_mistakes_of_a_file_are_named() -> None:
    found = mistakes("[[cases]]\nevent = 3\n[[cases]]\ndestination = 'a'\n")
    assert len(found) == 3
    assert found[-1].startswith(f"{WHERE}: [[cases]] 2: ")


def test_cases_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "CASES_MAX", 1)
    assert mistakes(CASE * 2) == [f"{WHERE}: 2 cases; write at most 1 in a file"]


@pytest.mark.parametrize(
    ("expect", "found", "passes"),
    [
        ("1", "1", True),
        ('{"a":1}', '{"a": 1}', False),
        ("skipped", "skipped", True),
        ("skipped", '"skipped"', False),
        ("failed", "failed: TypeError: x", True),
        ("failed", "skipped", False),
        ("failed: x", "failed: TypeError: x", True),
        ("failed: z", "failed: TypeError: x", False),
        ("failed: x", '"x"', False),
        (None, "1", False),
    ],
)
def test_a_case_passes_with_the_same_line_or_a_part_of_the_error(
    expect: str | None, found: str, *, passes: bool
) -> None:
    assert Verdict(case(expect), found, None).is_expected is passes


def test_outcomes_are_written_as_expectations() -> None:
    assert outcome_text('"é"'.encode()) == '"é"'
    assert outcome_text(SKIP) == "skipped"
    assert outcome_text(Failure("events/0@0", "no")) == "failed: no"


@pytest.mark.parametrize(
    ("text", "event", "found", "shown"),
    [
        ("$event.n", b'{"n": 1}', "1", None),
        ("$event.n", b"{}", "skipped", None),
        ("$event.n.x.y", b'{"n": 1}', "failed: TypeError", "1 | $event.n.x.y\n  |          ^"),
        ("$event.n", b"{", "failed: ", None),
        ("[$context.pipeline, $context.timestamp]", b"1", '["p","2026-01-01T00:00:00.000Z"]', None),
    ],
)
def test_a_case_is_evaluated_as_a_record(
    text: str, event: bytes, found: str, shown: str | None
) -> None:
    verdict = judge(case(None), compile_expression(text), event, "p")
    assert verdict.found.startswith(found)
    assert (verdict.excerpt is None) == (shown is None)


def test_a_record_without_a_pipeline_has_no_key() -> None:
    expression = compile_expression("[$context.pipeline ?? null]")
    assert judge(case(None), expression, b"1", None).found == "[null]"


def test_the_lines_that_differ_between_two_expressions_are_found() -> None:
    records = [Sample(it, 0, None, b'{"n": %d}' % it) for it in range(4)]
    before, after = map(compile_expression, ("$event.n", "$event.n > 2 ? undefined : $event.n"))
    found = changed_lines(before, after, records, "orders", TopicPartition("events", 3))
    assert found == [ChangedLine(records[3], "3", "skipped")]


def test_a_difference_has_a_value_on_each_line() -> None:
    assert difference('{"a":1,"b":[2]}', '{"a":1,"b":[3]}') == [
        ' "a": 1,'.replace(' "', '   "'),
        '   "b": [',
        "-    2",
        "+    3",
        "   ]",
        " }",
    ]


def test_a_difference_of_spelling_shows_the_lines_themselves() -> None:
    assert difference('{"a":1}', '{"a": 1}') == ['-{"a":1}', '+{"a": 1}']
    assert difference("skipped", "1") == ["-skipped", "+1"]
    assert Verdict(case(None), "1", None).difference() == ["-", "+1"]
    deep = "[" * 100_000 + "]" * 100_000
    assert difference(deep, "1") == [f"-{deep}", "+1"]


FILE = f"""# cases of ours
[[cases]]   # first
destination = 'orders'
expect = "1"  # kept
event = '{{}}'

{CASE}
expect = '''2'''
# between
[[cases]]
destination = "x"
event = "1"

# the end
"""


@pytest.mark.parametrize(
    "line", ["3", '"it\'s"', '"back\\\\slash \\" \x7f é"', "failed: no such 'x'\u2028"]
)
def test_expectations_are_written_and_all_else_stays(line: str) -> None:
    for index in range(3):
        text = updated(FILE, WHERE, {index: line})
        assert [it.expect for it in parse_cases(FILE, WHERE)] == ["1", "2", None]
        found = [it.expect for it in _parsed(text)]
        assert found == [line if it == index else old for it, old in enumerate(["1", "2", None])]
        assert [it for it in FILE.split("\n") if it.startswith("#")] == [
            it for it in text.split("\n") if it.startswith("#")
        ]
    assert updated(FILE, WHERE, {}) == FILE


def _parsed(text: str) -> list[Case]:
    return parse_cases(text, WHERE)


def test_a_first_expectation_is_the_last_line_of_its_case() -> None:
    assert updated(CASE.rstrip(), WHERE, {0: "1"}) == f"{CASE}expect = '1'\n"
    assert updated(f"{CASE}\n{CASE}", WHERE, {0: "1"}) == f"{CASE}expect = '1'\n\n{CASE}"


@pytest.mark.parametrize(
    "text",
    [
        "cases = [{destination = 'a', event = '1', expect = '2'}]",
        "[[cases]]\ndestination = 'a'\nevent = '''\nexpect = '2'\n'''\nexpect = '3'\n",
        "[[cases]]\n'destination' = 'a'\nevent = '1'\n\"expect\" = '2'\n",
    ],
)
def test_a_form_that_is_not_changed_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="the cases are not updated; write each as"):
        updated(text, WHERE, {0: json.dumps("new")})
