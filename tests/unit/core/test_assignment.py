from dataclasses import replace

import pytest

from stream_app.core.assignment import Assignment, MemoryAction
from stream_app.core.commit_metadata import CLOSING_BYTES_MAX, Closing, Commit
from stream_app.core.delivery import State
from stream_app.core.metadata_bound import LEARNED_SECONDS, size_of
from stream_app.core.partition import Partition
from stream_app.core.router import Router
from stream_app.core.tasks import PartUpload
from stream_app.errors import FencedError
from stream_app.records import GapError, TopicPartition
from tests.unit.core.builders import (
    EVERY,
    MINUTE,
    ORDERS,
    RULES,
    STREAMING,
    TINY,
    answer,
    batch,
    held_open,
    noise,
    record,
    settle,
    stored,
)

ONE, TWO = TopicPartition("events", 1), TopicPartition("events", 2)
MIB = 1024 * 1024


def holding(*tps: TopicPartition, memory_bytes_max: int = MIB) -> Assignment:
    """Return an assignment whose partitions begin at offset 10 and 20."""
    assignment = ours(*tps, memory_bytes_max=memory_bytes_max)
    for tp in tps:
        assignment.loaded(tp, 0, Commit(10 * tp.partition, ()))
    return assignment


def ours(*tps: TopicPartition, memory_bytes_max: int = MIB) -> Assignment:
    """Return an assignment whose partitions are still to be read back."""
    assignment = Assignment(RULES, memory_bytes_max)
    assignment.assigned(tps)
    return assignment


def feed(
    assignment: Assignment, tp: TopicPartition, offset: int, second: float, value: str = "1"
) -> None:
    fetched = batch(record(offset, second, value))
    answers = answer(fetched.records)  # type: ignore[arg-type] # they are samples
    assert assignment.collect(tp, assignment.epoch, fetched, answers, MINUTE + second) is None


def rebalance(assignment: Assignment, *tps: TopicPartition) -> None:
    assignment.revoked()
    assignment.assigned(tps)


def commit_all(assignment: Assignment) -> dict[TopicPartition, Commit]:
    commits = assignment.commits()
    assignment.recorded(commits)
    return commits


def relieve(assignment: Assignment, second: float) -> MemoryAction:
    """Return what the memory bound demands when what it wants compressed is compressed."""
    while True:
        relief = assignment.relieve(MINUTE + second)
        if relief is not MemoryAction.COMPRESS:
            return relief
        compress(assignment)


def compress(assignment: Assignment, tp: TopicPartition | None = None) -> int:
    """Compress as the shell does; return how many lots of lines that were."""
    taken = assignment.compressions(tp)
    for it in taken:
        it.perform()
    assignment.compressed(taken, MINUTE + 5)
    return sum(len(it.items) for it in taken)


def settle_all(assignment: Assignment) -> None:
    while commit_all(assignment) or assignment._suspended:
        for work in assignment.delivery_tasks():
            settle(work)


def kept(assignment: Assignment, tp: TopicPartition) -> Partition:
    return assignment.partitions[tp]


def test_windows_of_a_partition_without_a_commit_are_kept_through_a_rebalance() -> None:
    assignment = ours(ONE)
    assignment.loaded(ONE, 0, Commit(10, (), MINUTE, is_new=True))
    feed(assignment, ONE, 10, 1)
    rebalance(assignment, ONE)
    assert assignment.loaded(ONE, 1, Commit(10, (), MINUTE + 30, is_new=True))
    rebalance(assignment, ONE)
    assert not assignment.loaded(ONE, 2, Commit(11, (), MINUTE + 60, is_new=True)), "retention"


def test_a_new_partition_is_built_from_its_commit() -> None:
    assignment = ours(ONE)
    assert not assignment.loaded(ONE, 0, Commit(10, ()))
    assert kept(assignment, ONE).position == 10


def test_loading_twice_changes_nothing() -> None:
    assignment = holding(ONE)
    partition = kept(assignment, ONE)
    assert assignment.loaded(ONE, 0, Commit(99, ()))
    assert kept(assignment, ONE) is partition


