"""What is counted is what the receipts tell."""

from stream_app.closings import Commit
from stream_app.counts import Counts
from stream_app.partition import Partition, Work
from stream_app.receipts import Problem
from tests.unit.records import (
    EVENTS,
    MINUTE,
    RULES,
    batch,
    collect,
    record,
    record_closings,
    settle,
)

PROBLEM = Problem("AccessDenied", "no", retryable=False)


def due(*values: str) -> Work:
    """Return the delivery of a closed window with these records."""
    partition = Partition(EVENTS, RULES, 0, Commit(10, ()))
    collect(partition, batch(*[record(10 + n, n, it) for n, it in enumerate(values)]), 30)
    partition.tick(MINUTE + 62, 10 + len(values))
    record_closings(partition)
    (work,) = partition.works()
    return work


def test_delivered_window_counts_its_outcomes_and_its_object() -> None:
    counts, (content, receipt) = Counts(), settle(due("1", "2", "skip", "fail x"))
    counts.published(receipt)
    assert content is not None
    assert counts == Counts(
        delivered=2, skipped=1, failed=1, objects=1, bytes=len(content), receipts=1
    )


def test_window_without_a_line_counts_no_object() -> None:
    counts, (_, receipt) = Counts(), settle(due("skip", "fail x"))
    counts.published(receipt)
    assert counts == Counts(skipped=1, failed=1, receipts=1)


def test_window_that_was_given_up_counts_its_lines_as_such() -> None:
    counts, work = Counts(), due("1", "2", "skip")
    counts.published(work.partition.uploaded(work, PROBLEM, 3))
    assert counts == Counts(given_up=2, skipped=1, receipts=1)


def test_receipt_of_a_late_window_counts_as_a_receipt_only() -> None:
    counts, work = Counts(), due("1", "skip")
    counts.published(work.partition.retrying(work, PROBLEM, 3))
    assert counts == Counts(receipts=1)
