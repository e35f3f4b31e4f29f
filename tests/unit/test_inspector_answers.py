"""The documents that the Inspector's page is given."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest

from stream_app.inspector.answers import (
    DESTINATIONS_MAX,
    EVENTS_MAX,
    HEADER_LENGTH_MAX,
    HEADERS_MAX,
    PRINCIPAL_EXAMPLE,
    RECEIPT_BYTES_MAX,
    RECEIPTS_MAX,
    TEXT_BYTES_MAX,
    event_document,
    events_asked,
    line_number,
    policy_text,
    receipt_at,
    redeliver_command,
    window_rows,
)
from stream_app.inspector.outcomes import Answer, Entry, Event, Index, Outcome
from stream_app.inspector.rows import Lines
from stream_app.receipts import Receipt, Status
from stream_app.settings import Destination
from tests.unit.inspected import index, receipt, tell

ARCHIVE = Destination("archive", "my-bucket", pipeline="orders", payload="$event.body")


@dataclass(frozen=True)
class Shown:
    """A record with headers."""

    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes | None]] = ()


def held(*receipts: Receipt) -> Index:
    found = index()
    tell(found, *receipts)
    return found


def entry(it: Receipt) -> Entry:
    (found,) = held(it).of_destination(it.destination)
    return found


def document(
    record: Shown,
    answers: dict[str, Answer],
    lines: dict[str, int | None] | None = None,
    configured: Sequence[Destination] = (ARCHIVE,),
) -> dict[str, Any]:
    made = event_document(
        record, {"offset": 4}, answers, {it.id: it for it in configured}, lines or {}
    )
    found: dict[str, Any] = json.loads(orjson.dumps(made))
    return found


def test_receipt_goes_out_as_it_came() -> None:
    it = entry(receipt(0, 10))
    told = receipt_at(it)
    assert orjson.dumps(told["receipt"]) == it.value
    assert told["time"] == "2026-11-24T16:32:03.000Z"
    assert (told["id"], told["partition"], told["offset"]) == (it.id, 0, 0)
    assert receipt_at(replace(it, published_at=None))["time"] is None


def test_long_receipt_goes_out_without_its_lists() -> None:
    long = entry(receipt(0, 100_000, failed=range(1_100)))
    assert len(long.value) > RECEIPT_BYTES_MAX
    told = json.loads(orjson.dumps(receipt_at(long)["receipt"]))
    assert told["is_cut"]
    assert (told["skipped"], told["failed"]) == ([], [])
    assert told["counts"]["failed"] == 1_100


def test_receipt_that_nests_too_deeply_to_be_written_goes_out_empty() -> None:
    whole = entry(receipt(0, 10))
    nested = whole.value.replace(b'"orders"', b"[" * 300 + b"]" * 300)
    deep = replace(whole, value=nested + b" " * RECEIPT_BYTES_MAX)
    assert receipt_at(deep)["receipt"] == {"is_cut": True}


def test_event_is_told_with_every_destination() -> None:
    it = held(receipt(0, 10, skipped=[(3, 3)]))
    told = document(
        Shown(b'{"a": 1}', [("name", b"v\xff"), ("none", None)]),
        it.answers(Event(0, 4, b"orders")),
        {"archive": 4},
    )
    assert (told["text"], told["is_json"], told["why"]) == ('{"a": 1}', True, None)
    assert told["headers"] == [["name", "v\ufffd"], ["none", None]]
    (one,) = told["destinations"]
    assert (one["id"], one["outcome"], one["line"]) == ("archive", "delivered", 4)
    assert (one["pipeline"], one["payload"], one["configured"]) == ("orders", "$event.body", True)
    assert one["window"] == {
        "partition": 0,
        "first_offset": 0,
        "start": "2026-11-24T16:31:00.000Z",
        "end": "2026-11-24T16:32:00.000Z",
    }
    assert one["receipt"] == one["receipts"][0]
    assert told["more_destinations"] == 0


def test_skipped_event_has_no_line() -> None:
    it = held(receipt(0, 10, skipped=[(3, 3)]))
    told = document(Shown(), it.answers(Event(0, 3, b"orders")), {"archive": 3})
    (one,) = told["destinations"]
    assert (one["outcome"], one["line"]) == ("skipped", None)
    assert one["reason"] == "the expression gave undefined"


def test_event_without_a_receipt_is_told_with_its_destination() -> None:
    told = document(Shown(), index().answers(Event(0, 3, b"orders")))
    (one,) = told["destinations"]
    assert (one["outcome"], one["receipt"], one["window"]) == ("pending", None, None)
    assert one["receipts"] == []


def test_destination_that_is_not_configured_any_more_is_told_from_its_receipt() -> None:
    it = held(receipt(0, 10))
    told = document(Shown(), it.answers(Event(0, 3, b"orders")), configured=())
    (one,) = told["destinations"]
    assert (one["configured"], one["pipeline"], one["payload"]) == (False, "orders", None)
    told = document(Shown(), {"gone": Answer(Outcome.UNKNOWN)}, configured=())
    assert told["destinations"][0]["pipeline"] is None


@pytest.mark.parametrize(
    ("value", "text", "why"),
    [
        (b'{"a":"\\ud800"}', '{"a":"\\ud800"}', None),
        (None, None, "not JSON: the record has no value"),
        (b"\xff\x00", "\ufffd\x00", "not JSON: byte 1 is no UTF-8"),
        (b"<xml/>", "<xml/>", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[" * 100_000, "[" * 100_000, "not JSON: it is nested too deeply"),
        (b"1" * (TEXT_BYTES_MAX + 1), None, "not shown: it has 8388609 bytes; at most 8388608 are"),
    ],
    ids=["lone surrogate", "tombstone", "no UTF-8", "no JSON", "deep", "large"],
)
def test_value_of_any_kind_is_told(value: bytes | None, text: str | None, why: str | None) -> None:
    told = document(Shown(value), {})
    assert (told["text"], told["why"]) == (text, why)
    assert told["is_json"] is (why is None)


def test_what_is_shown_of_an_event_is_bounded() -> None:
    headers = [("n" * 20_000, b"v" * 20_000)] * (HEADERS_MAX + 1)
    many = {f"d{number}": Answer(Outcome.PENDING) for number in range(DESTINATIONS_MAX + 5)}
    told = document(Shown(headers=headers), many)
    assert len(told["headers"]) == HEADERS_MAX
    assert list(map(len, told["headers"][0])) == [HEADER_LENGTH_MAX, HEADER_LENGTH_MAX]
    assert len(told["destinations"]) == DESTINATIONS_MAX
    assert told["more_destinations"] == 5
    one = entry(receipt(0, 10))
    answered = Answer(Outcome.DELIVERED, one, entries=(one,) * 50)
    (told_one,) = document(Shown(), {"archive": answered})["destinations"]
    assert len(told_one["receipts"]) == RECEIPTS_MAX


def test_events_that_are_asked_for_are_read() -> None:
    asked = {
        "events": [
            {"partition": 0, "offset": 1, "pipeline": "orders", "time": "x"},
            {"partition": 1, "offset": 2, "pipeline": None},
            {
                "partition": 1,
                "offset": 3,
                "pipeline": "\ufffd",
                "key_base64": base64.b64encode(b"\xff").decode(),
            },
        ]
    }
    assert events_asked(asked) == [Event(0, 1, b"orders"), Event(1, 2, None), Event(1, 3, b"\xff")]


@pytest.mark.parametrize("asked", [None, [], {}, {"events": 1}, {"events": [0] * (EVENTS_MAX + 1)}])
def test_request_without_events_is_refused(asked: object) -> None:
    with pytest.raises(ValueError, match="with at most 500 events"):
        events_asked(asked)


@pytest.mark.parametrize(
    "event",
    [
        None,
        7,
        "text",
        {},
        {"partition": 0},
        {"partition": "0", "offset": 1},
        {"partition": 0, "offset": 1.5},
        {"partition": 0, "offset": 1, "pipeline": 3},
        {"partition": 0, "offset": 1, "key_base64": "?"},
    ],
)
def test_what_is_no_event_is_refused(event: object) -> None:
    with pytest.raises(ValueError, match="is no event; write its partition, offset"):
        events_asked({"events": [event]})


def counted(it: Entry, offset: int) -> int | None:
    """Return the number as it is counted record by record."""
    lines = Lines(it)
    numbers = {
        number: lines.take(number, b"orders")
        for number in range(it.source.first_offset, it.source.end_offset)
    }
    return numbers[offset]


def test_line_of_a_window_without_other_events_needs_no_record() -> None:
    it = entry(receipt(10, 30, skipped=[(12, 14), (20, 20)], failed=[16, 28]))
    for offset in range(10, 30):
        assert line_number(it, offset) == counted(it, offset)
    assert line_number(it, 29) == 14


def test_line_of_chosen_events_needs_no_record() -> None:
    it = entry(
        receipt(
            0,
            100,
            status=Status.REDELIVERED,
            answers=(7, 20, 21, 50, 60),
            failed=[21],
            skipped=[(50, 50)],
        )
    )
    assert [line_number(it, offset) for offset in (7, 20, 21, 50, 60)] == [1, 2, None, None, 3]
    assert counted(it, 60) == 3


def test_line_among_other_events_is_not_known_without_them() -> None:
    it = entry(receipt(0, 10))
    assert line_number(replace(it, matched=9), 4) is None


def test_policy_is_for_the_role_of_the_destination_or_an_example() -> None:
    text, is_known = policy_text(ARCHIVE)
    assert not is_known
    assert PRINCIPAL_EXAMPLE in text
    role = "arn:aws:iam::999999999999:role/writer"
    text, is_known = policy_text(replace(ARCHIVE, role_arn=role, acl="private"))
    assert is_known
    assert json.loads(text)["Statement"][0]["Principal"] == {"AWS": role}
    text, is_known = policy_text(replace(ARCHIVE, role_arn="arn:other:iam:::role/x", tags=()))
    assert not is_known
    assert "s3:PutObjectTagging" in text


def test_command_can_be_copied_whatever_the_name() -> None:
    assert redeliver_command("my file.toml", "orders") == (
        "stream-app redeliver --config 'my file.toml' --destination orders"
    )


def test_rows_of_a_window_say_what_became_of_each() -> None:
    it = held(
        receipt(0, 10, skipped=[(1, 1)], failed=[2]),
        receipt(0, 10, status=Status.REDELIVERED, answers=(2,)),
    )
    offsets = (0, 1, 2)
    rows = [{"offset": offset, "line": 1} for offset in offsets]
    answers = [it.answers(Event(0, offset, b"orders")) for offset in offsets]
    told = window_rows("archive", rows, answers)
    assert [(row["outcome"], row["line"]) for row in told] == [
        ("delivered", 1),
        ("skipped", None),
        ("delivered", 1),
    ]
    assert window_rows("other", [{"offset": 0, "line": 1}], answers[:1]) == [
        {"offset": 0, "line": None, "outcome": "unknown"}
    ]
