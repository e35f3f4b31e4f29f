"""JSON documents of the API."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from stream_app.config.parser import ENVIRONMENT
from stream_app.config.settings import Destination
from stream_app.core.receipt import ShortLists, Status
from stream_app.errors import ConfigurationError
from stream_app.inspector.core.documents import (
    REQUESTED_EVENTS_MAX,
    SHOWN_DESTINATIONS_MAX,
    SHOWN_HEADER_LENGTH_MAX,
    SHOWN_HEADERS_MAX,
    SHOWN_RECEIPT_BYTES_MAX,
    SHOWN_RECEIPTS_MAX,
    SHOWN_VALUE_BYTES_MAX,
    add_outcomes,
    event_document,
    line_number,
    parse_events,
    policy_document,
    receipt_document,
    redeliver_command,
    settings_document,
)
from stream_app.inspector.core.index import Entry, Event, EventOutcome, EventStatus
from stream_app.inspector.core.rows import LineCounter
from tests.unit.inspector.core.messages import entry, index, receipt
from tests.unit.samples import Sample

ARCHIVE = Destination("archive", "my-bucket", pipeline="orders", payload="$event.body")


def document(
    record: Sample,
    outcomes: dict[str, EventOutcome],
    lines: dict[str, int | None] | None = None,
    configured: Sequence[Destination] = (ARCHIVE,),
) -> dict[str, Any]:
    made = event_document(
        record, {"offset": 4}, outcomes, {it.id: it for it in configured}, lines or {}
    )
    found: dict[str, Any] = json.loads(orjson.dumps(made))
    return found


def test_receipt_is_sent_byte_for_byte() -> None:
    it = entry(receipt(0, 10))
    found = receipt_document(it)
    assert orjson.dumps(found["receipt"]) == it.value
    assert found["time"] == "2026-11-24T16:32:03.000Z"
    assert (found["id"], found["partition"], found["offset"]) == (it.id, 0, 0)
    assert receipt_document(replace(it, published_at=None))["time"] is None


@pytest.mark.parametrize("status", [Status.FAILED, Status.RETRYING])
def test_window_that_is_not_delivered_counts_no_event_as_delivered(status: Status) -> None:
    found = receipt_document(entry(receipt(0, 45, status=status, skipped=[(1, 2)], failed=[5, 6])))
    assert found["counts"] == {
        "matched": 45,
        "delivered": 0,
        "undelivered": 41,
        "skipped": 2,
        "failed": 2,
    }


def test_long_receipt_is_sent_without_its_lists() -> None:
    long = entry(receipt(0, 100_000, failed=range(1_100)))
    assert len(long.value) > SHOWN_RECEIPT_BYTES_MAX
    found = json.loads(orjson.dumps(receipt_document(long)["receipt"]))
    assert found["is_cut"]
    assert (found["skipped"], found["failed"]) == ([], [])
    assert found["counts"]["failed"] == 1_100


def test_receipt_that_is_nested_too_deeply_is_sent_empty() -> None:
    whole = entry(receipt(0, 10))
    nested = whole.value.replace(b'"orders"', b"[" * 300 + b"]" * 300)
    deep = replace(whole, value=nested + b" " * SHOWN_RECEIPT_BYTES_MAX)
    assert receipt_document(deep)["receipt"] == {"is_cut": True}


def test_event_has_every_destination() -> None:
    it = index(receipt(0, 10, skipped=[(3, 3)]))
    found = document(
        Sample(value=b'{"a": 1}', headers=[("name", b"v\xff"), ("none", None)]),
        it.outcomes(Event(0, 4, b"orders")),
        {"archive": 4},
    )
    assert (found["text"], found["is_json"], found["why"]) == ('{"a": 1}', True, None)
    assert found["headers"] == [["name", "v\ufffd"], ["none", None]]
    (one,) = found["destinations"]
    assert (one["id"], one["outcome"], one["line"]) == ("archive", "delivered", 4)
    assert (one["pipeline"], one["payload"], one["configured"]) == ("orders", "$event.body", True)
    assert one["window"] == {
        "partition": 0,
        "first_offset": 0,
        "start": "2026-11-24T16:31:00.000Z",
        "end": "2026-11-24T16:32:00.000Z",
    }
    assert one["receipt"] == one["receipts"][0]
    assert found["more_destinations"] == 0


def test_skipped_event_has_no_line() -> None:
    it = index(receipt(0, 10, skipped=[(3, 3)]))
    found = document(Sample(), it.outcomes(Event(0, 3, b"orders")), {"archive": 3})
    (one,) = found["destinations"]
    assert (one["outcome"], one["line"]) == ("skipped", None)
    assert one["reason"] == "the expression gave undefined, or the record has no value"


def test_event_without_a_receipt_has_its_destination() -> None:
    found = document(Sample(), index().outcomes(Event(0, 3, b"orders")))
    (one,) = found["destinations"]
    assert (one["outcome"], one["receipt"], one["window"]) == ("pending", None, None)
    assert one["receipts"] == []


def test_destination_that_is_no_longer_configured_comes_from_its_receipt() -> None:
    it = index(receipt(0, 10))
    found = document(Sample(), it.outcomes(Event(0, 3, b"orders")), configured=())
    (one,) = found["destinations"]
    assert (one["configured"], one["pipeline"], one["payload"]) == (False, "orders", None)
    found = document(Sample(), {"gone": EventOutcome(EventStatus.UNKNOWN)}, configured=())
    assert found["destinations"][0]["pipeline"] is None


@pytest.mark.parametrize(
    ("value", "text", "why"),
    [
        (b'{"a":"\\ud800"}', '{"a":"\\ud800"}', None),
        (None, None, "not JSON: the record has no value"),
        (b"\xff\x00", "\ufffd\x00", "not JSON: byte 1 is not UTF-8"),
        (b"<xml/>", "<xml/>", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[" * 100_000, "[" * 100_000, "not JSON: it is nested too deeply"),
        (
            b"1" * (SHOWN_VALUE_BYTES_MAX + 1),
            None,
            "not shown: it has 8388609 bytes; at most 8388608 are",
        ),
    ],
    ids=["lone surrogate", "tombstone", "no UTF-8", "no JSON", "deep", "large"],
)
def test_value_of_any_kind_is_shown(value: bytes | None, text: str | None, why: str | None) -> None:
    found = document(Sample(value=value), {})
    assert (found["text"], found["why"]) == (text, why)
    assert found["is_json"] is (why is None)


def test_document_of_an_event_is_bounded() -> None:
    headers = [("n" * 20_000, b"v" * 20_000)] * (SHOWN_HEADERS_MAX + 1)
    many = {
        f"d{number}": EventOutcome(EventStatus.PENDING)
        for number in range(SHOWN_DESTINATIONS_MAX + 5)
    }
    found = document(Sample(headers=headers), many)
    assert len(found["headers"]) == SHOWN_HEADERS_MAX
    assert list(map(len, found["headers"][0])) == [SHOWN_HEADER_LENGTH_MAX, SHOWN_HEADER_LENGTH_MAX]
    assert len(found["destinations"]) == SHOWN_DESTINATIONS_MAX
    assert found["more_destinations"] == 5
    one = entry(receipt(0, 10))
    outcome = EventOutcome(EventStatus.DELIVERED, one, entries=(one,) * 50)
    (shown,) = document(Sample(), {"archive": outcome})["destinations"]
    assert len(shown["receipts"]) == SHOWN_RECEIPTS_MAX


def test_requested_events_are_parsed() -> None:
    posted = {
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
    assert parse_events(posted) == [
        Event(0, 1, b"orders"),
        Event(1, 2, None),
        Event(1, 3, b"\xff"),
    ]


@pytest.mark.parametrize(
    "posted", [None, [], {}, {"events": 1}, {"events": [0] * (REQUESTED_EVENTS_MAX + 1)}]
)
def test_request_without_events_is_refused(posted: object) -> None:
    with pytest.raises(ValueError, match="with at most 500 events"):
        parse_events(posted)


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
def test_request_with_an_invalid_event_is_refused(event: object) -> None:
    with pytest.raises(ValueError, match="is not an event; write its partition, offset"):
        parse_events({"events": [event]})


def counted(it: Entry, offset: int) -> int | None:
    """Return the number as it is counted record by record."""
    lines = LineCounter(it)
    numbers = {
        number: lines.next_number(number, b"orders")
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


def test_bucket_has_no_policy_as_long_as_it_is_unknown_who_writes() -> None:
    role = "arn:aws:iam::999999999999:role/writer"
    own = replace(ARCHIVE, id="own", role_arn=role, sse="aws:kms")
    unknown = policy_document([own, ARCHIVE], None)
    assert unknown["policy"] is None
    assert "999999999999" not in json.dumps(unknown)
    assert unknown["principal_form"] == "arn:aws:iam::ACCOUNT:role/ROLE"
    note = unknown["note"] or ""
    assert note.startswith("Destination 'own': objects are encrypted under")
    assert note.endswith(".")
    assert policy_document([ARCHIVE], None)["note"] is None
    known = json.loads(policy_document([own], None)["policy"] or "")
    assert {it["Principal"]["AWS"] for it in known["Statement"]} == {role}
    given = "arn:aws:iam::111111111111:root"
    both = json.loads(policy_document([own, ARCHIVE], given)["policy"] or "")
    assert {it["Principal"]["AWS"] for it in both["Statement"]} == {role, given}
    with pytest.raises(ConfigurationError, match="the principal is 'me'"):
        policy_document([ARCHIVE], "me")


def test_alias_of_an_access_point_has_no_policy_but_what_to_allow() -> None:
    alias = replace(ARCHIVE, bucket="orders-x1-s3alias")
    found = policy_document([alias], "arn:aws:iam::111111111111:root")
    assert found["policy"] is None
    assert "s3:PutObject on arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME" in str(found["note"])


def test_command_can_be_copied_whatever_the_name() -> None:
    assert redeliver_command("my file.toml", "orders") == (
        "stream-app redeliver --config 'my file.toml' --destination orders"
    )
    assert redeliver_command(ENVIRONMENT, "orders") == "stream-app redeliver --destination orders"
    assert redeliver_command("a.toml", "orders", failed_events=True) == (
        "stream-app redeliver --config a.toml --failed-events --destination orders"
    )


def test_settings_are_those_of_the_destination_without_what_only_its_owner_may_know() -> None:
    found = settings_document(replace(ARCHIVE, role_arn="arn", external_id="confidential"))
    assert found["payload"] == "$event.body"
    assert found["role_arn"] == "arn"
    assert "external_id" not in found
    assert "acl" not in found


def test_rows_of_a_window_have_outcomes_and_lines() -> None:
    it = index(
        receipt(0, 10, skipped=[(1, 1)], failed=[2]),
        receipt(0, 10, status=Status.REDELIVERED, answers=(2,)),
    )
    offsets = (0, 1, 2)
    rows = [{"offset": offset, "line": 1} for offset in offsets]
    outcomes = [it.outcomes(Event(0, offset, b"orders")) for offset in offsets]
    found = add_outcomes("archive", rows, outcomes)
    assert [(row["outcome"], row["line"]) for row in found] == [
        ("delivered", 1),
        ("skipped", None),
        ("delivered", 1),
    ]
    assert add_outcomes("other", [{"offset": 0, "line": 1}], outcomes[:1]) == [
        {"offset": 0, "line": None, "outcome": "unknown"}
    ]


def test_shortened_receipt_determines_no_line_behind_its_lists() -> None:
    whole = receipt(0, 10, skipped=[(1, 1)], failed=[5])
    assert line_number(entry(whole), 6) == 5
    short = replace(whole, lists=ShortLists([[1, 1]], [], 5))
    it = entry(short)
    assert [line_number(it, offset) for offset in (0, 1, 4, 5, 6)] == [1, None, 4, None, None]
    lines = LineCounter(it)
    found = [lines.next_number(offset, b"orders") for offset in range(7)]
    assert found == [1, None, 2, 3, 4, None, None]


def test_event_of_no_destination_names_the_pipeline_that_its_key_resembles() -> None:
    found = document(Sample(4, 0, b"ordres", b"{}"), {})
    assert found["unmatched"] == (
        "no destination takes the key 'ordres' (nearest pipeline: 'orders')"
    )
    found = document(Sample(4, 0, None, b"{}"), {}, configured=())
    assert found["unmatched"].startswith("no destination takes the key none (only a destination")
    matched = {"archive": EventOutcome(EventStatus.PENDING)}
    assert document(Sample(4, 0, b"orders", b"{}"), matched)["unmatched"] is None
