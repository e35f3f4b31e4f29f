from dataclasses import replace
from typing import Any

import orjson

from stream_app.core.receipt import Problem, Receipt, Status
from stream_app.inspector.core.index import Entry
from stream_app.inspector.core.statistics import (
    answers_by_window,
    destination_summary,
    effective_receipts,
    failed_windows,
    freshness_seconds,
    last_failed_event,
    redelivered_offsets,
    window_row,
)
from tests.unit.inspector.core.messages import index, publish, receipt
from tests.unit.samples import MINUTE

NOW = MINUTE + 59 * 60
"""In the last of the sixty minutes that begin with `MINUTE`."""


def entries(*receipts: Receipt) -> list[Entry]:
    return list(index(*receipts).of_destination("archive"))


def summary(*receipts: Receipt, now: float = NOW) -> dict[str, Any]:
    return summary_of(*entries(*receipts), now=now)


def summary_of(*found: Entry, now: float = NOW) -> dict[str, Any]:
    return destination_summary(
        *("archive", "orders", "my-bucket", "test/"), entries=found, now=now, configured=True
    )


def test_destination_without_receipts_is_quiet() -> None:
    found = summary()
    assert found["state"] == "quiet"
    assert found["last_object"] is None
    assert found["minutes"]["start"] == "2026-11-24T16:31:00.000Z"
    assert found["minutes"]["events"] == [0] * 60
    assert found["minutes"]["freshness_seconds"] == [None] * 60
    assert found["totals"] == dict.fromkeys(("events", "bytes", "objects", "skipped", "failed"), 0)


def test_each_window_counts_in_its_minute() -> None:
    found = summary(
        receipt(0, 10, skipped=[(1, 2)], failed=[5]),
        receipt(0, 10, partition=1),
        receipt(10, 20, start=MINUTE + 60),
        receipt(20, 30, start=MINUTE + 3600),
        receipt(30, 40, start=MINUTE - 60),
    )
    minutes = found["minutes"]
    assert minutes["events"] == [17, 10] + [0] * 58
    assert minutes["bytes"] == [1624, 812] + [0] * 58
    assert minutes["objects"] == [2, 1] + [0] * 58
    assert minutes["skipped"] == [2, 0] + [0] * 58
    assert minutes["failed"] == [1, 0] + [0] * 58
    assert minutes["freshness_seconds"] == [2.0, 2.0] + [None] * 58
    assert found["totals"]["events"] == 27
    assert found["state"] == "degraded"


def test_window_given_up_is_failed_until_it_is_redelivered() -> None:
    failed = receipt(0, 10, status=Status.FAILED, skipped=[(1, 2)])
    found = summary(failed)
    assert (found["state"], found["failed_windows"]) == ("failed", 1)
    assert found["totals"] == {"events": 0, "bytes": 0, "objects": 0, "skipped": 2, "failed": 8}
    found = summary(failed, receipt(0, 10, status=Status.REDELIVERED, skipped=[(1, 2)]))
    assert (found["state"], found["failed_windows"]) == ("delivering", 0)
    assert found["totals"]["events"] == 8
    assert found["totals"]["failed"] == 0


def test_destination_whose_events_fail_is_degraded_until_they_are_redelivered() -> None:
    window = receipt(0, 50, failed=range(16))
    found = summary(window)
    assert (found["state"], found["failing"]) == ("degraded", "32 %")
    answer = receipt(0, 50, status=Status.REDELIVERED, answers=tuple(range(16)))
    found = summary(window, answer)
    assert (found["state"], found["failing"]) == ("delivering", "0 %")
    assert summary(window, now=NOW + 60)["state"] == "quiet"
    # What is worse comes first.
    retrying = receipt(50, 60, status=Status.RETRYING)
    assert summary(window, retrying)["state"] == "retrying"
    assert summary(window, receipt(50, 60, status=Status.FAILED))["state"] == "failed"
    every = receipt(0, 3, status=Status.EMPTY, failed=range(3))
    assert (summary(every)["state"], summary(every)["failing"]) == ("degraded", "100 %")


def test_late_window_makes_it_retrying_since() -> None:
    found = summary(
        receipt(0, 10, status=Status.RETRYING),
        receipt(10, 20, status=Status.RETRYING, start=MINUTE + 60),
    )
    assert found["state"] == "retrying"
    assert found["retrying_since"] == "2026-11-24T16:32:02.000Z", "its first attempt"
    assert found["totals"]["failed"] == 0
    assert found["last_object"] is None
    assert summary(receipt(status=Status.RETRYING), receipt())["state"] == "delivering"


def test_redelivered_events_are_no_longer_failed() -> None:
    window = receipt(0, 10, failed=[3, 4, 5])
    answer = receipt(0, 10, status=Status.REDELIVERED, answers=(3, 4, 5), failed=[5])
    found = summary(window, answer)
    assert found["totals"]["events"] == 9
    assert found["totals"]["failed"] == 1
    assert found["totals"]["objects"] == 2
    announced = receipt(0, 10, status=Status.RETRYING, answers=(3, 4, 5))
    assert summary(window, announced)["totals"]["failed"] == 3
    # The window's own receipt is evicted.
    assert summary(answer)["totals"]["failed"] == 0


def test_empty_window_has_no_object() -> None:
    found = summary(receipt(0, 3, status=Status.EMPTY, skipped=[(0, 2)]))
    assert found["totals"] == {"events": 0, "bytes": 0, "objects": 0, "skipped": 3, "failed": 0}
    assert (found["state"], found["last_object"]) == ("delivering", None)