def test_a_state_read_back_in_an_older_epoch_is_refused() -> None:
    assignment = ours(ONE)
    rebalance(assignment, ONE)
    with pytest.raises(FencedError, match="read back in epoch 0, now 1"):
        assignment.loaded(ONE, 0, Commit(10, ()))
    assert assignment.partitions == {}


def test_a_partition_that_is_not_ours_is_not_taken_into_service() -> None:
    assignment = ours(ONE)
    with pytest.raises(FencedError):
        assignment.loaded(TWO, 0, Commit(10, ()))
    assert assignment.partitions == {}


def test_what_is_ours_and_not_read_back_is_missing() -> None:
    assignment = ours(ONE, TWO)
    assert sorted(assignment.missing) == [ONE, TWO]
    assignment.loaded(ONE, 0, Commit(10, ()))
    assert assignment.missing == [TWO]
    assignment.forget(ONE)
    assert sorted(assignment.missing) == [ONE, TWO]
    assignment.revoked()
    assert assignment.missing == []


def test_records_of_the_present_generation_belong_to_the_present_epoch() -> None:
    assignment = ours(ONE)
    assignment.revoked()
    assignment.assigned([ONE], generation=7)
    assert assignment.epoch_of(7) == 1
    assert assignment.is_epoch(1)
    assert not assignment.is_epoch(0)


@pytest.mark.parametrize("generation", [None, 6])
def test_records_of_another_generation_are_refused(generation: int | None) -> None:
    assignment = ours(ONE)
    assignment.assigned([ONE], generation=7)
    with pytest.raises(FencedError, match=f"records of generation {generation}, now 7"):
        assignment.epoch_of(generation)


def test_no_records_are_taken_between_revocation_and_assignment() -> None:
    assignment = ours(ONE)
    assignment.assigned([ONE], generation=7)
    assignment.revoked()
    for generation in (7, None):
        with pytest.raises(FencedError):
            assignment.epoch_of(generation)


def test_lost_records_are_skipped_by_the_partition() -> None:
    assignment = ours(ONE)
    assignment.loaded(ONE, 0, Commit(10, ()))
    assert assignment.skip_to(ONE, 0, 25) == 15
    assignment.revoked()
    with pytest.raises(FencedError, match="records of epoch 0, now 1"):
        assignment.skip_to(ONE, 0, 30)


def test_a_revocation_takes_every_partition_out_of_service() -> None:
    assignment = holding(ONE, TWO)
    assignment.revoked()
    assert assignment.partitions == {}
    assert assignment.epoch == 1
    with pytest.raises(FencedError, match="records of epoch 0, now 1"):
        assignment.collect(ONE, 0, batch(record(1, 1)), [], MINUTE)


def test_a_batch_of_a_partition_that_is_not_loaded_is_refused() -> None:
    with pytest.raises(FencedError, match="records of epoch 0, now 0"):
        ours(ONE).collect(ONE, 0, batch(record(1, 1)), [], MINUTE)


def test_a_batch_of_an_older_epoch_is_refused_though_the_partition_came_back() -> None:
    assignment = holding(ONE)
    rebalance(assignment, ONE)
    assignment.loaded(ONE, 1, Commit(10, ()))
    with pytest.raises(FencedError):
        assignment.collect(ONE, 0, batch(record(1, 1)), [], MINUTE)
    assert kept(assignment, ONE).position == 10


def test_a_gap_is_raised_by_the_partition() -> None:
    assignment = ours(ONE)
    assignment.loaded(ONE, 0, Commit(10, ()))
    with pytest.raises(GapError):
        assignment.collect(ONE, 0, batch(record(11, 1)), [], MINUTE)


def test_a_retained_partition_keeps_its_window() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    partition = kept(assignment, ONE)
    rebalance(assignment, ONE)
    assert assignment.loaded(ONE, 1, Commit(10, ()))
    assert kept(assignment, ONE) is partition
    feed(assignment, ONE, 11, 2)


def test_a_partition_that_another_worker_had_is_built_anew() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    rebalance(assignment, ONE)
    assert not assignment.loaded(ONE, 1, Commit(11, ()))
    assert kept(assignment, ONE).position == 11
    assert assignment.held == 0


