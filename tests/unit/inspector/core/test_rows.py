import json

import pytest

from stream_app.core.receipt import Status
from stream_app.inspector.core.rows import (
    PARSED_BYTES_MAX,
    SUMMARY_CHARACTERS_MAX,
    LineCounter,
    TextSearch,
    event_row,
    iso_milliseconds,
)
from tests.unit.inspector.core.messages import entry, receipt
from tests.unit.samples import Sample


def shown(**of: object) -> dict[str, object]:
    return event_row(Sample(**of), {"matched": 0})  # type: ignore[arg-type]


def test_row_names_its_record() -> None:
    assert shown(value=b'{"a": 1}') == {
        "partition": 0,
        "offset": 42,
        "time": "2026-11-24T16:31:00.000Z",
        "pipeline": "orders",
        "size": 8,
        "method": None,
        "path": None,
        "summary": '{"a": 1}',
        "dest": {"matched": 0},
    }


def test_time_has_milliseconds() -> None:
    assert iso_milliseconds(0.25) == "1970-01-01T00:00:00.250Z"


def test_key_that_is_not_utf8_is_sent_as_base64_too() -> None:
    found = shown(key=b"\xffa")
    assert (found["pipeline"], found["key_base64"]) == ("�a", "/2E=")
    assert shown(key=None)["pipeline"] is None


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ({"path": "/a?b=1"}, "/a?b=1"),
        ({"url": "https://x.example/orders?x#y"}, "/orders?x#y"),
        ({"url": "https://x.example"}, "/"),
        ({"proto": {"uri": "/signups"}}, "/signups"),
        ({"proto": 1, "path": 7}, None),
        ({"path": "/\x1b[2J\n\u202e"}, "/\\x1b[2J \\u202e"),
    ],
)
def test_http_event_shows_method_and_path(event: dict[str, object], path: str | None) -> None:
    found = shown(value=json.dumps({"method": "POST", **event}).encode())
    assert (found["method"], found["path"]) == ("POST", path)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b'"method"',
        b'{"method": 5}',
        b'{"method": "not one"}',
        b'{"method": "GET"',
        b'["method"]',
        b'{"method": "GET", "a": "' + b"a" * PARSED_BYTES_MAX + b'"}',
    ],
)
def test_other_events_have_no_method(value: bytes | None) -> None:
    assert shown(value=value)["method"] is None


@pytest.mark.parametrize(
    ("rest", "summary"),
    [
        (b'"headers": {}, "body": {"id": 7, "text": "a b"}', '{"id":7,"text":"a b"}'),
        (b'"body": "plain"', '"plain"'),
        (b'"body": null', '{"method": "POST", "body": null}'),
        (b'"path": "/"', '{"method": "POST", "path": "/"}'),
        (b'"body": ' + b"[" * 300 + b"]" * 300, '{"method": "POST", "body": ' + "[" * 172 + "…"),
    ],
)
def test_summary_of_an_http_event_is_its_body(rest: bytes, summary: str) -> None:
    assert shown(value=b'{"method": "POST", ' + rest + b"}")["summary"] == summary


def test_summary_is_one_short_printable_line() -> None:
    assert shown(value=b'{\n  "a":\t"\x1b\xff"}')["summary"] == '{ "a": "\\x1b�"}'
    assert shown(value=None)["summary"] == "(no value)"
    summary = shown(value=b"[" * 5000)["summary"]
    assert isinstance(summary, str)
    assert len(summary) == SUMMARY_CHARACTERS_MAX
    assert summary.endswith("…")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ADA", b'{"user": "ada@example.com"}'),
        ("USER", b'{"user": 1}'),
        ("1.50", b'{"a": [1.50]}'),
        ("12345678901234567890", b'{"a": 12345678901234567890}'),
        ("true", b"[true]"),
        ("null", b'{"a": {"b": null}}'),
        ("false", b"false"),
        ("é", b'{"a": "\\u00C9"}'),
        ("straSSe", '{"a": "Straße"}'.encode()),
        ("k", '{"a": "\u212a"}'.encode()),
        ('"', b'{"a": "\\""}'),
        ("no json", b"this is No JSON"),
        ("deep", b"[" * 100_000 + b'"deep"'),
        ("dup", b'{"a": "dup", "a": 1}'),
        ("orders", b"1"),
        ("", None),
    ],
)
def test_names_and_values_are_found_in_any_case(text: str, value: bytes | None) -> None:
    assert TextSearch(text, None).matches(b"orders", value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("grace", b'{"user": "ada"}'),
        ("user: ada", b'{"user": "ada"}'),
        ("{", b'{"a": 1}'),
        ("é", b'{"a": "e"}'),
        ("x", None),
        ("truely", b"[true]"),
    ],
)
def test_what_is_not_in_an_event_is_not_found(text: str, value: bytes | None) -> None:
    assert not TextSearch(text, None).matches(None, value)


def test_search_is_limited_to_a_pipeline() -> None:
    assert TextSearch("", "orders").matches(b"orders", None)
    assert not TextSearch("", "orders").matches(b"signups", b"1")
    assert not TextSearch("", "orders").matches(None, b"1")


def test_lines_are_numbered_in_offset_order() -> None:
    lines = LineCounter(entry(receipt(0, 10, skipped=[(1, 2)], failed=[4])))
    numbers = [lines.next_number(it, b"signups" if it == 3 else b"orders") for it in range(7)]
    assert numbers == [1, None, None, None, None, 2, 3]


def test_every_event_of_a_destination_without_a_pipeline_is_a_line() -> None:
    lines = LineCounter(entry(receipt(pipeline=None)))
    assert [lines.next_number(0, None), lines.next_number(1, b"a")] == [1, 2]


def test_answers_are_the_lines_of_an_object_of_their_own() -> None:
    lines = LineCounter(entry(receipt(status=Status.REDELIVERED, answers=(3, 5, 8), failed=[5])))
    assert [lines.next_number(it, b"orders") for it in (2, 3, 5, 8)] == [None, 1, None, 2]


def test_time_beyond_the_calendar_becomes_its_end() -> None:
    assert iso_milliseconds(2**62) == "9999-12-31T23:59:59.000Z"
    assert iso_milliseconds(-(2**62)) == "0001-01-01T00:00:00.000Z"


def test_long_path_is_cut_before_it_is_made_printable() -> None:
    event = {"method": "GET", "path": "/" + "\x01" * 20_000}
    assert len(str(shown(value=json.dumps(event).encode())["path"])) == SUMMARY_CHARACTERS_MAX