def test_windows_are_listed_once_and_newest_first() -> None:
    found = entries(
        receipt(0, 10, status=Status.FAILED),
        receipt(10, 20, start=MINUTE + 60),
        receipt(0, 10, status=Status.REDELIVERED),
        receipt(20, 30, start=MINUTE + 120, status=Status.FAILED),
        receipt(0, 10, status=Status.REDELIVERED, answers=(1,)),
    )
    effective = effective_receipts(found)
    assert [(it.source.first_offset, it.status) for it in effective] == [
        (20, Status.FAILED),
        (10, Status.DELIVERED),
        (0, Status.REDELIVERED),
    ]
    assert [it.source.first_offset for it in failed_windows(effective)] == [20]


def test_window_is_a_row() -> None:
    (entry,) = entries(receipt(0, 10, status=Status.FAILED, failed=[3]))
    row = window_row(entry)
    counts = {"matched": 10, "delivered": 0, "undelivered": 9, "skipped": 0, "failed": 1}
    assert row["counts"] == counts
    assert row["error"] == "AccessDenied: Access Denied"
    assert (row["start"], row["end"]) == ("2026-11-24T16:31:00.000Z", "2026-11-24T16:32:00.000Z")
    assert (row["size"], row["freshness_seconds"]) == (None, None)


def test_row_of_a_window_counts_its_redelivered_events_as_delivered() -> None:
    window = receipt(0, 10, failed=[3, 4, 5])
    first = receipt(0, 10, status=Status.REDELIVERED, answers=(3, 4, 5), failed=[5])
    empty = receipt(0, 10, status=Status.EMPTY, answers=(5,), skipped=[(5, 5)])
    found = entries(window, first, receipt(0, 10, status=Status.RETRYING, answers=(5,)))
    (effective,) = effective_receipts(found)
    answers = answers_by_window(found)
    assert [len(it) for it in answers.values()] == [1]
    row = window_row(effective, answers[effective.source])
    assert (row["counts"]["delivered"], row["counts"]["failed"], row["objects"]) == (9, 1, 2)
    redelivered = redelivered_offsets(answers)
    assert redelivered == {effective.source: {3, 4}}
    assert last_failed_event([effective], redelivered) == "0@5"
    found = entries(window, first, empty)
    answers = answers_by_window(found)
    row = window_row(effective, answers[effective.source])
    assert (row["counts"]["skipped"], row["counts"]["failed"], row["objects"]) == (1, 0, 2)
    assert last_failed_event([effective, *entries(receipt())], redelivered_offsets(answers)) is None


def test_row_of_a_window_that_was_not_tried_names_the_one_that_was() -> None:
    behind = "waits behind the window of 16:24:40 UTC in partition 3: Reduce"
    problem = Problem("SlowDown", behind, retryable=True)
    (entry,) = entries(replace(receipt(0, 10, status=Status.RETRYING), problem=problem))
    row = window_row(entry)
    assert row["error"] == "SlowDown: Reduce"
    assert row["waits_for"] == "the window of 16:24:40 UTC in partition 3"


def test_summary_has_the_cause_and_the_oldest_window_that_is_not_delivered() -> None:
    found = summary(receipt(0, 10), receipt(10, 20, status=Status.RETRYING, start=MINUTE + 60))
    assert found["cause"] == "AccessDenied: Access Denied"
    assert found["oldest_undelivered"] == {
        "start": "2026-11-24T16:32:00.000Z", "partition": 0, "first_offset": 10
    }  # fmt: skip
    assert (found["retrying_windows"], found["retrying_events"]) == (1, 10)
    assert found["is_refused"]
    assert summary(receipt(failed=[1]))["cause"] == "TypeError: 1"
    good = summary(receipt())
    assert (good["cause"], good["oldest_undelivered"], good["is_refused"]) == (None, None, False)
    # The receipt of failed events is not listed: it was too long.
    unlisted = receipt(0, 10, failed=[1])
    short = unlisted.shortened(len(unlisted.message(MINUTE).value) - 20)
    assert short is not None
    assert (summary(short)["state"], summary(short)["cause"]) == ("degraded", None)
    late = replace(receipt(0, 10, status=Status.RETRYING), problem=None)
    assert summary(late)["cause"] is None


def test_freshness_is_never_negative() -> None:
    (entry,) = publish(index(), receipt(stored_at=MINUTE), at=MINUTE)
    assert entry is not None
    assert freshness_seconds(entry) == 0.0
    assert entry.published_at == MINUTE


def test_freshness_lasts_until_the_object_was_stored_or_else_to_the_receipt() -> None:
    stored = receipt(0, 10, stored_at=MINUTE + 75)
    empty = receipt(10, 20, status=Status.EMPTY)
    given_up = receipt(20, 30, status=Status.FAILED)
    found = [freshness_seconds(it) for it in entries(stored, empty, given_up)]
    assert found == [15.0, 3.0, None]


def test_receipt_without_the_time_of_storage_is_fresh_when_it_was_published() -> None:
    message = receipt().message(MINUTE + 90)
    document = orjson.loads(message.value)
    del document["stored_at"]
    old = index()
    entry = old.add(0, 0, message.headers, orjson.dumps(document))
    assert entry is not None
    assert entry.stored_at is None
    assert freshness_seconds(entry) == 30.0
    assert summary_of(entry)["last_object"] == "2026-11-24T16:32:30.000Z"
