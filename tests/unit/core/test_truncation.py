"""A log that ends before its partition's position, and commits of other programs."""

from dataclasses import replace

import pytest

from stream_app.core.assignment import Assignment, Truncation
from stream_app.core.commit_metadata import Closing, Commit
from stream_app.core.object_key import identifier, object_key
from stream_app.core.partition import Partition
from stream_app.core.router import Router
from stream_app.core.undecodable import PassedOver
from stream_app.errors import FencedError, InvariantError
from stream_app.records import NO_EPOCH, Batch, OutOfRange, Undecodable
from tests.unit.core.builders import (
    EVENTS,
    MINUTE,
    ORDERS,
    RULES,
    STREAMING,
    TINY,
    Sample,
    answer,
    batch,
    collect,
    compress,
    noise,
    record,
    record_closings,
    settle,
    settle_all,
)
from tests.unit.core.test_assignment import ONE, feed, holding, ours, rebalance

BEGAN = MINUTE - 3600


def read(second: float = 2, commit: Commit | None = None) -> Partition:
    """Return a partition that has read two events from offset 10 on, and closed no window."""
    partition = Partition(EVENTS, RULES, 0, commit or Commit(10, (), BEGAN))
    collect(partition, batch(record(10, 1), record(11, 1)), second)
    return partition


def begun(offset: int, second: int) -> Commit:
    """Return the commit with which a partition begins again after its log was truncated."""
    return Commit(offset, (), MINUTE + second, is_after_truncation=True)


def restart(partition: Partition) -> Commit:
    """Settle what was read; return the commit that is due then."""
    settle_all(partition)
    commit = partition.to_commit()
    assert commit is not None
    return commit


# --- a log that was truncated -----------------------------------------------------------------


def test_what_was_read_of_a_truncated_log_is_delivered_before_it_is_read_again() -> None:
    partition = read()
    assert partition.truncate(0, MINUTE + 5) == 0
    assert partition.is_truncated
    commit = partition.to_commit()
    closing = Closing(12, MINUTE + 5, MINUTE, settled=False)
    assert commit == Commit(10, (closing,), BEGAN, is_truncated=True)
    assert {receipt.source.end_offset for _, receipt in settle_all(partition)} == {12}
    commit = partition.to_commit()
    assert not partition.is_restarted
    assert commit == begun(0, 6)
    partition.recorded(commit)
    assert partition.is_restarted


def test_truncated_log_with_nothing_read_begins_again_at_once() -> None:
    partition = Partition(EVENTS, RULES, 0, Commit(10, (), BEGAN))
    partition.truncate(3, MINUTE)
    assert partition.to_commit() == begun(3, 1)


def test_batch_of_the_new_log_is_not_taken_for_one_of_the_old() -> None:
    partition = read()
    partition.truncate(0, MINUTE + 5)
    fetched = batch(record(12, 6))
    with pytest.raises(FencedError, match="the log was truncated"):
        partition.collect(fetched, answer(list(fetched.records)), MINUTE + 6)  # type: ignore[arg-type]
    assert partition.position == 12


def test_recorded_windows_that_the_log_has_lost_are_not_waited_for() -> None:
    closings = (
        Closing(12, MINUTE + 90, MINUTE, settled=True),
        Closing(15, MINUTE + 90, MINUTE, settled=False),
    )
    partition = read(commit=Commit(10, closings, BEGAN))
    collect(partition, batch(record(12, 1), record(13, 1)), 2)
    assert partition.truncate(0, MINUTE + 5) == 3
    assert restart(partition) == begun(0, 91)


def test_no_window_of_the_new_log_has_a_name_of_the_old_one() -> None:
    # The clock of the worker that goes on is behind that of the one before.
    partition = Partition(EVENTS, RULES, 0, begun(10, 500))
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 62, 11)
    (window,) = partition._closed
    assert window.closed_at == MINUTE + 500
    partition.truncate(0, MINUTE + 62)
    assert restart(partition).began_at == MINUTE + 501


