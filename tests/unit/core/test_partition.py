"""One partition: which window a record joins, what is recorded, delivered and committed."""

import gzip
from dataclasses import replace

import pytest

from stream_app.core.commit_metadata import Closing, Commit, decode, encode
from stream_app.core.delivery import MultipartUpload, State
from stream_app.core.object_key import identifier, object_key
from stream_app.core.partition import Partition
from stream_app.core.receipt import SKIPPED_RUN_BYTES, Problem, Status
from stream_app.core.router import Router
from stream_app.core.tasks import DeliveryTask, PartUpload
from stream_app.core.window import BodyCompression
from stream_app.errors import FencedError, InvariantError
from stream_app.records import Batch, GapError
from tests.unit.core.builders import (
    EVENTS,
    EVERY,
    FULL_PAYLOADS,
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
    held_closed,
    held_open,
    minutes,
    noise,
    record,
    record_closings,
    settle,
    settle_all,
    stored,
)

AT_TEN = Commit(10, ())
PROBLEM = Problem("AccessDenied", "Access Denied", retryable=False)


def fresh(commit: Commit = AT_TEN, epoch: int = 0, **bounds: int) -> Partition:
    return Partition(EVENTS, replace(RULES, **bounds), epoch, commit)


def windows(partition: Partition) -> list[tuple[int, int]]:
    """Return first and end offset of each closed window that is still kept."""
    return [(window.first, window.end) for window in partition._closed]


def starts(partition: Partition) -> list[int]:
    """Return the minute of each closed window, counted from MINUTE."""
    return [(window.window_start - MINUTE) // 60 for window in partition._closed]


def one_due(partition: Partition) -> DeliveryTask:
    record_closings(partition)
    (work,) = partition.delivery_tasks()
    return work


def closed(count: int = 1, **bounds: int) -> Partition:
    """Return a partition with `count` closed windows of one record each, from offset 10 on."""
    partition = fresh(**bounds)
    for n in range(count):
        collect(partition, batch(record(10 + n, 60 * n + 1)), 60 * n + 2)
        partition.tick(MINUTE + 60 * n + 62, 11 + n)
    return partition


# --- which window (design 4.1) ---


def test_a_record_of_a_later_minute_closes_the_window() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1), record(11, 59), record(12, 60)), 60)
    assert windows(partition) == [(10, 12)]
    assert partition.position == 13


def test_a_late_record_joins_the_open_window() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 61), record(11, -600), record(12, 65)), 66)
    assert windows(partition) == []
    partition.tick(MINUTE + 122, 13)
    assert windows(partition) == [(10, 13)]
    assert starts(partition) == [1]


def test_answers_for_one_window_are_taken_up_to_its_end() -> None:
    partition = Partition(EVENTS, RULES, 0, Commit(10, ()))
    assert partition.is_between_windows
    fetched = batch(record(10, 1, "a"), record(11, 61, "b"), record(12, 62, "c"))
    answers = answer(fetched.records)  # type: ignore[arg-type] # they are samples
    rest = partition.collect(fetched, answers, MINUTE + 63, one_window=True)
    assert rest is not None
    assert (rest.position, [it.offset for it in rest.records]) == (11, [11, 12])
    assert partition.is_between_windows
    assert partition.collect(rest, answers, MINUTE + 63, one_window=True) is None
    assert not partition.is_between_windows
    assert [it.end for it in partition._closed] == [11]


def test_an_open_window_keeps_its_destinations_and_the_next_takes_the_newest() -> None:
    partition, old, new = fresh(), Router(()), Router(())
    assert partition.router(old) is old
    assert partition.router(new) is new, "no window is open"
    assert partition.router(old) is old
    collect(partition, batch(record(10, 1)), 2)
    assert partition.router(new) is old
    partition.tick(MINUTE + 62, 11)
    assert partition.router(new) is new


def test_a_recorded_window_is_rebuilt_with_the_newest_destinations_and_keeps_them() -> None:
    closing = Closing(12, MINUTE + 62, MINUTE, settled=False)
    partition, newest = Partition(EVENTS, RULES, 0, Commit(10, (closing,))), Router(())
    assert partition.router(newest) is newest
    assert partition.router(Router(())) is newest


def test_partition_that_rebuilds_a_recorded_window_is_within_it() -> None:
    closing = Closing(12, MINUTE + 62, MINUTE, settled=False)
    assert not Partition(EVENTS, RULES, 0, Commit(10, (closing,))).is_between_windows


def test_a_record_that_comes_after_its_minute_was_closed_joins_the_next() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 61)), 62)
    partition.tick(MINUTE + 122, 11)
    collect(partition, batch(record(11, 30), record(12, 125)), 125)
    partition.tick(MINUTE + 182, 13)
    assert windows(partition) == [(10, 11), (11, 13)]
    assert starts(partition) == [1, 2]


def test_a_record_from_the_future_counts_as_now() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 3600), record(11, 5)), 6)
    partition.tick(MINUTE + 62, 12)
    assert starts(partition) == [0]
    assert windows(partition) == [(10, 12)]


def test_a_record_from_the_future_closes_no_window_before_its_time() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    collect(partition, batch(record(11, 3600)), 59)
    assert windows(partition) == []
    collect(partition, batch(record(12, 3600)), 60)
    assert windows(partition) == [(10, 12)]


def test_a_record_without_a_time_counts_as_now() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    collect(partition, batch(Sample(11, -1)), 59)
    assert windows(partition) == []
    collect(partition, batch(Sample(12, -1)), 60)
    assert windows(partition) == [(10, 12)]


def test_an_idle_partition_closes_only_after_its_grace() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 61.9, 11)
    assert windows(partition) == []
    partition.tick(MINUTE + 62, 11)
    assert windows(partition) == [(10, 11)]


def test_a_backlog_closes_by_records_alone() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1), record(11, 2)), 9000)
    partition.tick(MINUTE + 9000, 500)
    assert windows(partition) == []
    collect(partition, batch(record(12, 59), record(13, 61), record(14, 185)), 9000)
    assert windows(partition) == [(10, 13), (13, 14)]
    assert starts(partition) == [0, 1]


def test_a_partition_whose_end_is_unknown_closes_nothing() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 900, None)
    assert windows(partition) == []


