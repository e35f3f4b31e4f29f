"""Each reader decodes as much of a receipt as it relies on, and rejects the rest."""

import json
from typing import Any

import pytest

from stream_app.core.receipt import Status
from stream_app.core.receipt_decoder import decode, decode_details, decode_lists, summary
from stream_app.inspector.core.index import Event
from tests.unit.inspector.core.messages import index, receipt
from tests.unit.samples import MINUTE


def document(**options: Any) -> dict[str, Any]:
    value = receipt(0, 10, skipped=[(1, 2)], failed=[3], **options).message(MINUTE).value
    found: dict[str, Any] = json.loads(value)
    return found


HEADERS = receipt(0, 10).message(MINUTE).headers
GROUP = "stream-app"
ALL = frozenset(Status)


def encoded(**changes: Any) -> bytes:
    return json.dumps(document() | changes).encode()


@pytest.mark.parametrize("status", Status)
def test_receipt_of_a_worker_has_details_and_lists(status: Status) -> None:
    value = json.dumps(document(status=status) | {"later": [{}]}).encode()
    details = decode_details(HEADERS, value, GROUP)
    assert details is not None
    assert details.receipt.status is status
    assert (details.skipped, details.failed, details.published_at) == (2, 1, MINUTE)
    lists = decode_lists(value)
    assert (lists.skipped, list(lists.failed), lists.end_offset) == ([[1, 2]], [3], None)
    assert lists.cover(10**18)


def test_lists_of_a_shortened_receipt_cover_what_lies_before_their_end() -> None:
    value = encoded(lists_end_offset=4)
    assert decode_details(HEADERS, value, GROUP) is not None
    lists = decode_lists(value)
    assert [lists.cover(it) for it in (3, 4, 5)] == [True, False, False]
    with pytest.raises(ValueError, match="not a receipt"):
        decode_details(HEADERS, encoded(lists_end_offset="4"), GROUP)


def test_time_of_storage_is_a_time_or_absent() -> None:
    stored = decode_details(HEADERS, encoded(), GROUP)
    assert stored is not None
    assert stored.stored_at == MINUTE + 62
    none = decode_details(HEADERS, encoded(stored_at=None), GROUP)
    assert none is not None
    assert none.stored_at is None
    for mangled in ("soon", 5, []):
        with pytest.raises(ValueError, match=r"not a receipt|Invalid isoformat"):
            decode_details(HEADERS, encoded(stored_at=mangled), GROUP)


@pytest.mark.parametrize("status", Status)
def test_row_of_an_undelivered_window_counts_nothing_as_delivered(status: Status) -> None:
    shown = summary(document(status=status))
    is_delivered = status not in (Status.FAILED, Status.RETRYING)
    assert (shown.delivered, shown.undelivered) == ((7, 0) if is_delivered else (0, 7))


def test_receipt_of_another_group_or_status_is_not_parsed() -> None:
    assert decode_details(HEADERS, b"not JSON", "other") is None
    assert decode(HEADERS, b"not JSON", "other", ALL, with_failed=True) is None
    assert decode(HEADERS, b"not JSON", GROUP, frozenset(), with_failed=True) is None


def test_redelivery_relies_on_no_list_that_it_does_not_ask_for() -> None:
    value = encoded(skipped="later", failed="later")
    decoded = decode(HEADERS, value, GROUP, ALL, with_failed=False)
    assert decoded is not None
    assert decoded.failed == ()
    with pytest.raises(ValueError, match="not a receipt"):
        decode(HEADERS, value, GROUP, ALL, with_failed=True)
    with pytest.raises(ValueError, match="not a receipt"):
        decode_details(HEADERS, value, GROUP)


def test_row_shows_values_of_any_type() -> None:
    shown = summary(document() | {"status": ["later"], "destination": 7, "window": None})
    assert (shown.status, shown.destination) == (["later"], 7)


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({}, "14 of 45 events failed (31 %): TypeError: x"),
        ({"failed": []}, "14 of 45 events failed (31 %)"),  # of a shortened receipt
        ({"failed": [{"error": 7}]}, "14 of 45 events failed (31 %)"),
        ({"failed": ["later"]}, "14 of 45 events failed (31 %)"),
        ({"failed": "later"}, "14 of 45 events failed (31 %)"),
        ({"error": {"code": "AccessDenied", "message": "x"}}, None),
        ({"counts": {"matched": 45, "delivered": 45, "skipped": 0, "failed": 0}}, None),
        ({"counts": {"matched": 45, "delivered": 45, "skipped": 0, "failed": 46}}, None),
        ({"counts": {"matched": 45, "delivered": 31, "skipped": 0, "failed": "14"}}, None),
        ({"counts": {"matched": True, "delivered": 0, "skipped": 0, "failed": 1}}, None),
    ],
)
def test_row_has_the_share_of_failed_events_and_an_error(
    changes: dict[str, Any], failure: str | None
) -> None:
    failing = document() | {
        "error": None,
        "counts": {"matched": 45, "delivered": 31, "skipped": 0, "failed": 14},
        "failed": [{"offset": 7, "record": "events/3@7", "error": "TypeError: x"}],
    }
    assert summary(failing | changes).failure == failure


@pytest.mark.parametrize("other", [None, 3, [], {}, {"status": "delivered"}])
def test_row_of_another_document_is_rejected(other: object) -> None:
    with pytest.raises(ValueError, match="not a receipt"):
        summary(other)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("destination",), ["a"]),
        (("pipeline",), 5),
        (("source", "partition"), 2**40),
        (("source", "first_offset"), -1),
        (("source", "end_offset"), "9"),
        (("counts", "delivered"), "3"),
        (("counts", "failed"), None),
        (("skipped",), [[1]]),
        (("skipped",), [["1", 2]]),
        (("failed",), [{"error": "x"}]),
        (("failed",), {}),
        (("object", "bucket"), 7),
        (("object", "size"), "1"),
        (("object", "etag"), []),
        (("error",), "x"),
        (("answers",), ["1"]),
    ],
)
def test_receipt_with_a_value_of_another_type_is_counted_and_breaks_nothing(
    path: tuple[str, ...], value: object
) -> None:
    changed = document()
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    held = index()
    message = receipt(0, 10).message(MINUTE)
    assert held.add(0, 0, message.headers, json.dumps(changed).encode()) is None
    assert held.not_receipts == 1
    assert held.outcomes(Event(0, 1, b"orders"))["archive"].entry is None


def test_document_that_is_nested_too_deeply_is_rejected() -> None:
    value = b'{"later":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(ValueError, match="depth limit"):
        decode_details(HEADERS, value, GROUP)