def test_a_partition_that_did_not_come_back_is_forgotten() -> None:
    assignment = holding(ONE, TWO)
    feed(assignment, ONE, 10, 1)
    rebalance(assignment, TWO)
    assert assignment.held == 0
    rebalance(assignment, ONE, TWO)
    assert not assignment.loaded(ONE, 2, Commit(10, ()))


def test_windows_survive_two_revocations_in_a_row() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    rebalance(assignment, ONE)
    rebalance(assignment, ONE)
    assert assignment.loaded(ONE, 2, Commit(10, ()))
    assert kept(assignment, ONE).position == 11


def test_a_forgotten_partition_is_built_from_its_commit_again() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    assignment.forget(ONE)
    assert assignment.held == 0
    assert not assignment.loaded(ONE, 0, Commit(10, ()))
    assert kept(assignment, ONE).position == 10


def test_work_of_a_forgotten_partition_is_void() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    assignment.tick(MINUTE + 62, {ONE: 11})
    commit_all(assignment)
    (work,) = assignment.delivery_tasks()
    assignment.forget(ONE)
    with pytest.raises(FencedError):
        work.partition.uploaded(work, stored(b""), attempts=1)
    assert work.delivery.state is State.RECORDED


def test_forgetting_what_is_not_held_does_nothing() -> None:
    assignment = holding(ONE)
    assignment.forget(TWO)
    assert list(assignment.partitions) == [ONE]


def test_a_tick_closes_only_the_partitions_that_are_idle_at_their_end() -> None:
    assignment = holding(ONE, TWO)
    feed(assignment, ONE, 10, 1)
    feed(assignment, TWO, 20, 1)
    assignment.tick(MINUTE + 62, {ONE: 11})
    assert list(assignment.commits()) == [ONE]
    assignment.tick(MINUTE + 63, {ONE: 11, TWO: 21})
    assert assignment.commits() == {
        ONE: Commit(10, (Closing(11, MINUTE + 62, MINUTE, settled=False),)),
        TWO: Commit(20, (Closing(21, MINUTE + 63, MINUTE, settled=False),)),
    }


def test_confirmed_closings_make_work_due() -> None:
    assignment = holding(ONE, TWO)
    feed(assignment, ONE, 10, 1)
    feed(assignment, TWO, 20, 1)
    assignment.tick(MINUTE + 62, {ONE: 11, TWO: 21})
    commit_all(assignment)
    assert [work.partition.tp for work in assignment.delivery_tasks()] == [ONE, TWO]
    assert assignment.delivery_tasks() == []


def test_a_confirmation_after_a_revocation_is_not_used() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    assignment.tick(MINUTE + 62, {ONE: 11})
    commits = assignment.commits()
    rebalance(assignment, ONE)
    assignment.loaded(ONE, 1, Commit(10, ()))
    assignment.recorded(commits)
    assert assignment.delivery_tasks() == []


def test_a_confirmation_for_a_partition_that_is_not_held_is_passed_over() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    assignment.tick(MINUTE + 62, {ONE: 11})
    commits = assignment.commits()
    assignment.forget(ONE)
    assignment.recorded(commits)
    assert assignment.delivery_tasks() == []


def test_suspended_windows_count_as_held() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    held = assignment.held
    assert held > 0
    assignment.revoked()
    assert assignment.held == held


def test_memory_is_given_back_when_all_is_settled() -> None:
    assignment = holding(ONE, TWO)
    feed(assignment, ONE, 10, 1)
    feed(assignment, TWO, 20, 1)
    assignment.tick(MINUTE + 62, {ONE: 11, TWO: 21})
    settle_all(assignment)
    assert assignment.held == 0
    assert assignment.commits() == {}


# --- the memory bound (design 4.4) ---


def test_below_the_bound_the_next_batch_is_taken() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    assert relieve(assignment, 2) is MemoryAction.GO
    assert assignment.commits() == {}


def test_at_the_bound_the_largest_open_window_is_closed_early() -> None:
    assignment = holding(ONE, TWO, memory_bytes_max=7000)
    feed(assignment, ONE, 10, 1, noise(2000))
    feed(assignment, TWO, 20, 1, noise(5000))
    assert relieve(assignment, 2) is MemoryAction.WAIT
    assert list(assignment.commits()) == [TWO]
    assert kept(assignment, ONE).held_open > 0