def test_a_tick_before_the_first_batch_does_nothing() -> None:
    partition = fresh()
    partition.tick(MINUTE, 0)
    assert partition.to_commit() is None


def test_a_tick_with_nothing_collected_closes_nothing() -> None:
    partition = fresh(Commit(10, ()))
    partition.tick(MINUTE, 10)
    assert windows(partition) == []


def test_a_clock_set_back_by_more_than_a_window_closes_it_at_the_next_tick() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE - 60, 11)
    assert windows(partition) == []
    partition.tick(MINUTE - 61, 11)
    assert windows(partition) == [(10, 11)]


def test_a_clock_set_back_closes_the_window_at_the_next_record() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    collect(partition, batch(record(11, -3600)), -3600)
    assert windows(partition) == [(10, 11)]
    partition.tick(MINUTE - 3500, 12)
    assert starts(partition) == [0, -60]


def test_a_clock_set_back_yields_closings_that_can_be_recorded() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 62, 11)
    collect(partition, batch(record(11, 1)), -3600)
    partition.tick(MINUTE - 3400, 12)
    commit = partition.to_commit()
    assert commit is not None
    assert decode(10, encode(commit)) == commit


def test_the_closing_time_is_the_whole_second_of_the_closing() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 62.9, 11)
    assert next(iter(partition._closed)).closed_at == MINUTE + 62


# --- positions ---


def test_holes_in_the_offsets_belong_to_the_window_before_them() -> None:
    partition = fresh(Commit(10, ()))
    fetched = batch(record(14, 1), record(17, 2), record(30, 61), position=10, after=40)
    collect(partition, fetched, 62)
    assert windows(partition) == [(10, 30)]
    assert partition.position == 40


def test_an_empty_batch_moves_the_position() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, Batch(10, 15, ()), 1)
    assert partition.position == 15


def test_offsets_without_records_are_committed_when_the_partition_is_idle() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, Batch(10, 15, ()), 1)
    partition.tick(MINUTE + 1, 15)
    assert record_closings(partition) == Commit(15, ())
    assert partition.delivery_tasks() == []


def test_records_that_no_destination_matches_are_committed_without_a_receipt() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, batch(record(10, 1, key=b"other")), 2)
    partition.tick(MINUTE + 62, 11)
    assert record_closings(partition) == Commit(11, ())
    assert partition.delivery_tasks() == []


def test_records_below_the_position_are_dropped() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, batch(record(10, 1), record(11, 1)), 2)
    collect(partition, batch(record(10, 1), record(11, 1), record(12, 1)), 3)
    partition.tick(MINUTE + 62, 13)
    ((_, receipt),) = settle_all(partition)
    assert receipt.tally.matched == 3


def test_dropped_records_decide_nothing_about_the_next_window() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 62, 11)
    collect(partition, batch(record(10, 1), record(11, 185)), 200)
    partition.tick(MINUTE + 300, 12)
    assert starts(partition) == [0, 3]


def test_a_batch_wholly_below_the_position_changes_nothing() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, batch(record(10, 1), record(11, 1)), 2)
    assert collect(partition, batch(record(10, 1)), 3) is None
    assert partition.position == 12
    assert partition.held_open == held_open(partition)


def test_a_gap_raises_and_changes_nothing() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, batch(record(10, 1)), 2)
    with pytest.raises(
        GapError, match="events/3: expected offset 11, the batch starts at 12"
    ) as error:
        collect(partition, batch(record(12, 61)), 62)
    assert (error.value.position, error.value.found) == (11, 12)
    assert partition.position == 11
    assert windows(partition) == []


def test_skipping_over_lost_records_counts_their_offsets() -> None:
    partition = fresh(Commit(10, ()))
    assert partition.skip_to(25) == 15
    collect(partition, batch(record(25, 1)), 2)
    partition.tick(MINUTE + 62, 26)
    assert windows(partition) == [(10, 26)]


def test_skipping_ends_the_recorded_windows_that_were_passed() -> None:
    closings = (
        Closing(15, MINUTE + 62, MINUTE, settled=False),
        Closing(20, MINUTE + 122, MINUTE + 60, settled=False),
        Closing(30, MINUTE + 182, MINUTE + 120, settled=False),
    )
    partition = fresh(Commit(10, closings))
    collect(partition, batch(record(10, 1)), 300)
    partition.skip_to(22)
    assert windows(partition) == [(10, 15), (15, 20)]
    (work,) = partition.delivery_tasks()
    assert partition.content(work) is not None


def test_skipping_back_is_refused() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, batch(record(10, 1), record(11, 1)), 2)
    with pytest.raises(InvariantError):
        partition.skip_to(10)
    assert partition.position == 12


# --- the closing (design 4.2) ---


def test_nothing_is_due_before_the_closing_is_committed() -> None:
    partition = closed()
    assert partition.delivery_tasks() == []
    commit = partition.to_commit()
    assert commit == Commit(10, (Closing(11, MINUTE + 62, MINUTE, settled=False),))
    assert partition.delivery_tasks() == []


def test_a_committed_closing_makes_its_deliveries_due_once() -> None:
    partition = closed()
    record_closings(partition)
    assert len(partition.delivery_tasks()) == 1
    assert partition.delivery_tasks() == []


def test_a_commit_releases_only_the_windows_in_it() -> None:
    partition = closed(1)
    commit = partition.to_commit()
    assert commit is not None
    collect(partition, batch(record(11, 61)), 62)
    partition.tick(MINUTE + 122, 12)
    partition.recorded(commit)
    assert [work.window.first for work in partition.delivery_tasks()] == [10]
    record_closings(partition)
    assert [work.window.first for work in partition.delivery_tasks()] == [11]


def test_a_commit_with_another_closing_time_releases_nothing() -> None:
    # The late answer to a commit of a predecessor object (`Assignment.forget`): what was recorded
    # is another key, so this window's objects must wait for their own closing.
    partition = closed()
    partition.recorded(Commit(10, (Closing(11, MINUTE + 99, MINUTE, settled=False),)))
    assert partition.delivery_tasks() == []


def test_what_the_broker_has_is_not_committed_again() -> None:
    partition = closed()
    assert record_closings(partition) is not None
    assert partition.to_commit() is None