def test_clock_ahead_of_the_worker_that_began_does_not_move_later_closing_times() -> None:
    partition = Partition(EVENTS, RULES, 0, Commit(10, (), MINUTE + 500, is_new=True))
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 62, 11)
    commit = partition.to_commit()
    closing = Closing(11, MINUTE + 62, MINUTE, settled=False)
    # What follows is not taken for windows of a log before this one.
    assert commit == Commit(10, (closing,), MINUTE + 62)
    partition.truncate(0, MINUTE + 63)
    partition.recorded(commit)
    assert not partition.is_restarted
    assert restart(partition).began_at > MINUTE + 62


def test_part_of_the_new_log_has_no_name_of_the_old_one() -> None:
    partition = Partition(EVENTS, STREAMING, 0, begun(10, 500))
    collect(partition, batch(record(10, 1, noise(TINY.part * 2))), 2)
    compress(partition.window, second=500)
    stream = partition.part_uploads()[0]
    name = identifier("events", 3, 10, MINUTE + 500, stream.delivery.destination.id)
    prefix = stream.delivery.destination.prefix
    assert stream.delivery.key == object_key(prefix, MINUTE + 500, name)


def test_truncation_that_is_found_twice_counts_once() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    found = assignment.out_of_range(ONE, 0, OutOfRange(11), 0, MINUTE + 5)
    assert found == Truncation(11, 0)
    assert assignment.out_of_range(ONE, 0, OutOfRange(11), 0, MINUTE + 5) is None


def test_window_of_a_truncated_log_waits_for_room_in_the_metadata() -> None:
    partition = Partition(EVENTS, RULES, 0, Commit(10, (), BEGAN))
    collect(partition, batch(record(10, 1)), 2)
    partition.window.busy = 1  # its lines are being compressed
    with pytest.raises(InvariantError, match="while it is compressed"):
        partition.truncate(0, MINUTE + 5)
    partition.window.busy = 0
    partition.truncate(0, MINUTE + 5)
    partition.tick(MINUTE + 6, None)
    assert len(partition._closed) == 1


def test_truncated_log_whose_metadata_is_full_closes_its_window_later() -> None:
    full = Partition(EVENTS, replace(RULES, metadata_bytes_max=76), 0, Commit(10, ()))
    for n in range(2):
        collect(full, batch(record(10 + n, 60 * n + 1)), 60 * n + 2)
        full.tick(MINUTE + 60 * n + 62, 11 + n)
    collect(full, batch(record(12, 121)), 122)
    full.truncate(0, MINUTE + 130)
    assert len(full._closed) == 2
    settle_all(full)
    full.tick(MINUTE + 140, None)
    assert [it.end for it in full._closed] == [13]
    assert restart(full) == begun(0, 141)


# --- a log that has grown again -----------------------------------------------------------------


def at_epoch(leader_epoch: int, *records: Sample, after: int | None = None) -> Batch:
    return replace(batch(*records, after=after), leader_epoch=leader_epoch)


def at_epoch_5(closings: tuple[Closing, ...] = ()) -> Assignment:
    """Return an assignment that stands at offset 10, and has read up to there in epoch 5."""
    assignment = ours(ONE)
    assignment.loaded(ONE, 0, Commit(10, closings, BEGAN, leader_epoch=5))
    return assignment


def to_verify(assignment: Assignment, following: Batch) -> int | None:
    return assignment.epoch_to_verify(ONE, 0, following)


def test_leader_epoch_of_what_was_read_is_verified_before_a_later_one() -> None:
    assignment = at_epoch_5()
    partition = assignment.partitions[ONE]
    assert to_verify(assignment, at_epoch(6, record(10, 1))) == 5
    assert to_verify(assignment, at_epoch(5, record(10, 1))) is None
    assert to_verify(assignment, at_epoch(NO_EPOCH, record(10, 1))) is None
    assert to_verify(assignment, at_epoch(6, record(9, 1))) is None, "it was read before"
    collect(partition, at_epoch(6, record(10, 1)), 2)
    assert to_verify(assignment, at_epoch(6, record(11, 1))) is None
    assert to_verify(assignment, at_epoch(7, record(11, 1))) == 6