def test_closed_windows_that_hold_the_memory_are_waited_for() -> None:
    assignment = holding(ONE, TWO, memory_bytes_max=8000)
    feed(assignment, ONE, 10, 1, noise(7000))
    kept(assignment, ONE).close_early(MINUTE + 2)
    feed(assignment, TWO, 20, 1)
    assert relieve(assignment, 2) is MemoryAction.WAIT
    assert list(assignment.commits()) == [ONE], "the small open window stays open"


def test_open_windows_that_hold_half_the_memory_are_not_left_to_grow() -> None:
    assignment = holding(ONE, TWO, memory_bytes_max=7500)
    feed(assignment, ONE, 10, 1, noise(3500))
    kept(assignment, ONE).close_early(MINUTE + 2)
    feed(assignment, TWO, 20, 1, noise(3500))
    assert relieve(assignment, 2) is MemoryAction.WAIT
    assert list(assignment.commits()) == [ONE, TWO]


def test_the_next_batch_is_taken_once_the_closed_windows_have_gone() -> None:
    assignment = holding(ONE, memory_bytes_max=4000)
    feed(assignment, ONE, 10, 1, noise(4000))
    assert relieve(assignment, 2) is MemoryAction.WAIT
    settle_all(assignment)
    assert relieve(assignment, 2) is MemoryAction.GO


def test_a_window_whose_end_is_recorded_is_not_closed_early() -> None:
    assignment = ours(ONE, memory_bytes_max=4000)
    closing = Closing(12, MINUTE + 62, MINUTE, settled=False)
    assignment.loaded(ONE, 0, Commit(10, (closing,)))
    feed(assignment, ONE, 10, 1, noise(5000))
    # Its end comes with more records only, so waiting would never end.
    assert relieve(assignment, 100) is MemoryAction.GO
    feed(assignment, ONE, 11, 1)
    assert [work.window.end for work in assignment.delivery_tasks()] == [12]


def test_the_next_largest_is_closed_when_the_largest_may_not() -> None:
    assignment = ours(ONE, TWO, memory_bytes_max=6000)
    closing = Closing(12, MINUTE + 62, MINUTE, settled=False)
    assignment.loaded(ONE, 0, Commit(10, (closing,)))
    assignment.loaded(TWO, 0, Commit(20, ()))
    feed(assignment, ONE, 10, 1, noise(5000))
    feed(assignment, TWO, 20, 1)
    assert relieve(assignment, 2) is MemoryAction.WAIT
    assert list(assignment.commits()) == [TWO]


def test_a_window_that_holds_nothing_is_not_closed_early() -> None:
    assignment = ours(ONE, TWO, memory_bytes_max=4000)
    closing = Closing(12, MINUTE + 62, MINUTE, settled=False)
    assignment.loaded(ONE, 0, Commit(10, (closing,)))
    assignment.loaded(TWO, 0, Commit(20, ()))
    feed(assignment, ONE, 10, 1, noise(5000))
    unmatched = batch(record(20, 1, key=b"signups"))
    assert assignment.collect(TWO, 0, unmatched, [], MINUTE + 1) is None
    assert relieve(assignment, 2) is MemoryAction.GO
    assert assignment.commits() == {}


# --- Parts that leave open windows, and memory --------------------------------------------------


def streaming(*tps: TopicPartition, memory_bytes_max: int = MIB) -> Assignment:
    """Return an assignment whose parts are tiny; partitions begin at offset 10 and 20."""
    assignment = Assignment(STREAMING, memory_bytes_max)
    assignment.assigned(tps)
    for tp in tps:
        assignment.loaded(tp, 0, Commit(10 * tp.partition, ()))
    return assignment


def grow(assignment: Assignment, tp: TopicPartition, size: int = 900) -> None:
    """Collect one record with a payload of so many bytes, and compress what is due."""
    offset = kept(assignment, tp).position
    feed(assignment, tp, offset, 1, noise(size, offset))
    compress(assignment, tp)


def send(stream: PartUpload) -> None:
    if stream.delivery.content.upload_id is None:
        stream.partition.begun(stream, f"upload of {stream.partition.tp.partition}")
    for part in stream.delivery.content.unsent:
        stream.partition.sent(stream, part, None)