def test_a_commit_without_an_answer_stays_due() -> None:
    partition = closed()
    assert partition.to_commit() == partition.to_commit() != None  # noqa: E711 - both are commits


def test_the_offset_moves_on_when_the_window_is_settled() -> None:
    partition = closed()
    settle(one_due(partition))
    assert record_closings(partition) == Commit(11, ())
    assert windows(partition) == []
    assert partition.to_commit() is None


def test_a_window_is_settled_when_its_last_destination_is() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2, ORDERS, EVERY)
    partition.tick(MINUTE + 62, 11)
    record_closings(partition)
    first, second = partition.delivery_tasks()
    settle(first)
    assert partition.to_commit() is None
    settle(second)
    assert partition.to_commit() == Commit(11, ())


def test_a_settled_closing_is_kept_until_the_offset_passes_it() -> None:
    partition = closed(2)
    record_closings(partition)
    older, newer = partition.delivery_tasks()
    settle(newer)
    assert record_closings(partition) == Commit(
        10,
        (
            Closing(11, MINUTE + 62, MINUTE, settled=False),
            Closing(12, MINUTE + 122, MINUTE + 60, settled=True),
        ),
    )
    settle(older)
    assert record_closings(partition) == Commit(12, ())


def test_the_offset_passes_the_settled_windows_in_front() -> None:
    partition = closed(3)
    record_closings(partition)
    first, _, third = partition.delivery_tasks()
    settle(first)
    settle(third)
    assert record_closings(partition) == Commit(
        11,
        (
            Closing(12, MINUTE + 122, MINUTE + 60, settled=False),
            Closing(13, MINUTE + 182, MINUTE + 120, settled=True),
        ),
    )
    assert windows(partition) == [(11, 12), (12, 13)]


def test_steps_two_and_five_of_several_windows_are_one_commit() -> None:
    partition = closed(1)
    settle(one_due(partition))
    collect(partition, batch(record(11, 61)), 62)
    partition.tick(MINUTE + 122, 12)
    closing = Closing(12, MINUTE + 122, MINUTE + 60, settled=False)
    assert partition.to_commit() == Commit(11, (closing,))


# --- replay ---


def test_a_replay_rebuilds_the_recorded_windows_with_their_keys() -> None:
    partition = closed(2)
    commit = record_closings(partition)
    assert commit is not None
    expected = [(work.delivery.key, partition.content(work)) for work in partition.delivery_tasks()]
    successor = fresh(decode(commit.offset, encode(commit)))
    # All at once and an hour later: neither batches nor the clock decide.
    collect(successor, batch(record(10, 1), record(11, 61)), 3600)
    assert [
        (it.delivery.key, successor.content(it)) for it in successor.delivery_tasks()
    ] == expected


def test_a_replayed_window_is_due_without_a_further_commit() -> None:
    closing = Closing(12, MINUTE + 62, MINUTE, settled=False)
    partition = fresh(Commit(10, (closing,)))
    collect(partition, batch(record(10, 1), record(11, 500)), 600)
    assert partition.to_commit() is None
    assert len(partition.delivery_tasks()) == 1


def test_a_replayed_window_does_not_end_before_its_recorded_end() -> None:
    closing = Closing(13, MINUTE + 62, MINUTE, settled=False)
    partition = fresh(Commit(10, (closing,)))
    collect(partition, batch(record(10, 1), record(11, 500)), 600)
    partition.tick(MINUTE + 9000, 12)
    assert not partition.close_early(MINUTE + 9000)
    assert windows(partition) == []
    collect(partition, batch(record(12, 501), record(13, 502)), 600)
    assert windows(partition) == [(10, 13)]


def test_a_settled_closing_is_replayed_as_a_boundary_only() -> None:
    closings = (
        Closing(11, MINUTE + 62, MINUTE, settled=False),
        Closing(12, MINUTE + 122, MINUTE + 60, settled=True),
    )
    partition = fresh(Commit(10, closings))
    collect(partition, batch(record(10, 1), record(11, 61), record(12, 62)), 200)
    (work,) = partition.delivery_tasks()
    assert work.window.first == 10
    settle(work)
    assert record_closings(partition) == Commit(12, ())
    partition.tick(MINUTE + 200, 13)
    assert windows(partition) == [(12, 13)]


def test_a_commit_during_a_replay_keeps_the_closings_not_yet_rebuilt() -> None:
    closings = (
        Closing(11, MINUTE + 62, MINUTE, settled=False),
        Closing(20, MINUTE + 122, MINUTE + 60, settled=False),
    )
    partition = fresh(Commit(10, closings))
    collect(partition, batch(record(10, 1)), 200)
    settle(one_due(partition))
    assert partition.to_commit() == Commit(11, closings[1:])


def test_a_late_record_after_a_replay_stays_in_the_minute_of_stream_time() -> None:
    partition = fresh(Commit(10, (Closing(11, MINUTE + 122, MINUTE + 60, settled=True),)))
    collect(partition, batch(record(10, 61), record(11, 3), record(12, 125)), 130)
    assert starts(partition) == [1, 1]


def test_stream_time_is_that_of_the_newest_replayed_window() -> None:
    closings = (
        Closing(11, MINUTE + 62, MINUTE, settled=True),
        Closing(12, MINUTE + 242, MINUTE + 180, settled=True),
    )
    partition = fresh(Commit(10, closings))
    fetched = batch(record(10, 1), record(11, 185), record(12, 3), record(13, 245))
    collect(partition, fetched, 250)
    assert starts(partition) == [0, 3, 3]


def test_a_replayed_window_may_be_longer_than_the_bound_of_today() -> None:
    closing = Closing(20, MINUTE + 62, MINUTE, settled=False)
    partition = fresh(Commit(10, (closing,)), receipt_bytes_max=SKIPPED_RUN_BYTES)
    texts = ["skip", "a"] * 5
    collect(partition, batch(*(record(10 + n, 1, text) for n, text in enumerate(texts))), 100)
    assert windows(partition) == [(10, 20)]


# --- timestamps whose minute is over when they come ---


