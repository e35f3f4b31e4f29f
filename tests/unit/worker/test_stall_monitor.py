"""The stall monitor beside a consumer that does not fetch, and whose broker may be away."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import tuples
from mode import Service

from stream_app.config.settings import S3, Delivery, Kafka, Settings
from stream_app.core.assignment import Assignment
from stream_app.core.commit_metadata import Closing, Commit
from stream_app.core.progress_watchdog import (
    BATCH_SECONDS_MAX,
    SEEKS_MAX,
    STALL_SECONDS,
    WATCH_SECONDS,
    Standstill,
)
from stream_app.core.router import Router
from stream_app.core.undecodable import UndecodableWait
from stream_app.errors import FencedError, StalledError, TransientError
from stream_app.kafka.partition_leader import Fetched
from stream_app.monitoring.counts import Counts
from stream_app.monitoring.health import Progress
from stream_app.records import Batch, TopicPartition, Undecodable
from stream_app.worker.collector import Collector
from stream_app.worker.committer import Committer
from stream_app.worker.stall_monitor import StallMonitor
from tests.unit.core.builders import MINUTE, RULES

TP = TopicPartition("events", 3)
SEEK_TICKS = round(STALL_SECONDS / WATCH_SECONDS)


class Consumer:
    """What the monitor asks of a consumer that has fetched up to the end, and lost it."""

    is_full = False
    flow_active = True

    def __init__(self) -> None:
        self.sought: list[tuple[TopicPartition, int]] = []
        self.paused: list[TopicPartition] = []
        self.start: int | None = 0
        self.ends: dict[TopicPartition, int] = {TP: 15}
        """As the client knows them."""
        self.log_end = 15
        self.refusal: str | None = None
        self.is_assigned = True
        self.waits: set[TopicPartition] = set()
        self.read: Callable[[], Awaitable[object]] = asyncio.Event().wait

    async def read_commits(self, _: object) -> dict[TopicPartition, Commit]:
        await self.read()
        return {}

    def waiting(self) -> set[TopicPartition]:
        return self.waits

    def ends_seen(self) -> dict[TopicPartition, int]:
        return self.ends

    async def log_starts(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.start is None:
            raise TransientError("KafkaConnectionError", "away")
        return dict.fromkeys(tps, self.start)

    async def fetched(self, _: TopicPartition, offset: int) -> Fetched:
        assert offset == 10
        return Fetched(None if self.refusal else self.log_end, self.refusal)

    async def log_bounds(self, tps: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return {tp: (0, self.ends[tp]) for tp in tps}

    async def pause(self, tp: TopicPartition) -> None:
        self.paused.append(tp)

    async def seek_to(self, tp: TopicPartition, offset: int) -> None:
        if not self.is_assigned:
            raise FencedError("not assigned any more")
        self.sought.append((tp, offset))


class Ticks(Service):
    """A service that only lets others run when it sleeps, and ends after so many checks."""

    left = 0

    def __init__(self, monitored: "Monitored") -> None:
        super().__init__()
        self._monitored = monitored

    async def sleep(self, n: Any, **_: Any) -> None:
        await asyncio.sleep(0)
        self._monitored.now += n
        self.left -= 1
        if self.left < 0:
            self._stopped.set()


class Monitored:
    """A monitor of one partition that stands at offset 10."""

    def __init__(self) -> None:
        self.consumer = Consumer()
        settings = Settings(Kafka(), S3(), Delivery(), ())
        app = cast("Any", SimpleNamespace(consumer=self.consumer, settings=settings))
        self.assignment = Assignment(RULES, 1 << 20)
        self.assignment.assigned([TP], 1)
        self.assignment.loaded(TP, self.assignment.epoch, Commit(10, ()))
        self.counts = Counts()
        self.progress, nothing = Progress(), cast("Any", None)
        self.committer = Committer(app, self.assignment, self.counts, self.progress, lambda: None)
        self.collector = Collector(
            *(app, self.assignment, self.committer, Router(()), self.counts),
            start_due=lambda: None,
            wait=nothing,
        )
        self.now = 0.0
        self.monitor = StallMonitor(
            *(app, self.assignment, self.collector, self.committer, self.counts),
            progress=self.progress,
            clock=lambda: self.now,
        )

    def tick(self, times: int) -> None:
        asyncio.run(self.ticks(times))

    async def ticks(self, times: int) -> None:
        service = Ticks(self)
        service.left = times
        await self.monitor.run(service)


@pytest.fixture
def monitored() -> Monitored:
    return Monitored()


def test_batch_that_was_lost_without_a_further_record_is_fetched_again(
    monitored: Monitored,
) -> None:
    monitored.tick(SEEK_TICKS + 1)
    assert monitored.consumer.sought == [(TP, 10)]
    assert monitored.counts.stalled_partitions == 1


def test_log_that_ends_before_what_was_read_is_found_without_an_error_of_the_broker(
    monitored: Monitored,
) -> None:
    monitored.consumer.ends = {TP: 8}
    monitored.tick(2)
    assert monitored.assignment.partitions[TP].is_truncated
    assert monitored.consumer.paused == [TP]
    assert monitored.counts.truncated_logs == 1


def test_partition_that_seeks_do_not_help_ends_the_worker(monitored: Monitored) -> None:
    with pytest.raises(StalledError, match=r"events/3 stands at offset 10 of 15, Kafka answers"):
        monitored.tick(SEEK_TICKS * (SEEKS_MAX + 2))
    assert len(monitored.consumer.sought) == SEEKS_MAX


def test_partition_that_kafka_does_not_answer_for_ends_no_worker(monitored: Monitored) -> None:
    monitored.consumer.start = None
    monitored.tick(SEEK_TICKS * (SEEKS_MAX + 5))
    assert len(monitored.consumer.sought) > SEEKS_MAX


def test_partition_whose_unread_records_are_all_deleted_moves_to_the_start_of_its_log(
    monitored: Monitored,
) -> None:
    monitored.consumer.start = 15
    monitored.tick(SEEK_TICKS + 1)
    assert monitored.consumer.sought == [(TP, 15)]
    assert monitored.assignment.partitions[TP].position == 15
    assert monitored.counts.lost_offsets == 5


def test_partition_that_is_taken_away_meanwhile_is_left_alone(monitored: Monitored) -> None:
    monitored.consumer.is_assigned = False
    monitored.tick(SEEK_TICKS + 1)
    assert monitored.consumer.sought == []


REFUSAL = "CorruptRecordException: its length is damaged on the broker's disk"


@pytest.mark.parametrize("ends", [{TP: 15}, {}], ids=["was fetched before", "never fetched"])
def test_batch_that_the_broker_cannot_read_holds_its_partition_alone(
    monitored: Monitored, ends: dict[TopicPartition, int], caplog: pytest.LogCaptureFixture
) -> None:
    monitored.consumer.ends, monitored.consumer.refusal = ends, REFUSAL
    monitored.tick(SEEK_TICKS * (SEEKS_MAX + 3))
    assert monitored.assignment.waits[TP].batch == Undecodable(10, None, REFUSAL)
    assert monitored.progress.standstills == {}, "the wait is the reason"
    assert (monitored.consumer.sought, monitored.counts.stalled_partitions) == ([], 0)
    assert set(monitored.consumer.paused) == {TP}, "the client would ask again at once"
    (event,) = [it for it in caplog.records if it.levelname == "ERROR"]
    assert "events/3 waits: the record batch with offsets 10 to an unknown end cannot be " in (
        event.getMessage()
    )

    monitored.consumer.refusal = None  # another replica leads
    monitored.tick(SEEK_TICKS)
    assert monitored.consumer.sought == [(TP, 10)]


def test_window_that_was_recorded_is_passed_over_where_the_broker_cannot_read_it(
    monitored: Monitored,
) -> None:
    monitored.assignment.forget(TP)
    closing = Closing(13, MINUTE + 62, MINUTE, settled=False)
    monitored.assignment.loaded(TP, monitored.assignment.epoch, Commit(10, (closing,)))
    monitored.consumer.refusal = REFUSAL
    monitored.tick(SEEK_TICKS + 1)
    wait = monitored.assignment.partitions[TP].wait
    assert wait is not None
    since = wait.since - RULES.undecodable_seconds
    monitored.assignment.partitions[TP].wait = wait._replace(since=since)
    monitored.tick(SEEK_TICKS)
    assert monitored.consumer.sought == [(TP, 13)]
    assert monitored.counts.undecodable_offsets == 3


def test_partition_whose_end_is_not_known_may_stand_at_it(monitored: Monitored) -> None:
    monitored.consumer.ends, monitored.consumer.log_end = {}, 10
    monitored.tick(SEEK_TICKS * (SEEKS_MAX + 3))
    assert monitored.consumer.sought == []


def test_worker_that_waits_for_memory_seeks_nothing(monitored: Monitored) -> None:
    monitored.collector.is_held = True
    monitored.tick(SEEK_TICKS * 3)
    assert monitored.consumer.sought == []


def test_batch_that_cannot_be_decoded_is_waited_for(monitored: Monitored) -> None:
    batch = Undecodable(10, 15, "a wrong checksum", is_as_sent=False)
    monitored.assignment.partitions[TP].wait = UndecodableWait(batch, 0.0)
    monitored.tick(SEEK_TICKS * (SEEKS_MAX + 3))
    assert (monitored.consumer.sought, monitored.consumer.paused) == ([], [])
    assert (monitored.counts.stalled_partitions, monitored.progress.standstills) == (0, {})


def test_batch_that_is_undecodable_first_and_refused_then_is_not_asked_for_at_once(
    monitored: Monitored,
) -> None:
    batch = Undecodable(10, None, "the length in its header is wrong: -5")
    monitored.assignment.partitions[TP].wait = UndecodableWait(batch, 0.0)
    monitored.consumer.refusal = REFUSAL
    monitored.tick(SEEK_TICKS)
    assert monitored.consumer.paused == [TP]
    assert monitored.assignment.waits[TP].batch.reason == REFUSAL


def test_queue_that_is_full_of_other_partitions_is_waited_for(monitored: Monitored) -> None:
    monitored.consumer.is_full = True
    monitored.consumer.waits = {TopicPartition("events", 4)}
    monitored.tick(SEEK_TICKS * 3)
    assert monitored.consumer.sought == []


def test_queue_that_is_empty_and_yet_full_is_not_waited_for(monitored: Monitored) -> None:
    monitored.consumer.is_full = True
    monitored.tick(SEEK_TICKS + 1)
    assert monitored.consumer.sought == [(TP, 10)]


def test_health_check_names_a_partition_as_long_as_it_stands_still(monitored: Monitored) -> None:
    monitored.tick(SEEK_TICKS - 1)
    assert monitored.progress.standstills == {}
    monitored.tick(SEEK_TICKS)
    assert monitored.progress.standstills == {TP: Standstill(10, 15, 2 * STALL_SECONDS)}
    monitored.consumer.waits = {TP}
    monitored.tick(1)
    assert monitored.progress.standstills == {}


# --- batches that make no step --------------------------------------------------------------------

BATCH_TICKS = round(BATCH_SECONDS_MAX / WATCH_SECONDS)
BATCH = tuples.ConsumerMessage(
    *(TP.topic, TP.partition, 14, 0.0, 0, None, None, cast("Any", Batch(10, 15, ()))),
    *(None,),
    tp=tuples.TP(*TP),
    generation_id=1,
)


def test_batch_that_no_agent_takes_ends_the_worker(monitored: Monitored) -> None:
    monitored.consumer.waits = {TP}
    monitored.tick(BATCH_TICKS - 2)
    with pytest.raises(
        StalledError, match=r"a batch of events/3 waits for its agent, and has made"
    ):
        monitored.tick(2)


def test_batch_that_was_taken_and_hangs_ends_the_worker(monitored: Monitored) -> None:
    async def watch() -> None:
        with pytest.raises(StalledError, match=r"a batch of events/3 is under way, and has made"):
            await monitored.ticks(BATCH_TICKS + 2)

    asyncio.run(beside(monitored, watch))


def test_batch_that_waits_for_kafka_ends_no_worker(monitored: Monitored) -> None:
    attempted = asyncio.Event()

    async def fail() -> None:
        attempted.set()
        raise TransientError("KafkaConnectionError", "away")

    async def watch() -> None:
        for _ in range(3):
            attempted.clear()
            await attempted.wait()
            await monitored.ticks(BATCH_TICKS - 1)
        assert monitored.collector.under_way == TP

    monitored.consumer.read = fail
    asyncio.run(beside(monitored, watch))


async def beside(monitored: Monitored, watch: Callable[[], Awaitable[None]]) -> None:
    """Watch while a batch of the partition waits until the commit of another one is read back."""
    monitored.assignment.assigned([TP, TopicPartition("events", 4)], 1)
    taking = asyncio.create_task(monitored.collector.collect(BATCH))
    try:
        await watch()
    finally:
        taking.cancel()
        await asyncio.wait([taking])


def test_batch_that_waits_for_memory_ends_no_worker(monitored: Monitored) -> None:
    monitored.consumer.waits, monitored.collector.is_held = {TP}, True
    monitored.tick(3 * BATCH_TICKS)


def test_batches_that_wait_during_a_rebalance_end_no_worker(monitored: Monitored) -> None:
    monitored.consumer.waits, monitored.consumer.flow_active = {TP}, False
    monitored.tick(3 * BATCH_TICKS)