def test_nothing_is_verified_where_the_broker_has_stated_no_epoch() -> None:
    assert to_verify(holding(ONE), at_epoch(6, record(10, 1))) is None


@pytest.mark.parametrize(
    ("epoch_end", "expected"),
    [(0, Truncation(10, 0)), (9, Truncation(10, 0)), (10, None), (40, None)],
)
def test_log_is_another_one_if_the_epoch_ends_before_what_was_read(
    epoch_end: int, expected: Truncation | None
) -> None:
    assert at_epoch_5().ended(ONE, 0, (0, epoch_end), MINUTE + 5) == expected


def test_log_whose_start_retention_has_moved_beyond_the_commit_is_the_same() -> None:
    # The broker knows the epoch no more, and returns where the first one that it knows begins.
    assignment = at_epoch_5()
    assert assignment.ended(ONE, 0, (500, 500), MINUTE + 5) is None
    assert assignment.skip_to(ONE, 0, 500) == 490
    assert to_verify(assignment, at_epoch(8, record(500, 1))) is None


def test_recorded_windows_count_as_read_when_the_epoch_is_verified() -> None:
    closings = (Closing(30, MINUTE + 62, MINUTE, settled=False),)
    assert at_epoch_5(closings).ended(ONE, 0, (0, 30), MINUTE + 5) is None
    assignment = at_epoch_5(closings)
    assert assignment.ended(ONE, 0, (3, 29), MINUTE + 5) == Truncation(10, 20)
    commit = assignment.commits()[ONE]
    assert commit == begun(3, 63)
    assert assignment.recorded({ONE: commit}) == [ONE]


def test_what_was_read_before_the_log_grew_again_is_delivered_first() -> None:
    assignment = at_epoch_5()
    partition = assignment.partitions[ONE]
    collect(partition, at_epoch(5, record(10, 1), record(11, 1)), 2)
    following = at_epoch(6, record(12, 6))
    assert assignment.epoch_to_verify(ONE, 0, following) == 5
    assert assignment.ended(ONE, 0, (0, 11), MINUTE + 5) == Truncation(12, 0)
    assert assignment.is_truncated(ONE, 0)
    with pytest.raises(FencedError):
        assignment.is_truncated(ONE, 1)
    assert restart(partition) == begun(0, 6)


def test_commit_has_the_newest_epoch_of_its_windows() -> None:
    # Also where the batch that closes a window has no room to be taken wholly.
    partition = Partition(EVENTS, replace(RULES, metadata_bytes_max=76), 0, Commit(10, ()))
    records = [record(10 + n, 60 * n + 1) for n in range(4)]
    collect(partition, at_epoch(4, records[0]), 2)
    rest = partition.collect(at_epoch(6, *records[1:]), answer(records[1:]), MINUTE + 200)
    assert rest is not None
    commit = partition.to_commit()
    assert commit is not None
    assert commit.closings
    assert commit.leader_epoch == rest.leader_epoch == 6


def test_epoch_of_markers_and_of_what_cannot_be_known_is_never_an_older_one() -> None:
    # Else a log that is whole would be taken for one that has lost records.
    assignment = at_epoch_5()
    partition = assignment.partitions[ONE]
    partition.collect(Batch(10, 11, [], leader_epoch=6), [], MINUTE + 2)
    assert to_verify(assignment, at_epoch(7, record(11, 1))) == 6
    partition.collect(Batch(8, 11, []), [], MINUTE + 2)  # read before
    assert to_verify(assignment, at_epoch(7, record(11, 1))) == 6
    partition.collect(Batch(11, 12, []), [], MINUTE + 2)
    assert to_verify(assignment, at_epoch(7, record(12, 1))) is None


def test_epoch_of_a_batch_that_was_passed_over_is_unknown() -> None:
    assignment = at_epoch_5()
    partition = assignment.partitions[ONE]
    router = Router([ORDERS])
    broken = Undecodable(10, 13, "CorruptRecordException: wrong", is_as_sent=True)
    assert partition.pass_over(broken, router, MINUTE + 2, 0.0) is None
    assert partition.pass_over(broken, router, MINUTE + 900, 10_000.0) == PassedOver(13, 3)
    assert to_verify(assignment, at_epoch(7, record(13, 1))) is None
    commit = partition.to_commit()
    assert commit is not None
    assert commit.leader_epoch == NO_EPOCH