@pytest.mark.parametrize("late", [3600, 86_400, MINUTE - 600], ids=["1h", "1d", "1970"])
@pytest.mark.parametrize("step", [0, 0.5, 60], ids=["same", "live", "a minute further each"])
def test_old_timestamps_at_live_pace_make_an_object_a_minute(late: float, step: float) -> None:
    partition = fresh()
    for n in range(60):  # one event every half second, and a tick after each
        second = 10 + n / 2
        collect(partition, batch(record(10 + n, step * n - late)), second)
        partition.tick(MINUTE + second + 0.25, 11 + n)
    assert windows(partition) == [(10, 11)], "the first could be the end of a backlog"
    partition.tick(MINUTE + 61.9, 70)
    assert len(windows(partition)) == 1
    partition.tick(MINUTE + 62, 70)
    assert windows(partition) == [(10, 11), (11, 70)]
    assert starts(partition) == [-late // 60, 0]


def test_a_backlog_of_old_minutes_is_not_idle_and_keeps_its_minutes() -> None:
    partition = fresh()
    for n in range(6):
        collect(partition, batch(record(10 + n, 60 * n - 86_400)), 10 + n)
        partition.tick(MINUTE + 10.5 + n, 17)  # the log goes on
    assert starts(partition) == [-1440, -1439, -1438, -1437, -1436]


def test_the_last_minute_of_a_backlog_stays_apart_from_the_minute_of_now() -> None:
    partition = fresh()
    collect(partition, batch(record(10, -90)), 20)
    partition.tick(MINUTE + 20.25, 11)
    collect(partition, batch(record(11, 30)), 30)
    partition.tick(MINUTE + 62, 12)
    assert starts(partition) == [-2, 0]


def test_late_records_that_wait_for_room_join_the_minute_of_now() -> None:
    partition = closed(2, metadata_bytes_max=76)
    collect(partition, batch(record(12, 121)), 600)
    partition.tick(MINUTE + 600, 13)  # the metadata is full: the window stays open
    assert len(windows(partition)) == 2
    settle_all(partition)
    collect(partition, batch(record(13, 181), record(14, 241)), 605)
    assert starts(partition) == [2]
    partition.tick(MINUTE + 662, 15)
    assert starts(partition) == [2, 10]


# --- bounds (design 4.4) ---


def test_a_full_receipt_splits_a_batch() -> None:
    partition = fresh(receipt_bytes_max=2 * SKIPPED_RUN_BYTES)
    texts = ["skip", "a", "skip", "b", "skip", "c", "d"]
    fetched = batch(*(record(10 + n, 1, text) for n, text in enumerate(texts)))
    assert collect(partition, fetched, 2) is None
    assert windows(partition) == [(10, 13)]
    partition.tick(MINUTE + 62, 17)
    settled = settle_all(partition)
    assert [gzip.decompress(content or b"") for content, _ in settled] == [b"a\n", b"b\nc\nd\n"]
    assert [receipt.tally.skipped for _, receipt in settled] == [[[10, 10], [12, 12]], [[14, 14]]]


def test_a_receipt_that_is_full_at_the_end_of_a_batch_ends_its_window_with_the_next() -> None:
    partition = fresh(receipt_bytes_max=SKIPPED_RUN_BYTES)
    collect(partition, batch(record(10, 1, "skip")), 2)
    assert windows(partition) == []
    collect(partition, batch(record(11, 1)), 2)
    assert windows(partition) == [(10, 11)]


def test_full_metadata_hands_back_the_rest_of_the_batch() -> None:
    partition = closed(2, metadata_bytes_max=76)
    assert partition.full
    collect(partition, batch(record(12, 121)), 122)
    rest = collect(partition, batch(record(13, 122), record(14, 181), record(15, 182)), 183)
    assert rest is not None
    assert (rest.position, rest.next_position) == (14, 16)
    assert [it.offset for it in rest.records] == [14, 15]
    assert windows(partition) == [(10, 11), (11, 12)]
    settle_all(partition)
    assert not partition.full
    assert collect(partition, rest, 184) is None  # the same rest, handed in again
    assert windows(partition) == [(12, 14)]


def test_full_metadata_keeps_an_idle_window_open() -> None:
    partition = closed(2, metadata_bytes_max=76)
    collect(partition, batch(record(12, 121)), 122)
    partition.tick(MINUTE + 900, 13)
    assert not partition.close_early(MINUTE + 900)
    assert windows(partition) == [(10, 11), (11, 12)]


def test_metadata_never_outgrows_its_bound() -> None:
    partition = fresh(metadata_bytes_max=200)
    fetched = minutes(100)
    assert collect(partition, fetched, 6000) is not None
    commit = partition.to_commit()
    assert commit is not None
    assert len(commit.closings) > 10
    assert len(encode(commit)) <= 200


def learned(partition: Partition, limit: int) -> list[int]:
    """Commit as to a broker of this limit until it takes a commit; return the refused sizes."""
    refused = []
    while (commit := partition.to_commit()) is not None:
        size = len(encode(commit))
        if size <= limit:
            partition.recorded(commit)
            break
        refused.append(size)
        partition._metadata.learn(size, len(encode(partition.acknowledged)))
    return refused


def test_a_commit_too_large_is_replaced_by_one_that_fits() -> None:
    partition = fresh()
    collect(partition, minutes(101), 6010)
    assert len(learned(partition, 256)) == 2
    recorded = len(partition.acknowledged.closings)
    assert 20 <= recorded < 65
    assert [it.window.first for it in partition.delivery_tasks()] == list(range(10, 10 + recorded))
    assert partition.full
    assert not partition.close_early(MINUTE + 6020)


def test_windows_that_found_no_room_follow_as_older_ones_are_settled() -> None:
    partition = fresh()
    collect(partition, minutes(101), 6010)
    settled = []
    for _ in range(100):
        learned(partition, 256)
        works = partition.delivery_tasks()
        if not works:
            break
        settled += [settle(work)[1].source.first_offset for work in works]
    assert settled == list(range(10, 110))
    assert partition.acknowledged == Commit(110, ())
    assert not partition.full


def test_recorded_closings_beyond_a_lowered_limit_are_delivered_before_any_new_one() -> None:
    before = fresh()
    collect(before, minutes(63), 4000)
    commit = record_closings(before)
    assert commit is not None
    assert len(commit.closings) == 62

    partition = fresh(commit)
    collect(partition, minutes(101), 6010)
    assert len(windows(partition)) == 100
    refused = learned(partition, 150)
    assert refused == sorted(set(refused), reverse=True)
    assert partition.to_commit() is None, "what is recorded is more than the broker takes"
    works = partition.delivery_tasks()
    assert [it.window.first for it in works] == list(range(10, 72))
    for work in works:
        assert partition.full or not learned(partition, 150)
        settle(work)
        learned(partition, 150)
    assert partition.acknowledged.offset >= 72
    settle_all(partition)
    assert partition.acknowledged == Commit(110, ())


def test_a_rebalance_keeps_a_commit_that_was_taken_beside_a_refused_one() -> None:
    partition = fresh()
    collect(partition, minutes(63), 4000)
    taken = partition.to_commit()  # its request was refused for another partition
    assert taken is not None
    partition._metadata.learn(300, 0)
    partition.suspend(1)
    assert partition.resume(1, taken)
    assert len(partition.delivery_tasks()) == 62


def test_a_window_closed_early_ends_at_the_position() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1), record(11, 1)), 2)
    assert partition.close_early(MINUTE + 3)
    assert windows(partition) == [(10, 12)]
    assert partition.held_open == 0