def test_parts_leave_each_partition_once() -> None:
    assignment = streaming(ONE, TWO)
    assert assignment.part_uploads() == []
    grow(assignment, ONE)
    grow(assignment, TWO)
    assert [it.partition.tp for it in assignment.part_uploads()] == [ONE, TWO]
    assert assignment.part_uploads() == []


def test_full_slices_of_one_partition_are_compressed_alone() -> None:
    assignment = streaming(ONE, TWO)
    feed(assignment, ONE, 10, 1, noise(900))
    feed(assignment, TWO, 20, 1, noise(900))
    (taken,) = assignment.compressions(ONE)
    assert taken.partition is kept(assignment, ONE)
    assert assignment.compressions(ONE) == []


def test_nothing_is_compressed_for_a_partition_that_is_not_held() -> None:
    assignment = streaming(ONE)
    assert assignment.compressions(TWO) == []


def test_what_is_compressed_changes_the_memory() -> None:
    assignment = streaming(ONE)
    feed(assignment, ONE, 10, 1, "x" * 50_000)
    before = assignment.held
    compress(assignment, ONE)
    assert assignment.held == held_open(kept(assignment, ONE)) < before // 2


def test_what_is_compressed_for_a_forgotten_partition_counts_for_nothing() -> None:
    assignment = streaming(ONE)
    feed(assignment, ONE, 10, 1, noise(900))
    taken = assignment.compressions()
    assignment.forget(ONE)
    assignment.loaded(ONE, 0, Commit(10, ()))
    for it in taken:
        it.perform()
    assignment.compressed(taken, MINUTE + 5)
    assert assignment.held == 0
    assert assignment.part_uploads() == []
    assert kept(assignment, ONE).window.busy == 0
    assert taken[0].window.busy == 0


def test_what_is_compressed_during_a_rebalance_leaves_when_the_partition_is_kept() -> None:
    assignment = streaming(ONE)
    feed(assignment, ONE, 10, 1, noise(900))
    taken = assignment.compressions()
    rebalance(assignment, ONE)
    for it in taken:
        it.perform()
    assignment.compressed(taken, MINUTE + 5)
    assert assignment.part_uploads() == []
    assert assignment.loaded(ONE, 1, Commit(10, ()))
    assert assignment.held == held_open(kept(assignment, ONE))
    (stream,) = assignment.part_uploads()
    assert stream.valid
    send(stream)


def test_a_suspended_partition_gives_no_part_out() -> None:
    assignment = streaming(ONE)
    grow(assignment, ONE)
    assignment.revoked()
    assert assignment.part_uploads() == []
    assignment.assigned([ONE])
    assert assignment.part_uploads() == []
    assignment.loaded(ONE, 1, Commit(10, ()))
    assert [it.epoch for it in assignment.part_uploads()] == [1]


def test_a_part_that_is_sent_frees_memory() -> None:
    assignment = streaming(ONE)
    grow(assignment, ONE)
    before = assignment.held
    (stream,) = assignment.part_uploads()
    send(stream)
    assert assignment.held == held_open(kept(assignment, ONE)) < before


def test_a_forgotten_partition_abandons_its_uploads_once() -> None:
    assignment = streaming(ONE, TWO)
    grow(assignment, ONE)
    grow(assignment, TWO)
    for stream in assignment.part_uploads():
        send(stream)
    assert assignment.abandoned() == []
    (upload,) = kept(assignment, ONE).uploads()
    assignment.forget(ONE)
    assert assignment.abandoned() == [upload]
    assert upload.id == "upload of 1"
    assert assignment.abandoned() == []


def test_a_partition_that_went_to_another_worker_abandons_its_uploads() -> None:
    assignment = streaming(ONE, TWO)
    grow(assignment, ONE)
    grow(assignment, TWO)
    for stream in assignment.part_uploads():
        send(stream)
    rebalance(assignment, TWO)
    assert [it.id for it in assignment.abandoned()] == ["upload of 1"], "it did not come back"
    assert not assignment.loaded(TWO, 1, Commit(21, ()))
    assert [it.id for it in assignment.abandoned()] == ["upload of 2"], "another worker had it"