def test_pieces_of_a_batch_keep_its_leader_epoch() -> None:
    fetched = at_epoch(6, record(10, 1), record(11, 1), record(12, 1))
    pieces = [*fetched.pieces(3), fetched.after(11), fetched.before(11)]
    assert {it.leader_epoch for it in pieces} == {6}


# --- where the broker has no record -----------------------------------------------------------


def test_position_that_retention_has_deleted_is_sought_at_the_logs_start() -> None:
    assert holding(ONE).out_of_range(ONE, 0, OutOfRange(10), 25, MINUTE) == 25


@pytest.mark.parametrize("leader_end", [10, 30])
def test_position_that_only_a_replica_behind_lacks_is_fetched_again(leader_end: int) -> None:
    found = OutOfRange(10)
    assert holding(ONE).out_of_range(ONE, 0, found, 0, MINUTE, leader_end=leader_end) == 10


def test_position_that_the_leader_lacks_too_is_a_truncation() -> None:
    found = holding(ONE).out_of_range(ONE, 0, OutOfRange(10), 0, MINUTE, leader_end=9)
    assert isinstance(found, Truncation)


@pytest.mark.parametrize("position", [-1, 7, 12])
def test_another_position_than_the_partitions_is_sought_back(position: int) -> None:
    assert holding(ONE).out_of_range(ONE, 0, OutOfRange(position), 25, MINUTE) == 10


def test_parts_of_a_window_that_cannot_be_read_again_are_abandoned() -> None:
    assignment = ours(ONE)
    assignment._policy = STREAMING
    closing = Closing(20, MINUTE + 62, MINUTE, settled=False)
    assignment.loaded(ONE, 0, Commit(10, (closing,), BEGAN))
    feed(assignment, ONE, 10, 1, noise(TINY.part * 2))
    taken = assignment.compressions(ONE)
    for it in taken:
        it.perform()
    assignment.compressed(taken, MINUTE + 2)
    (*_, stream) = assignment.part_uploads()
    stream.partition.begun(stream, "upload-1")
    assert assignment.out_of_range(ONE, 0, OutOfRange(11), 0, MINUTE + 5) == Truncation(11, 10)
    assert [it.id for it in assignment.abandoned()] == ["upload-1"]


# --- rebalances of a truncated partition ------------------------------------------------------


def truncated() -> Commit:
    return Commit(10, (Closing(11, MINUTE + 5, MINUTE, settled=False),), BEGAN, is_truncated=True)


def test_successor_begins_a_truncated_partition_at_the_logs_start() -> None:
    assignment = ours(ONE)
    begun = truncated().restarted(2, MINUTE + 9)
    assert not assignment.loaded(ONE, 0, truncated(), begun)
    assert assignment.partitions[ONE].position == 2
    assert assignment.commits() == {ONE: begun}, "at once: it is not found truncated again"
    assert assignment.recorded({ONE: begun}) == []


def test_batch_that_waits_since_before_a_partition_was_built_again_is_not_taken() -> None:
    assignment = ours(ONE)
    assignment.loaded(ONE, 0, truncated(), truncated().restarted(10, MINUTE + 9))
    with pytest.raises(FencedError, match="fetched before"):
        feed(assignment, ONE, 10, 1)
    with pytest.raises(FencedError, match="fetched before"):
        assignment.out_of_range(ONE, 0, OutOfRange(10), 0, MINUTE)
    assignment.sought(ONE, -1, 0)  # of an earlier epoch
    with pytest.raises(FencedError, match="fetched before"):
        feed(assignment, ONE, 10, 1)
    assignment.sought(ONE, 0, 1)
    assert assignment.out_of_range(ONE, 0, OutOfRange(7, seek=1), 0, MINUTE) == 10
    assignment.sought(ONE, 0, 0)
    feed(assignment, ONE, 10, 1)
    assert assignment.partitions[ONE].position == 11