def test_no_open_window_cannot_be_closed_early() -> None:
    partition = fresh(Commit(10, ()))
    assert not partition.close_early(MINUTE)


def test_the_parts_of_a_minute_are_separate_windows_with_separate_keys() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    partition.close_early(MINUTE + 3)
    collect(partition, batch(record(11, 1)), 3)
    partition.tick(MINUTE + 62, 12)
    assert starts(partition) == [0, 0]
    keys = [work.delivery.key for window in partition._closed for work in _works(partition, window)]
    assert len(set(keys)) == 2


def _works(partition: Partition, window: object) -> list[DeliveryTask]:
    record_closings(partition)
    return [work for work in partition._ready if work.window is window]


def test_memory_is_given_back_when_all_is_settled() -> None:
    partition = closed(3)
    assert partition.held_closed == held_closed(partition) > 0
    settle_all(partition)
    assert partition.held_closed == 0
    assert partition.held_open == 0


def test_memory_is_what_the_parts_take_at_each_step() -> None:
    partition = fresh()
    texts = ["x" * 5000, "skip", "fail no", "y" * 300_000]
    for n, text in enumerate(texts):
        collect(partition, batch(record(10 + n, 1, text)), 2, ORDERS, EVERY)
        assert partition.held_open == held_open(partition)
    partition.tick(MINUTE + 62, 14)
    assert partition.held_closed == held_closed(partition)
    record_closings(partition)
    for work in partition.delivery_tasks():
        content = partition.content(work)
        assert partition.held_closed == held_closed(partition)
        partition.uploaded(work, stored(content or b""), attempts=1)
        assert partition.held_closed == held_closed(partition)
        partition.published(work)
        assert partition.held_closed == held_closed(partition)


def test_a_settled_delivery_behind_an_older_one_keeps_no_memory_uncounted() -> None:
    # One stuck destination holds every later window of its partition in `_closed`, for hours;
    # what their settled deliveries keep must be freed, or be counted.
    partition = fresh()
    for n in range(2):
        collect(partition, batch(record(10 + n, 60 * n + 1, "fail " + "x" * 200)), 60 * n + 2)
        partition.tick(MINUTE + 60 * n + 62, 11 + n)
    record_closings(partition)
    older, newer = partition.delivery_tasks()
    settle(newer)
    kept = sum(it.held for window in partition._closed for it in window.deliveries.values())
    assert kept <= partition.held_closed
    settle(older)


# --- deliveries ---


def test_an_object_holds_the_delivered_records_in_offset_order() -> None:
    partition = fresh()
    texts = ["1", "skip", "2", "fail no", "3"]
    collect(partition, batch(*(record(10 + n, 1, text) for n, text in enumerate(texts))), 2)
    partition.tick(MINUTE + 62, 15)
    work = one_due(partition)
    content = partition.content(work)
    assert content is not None
    assert gzip.decompress(content) == b"1\n2\n3\n"
    assert partition.content(work) == content


def test_a_receipt_speaks_of_its_window() -> None:
    partition = closed()
    work = one_due(partition)
    content, receipt = settle(work)
    assert receipt.status is Status.DELIVERED
    assert (receipt.group, receipt.destination) == ("stream-app", "orders-archive")
    assert (receipt.pipeline, receipt.bucket) == ("orders", "my-bucket")
    assert (receipt.window_start, receipt.window_end) == (MINUTE, MINUTE + 60)
    assert (receipt.source.topic, receipt.source.partition) == ("events", 3)
    assert (receipt.source.first_offset, receipt.source.end_offset) == (10, 11)
    assert receipt.closed_at == MINUTE + 62
    assert receipt.key == work.delivery.key
    assert receipt.stored == stored(content or b"")
    assert receipt.size_uncompressed == 2


def test_a_window_in_which_all_was_skipped_has_a_receipt_and_no_object() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1, "skip")), 2)
    partition.tick(MINUTE + 62, 11)
    work = one_due(partition)
    assert partition.content(work) is None
    receipt = partition.uploaded(work, None, attempts=0)
    assert receipt.status is Status.EMPTY
    partition.published(work)
    assert record_closings(partition) == Commit(11, ())


def test_a_window_with_lines_cannot_go_without_an_object() -> None:
    partition = closed()
    work = one_due(partition)
    with pytest.raises(InvariantError, match="1 lines, but the upload: None"):
        partition.uploaded(work, None, attempts=1)
    assert work.delivery.state is State.RECORDED
    assert partition.held_closed == held_closed(partition)


def test_a_window_that_is_given_up_is_settled_by_a_failed_receipt() -> None:
    partition = closed()
    work = one_due(partition)
    receipt = partition.uploaded(work, PROBLEM, attempts=7)
    assert (receipt.status, receipt.problem, receipt.attempts) == (Status.FAILED, PROBLEM, 7)
    partition.published(work)
    assert record_closings(partition) == Commit(11, ())


