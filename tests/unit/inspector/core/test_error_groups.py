"""Causes are one line each, and errors are grouped by what differs in more than numbers."""

from typing import Any

import pytest

from stream_app.core.receipt import Problem, Receipt, Status
from stream_app.inspector.core import error_groups
from stream_app.inspector.core.error_groups import (
    CAUSE_LENGTH_MAX,
    OTHER,
    ErrorGroups,
    cause_of,
    commonest_error,
)
from stream_app.inspector.core.index import EventStatus
from stream_app.inspector.core.statistics import (
    answers_by_window,
    effective_receipts,
    redelivered_offsets,
)
from tests.unit.inspector.core.messages import entry, index, receipt
from tests.unit.samples import MINUTE


def groups(*receipts: Receipt, status: EventStatus | None = None) -> list[dict[str, Any]]:
    found = ErrorGroups(status)
    entries = index(*receipts).of_destination("archive")
    found.add(effective_receipts(entries), redelivered_offsets(answers_by_window(entries)))
    return found.documents()


@pytest.mark.parametrize(
    ("error", "text", "waits_for"),
    [
        ("AccessDenied: Access Denied", "AccessDenied: Access Denied", None),
        (
            "ConnectionError: waits behind the window of 16:24:40 UTC in partition 3: no http://s3:9/a/b",
            "ConnectionError: no http://s3:9",
            "the window of 16:24:40 UTC in partition 3",
        ),
        (
            "SlowDown: waits behind the open window of partition 0: Reduce",
            "SlowDown: Reduce",
            "the open window of partition 0",
        ),
        ("waits behind the window of 1 in partition 2: x", "x", "the window of 1 in partition 2"),
        ("A: one\n two\x1b", "A: one two\\x1b", None),
    ],
)  # fmt: skip
def test_cause_is_one_line_without_the_key_of_an_object(
    error: str, text: str, waits_for: str | None
) -> None:
    assert cause_of(error) == (text, waits_for)


def test_long_cause_is_cut() -> None:
    assert len(cause_of("x" * 1_000).text) == CAUSE_LENGTH_MAX


def test_errors_that_differ_in_numbers_are_one_group_with_its_first_and_last_event() -> None:
    found = groups(
        receipt(0, 10, failed=[7, 3]),
        receipt(10, 20, failed=[12], start=MINUTE + 60),
        receipt(20, 30, status=Status.FAILED, start=MINUTE + 120),
    )
    assert [(it["text"], it["count"]) for it in found] == [
        ("AccessDenied: Access Denied", 10),
        ("TypeError: 12", 3),
    ]
    given_up, failed = found
    assert failed["first"] == {
        "window_start": "2026-11-24T16:31:00.000Z", "partition": 0, "offset": 3
    }  # fmt: skip
    assert (failed["last"]["window_start"], failed["last"]["offset"]) == (
        "2026-11-24T16:32:00.000Z", 12
    )  # fmt: skip
    assert (given_up["first"]["offset"], given_up["last"]["offset"]) == (20, 29)
    assert (failed["destinations"], failed["more_destinations"]) == (["archive"], 0)


def test_redelivered_events_have_no_error_any_more() -> None:
    window = receipt(0, 10, failed=[3, 4, 5])
    answer = receipt(0, 10, status=Status.REDELIVERED, answers=(3, 4, 5), failed=[5])
    (found,) = groups(window, answer)
    assert (found["count"], found["first"]["offset"]) == (1, 5)


def test_errors_of_one_status_are_of_events_with_that_outcome() -> None:
    receipts = (
        receipt(0, 10, failed=[3]),
        receipt(10, 20, status=Status.RETRYING, start=MINUTE + 60, failed=[12]),
    )
    assert [it["count"] for it in groups(*receipts)] == [9, 2]
    assert [it["count"] for it in groups(*receipts, status=EventStatus.FAILED)] == [2]
    assert [it["count"] for it in groups(*receipts, status=EventStatus.RETRYING)] == [9]


def test_destinations_of_a_group_are_named_up_to_a_bound() -> None:
    found = ErrorGroups()
    for name in "abcde":
        found.add([entry(receipt(failed=[1], destination=name))], {})
    (group,) = found.documents()
    assert (group["destinations"], group["more_destinations"]) == (["a", "b", "c"], 2)


def test_receipt_with_many_different_errors_has_a_bounded_number_of_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(error_groups, "GROUPS_OF_RECEIPT_MAX", 2)
    made = receipt(0, 10, failed=[1, 2, 3, 4])
    made.tally.failed = [(it, f"events/0@{it}", f"Error: {'abcd'[it - 1]}") for it in range(1, 5)]
    found = groups(made)
    assert [(it["text"], it["count"]) for it in found] == [
        (OTHER, 2), ("Error: a", 1), ("Error: b", 1)
    ]  # fmt: skip


def test_commonest_error_of_a_receipt() -> None:
    made = receipt(0, 10, failed=[1, 2, 3])
    made.tally.failed[0] = (1, "events/0@1", "RangeError: a")
    assert commonest_error(entry(made)) == "TypeError: 2"
    assert commonest_error(entry(receipt())) is None
    unlisted = receipt(0, 10, failed=[1])
    short = unlisted.shortened(len(unlisted.message(MINUTE).value) - 20)
    assert short is not None
    assert commonest_error(entry(short)) is None


def test_problem_of_a_late_window_without_lines_is_no_error_of_events() -> None:
    empty = receipt(0, 0, status=Status.FAILED)
    assert isinstance(empty.problem, Problem)
    assert groups(empty) == []


def test_groups_of_destinations_are_merged() -> None:
    merged = ErrorGroups()
    for made in (
        receipt(10, 20, failed=[12], destination="b", start=MINUTE + 60),
        receipt(0, 10, failed=[3, 4], destination="a"),
        receipt(0, 10, status=Status.FAILED, destination="a"),
    ):
        one = ErrorGroups()
        one.add([entry(made)], {})
        merged.merge(one)
    denied, failed = merged.documents()
    assert (denied["count"], denied["destinations"]) == (10, ["a"])
    assert (failed["count"], failed["destinations"]) == (3, ["b", "a"])
    assert (failed["first"]["offset"], failed["last"]["offset"]) == (3, 12)