def test_log_that_ends_within_recorded_windows_is_found_truncated() -> None:
    assignment = ours(ONE)
    closing = Closing(20, MINUTE + 62, MINUTE, settled=False)
    assignment.loaded(ONE, 0, Commit(10, (closing,), BEGAN))
    feed(assignment, ONE, 10, 1)
    assert assignment.ends_early({}) == []
    assert assignment.ends_early({ONE: 20}) == []
    assert assignment.ends_early({ONE: 19}) == [ONE]
    assert assignment.ended(ONE, 0, (0, 20), MINUTE + 70) is None
    assert assignment.ended(ONE, 0, (0, 19), MINUTE + 70) == Truncation(11, 10)
    assert assignment.ended(ONE, 0, (0, 19), MINUTE + 70) is None
    assert assignment.ends_early({ONE: 19}) == []


def test_log_that_ends_below_what_a_kept_partition_has_read_is_found_truncated() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    assert assignment.ends_early({ONE: 10}) == [ONE]
    assert assignment.ended(ONE, 0, (0, 10), MINUTE + 5) == Truncation(11, 0)


def test_worker_that_keeps_a_truncated_partition_settles_it_first() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    assignment.out_of_range(ONE, 0, OutOfRange(11), 0, MINUTE + 5)
    commits = assignment.commits()
    assert assignment.recorded(commits) == []
    rebalance(assignment, ONE)
    begun = commits[ONE].restarted(0, MINUTE + 9)
    assert assignment.loaded(ONE, 1, commits[ONE], begun)
    assert assignment.partitions[ONE].is_truncated


def test_partition_is_rebuilt_once_the_broker_has_its_restart() -> None:
    assignment = holding(ONE)
    assignment.out_of_range(ONE, 0, OutOfRange(10), 0, MINUTE + 5)
    assert assignment.recorded(assignment.commits()) == [ONE]


def test_restart_whose_response_was_lost_is_found_at_the_read_back() -> None:
    assignment = holding(ONE)
    assignment.out_of_range(ONE, 0, OutOfRange(10), 0, MINUTE + 5)
    begun = assignment.commits()[ONE]
    rebalance(assignment, ONE)
    assert not assignment.loaded(ONE, 1, begun)
    assert assignment.partitions[ONE].position == 0
    assert not assignment.partitions[ONE].is_truncated


# --- commits of other programs ----------------------------------------------------------------


def test_partition_of_an_unmarked_commit_is_held_back_and_the_others_go_on() -> None:
    assignment = ours(ONE)
    assignment.hold_back(ONE, 0)
    assert assignment.missing == []
    assert assignment.held_back == {ONE}
    with pytest.raises(FencedError):
        feed(assignment, ONE, 10, 1)
    assignment.revoked()
    assert not assignment.held_back


def test_windows_of_a_partition_for_which_another_program_committed_are_dropped() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    rebalance(assignment, ONE)
    assignment.hold_back(ONE, 1)
    assert assignment.held == 0


def test_partition_that_was_revoked_meanwhile_is_not_held_back() -> None:
    assignment = ours(ONE)
    assignment.revoked()
    with pytest.raises(FencedError, match="read back in epoch 0, now 1"):
        assignment.hold_back(ONE, 0)


# --- windows of versions before 0.2 -----------------------------------------------------------


def test_window_that_an_older_version_recorded_keeps_its_name() -> None:
    closing = Closing(12, MINUTE + 62, MINUTE, settled=False, is_named_by_time=False)
    partition = read(commit=Commit(10, (closing,)))
    works = partition.delivery_tasks()
    work = works[0]
    name = identifier("events", 3, 10, None, work.delivery.destination.id)
    assert work.delivery.key == object_key(work.delivery.destination.prefix, MINUTE + 62, name)
    collect(partition, batch(record(12, 121)), 122)
    partition.tick(MINUTE + 182, 13)
    record_closings(partition)
    assert [it.is_named_by_time for it in partition.acknowledged.closings] == [False, True]
    receipts = [settle(it)[1] for it in works]
    receipts += [receipt for _, receipt in settle_all(partition)]
    assert {it.source.closed_at for it in receipts} == {None, MINUTE + 182}