def test_a_retrying_receipt_changes_nothing() -> None:
    partition = closed()
    work = one_due(partition)
    receipt = partition.retrying(work, PROBLEM, attempts=3)
    assert receipt.status is Status.RETRYING
    assert work.delivery.state is State.RECORDED
    assert partition.content(work) is not None


def test_the_bytes_are_freed_when_the_object_is_there() -> None:
    partition = closed()
    work = one_due(partition)
    before = partition.held_closed
    partition.uploaded(work, stored(partition.content(work) or b""), attempts=1)
    assert work.delivery.body is None
    assert partition.held_closed < before
    assert partition.content(work) is None


def test_a_window_without_lines_has_no_object_to_note() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1, "skip")), 2)
    partition.tick(MINUTE + 62, 11)
    work = one_due(partition)
    with pytest.raises(InvariantError, match="0 lines, but the upload: Stored"):
        partition.uploaded(work, stored(b""), attempts=1)
    assert work.delivery.state is State.RECORDED


def test_the_receipt_is_kept_until_it_is_published() -> None:
    partition = closed()
    work = one_due(partition)
    receipt = partition.uploaded(work, PROBLEM, attempts=1)
    assert work.delivery.receipt is receipt


def test_an_upload_cannot_be_noted_twice() -> None:
    partition = closed()
    work = one_due(partition)
    first = partition.uploaded(work, PROBLEM, attempts=1)
    held = partition.held_closed
    with pytest.raises(InvariantError, match="UPLOAD in state STORED"):
        partition.uploaded(work, stored(b""), attempts=2)
    assert work.delivery.receipt is first
    assert partition.held_closed == held


def test_a_receipt_cannot_be_published_before_the_upload() -> None:
    partition = closed()
    work = one_due(partition)
    with pytest.raises(InvariantError, match="PUBLISH in state RECORDED"):
        partition.published(work)
    assert len(work.window.deliveries) == 1
    assert partition.held_closed == held_closed(partition)


def test_a_receipt_cannot_be_published_twice() -> None:
    partition = closed()
    work = one_due(partition)
    settle(work)
    with pytest.raises(InvariantError, match="PUBLISH in state SETTLED"):
        partition.published(work)
    assert work.window.deliveries == {}
    assert partition.held_closed == 0


# --- rebalance (design 4.3) ---


def test_work_of_an_older_epoch_is_refused_and_changes_nothing() -> None:
    partition = closed()
    work = one_due(partition)
    partition.suspend(1)
    assert not work.valid
    held = partition.held_closed
    for act in (
        lambda: partition.content(work),
        lambda: partition.uploaded(work, PROBLEM, attempts=1),
        lambda: partition.retrying(work, PROBLEM, attempts=1),
        lambda: partition.published(work),
    ):
        with pytest.raises(FencedError, match="events/3: work of epoch 0, now 1"):
            act()
    assert work.delivery.state is State.RECORDED
    assert partition.held_closed == held


def test_suspended_work_that_was_not_given_out_is_void() -> None:
    partition = closed()
    record_closings(partition)
    partition.suspend(1)
    assert partition.delivery_tasks() == []


def test_a_partition_goes_on_when_the_commit_is_the_acknowledged_one() -> None:
    partition = closed()
    commit = record_closings(partition)
    partition.delivery_tasks()
    partition.suspend(1)
    assert partition.resume(1, commit)
    (work,) = partition.delivery_tasks()
    assert work.valid
    settle(work)
    assert record_closings(partition) == Commit(11, ())


def test_a_partition_goes_on_when_nothing_was_ever_committed() -> None:
    partition = fresh()
    collect(partition, batch(record(10, 1)), 2)
    partition.suspend(1)
    assert partition.resume(1, Commit(10, ()))
    assert partition.position == 11


def test_a_partition_goes_on_when_the_attempted_commit_has_arrived() -> None:
    partition = closed()
    commit = partition.to_commit()
    partition.suspend(1)
    assert partition.resume(1, commit)
    assert partition.acknowledged == commit
    (work,) = partition.delivery_tasks()
    assert work.epoch == 1
    settle(work)


def test_a_partition_goes_on_when_the_attempted_commit_was_lost() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 62, 11)
    attempted = partition.to_commit()
    partition.suspend(1)
    assert partition.resume(1, Commit(10, ()))
    assert partition.delivery_tasks() == [], "not recorded, so nothing may become visible"
    assert partition.to_commit() == attempted


def test_a_lost_attempt_is_forgotten() -> None:
    partition = fresh(Commit(10, ()))
    collect(partition, batch(record(10, 1)), 2)
    partition.tick(MINUTE + 62, 11)
    attempted = partition.to_commit()
    partition.suspend(1)
    partition.resume(1, Commit(10, ()))
    partition.suspend(2)
    assert not partition.resume(2, attempted), "somebody else wrote it"


@pytest.mark.parametrize(
    "read_back",
    [None, Commit(11, ()), Commit(10, (Closing(11, MINUTE + 63, MINUTE, settled=False),))],
)
def test_a_partition_that_another_owner_had_is_void(read_back: Commit | None) -> None:
    partition = closed()
    record_closings(partition)
    partition.suspend(1)
    assert not partition.resume(1, read_back)


def test_a_stored_delivery_is_due_again_with_its_receipt() -> None:
    partition = closed()
    commit = record_closings(partition)
    (old,) = partition.delivery_tasks()
    receipt = partition.uploaded(old, stored(partition.content(old) or b""), attempts=1)
    partition.suspend(1)
    partition.resume(1, commit)
    (work,) = partition.delivery_tasks()
    assert work.delivery.state is State.STORED
    assert work.delivery.receipt is receipt
    partition.published(work)
    assert record_closings(partition) == Commit(11, ())


def test_a_settled_delivery_is_not_due_again() -> None:
    partition = closed(2)
    record_closings(partition)
    _, newer = partition.delivery_tasks()
    settle(newer)
    commit = record_closings(partition)
    partition.suspend(1)
    partition.resume(1, commit)
    assert [work.window.first for work in partition.delivery_tasks()] == [10]


# --- parts that leave while the window is open (design 4.4) ---


def streaming(commit: Commit = AT_TEN) -> Partition:
    return Partition(EVENTS, STREAMING, 0, commit)