def test_a_partition_that_is_kept_abandons_nothing() -> None:
    assignment = streaming(ONE)
    grow(assignment, ONE)
    for stream in assignment.part_uploads():
        send(stream)
    rebalance(assignment, ONE)
    assert assignment.loaded(ONE, 1, Commit(10, ()))
    assert assignment.abandoned() == []


def test_lines_that_hold_a_quarter_of_the_memory_are_compressed_first() -> None:
    assignment = streaming(ONE, memory_bytes_max=4000)
    feed(assignment, ONE, 10, 1, noise(4000))
    assert assignment.relieve(MINUTE + 2) is MemoryAction.COMPRESS
    assert assignment.commits() == {}
    compress(assignment)
    assert assignment.relieve(MINUTE + 2) is not MemoryAction.COMPRESS


def test_less_lines_than_a_quarter_are_not_worth_compressing() -> None:
    assignment = streaming(ONE, memory_bytes_max=4000)
    grow(assignment, ONE, 3500)
    for stream in assignment.part_uploads():
        stream.delivery.content.is_stuck = True
    feed(assignment, ONE, 11, 1, noise(900))
    assert kept(assignment, ONE).window.memory.compressible * 4 < 4000
    assert assignment.relieve(MINUTE + 2) is MemoryAction.WAIT
    assert list(assignment.commits()) == [ONE]


def test_parts_under_way_are_waited_for_before_anything_is_closed() -> None:
    assignment = streaming(ONE, memory_bytes_max=4000)
    grow(assignment, ONE, 4000)
    (stream,) = assignment.part_uploads()
    assert assignment.relieve(MINUTE + 2) is MemoryAction.WAIT
    assert assignment.commits() == {}
    send(stream)
    assert assignment.relieve(MINUTE + 2) is MemoryAction.GO
    assert assignment.commits() == {}


def test_parts_that_are_stuck_are_not_waited_for() -> None:
    assignment = streaming(ONE, memory_bytes_max=4000)
    grow(assignment, ONE, 4000)
    (stream,) = assignment.part_uploads()
    stream.delivery.content.is_stuck = True
    assert assignment.relieve(MINUTE + 2) is MemoryAction.WAIT
    assert list(assignment.commits()) == [ONE], "closed early: the closing can give it up"


def test_parts_are_cut_early_before_anything_is_closed() -> None:
    sizes = replace(TINY, part=10_000)
    assignment = Assignment(replace(STREAMING, sizes=sizes), 4000)
    assignment.assigned([ONE, TWO])
    assignment.loaded(ONE, 0, Commit(10, ()))
    assignment.loaded(TWO, 0, Commit(20, ()))
    grow(assignment, ONE, 800)
    grow(assignment, TWO, 3000)
    assert assignment.part_uploads() == []
    assert relieve(assignment, 2) is MemoryAction.WAIT
    (stream,) = assignment.part_uploads()
    assert stream.partition.tp == TWO, "the largest"
    assert assignment.commits() == {}
    send(stream)
    assert relieve(assignment, 2) is MemoryAction.GO


def test_a_window_with_too_little_for_a_part_is_closed_early() -> None:
    sizes = replace(TINY, part=10_000, part_min=9_000)
    assignment = Assignment(replace(STREAMING, sizes=sizes), 4000)
    assignment.assigned([ONE])
    assignment.loaded(ONE, 0, Commit(10, ()))
    grow(assignment, ONE, 5000)
    assert relieve(assignment, 2) is MemoryAction.WAIT
    assert list(assignment.commits()) == [ONE]


def test_nothing_is_asked_of_open_windows_while_closed_ones_hold_the_memory() -> None:
    assignment = streaming(ONE, TWO, memory_bytes_max=8000)
    feed(assignment, ONE, 10, 1, noise(7000))
    kept(assignment, ONE).close_early(MINUTE + 2)
    feed(assignment, TWO, 20, 1, noise(2500))
    window = kept(assignment, TWO).window
    assert window.memory.compressible * 4 >= 8000
    assert assignment.relieve(MINUTE + 2) is MemoryAction.WAIT
    assert (window.memory.compressible, window.busy, window.deliveries[0].content.parts) == (
        2501,
        0,
        [],
    )
    assert list(assignment.commits()) == [ONE]


