"""Receipts, and indexes of them, for tests of the Inspector's core."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stream_app.core.object_key import identifier, object_key
from stream_app.core.receipt import Problem, Receipt, Source, Status, Stored, Tally
from stream_app.inspector.core.index import Entry, Index
from tests.unit.samples import MINUTE

STORED = Stored(812, '"e"', "v1", "c2hhMjU2", already_existed=False, stored_at=MINUTE + 62)
DENIED = Problem("AccessDenied", "Access Denied", retryable=False)


def receipt(
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
    stored_at: int | None = None,
) -> Receipt:
    """Return a receipt as a worker builds it; stored two seconds after its window by default."""
    stored = replace(STORED, stored_at=start + 62 if stored_at is None else stored_at)
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
        source=Source(topic, partition, first, end, start + 62),
        tally=tally,
        bucket="my-bucket",
        key=object_key(
            "test/", start + 62, identifier(topic, partition, first, start + 62, destination)
        ),
        size_uncompressed=4096,
        closed_at=start + 62,
        attempts=1,
        stored=None if is_late or status is Status.EMPTY else stored,
        problem=DENIED if is_late else None,
        answers=answers,
    )


def index(
    *receipts: Receipt, configured: Mapping[str, str | None] | None = None, **options: Any
) -> Index:
    """Return an index with these receipts, for the destination `archive` of pipeline `orders`."""
    configured = {"archive": "orders"} if configured is None else configured
    made = Index("events", "stream-app", configured, settled_after_seconds=120, **options)
    publish(made, *receipts)
    return made


def publish(into: Index, *receipts: Receipt, at: int | None = None) -> list[Entry | None]:
    """Add receipts, each published three seconds after its window or at a given time."""
    messages = [it.message(it.window_end + 3 if at is None else at) for it in receipts]
    return [into.add(0, number, it.headers, it.value) for number, it in enumerate(messages)]


def entry(it: Receipt) -> Entry:
    """Return the index's entry of one receipt."""
    (found,) = index(it).of_destination(it.destination)
    return found
