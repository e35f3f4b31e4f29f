"""A batch that cannot be decoded: its partition waits, then passes over exactly its offsets."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stream_app.config.settings import Destination
from stream_app.core.assignment import Assignment
from stream_app.core.commit_metadata import Closing, Commit, decode, encode
from stream_app.core.partition import Partition
from stream_app.core.receipt import Receipt, Status
from stream_app.core.router import Router
from stream_app.core.undecodable import UNDECODABLE, PassedOver, Times
from stream_app.errors import FencedError
from stream_app.records import Batch, GapError, Undecodable
from tests.unit.core.builders import (
    EVENTS,
    EVERY,
    MINUTE,
    ORDERS,
    RULES,
    STREAMING,
    batch,
    collect,
    compress,
    noise,
    record,
    record_closings,
    settle,
    settle_all,
)

AT_TEN = Commit(10, ())
GIVE_UP = RULES.undecodable_seconds
BROKEN = Undecodable(12, 15, "DecompressionError: lz4")
ROUTER = Router([ORDERS, EVERY])
LATE = 1_000.0
"""Second of the day at which a batch is passed over: long after the minute of its records."""


def passing(
    partition: Partition, broken: Undecodable = BROKEN, *, after: float = GIVE_UP
) -> PassedOver | None:
    """Find the batch, and find it again so many seconds later."""
    found = partition.pass_over(broken, ROUTER, MINUTE + LATE, 0.0)
    assert found is None
    return partition.pass_over(broken, ROUTER, MINUTE + LATE, after)


def before_it(commit: Commit = AT_TEN) -> Partition:
    """Return a partition that stands before the batch, with two records in its open window."""
    partition = Partition(EVENTS, RULES, 0, commit)
    partition.router(ROUTER)
    collect(partition, batch(record(10, 1), record(11, 2)), 3)
    return partition


def windows(partition: Partition) -> list[tuple[int, int, bool]]:
    return [(it.first, it.end, it.is_passed_over) for it in partition._closed]


def receipts(partition: Partition) -> list[Receipt]:
    """Commit, deliver and publish all that is due, as the worker does."""
    record_closings(partition)
    found = []
    for work in partition.delivery_tasks():
        problem = work.delivery.problem
        if problem is None:
            found.append(settle(work)[1])
        else:
            assert partition.content(work) is None
            found.append(partition.uploaded(work, problem, 0))
            partition.published(work)
    return found


def test_partition_waits_and_keeps_its_open_window() -> None:
    partition = before_it()
    assert passing(partition, after=GIVE_UP - 1) is None
    assert partition.position == 12
    assert windows(partition) == []
    assert partition.wait is not None
    assert partition.wait.batch == BROKEN


def test_window_before_the_batch_closes_when_its_minute_is_over() -> None:
    partition = before_it()
    passing(partition, after=1)
    partition.tick(MINUTE + 30, 100)
    assert windows(partition) == []
    partition.tick(MINUTE + 63, None)
    assert windows(partition) == [(10, 12, False)]


def test_batch_is_a_window_of_its_own_with_a_failed_receipt_for_every_destination() -> None:
    partition = before_it()
    assert passing(partition) == PassedOver(15, 3)
    assert partition.position == 15
    assert partition.wait is None
    assert windows(partition) == [(10, 12, False), (12, 15, True)]
    delivered, *failed = receipts(partition)
    assert (delivered.status, delivered.source.end_offset) == (Status.DELIVERED, 12)
    assert [it.destination for it in failed] == [ORDERS.id, EVERY.id]
    for it in failed:
        assert it.status is Status.FAILED
        assert (it.source.first_offset, it.source.end_offset) == (12, 15)
        assert it.tally.matched == 0
        assert it.problem is not None
        assert it.problem.code == UNDECODABLE
        assert it.problem.message.startswith("offsets 12 to 14 could not be decoded")
        assert BROKEN.reason in it.problem.message
        assert it.window_start == MINUTE, "the minute of the window before it"
    record_closings(partition)
    assert partition.acknowledged == Commit(15, ())


def test_nothing_of_it_is_due_before_the_broker_has_its_closing() -> None:
    partition = before_it()
    passing(partition)
    assert partition.delivery_tasks() == []
    commit = record_closings(partition)
    assert commit is not None
    assert [it.is_passed_over for it in commit.closings] == [False, True]
    assert len(partition.delivery_tasks()) == 3


def test_records_behind_it_keep_their_minute() -> None:
    partition = before_it()
    passing(partition)
    collect(partition, batch(record(15, 70), record(16, 130)), LATE)
    starts = [it.window_start for it in partition._closed if not it.is_passed_over]
    assert starts == [MINUTE, MINUTE + 60]


def test_batch_at_the_beginning_is_of_the_present_minute() -> None:
    partition = Partition(EVENTS, RULES, 0, Commit(12, ()))
    assert passing(partition) == PassedOver(15, 3)
    assert [it.window_start for it in partition._closed] == [MINUTE + 960]


def test_batch_that_can_be_decoded_again_ends_the_wait() -> None:
    partition = before_it()
    passing(partition, after=1)
    collect(partition, batch(record(12, 3), record(14, 4)), 5)
    assert partition.wait is None
    assert partition.position == 15
    assert windows(partition) == []


def test_empty_fetch_before_it_does_not_end_the_wait() -> None:
    partition = before_it()
    passing(partition, after=1)
    partition.collect(Batch(12, 12, (), BROKEN), (), MINUTE + 5)
    assert partition.wait is not None


def test_wait_of_another_batch_begins_anew() -> None:
    partition = before_it()
    passing(partition, after=GIVE_UP - 1)
    collect(partition, batch(record(12, 3), record(14, 4)), 5)
    other = Undecodable(15, 16, "gzip")
    assert partition.pass_over(other, ROUTER, MINUTE, GIVE_UP + 1) is None


def test_batch_of_an_unknown_end_is_waited_for_without_an_end() -> None:
    partition = before_it()
    broken = replace(BROKEN, end=None)
    assert passing(partition, broken, after=10 * GIVE_UP) is None
    assert partition.position == 12
    # Once its end is known, the time has passed already.
    assert partition.pass_over(BROKEN, ROUTER, MINUTE, 10 * GIVE_UP) == PassedOver(15, 3)


def test_batch_below_the_position_is_not_waited_for() -> None:
    partition = before_it()
    behind = Undecodable(11, 15, "gzip")
    assert partition.pass_over(behind, ROUTER, MINUTE, 0.0) == PassedOver(12, 0)
    assert windows(partition) == []


def test_batch_beyond_the_position_is_a_gap() -> None:
    partition = before_it()
    with pytest.raises(GapError):
        partition.pass_over(Undecodable(13, 15, "gzip"), ROUTER, MINUTE, 0.0)


@pytest.mark.parametrize("bytes_max", [1, 45])
def test_full_metadata_keeps_it_waiting_until_there_is_room(bytes_max: int) -> None:
    partition = Partition(EVENTS, replace(RULES, metadata_bytes_max=bytes_max), 0, AT_TEN)
    partition.router(ROUTER)
    collect(partition, batch(record(10, 1), record(11, 2)), 3)
    assert passing(partition) is None
    assert not any(passed for _, _, passed in windows(partition))
    assert partition.wait is not None


# --- replays ------------------------------------------------------------------------------------


def recorded(partition: Partition) -> Commit:
    """Return the commit that a successor reads back."""
    commit = record_closings(partition)
    assert commit is not None
    assert decode(commit.offset, encode(commit)) == commit
    return commit


def test_successor_passes_over_it_at_once_with_the_same_receipts() -> None:
    first = before_it()
    passing(first)
    commit = recorded(first)
    successor = before_it(commit)
    assert successor.pass_over(BROKEN, ROUTER, MINUTE + 2 * LATE, 0.0) == PassedOver(15, 0)
    assert windows(successor) == windows(first)
    ours, theirs = receipts(first), receipts(successor)
    assert [it.id for it in ours] == [it.id for it in theirs]
    assert [it.key for it in ours] == [it.key for it in theirs]
    assert [it.window_start for it in ours] == [it.window_start for it in theirs]


def test_successor_that_can_decode_it_passes_over_it_all_the_same() -> None:
    first = before_it()
    passing(first)
    successor = before_it(recorded(first))
    collect(successor, batch(record(12, 3), record(14, 4), record(15, 5)), 6, ORDERS, EVERY)
    assert windows(successor) == windows(first)
    delivered, *failed = receipts(successor)
    assert [it.status for it in (delivered, *failed)] == [
        Status.DELIVERED,
        Status.FAILED,
        Status.FAILED,
    ]
    assert "has logged the reason" in failed[0].problem.message  # type: ignore[union-attr]
    (open_delivery,) = successor.window.deliveries[:1]
    assert open_delivery.tally.matched == 1, "offset 15 alone"


def test_settled_closing_of_it_is_a_boundary_only() -> None:
    closings = (
        Closing(12, MINUTE + 70, MINUTE, settled=False),
        Closing(15, MINUTE + 700, MINUTE, settled=True, is_passed_over=True),
    )
    successor = before_it(Commit(10, closings))
    assert successor.pass_over(BROKEN, ROUTER, MINUTE, 0.0) == PassedOver(15, 0)
    assert [it.destination for it in receipts(successor)] == [ORDERS.id]


def test_settled_window_in_which_it_lies_is_not_waited_for() -> None:
    closings = (
        Closing(11, MINUTE + 70, MINUTE, settled=False),
        Closing(14, MINUTE + 80, MINUTE, settled=True),
    )
    successor = before_it(Commit(10, closings))
    assert successor.pass_over(BROKEN, ROUTER, MINUTE, 0.0) == PassedOver(14, 0)
    # What lies beyond the window is an ordinary wait.
    rest = replace(BROKEN, first=14)
    assert passing(successor, rest) == PassedOver(15, 1)


def test_recorded_window_that_a_predecessor_could_decode_is_given_up_as_a_whole() -> None:
    closings = (
        Closing(14, MINUTE + 70, MINUTE, settled=False),
        Closing(16, MINUTE + 80, MINUTE, settled=False),
    )
    successor = before_it(Commit(10, closings))
    assert passing(successor) == PassedOver(14, 4)
    assert windows(successor) == [(10, 14, True)]
    # The rest of the batch has been waited for already.
    rest = replace(BROKEN, first=14)
    assert successor.pass_over(rest, ROUTER, MINUTE, GIVE_UP) == PassedOver(16, 2)
    assert successor.delivery_tasks() == [], "first the broker must have it"
    found = receipts(successor)
    assert [(it.source.first_offset, it.source.end_offset) for it in found] == [
        (10, 14),
        (10, 14),
        (14, 16),
        (14, 16),
    ]
    assert {it.status for it in found} == {Status.FAILED}
    assert {it.closed_at for it in found} == {MINUTE + 70, MINUTE + 80}


def test_commit_from_before_a_window_was_passed_over_does_not_record_that_it_was() -> None:
    closings = (
        Closing(11, MINUTE + 62, MINUTE, settled=False),
        Closing(15, MINUTE + 62, MINUTE, settled=False),
    )
    partition = Partition(EVENTS, RULES, 0, Commit(10, closings))
    partition.router(ROUTER)
    collect(partition, batch(record(10, 1), record(11, 2)), 3)
    for work in partition.delivery_tasks():
        settle(work)
    sent = partition.to_commit()
    assert sent is not None
    assert passing(partition) == PassedOver(15, 4)
    partition.recorded(sent)
    assert partition.delivery_tasks() == []
    assert {it.status for it in receipts(partition)} == {Status.FAILED}


def test_parts_of_a_window_that_is_given_up_are_abandoned_and_hold_no_memory() -> None:
    assignment = Assignment(STREAMING, 1 << 30)
    assignment.assigned([EVENTS], 1)
    commit = Commit(10, (Closing(14, MINUTE + 70, MINUTE, settled=False),))
    assignment.loaded(EVENTS, 0, commit)
    partition = assignment.partitions[EVENTS]
    assignment.router(EVENTS, ROUTER)
    collect(partition, batch(*(record(10 + it, it, noise(2_000)) for it in range(2))), 3)
    while compress(partition.window):
        pass
    (upload,) = assignment.part_uploads()[:1]
    partition.begun(upload, "upload-1")
    for clock in (0.0, GIVE_UP):
        assignment.pass_over(EVENTS, 0, BROKEN, ROUTER, Times(MINUTE + LATE, clock))
    assert [it.id for it in assignment.abandoned()] == ["upload-1"]
    with pytest.raises(FencedError):
        partition.begun(upload, "upload-2")
    settle_all_given_up(partition)
    assert assignment.held == 0


def settle_all_given_up(partition: Partition) -> None:
    while receipts(partition):
        pass
    settle_all(partition)


def test_skipping_over_it_needs_no_destinations() -> None:
    closing = Closing(15, MINUTE + 700, MINUTE, settled=False, is_passed_over=True)
    partition = Partition(EVENTS, RULES, 0, Commit(12, (closing,)))
    assert partition.skip_to(20) == 8
    assert receipts(partition) == []


# --- the assignment and the commit ----------------------------------------------------------------


def test_assignment_knows_who_waits() -> None:
    assignment = Assignment(RULES, 1 << 30)
    assignment.assigned([EVENTS], 1)
    assert assignment.wait(EVENTS) is None
    assignment.loaded(EVENTS, 0, Commit(12, ()))
    assert assignment.wait(EVENTS) is None
    assert assignment.waits == {}
    assert assignment.pass_over(EVENTS, 0, BROKEN, ROUTER, Times(MINUTE, 0.0)) is None
    assert assignment.waits == {EVENTS: assignment.wait(EVENTS)}
    with pytest.raises(FencedError):
        assignment.pass_over(EVENTS, 1, BROKEN, ROUTER, Times(MINUTE, 0.0))


def test_wait_goes_on_through_a_rebalance_that_leaves_the_partition_here() -> None:
    assignment = Assignment(RULES, 1 << 30)
    assignment.assigned([EVENTS], 1)
    assignment.loaded(EVENTS, 0, Commit(12, ()))
    assignment.pass_over(EVENTS, 0, BROKEN, ROUTER, Times(MINUTE, 0.0))
    assignment.revoked()
    assignment.assigned([EVENTS], 2)
    assignment.loaded(EVENTS, 1, Commit(12, ()))
    times = Times(MINUTE, GIVE_UP)
    assert assignment.pass_over(EVENTS, 1, BROKEN, ROUTER, times) == PassedOver(15, 3)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("marks", [(True,), (False, True), (True, False, True)])
def test_commit_says_which_windows_were_passed_over(
    marks: Sequence[bool], *, settled: bool
) -> None:
    closings = tuple(
        Closing(20 + 2**40 * number, MINUTE, MINUTE - 60, settled, is_passed_over=it)
        for number, it in enumerate(marks)
    )
    commit = Commit(10, closings)
    assert decode(10, encode(commit)) == commit


def test_commit_without_such_a_window_has_no_mark() -> None:
    closing = Closing(20, MINUTE, MINUTE, settled=False)
    passed_over = replace(closing, is_passed_over=True)
    assert len(encode(Commit(10, (closing,)))) < len(encode(Commit(10, (passed_over,))))


@pytest.mark.parametrize("destination", [ORDERS, EVERY])
def test_only_the_newest_destinations_have_a_receipt(
    destination: Destination,
) -> None:
    partition = Partition(EVENTS, RULES, 0, Commit(12, ()))
    for clock in (0.0, GIVE_UP):
        partition.pass_over(BROKEN, Router([destination]), MINUTE, clock)
    assert [it.destination for it in receipts(partition)] == [destination.id]


@pytest.mark.parametrize(
    ("is_as_sent", "after", "expected"),
    [
        (True, 0.0, PassedOver(18, 2)),
        (True, GIVE_UP - 1, PassedOver(18, 2)),
        (True, GIVE_UP, None),
        # Another replica may have a batch that was damaged since.
        (False, 0.0, None),
    ],
)
def test_producer_of_many_such_batches_holds_its_partition_up_for_half_of_the_time(
    after: float, expected: PassedOver | None, *, is_as_sent: bool
) -> None:
    partition = before_it()
    passing(partition, replace(BROKEN, is_as_sent=True))
    collect(partition, batch(record(15, 70)), LATE)
    other = Undecodable(16, 18, "gzip", is_as_sent)
    assert partition.pass_over(other, ROUTER, MINUTE + LATE, GIVE_UP + after) == expected


def test_partition_that_waits_is_not_idle_and_its_backlog_keeps_its_minutes() -> None:
    partition = before_it()
    passing(partition, after=1)
    partition.tick(MINUTE + 600, 100)
    assert windows(partition) == [(10, 12, False)]
    partition.pass_over(BROKEN, ROUTER, MINUTE + LATE, GIVE_UP)
    collect(partition, batch(record(15, 70), record(16, 130)), LATE)
    starts = [it.window_start for it in partition._closed if not it.is_passed_over]
    assert starts == [MINUTE, MINUTE + 60]
