"""Receipts as messages, for tests of the Inspector's core."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stream_app.inspector.outcomes import Index
from stream_app.objects import identifier, object_key
from stream_app.receipts import Problem, Receipt, Source, Status, Stored, Tally

MINUTE = 1_795_537_860
"""2026-11-24T16:31:00Z."""
STORED = Stored(812, '"e"', "v1", "c2hhMjU2", already_existed=False)
DENIED = Problem("AccessDenied", "Access Denied", retryable=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """A record as a consumer hands it out."""

    offset: int = 42
    key: bytes | None = b"orders"
    value: bytes | None = b"{}"
    partition: int = 0
    timestamp: int = MINUTE * 1000


def receipt(  # a receipt as a worker makes it
    first: int = 0,
    end: int = 10,
    *,
    status: Status = Status.DELIVERED,
    destination: str = "archive",
    pipeline: str | None = "orders",
    partition: int = 0,
    topic: str = "events",
    group: str = "stream-app",
    skipped: Sequence[tuple[int, int]] = (),
    failed: Sequence[int] = (),
    answers: tuple[int, ...] | None = None,
    start: int = MINUTE,
) -> Receipt:
    tally = Tally(matched=end - first if answers is None else len(answers))
    for first_skipped, last_skipped in skipped:
        tally.skipped.append([first_skipped, last_skipped])
        tally.skipped_count += last_skipped - first_skipped + 1
    tally.failed = [(it, f"{topic}/{partition}@{it}", f"TypeError: {it}") for it in failed]
    is_late = status in {Status.RETRYING, Status.FAILED}
    return Receipt(
        status=status,
        group=group,
        destination=destination,
        pipeline=pipeline,
        window_start=start,
        window_end=start + 60,
        source=Source(topic, partition, first, end),
        tally=tally,
        bucket="my-bucket",
        key=object_key("test/", start + 62, identifier(topic, partition, first, destination)),
        size_uncompressed=4096,
        uploaded_at=start + 62,
        attempts=1,
        stored=None if is_late or status is Status.EMPTY else STORED,
        problem=DENIED if is_late else None,
        answers=answers,
    )


def index(**options: Any) -> Index:
    return Index(
        "events", "stream-app", {"archive": "orders"}, settled_after_seconds=120, **options
    )


def tell(held: Index, *receipts: Receipt, at: int | None = None) -> None:
    """Publish receipts, each three seconds after its window or at a given time."""
    for number, it in enumerate(receipts):
        message = it.message(it.window_end + 3 if at is None else at)
        held.add(0, number, message.headers, message.value)


def again(it: Receipt, **changes: Any) -> Receipt:
    """Return another receipt for the same window."""
    return replace(it, **changes)