def test_memory_is_relieved_step_by_step_and_never_in_circles() -> None:
    assignment = streaming(ONE, TWO, memory_bytes_max=6000)
    seen = []
    for _ in range(30):
        for tp in (ONE, TWO):
            feed(assignment, tp, kept(assignment, tp).position, 1, noise(400, len(seen)))
        for _ in range(20):
            relief = assignment.relieve(MINUTE + 2)
            seen.append(relief)
            if relief is MemoryAction.GO:
                break
            if relief is MemoryAction.COMPRESS:
                compress(assignment)
                continue
            for stream in assignment.part_uploads():
                send(stream)
            settle_all(assignment)
        assert relief is MemoryAction.GO
        assert assignment.held < 6000 + 2 * 2000
    assert {MemoryAction.COMPRESS, MemoryAction.WAIT} <= set(seen)


# --- Windows of broken destinations -----------------------------------------------------------


def close_window(assignment: Assignment, tp: TopicPartition, offset: int, value: str) -> None:
    """Close a window with one record at two destinations, and record it."""
    fetched = batch(record(offset, 1, value))
    answers = answer(fetched.records, ORDERS, EVERY)  # type: ignore[arg-type] # they are samples
    assert assignment.collect(tp, assignment.epoch, fetched, answers, MINUTE + offset) is None
    assert kept(assignment, tp).close_early(MINUTE + offset)
    commit_all(assignment)


def shed_ends(assignment: Assignment) -> list[tuple[str, int]]:
    """Return the destination and upload second of what is given up."""
    return [
        (delivery.destination.id, closed_at - MINUTE)
        for partition in assignment.partitions.values()
        for closed_at, delivery in partition.waiting()
        if delivery.is_dropped
    ]


def test_oldest_windows_beyond_the_share_of_a_broken_destination_are_shed() -> None:
    assignment = holding(ONE, TWO, memory_bytes_max=20_000)
    close_window(assignment, ONE, 10, "x" * 3000)
    close_window(assignment, TWO, 20, "x" * 3000)
    close_window(assignment, ONE, 11, "x" * 3000)
    # Each takes 4 KB at each of the two destinations, and a destination's share is 10 KB.
    assert assignment.drop_windows({EVERY.id}, destinations=2)
    assert shed_ends(assignment) == [(EVERY.id, 10)]
    assert not assignment.drop_windows({EVERY.id}, destinations=2), "once is enough"


def test_nothing_is_shed_while_no_destination_is_broken() -> None:
    assignment = holding(ONE, memory_bytes_max=1)
    close_window(assignment, ONE, 10, "x")
    assert not assignment.drop_windows((), destinations=2)


def test_nothing_is_shed_while_half_of_the_memory_is_free() -> None:
    assignment = holding(ONE, memory_bytes_max=80_000)
    for offset in (10, 11):
        close_window(assignment, ONE, offset, "x" * 3000)
    assert not assignment.drop_windows({EVERY.id}, destinations=20)


def test_window_that_is_not_recorded_is_not_shed() -> None:
    assignment = holding(ONE, memory_bytes_max=1000)
    feed(assignment, ONE, 10, 1, "x" * 3000)
    kept(assignment, ONE).close_early(MINUTE + 2)
    assert not assignment.drop_windows({ORDERS.id}, destinations=2)


def test_oldest_window_of_a_broken_destination_is_shed_where_no_more_can_be_closed() -> None:
    rules = replace(RULES, metadata_bytes_max=4 * CLOSING_BYTES_MAX)
    assignment = Assignment(rules, MIB)
    assignment.assigned([ONE])
    assignment.loaded(ONE, 0, Commit(10, ()))
    offset = 10
    while not kept(assignment, ONE).full:
        assert not assignment.drop_windows({EVERY.id}, destinations=2)
        close_window(assignment, ONE, offset, "x")
        offset += 1
    assert assignment.drop_windows({EVERY.id}, destinations=2)
    assert shed_ends(assignment) == [(EVERY.id, 10)]
    assert not assignment.drop_windows({EVERY.id}, destinations=2)