def grow(partition: Partition, size: int = 900, second: float = 2) -> None:
    """Collect one record with a payload of so many bytes, and compress what is due."""
    offset = partition.position
    collect(partition, batch(record(offset, 1, noise(size, offset))), second)
    compress(partition.window, second=second)


def one_stream(partition: Partition) -> PartUpload:
    (stream,) = partition.part_uploads()
    return stream


def send(stream: PartUpload, upload_id: str = "upload-1") -> bytes:
    """Let all parts of an object leave; return their contents, one behind the other."""
    partition, body, content = stream.partition, stream.delivery.content, b""
    if body.upload_id is None:
        partition.begun(stream, upload_id)
    for part in body.unsent:
        content += part.content or b""
        partition.sent(stream, part, f"part {part.number}")
    return content


def test_a_part_leaves_once() -> None:
    partition = streaming()
    grow(partition, 90)
    assert partition.part_uploads() == []
    grow(partition)
    stream = one_stream(partition)
    assert (stream.partition, stream.epoch, stream.valid) == (partition, 0, True)
    assert stream.delivery.destination == ORDERS
    assert partition.part_uploads() == []


def test_nothing_of_an_open_window_is_to_be_committed_or_delivered_because_parts_leave() -> None:
    partition = streaming()
    grow(partition)
    send(one_stream(partition))
    assert partition.to_commit() is None
    assert partition.delivery_tasks() == []


def test_the_closing_records_the_time_of_the_first_part() -> None:
    partition = streaming()
    grow(partition, second=7)
    stream = one_stream(partition)
    key = stream.delivery.key
    send(stream)
    partition.tick(MINUTE + 62, 11)
    assert partition.to_commit() == Commit(10, (Closing(11, MINUTE + 7, MINUTE, settled=False),))
    work = one_due(partition)
    assert work.delivery is stream.delivery
    assert work.window.closed_at == MINUTE + 7
    assert work.delivery.key == key == key_at(MINUTE + 7)


def key_at(closed_at: int) -> str:
    return object_key("test/", closed_at, identifier("events", 3, 10, closed_at, ORDERS.id))


def test_a_window_closed_by_a_record_keeps_the_time_of_its_first_part() -> None:
    partition = streaming()
    grow(partition, second=7)
    collect(partition, batch(record(11, 61)), 65)
    commit = partition.to_commit()
    assert commit is not None
    assert [it.closed_at for it in commit.closings] == [MINUTE + 7]


def test_the_next_window_takes_a_time_of_its_own() -> None:
    partition = streaming()
    grow(partition, second=7)
    collect(partition, batch(record(11, 61)), 65)
    partition.tick(MINUTE + 122, 12)
    commit = partition.to_commit()
    assert commit is not None
    assert [it.closed_at - MINUTE for it in commit.closings] == [7, 122]


@pytest.mark.parametrize("size", [90, 900])
def test_a_replay_goes_under_the_recorded_key_whenever_its_parts_leave(size: int) -> None:
    first = streaming()
    grow(first, second=7)
    first.tick(MINUTE + 62, 11)
    commit = first.to_commit()
    assert commit is not None
    replay = streaming(decode(commit.offset, encode(commit)))
    collect(replay, batch(record(10, 1, noise(size)), after=11), 86_400)
    (work,) = replay.delivery_tasks()
    assert work.delivery.key == key_at(MINUTE + 7)


def test_parts_of_a_replay_leave_under_the_recorded_key_before_its_end_is_read() -> None:
    closing = Closing(12, MINUTE + 7, MINUTE, settled=False)
    replay = streaming(Commit(10, (closing,)))
    grow(replay, second=86_400)
    stream = one_stream(replay)
    assert stream.delivery.key == key_at(MINUTE + 7)
    content = send(stream)
    collect(replay, batch(record(11, 1, "1")), 86_400)
    (work,) = replay.delivery_tasks()
    assert work.delivery is stream.delivery
    assert replay.content(work) == b""
    content += send(work)
    assert gzip.decompress(content).decode().split() == [noise(900, 10), "1"]


def test_an_object_in_parts_has_no_content_left_but_its_last_part() -> None:
    partition = streaming()
    grow(partition)
    stream = one_stream(partition)
    content = send(stream)
    partition.tick(MINUTE + 62, 11)
    work = one_due(partition)
    assert partition.content(work) == b""
    assert partition.held_closed == held_closed(partition)
    assert [part.number for part in work.delivery.content.unsent] == [2]
    content += send(work)
    assert gzip.decompress(content).decode() == noise(900, 10) + "\n"
    assert partition.held_closed == held_closed(partition)
    assert work.delivery.content.upload_id == "upload-1", "the same one"


def test_memory_is_what_is_not_sent() -> None:
    partition = streaming()
    grow(partition)
    assert partition.held_open == held_open(partition)
    stream = one_stream(partition)
    (part,) = stream.delivery.content.unsent
    before, size = partition.held_open, len(part.content or b"")
    partition.sent(stream, part, "stored")
    assert partition.held_open == held_open(partition) == before - size
    held = partition.held_open
    partition.sent(stream, part, "stored again")
    assert partition.held_open == held, "it was noted already"


def test_a_part_that_is_sent_after_the_closing_frees_memory_of_the_closed() -> None:
    partition = streaming()
    grow(partition)
    stream = one_stream(partition)
    partition.tick(MINUTE + 62, 11)
    before = partition.held_closed
    send(stream)
    assert partition.held_open == 0
    assert partition.held_closed == held_closed(partition) < before


def test_work_on_a_part_of_an_older_epoch_is_refused_and_changes_nothing() -> None:
    partition = streaming()
    grow(partition)
    stream = one_stream(partition)
    body, held = stream.delivery.content, partition.held_open
    (part,) = body.unsent
    partition.suspend(1)
    assert not stream.valid
    with pytest.raises(FencedError, match="events/3: work of epoch 0, now 1"):
        partition.begun(stream, "upload-1")
    with pytest.raises(FencedError, match="events/3: work of epoch 0, now 1"):
        partition.sent(stream, part, "stored")
    with pytest.raises(FencedError, match="events/3: work of epoch 0, now 1"):
        partition.stuck(stream)
    assert not body.is_stuck
    assert body.upload_id is None
    assert body.unsent == [part]
    assert part.stored is None
    assert partition.held_open == held
    assert partition.uploads() == []


