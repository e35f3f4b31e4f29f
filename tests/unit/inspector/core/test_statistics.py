from typing import Any

from stream_app.inspector.minutes import (
    failed_windows,
    freshness_seconds,
    summary,
    window_row,
    windows,
)
from stream_app.inspector.outcomes import Entry
from stream_app.receipts import Receipt, Status
from tests.unit.inspected import MINUTE, index, receipt, tell

NOW = MINUTE + 59 * 60
"""In the last of the sixty minutes that begin with `MINUTE`."""


def held(*receipts: Receipt) -> list[Entry]:
    of = index()
    tell(of, *receipts)
    return list(of.of_destination("archive"))


def stands(*receipts: Receipt, now: float = NOW) -> dict[str, Any]:
    return summary(
        *("archive", "orders", "my-bucket", "test/"),
        entries=held(*receipts),
        now=now,
        configured=True,
    )


def test_a_destination_without_receipts_is_quiet() -> None:
    found = stands()
    assert found["state"] == "quiet"
    assert found["last_object"] is None
    assert found["minutes"]["start"] == "2026-11-24T16:31:00.000Z"
    assert found["minutes"]["events"] == [0] * 60
    assert found["minutes"]["freshness_seconds"] == [None] * 60
    assert found["totals"] == dict.fromkeys(("events", "bytes", "objects", "skipped", "failed"), 0)


def test_each_window_counts_in_its_minute() -> None:
    found = stands(
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
    assert minutes["freshness_seconds"] == [3.0, 3.0] + [None] * 58
    assert found["totals"]["events"] == 27
    assert found["state"] == "delivering"


def test_a_window_given_up_is_failed_until_it_is_redelivered() -> None:
    failed = receipt(0, 10, status=Status.FAILED, skipped=[(1, 2)])
    found = stands(failed)
    assert (found["state"], found["failed_windows"]) == ("failed", 1)
    assert found["totals"] == {"events": 0, "bytes": 0, "objects": 0, "skipped": 2, "failed": 8}
    found = stands(failed, receipt(0, 10, status=Status.REDELIVERED, skipped=[(1, 2)]))
    assert (found["state"], found["failed_windows"]) == ("delivering", 0)
    assert found["totals"]["events"] == 8
    assert found["totals"]["failed"] == 0


def test_a_late_window_makes_it_retrying_since() -> None:
    found = stands(
        receipt(0, 10, status=Status.RETRYING),
        receipt(10, 20, status=Status.RETRYING, start=MINUTE + 60),
    )
    assert found["state"] == "retrying"
    assert found["retrying_since"] == "2026-11-24T16:32:03.000Z"
    assert found["totals"]["failed"] == 0
    assert found["last_object"] is None
    assert stands(receipt(status=Status.RETRYING), receipt())["state"] == "delivering"


def test_redelivered_events_are_failed_no_more() -> None:
    window = receipt(0, 10, failed=[3, 4, 5])
    answer = receipt(0, 10, status=Status.REDELIVERED, answers=(3, 4, 5), failed=[5])
    found = stands(window, answer)
    assert found["totals"]["events"] == 9
    assert found["totals"]["failed"] == 1
    assert found["totals"]["objects"] == 2
    announced = receipt(0, 10, status=Status.RETRYING, answers=(3, 4, 5))
    assert stands(window, announced)["totals"]["failed"] == 3
    # The window's own receipt is not held any more.
    assert stands(answer)["totals"]["failed"] == 0


def test_an_empty_window_has_no_object() -> None:
    found = stands(receipt(0, 3, status=Status.EMPTY, skipped=[(0, 2)]))
    assert found["totals"] == {"events": 0, "bytes": 0, "objects": 0, "skipped": 3, "failed": 0}
    assert (found["state"], found["last_object"]) == ("delivering", None)


def test_windows_are_listed_once_and_newest_first() -> None:
    entries = held(
        receipt(0, 10, status=Status.FAILED),
        receipt(10, 20, start=MINUTE + 60),
        receipt(0, 10, status=Status.REDELIVERED),
        receipt(20, 30, start=MINUTE + 120, status=Status.FAILED),
        receipt(0, 10, status=Status.REDELIVERED, answers=(1,)),
    )
    counting = windows(entries)
    assert [(it.source.first_offset, it.status) for it in counting] == [
        (20, Status.FAILED),
        (10, Status.DELIVERED),
        (0, Status.REDELIVERED),
    ]
    assert [it.source.first_offset for it in failed_windows(counting)] == [20]


def test_a_window_is_a_row() -> None:
    (entry,) = held(receipt(0, 10, status=Status.FAILED, failed=[3]))
    row = window_row(entry)
    assert row["counts"] == {"matched": 10, "delivered": 9, "skipped": 0, "failed": 1}
    assert row["error"] == "AccessDenied: Access Denied"
    assert (row["start"], row["end"]) == ("2026-11-24T16:31:00.000Z", "2026-11-24T16:32:00.000Z")
    assert (row["size"], row["freshness_seconds"]) == (None, None)


def test_freshness_is_never_less_than_nothing() -> None:
    of = index()
    tell(of, receipt(), at=MINUTE)
    assert freshness_seconds(of.of_destination("archive")[0]) == 0.0
    assert of.of_destination("archive")[0].published_at == MINUTE