def test_partition_full_of_others_windows_sheds_none() -> None:
    rules = replace(RULES, metadata_bytes_max=2 * CLOSING_BYTES_MAX)
    assignment = Assignment(rules, MIB)
    assignment.assigned([ONE])
    assignment.loaded(ONE, 0, Commit(10, ()))
    offset = 10
    while not kept(assignment, ONE).full:
        feed(assignment, ONE, offset, 1)
        kept(assignment, ONE).close_early(MINUTE + 2)
        commit_all(assignment)
        offset += 1
    assert not assignment.drop_windows({EVERY.id}, destinations=2)


# --- the bound of the metadata ------------------------------------------------------------------


def closed_windows(assignment: Assignment, tp: TopicPartition, count: int) -> None:
    """Close so many windows, of which none is recorded."""
    for _ in range(count):
        feed(assignment, tp, kept(assignment, tp).position, 1)
        assert kept(assignment, tp).close_early(MINUTE + 2)


def test_a_refused_commit_lowers_the_bound_of_every_partition() -> None:
    assignment = holding(ONE, TWO)
    closed_windows(assignment, ONE, 100)
    closed_windows(assignment, TWO, 1)
    commits = assignment.commits()
    size = size_of(commits[ONE])
    assignment.metadata_refused(commits)
    assert assignment.metadata.bytes_max == size // 2
    smaller = assignment.commits()
    assert size_of(smaller[ONE]) <= size // 2
    assert smaller[TWO] == commits[TWO]
    assert kept(assignment, ONE).full
    assert not kept(assignment, TWO).full


def test_commits_that_had_no_room_are_due_again_when_the_refusal_is_long_ago() -> None:
    assignment = holding(ONE)
    closed_windows(assignment, ONE, 100)
    whole = assignment.commits()
    assignment.metadata_refused(whole)
    commit_all(assignment)
    assignment.tick(MINUTE, {})
    assert assignment.commits() == {}
    assignment.tick(MINUTE + LEARNED_SECONDS, {})
    assert assignment.commits() == whole


def test_a_refusal_that_comes_after_a_revocation_counts_as_well() -> None:
    assignment = holding(ONE)
    closed_windows(assignment, ONE, 100)
    commits = assignment.commits()
    assignment.revoked()
    assignment.metadata_refused(commits)
    assert assignment.metadata.is_learned


def test_a_request_takes_so_many_closings_and_the_next_one_the_other_partitions() -> None:
    tps = [TopicPartition("events", it) for it in range(40)]
    assignment = holding(*tps)
    for tp in tps:
        closed_windows(assignment, tp, 300)  # a request ends after the 34th partition
    assert list(assignment.commits()) == tps[:34]
    second = assignment.commits()  # the first one failed
    assert list(second) == [*tps[34:], *tps[:28]]
    assignment.recorded(second)
    assert list(assignment.commits()) == tps[28:34]


# --- Costs that do not grow with the number of partitions ---------------------------------------


def test_a_partition_that_is_not_in_service_has_the_newest_destinations() -> None:
    assignment, old, new = holding(ONE), Router(()), Router(())
    feed(assignment, ONE, 10, 1)
    assert assignment.router(ONE, old) is old
    assert assignment.router(ONE, new) is old
    assert assignment.router(TWO, new) is new


def test_only_partitions_that_changed_are_examined() -> None:
    assignment = holding(ONE, TWO)
    assert (assignment.commits(), assignment.delivery_tasks()) == ({}, [])
    feed(assignment, ONE, 10, 1)
    feed(assignment, TWO, 20, 1)
    assert assignment._with_tasks == assignment._with_commits == {}, "lines make nothing due"
    feed(assignment, TWO, 21, 61)
    assert list(assignment._with_tasks) == list(assignment._with_commits) == [TWO]


def test_commit_without_a_confirmation_is_asked_for_again() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    assignment.tick(MINUTE + 62, {ONE: 11})
    assert assignment.commits() == assignment.commits() != {}


def test_late_call_on_a_forgotten_partition_counts_for_nothing() -> None:
    assignment = holding(ONE)
    feed(assignment, ONE, 10, 1)
    old = kept(assignment, ONE)
    assignment.forget(ONE)
    assignment.loaded(ONE, 0, Commit(10, ()))
    old.close_early(MINUTE + 2)
    assert assignment.held == 0
    assert assignment.commits() == {}