def test_a_part_of_what_was_given_up_meanwhile_changes_nothing() -> None:
    partition = streaming()
    grow(partition)
    stream = one_stream(partition)
    (part,) = stream.delivery.content.unsent
    partition.tick(MINUTE + 62, 11)
    partition.uploaded(one_due(partition), PROBLEM, attempts=1)
    held = partition.held_closed
    with pytest.raises(FencedError, match="its bytes are gone"):
        partition.begun(stream, "upload-1")
    with pytest.raises(FencedError, match="its bytes are gone"):
        partition.sent(stream, part, "stored")
    with pytest.raises(FencedError, match="its bytes are gone"):
        partition.stuck(stream)
    assert partition.held_closed == held == held_closed(partition)
    assert partition.uploads() == []


def test_a_part_that_s3_did_not_take_is_stuck_until_one_is_sent() -> None:
    partition = streaming()
    grow(partition)
    stream = one_stream(partition)
    partition.stuck(stream)
    assert stream.delivery.content.is_stuck
    send(stream)
    assert not stream.delivery.content.is_stuck


def test_a_resumed_partition_gives_out_what_was_not_sent() -> None:
    partition = streaming()
    grow(partition)
    send(one_stream(partition))
    grow(partition)
    old = one_stream(partition)
    partition.suspend(1)
    assert partition.resume(1, AT_TEN)
    stream = one_stream(partition)
    assert stream.delivery is old.delivery
    assert (stream.epoch, stream.valid, old.valid) == (1, True, False)
    assert [part.number for part in stream.delivery.content.unsent] == [2]
    send(stream)
    assert stream.delivery.content.upload_id == "upload-1"


def test_a_resumed_partition_has_nothing_to_send_where_all_is_sent() -> None:
    partition = streaming()
    grow(partition)
    send(one_stream(partition))
    partition.suspend(1)
    partition.resume(1, AT_TEN)
    assert partition.part_uploads() == []


def test_a_part_of_a_resumed_window_is_given_out_once_though_nobody_had_taken_it() -> None:
    partition = streaming()
    grow(partition)
    partition.suspend(1)
    partition.resume(1, AT_TEN)
    one_stream(partition)
    assert partition.part_uploads() == []


def test_a_window_that_closed_meanwhile_leaves_by_its_delivery_alone() -> None:
    partition = streaming()
    grow(partition)
    partition.tick(MINUTE + 62, 11)
    commit = record_closings(partition)
    partition.suspend(1)
    partition.resume(1, commit)
    assert partition.part_uploads() == []
    assert len(partition.delivery_tasks()) == 1


def test_uploads_are_those_begun_and_not_ended() -> None:
    partition = streaming()
    grow(partition)
    assert partition.uploads() == []
    stream = one_stream(partition)
    send(stream, "upload-1")
    older = MultipartUpload(ORDERS, stream.delivery.key, "upload-1")
    assert partition.uploads() == [older]
    partition.tick(MINUTE + 62, 11)
    assert partition.uploads() == [older]
    offset = partition.position
    collect(partition, batch(record(offset, 61, noise(900))), 70)
    compress(partition.window, second=70)
    stream = one_stream(partition)
    send(stream, "upload-2")
    newer = MultipartUpload(ORDERS, stream.delivery.key, "upload-2")
    assert partition.uploads() == [newer, older]
    work = one_due(partition)
    partition.content(work)
    partition.uploaded(work, stored(b"x"), attempts=1)
    assert partition.uploads() == [newer]


def test_a_window_that_is_compressed_takes_no_batch() -> None:
    partition = streaming()
    collect(partition, batch(record(10, 1, noise(900))), 2)
    taken = partition.window.compressions()
    for act in (
        lambda: collect(partition, batch(record(11, 1)), 2),
        lambda: partition.close_early(MINUTE + 3),
        lambda: partition.skip_to(50),
    ):
        with pytest.raises(InvariantError, match="is changed while it is compressed"):
            act()
    partition.tick(MINUTE + 62, 11)
    assert (windows(partition), partition.position) == ([], 11)
    finish(partition, taken)
    partition.tick(MINUTE + 62, 11)
    assert windows(partition) == [(10, 11)]


def finish(partition: Partition, taken: list[BodyCompression]) -> None:
    for it in taken:
        it.compression.perform()
    partition.window.compressed(taken, MINUTE + 3)


def test_a_window_without_room_for_parts_ends_with_the_next_record() -> None:
    partition = streaming()
    for _ in range(FULL_PAYLOADS):
        grow(partition)
    assert windows(partition) == []
    grow(partition)
    assert windows(partition) == [(10, 10 + FULL_PAYLOADS)]


def test_an_object_has_no_more_parts_than_s3_takes() -> None:
    partition = streaming()
    for _ in range(40):
        grow(partition)
    partition.tick(MINUTE + 62, partition.position)
    record_closings(partition)
    works = partition.delivery_tasks()
    for work in works:
        partition.content(work)
        assert len(work.delivery.content.parts) <= TINY.parts_max
    assert len(works) == 40 // FULL_PAYLOADS


def test_the_smallest_parts_have_room_for_a_window_that_another_worker_ended() -> None:
    sizes = replace(TINY, parts_max=100)
    partition = Partition(EVENTS, replace(STREAMING, sizes=sizes), 0, AT_TEN)
    while not windows(partition):
        grow(partition)
    commit = record_closings(partition)
    assert commit is not None
    short = replace(STREAMING, sizes=replace(sizes, part=10_000))  # Of memory.
    replay = Partition(EVENTS, short, 0, commit)
    while not windows(replay):
        grow(replay)
        replay.cut_early(MINUTE + 3)
    record_closings(replay)
    (work,) = replay.delivery_tasks()
    replay.content(work)
    *parts, last = (len(part.content or b"") for part in work.delivery.content.parts)
    assert len(parts) > TINY.parts_max
    assert {*parts} == {TINY.part_min}
    assert last <= TINY.part_min


# --- broken invariants ---
