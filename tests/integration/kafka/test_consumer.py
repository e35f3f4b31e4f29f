"""Batches and fenced commits of a real worker's consumer against a real broker."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import GroupAuthorizationFailedError, RequestTimedOutError, UnknownError
from aiokafka.structs import OffsetAndMetadata
from aiokafka.structs import TopicPartition as ClientPartition

from stream_app.core.commit_metadata import Closing, Commit, UnmarkedCommitError, encode
from stream_app.embedded.servers import KafkaServer
from stream_app.errors import FencedError, TransientError
from stream_app.kafka.fetch_thread import DECODED_BYTES_MAX
from stream_app.records import GapError, TopicPartition
from stream_app.worker.faust_app import StreamApp
from tests.contract.apps import (
    SECONDS_MAX,
    Keeper,
    administration,
    another_member,
    becomes,
    committed,
    create_topics,
    new_app,
    produce,
    run,
    running,
    unstarted,
)

CLOSING = Closing(end=3, closed_at=1_795_537_922, window_start=1_795_537_860, settled=False)


@dataclass
class Member:
    """A running app that holds both partitions of its topic; its loop runs only within `do`."""

    runner: asyncio.Runner
    app: StreamApp
    keeper: Keeper
    address: str
    end: int = 0
    """Where the log of partition 0 ends."""

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.app.settings.kafka.events_topic, 0)

    @property
    def never_committed(self) -> TopicPartition:
        return TopicPartition(self.tp.topic, 1)

    @property
    def aiokafka(self) -> Any:
        return self.app.consumer._thread._ensure_consumer()

    @property
    def generation(self) -> int:
        return int(self.app.consumer_generation_id)

    def do(self, work: Awaitable[Any]) -> Any:
        return self.runner.run(asyncio.wait_for(work, SECONDS_MAX))

    async def append(self, *values: bytes) -> int:
        """Append records to partition 0 in one batch; return the first one's offset."""
        await produce(self.address, self.tp.topic, *values)
        first, self.end = self.end, self.end + len(values)
        return first

    async def commit(
        self, commit: Commit, *, generation: int | None = None, owned: bool = True
    ) -> None:
        await self.app.consumer.commit_closings(
            {self.tp: commit},
            self.generation if generation is None else generation,
            lambda: owned,
        )

    async def read_back(self, tp: TopicPartition | None = None) -> Commit:
        tp = tp or self.tp
        commit = (await self.app.consumer.read_commits([tp]))[tp]
        assert isinstance(commit, Commit)
        return commit


@contextlib.contextmanager
def joined(address: str) -> Iterator[Member]:
    """Give a member of a fresh group, with one record produced and received."""
    with asyncio.Runner() as runner:

        async def start() -> Member:
            app = new_app(address, f"test-{uuid4().hex[:12]}-")
            made = Member(runner, app, Keeper(app), address)
            await create_topics(address, {made.tp.topic: 2})
            await made.append(b"0")
            await app.start()
            await made.keeper.batch(made.tp)
            return made

        made = runner.run(start())
        try:
            yield made
        finally:
            made.do(made.app.stop())


@pytest.fixture(scope="module")
def member(kafka: KafkaServer) -> Iterator[Member]:
    """One member for all tests that leave its membership alone."""
    with joined(kafka.address) as made:
        yield made


# --- commits ------------------------------------------------------------------------------------


def test_partition_without_a_commit_starts_where_the_log_begins(member: Member) -> None:
    async def scenario() -> None:
        tp = member.never_committed
        before = int(time.time())
        commit = await member.read_back(tp)
        assert commit == Commit(0, (), commit.began_at, is_new=True)
        assert before <= commit.began_at <= time.time()
        await produce(member.address, tp.topic, b"0", b"1", partition=tp.partition)
        async with administration(member.address) as admin:
            await admin.delete_records({ClientPartition(*tp): RecordsToDelete(before_offset=1)})
        assert (await member.read_back(tp)).offset == 1

    member.do(scenario())


@pytest.mark.parametrize("commit", [Commit(1, (CLOSING,)), Commit(1, ())])
def test_commit_is_read_back_equal(member: Member, commit: Commit) -> None:
    member.do(member.commit(commit))
    assert member.do(member.read_back()) == commit


def test_commit_is_not_sent_when_the_partition_is_not_owned(member: Member) -> None:
    before = member.do(member.read_back())
    with pytest.raises(FencedError, match="is not sent"):
        member.do(member.commit(Commit(77, ()), owned=False))
    assert member.do(member.read_back()) == before


@pytest.mark.parametrize("other", [-1, 1])
def test_commit_is_not_sent_under_another_generation(member: Member, other: int) -> None:
    before, generation = member.do(member.read_back()), member.generation + other
    with pytest.raises(FencedError, match=f"generation {generation} is not sent"):
        member.do(member.commit(Commit(77, ()), generation=generation))
    assert member.do(member.read_back()) == before


def test_commit_is_not_sent_when_one_of_its_partitions_is_not_assigned(member: Member) -> None:
    before = member.do(member.read_back())
    commits = {member.tp: Commit(77, ()), TopicPartition(member.tp.topic, 7): Commit(1, ())}
    with pytest.raises(FencedError, match="is not sent"):
        member.do(member.app.consumer.commit_closings(commits, member.generation, lambda: True))
    assert member.do(member.read_back()) == before


def test_commit_whose_response_is_lost_is_transient_and_ends_its_generation(
    kafka: KafkaServer,
) -> None:
    with joined(kafka.address) as member:
        coordinator, generation = member.aiokafka._coordinator, member.generation
        send = coordinator._send_req

        async def lose_the_answer(request: object) -> None:
            coordinator._send_req = send
            await send(request)
            raise RequestTimedOutError

        coordinator._send_req = lose_the_answer
        with pytest.raises(TransientError, match="RequestTimedOutError"):
            member.do(member.commit(Commit(1, ())))
        member.do(becomes(lambda: member.generation > generation))
        with pytest.raises(FencedError, match=f"generation {generation} is not sent"):
            member.do(member.commit(Commit(1, (CLOSING,)), generation=generation))
        assert member.do(member.read_back()) == Commit(1, ())


def test_doubt_about_another_member_does_not_fence_the_same_generation(member: Member) -> None:
    # Of a group that was made again: its generations begin at 1 once more.
    member.app.consumer._thread._doubted = ("another-member", member.generation)
    member.do(member.commit(Commit(1, ())))
    doubted = (member.aiokafka._coordinator.member_id, member.generation)
    member.app.consumer._thread._doubted = doubted
    with pytest.raises(FencedError, match="is not sent"):
        member.do(member.commit(Commit(1, (CLOSING,))))
    member.app.consumer._thread._doubted = None
    assert member.do(member.read_back()) == Commit(1, ())


def test_commit_of_another_program_is_recognized(member: Member) -> None:
    partition = ClientPartition(*member.tp)

    async def commit_foreign() -> None:
        await member.aiokafka.commit({partition: OffsetAndMetadata(1, "foreign")})

    member.do(member.app.consumer._in_thread(commit_foreign()))
    found = member.do(member.app.consumer.read_commits([member.tp]))[member.tp]
    assert isinstance(found, UnmarkedCommitError)
    assert "'foreign'" in str(found)
    member.do(member.commit(Commit(1, ())))


def test_broker_that_is_away_is_transient_to_a_read_back() -> None:
    async def scenario() -> None:
        with unstarted(new_app()) as app:
            await app.consumer.read_commits([TopicPartition("events", 0)])

    with pytest.raises(TransientError, match="KafkaConnectionError"):
        run(scenario())


def test_expelled_member_cannot_commit_over_its_successor(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        app = new_app(kafka.address, topic_prefix, session_timeout_seconds=6)
        keeper, topic = Keeper(app), app.settings.kafka.events_topic
        tp = TopicPartition(topic, 0)
        await create_topics(kafka.address, {topic: 1})
        await produce(kafka.address, topic, b"0")
        thawed = threading.Event()
        async with running(app):
            generation, _ = await keeper.batch(tp)
            # Frozen as by SIGSTOP: no heartbeat, and the commit is the first thing afterwards.
            app.consumer._thread.thread_loop.call_soon_threadsafe(thawed.wait, SECONDS_MAX)
            late = asyncio.create_task(
                app.consumer.commit_closings({tp: Commit(1, ())}, generation, lambda: True)
            )
            async with another_member(app) as successor:
                assert successor.assignment() == {ClientPartition(*tp)}
                theirs = encode(Commit(1, (CLOSING,)))
                await successor.commit({ClientPartition(*tp): OffsetAndMetadata(1, theirs)})
                thawed.set()
                with pytest.raises(
                    FencedError, match=f"the broker refuses generation {generation}"
                ):
                    await late
                assert await committed(kafka.address, app.conf.id) == {
                    ClientPartition(*tp): (1, theirs)
                }

    run(scenario())


# --- batches ------------------------------------------------------------------------------------


def test_batches_continue_one_another(member: Member) -> None:
    async def scenario() -> None:
        for number in range(3):
            offset = await member.append(b"%d" % number)
            _, batch = await member.keeper.batch(member.tp, offset)
            assert batch.next_position == offset + 1
            assert [(it.offset, it.value) for it in batch.records] == [(offset, b"%d" % number)]

    member.do(scenario())


def test_aborted_transaction_is_a_batch_without_records(member: Member) -> None:
    async def scenario() -> None:
        begin = member.end
        async with AIOKafkaProducer(
            bootstrap_servers=member.address, transactional_id=uuid4().hex
        ) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(member.tp.topic, b"aborted", partition=0)
            await producer.abort_transaction()
        member.end += 2  # the record and the marker
        _, batch = await member.keeper.batch(member.tp, begin)
        assert (batch.next_position, len(batch.records)) == (member.end, 0)

    member.do(scenario())


def test_log_end_is_where_committed_readers_must_stop(member: Member) -> None:
    async def scenario() -> None:
        consumer, begin = member.app.consumer, member.end
        await becomes(lambda: consumer.log_ends.get(member.tp) == begin)
        before = consumer.log_ends
        async with AIOKafkaProducer(
            bootstrap_servers=member.address, transactional_id=uuid4().hex
        ) as producer:
            async with producer.transaction():
                await producer.send_and_wait(member.tp.topic, b"hidden", partition=0)
                member.end += 1
                await member.append(b"behind it")
                assignment = member.aiokafka._subscription.subscription.assignment
                state = assignment.state_value(ClientPartition(*member.tp))
                await becomes(lambda: state.highwater == begin + 2)
                assert consumer.log_ends[member.tp] == begin
                await becomes(lambda: consumer.high_watermarks[member.tp] == begin + 2)
            member.end += 1  # the marker
            await becomes(lambda: consumer.log_ends[member.tp] == member.end)
        assert before[member.tp] == begin, "a mapping that was published does not change"

    member.do(scenario())


def test_revocation_leaves_no_log_end(kafka: KafkaServer) -> None:
    with joined(kafka.address) as member:

        async def scenario() -> None:
            consumer, published = member.app.consumer, []
            await becomes(lambda: member.tp in consumer.log_ends)

            async def revoked(*_: object, **__: object) -> None:
                published.append((consumer.log_ends, consumer.high_watermarks))

            member.app.on_partitions_revoked.connect(revoked)
            async with another_member(member.app):
                assert published == [({}, {})]

        member.do(scenario())


# --- seeking and gaps ---------------------------------------------------------------------------


def test_sought_partition_is_fetched_again_from_there(member: Member) -> None:
    async def scenario() -> None:
        offset = await member.append(b"0", b"1", b"2")
        await member.keeper.batch(member.tp, offset)
        await member.app.consumer.seek_to(member.tp, offset + 1)
        _, batch = await member.keeper.batch(member.tp)
        assert (batch.position, batch.next_position) == (offset + 1, offset + 3)
        assert [it.value for it in batch.records] == [b"1", b"2"]

    member.do(scenario())


def test_sought_partition_passes_on_batches_that_end_before_the_newest_one(member: Member) -> None:
    # Faust would drop them: by its own offsets it has read beyond.
    async def scenario() -> None:
        member.aiokafka._max_poll_records = 1
        try:
            # The fetch in flight was begun without that bound; this record ends it.
            await member.keeper.batch(member.tp, await member.append(b"-"))
            # The bound counts what producers send as one batch.
            offset, *_ = [await member.append(it) for it in (b"0", b"1", b"2")]
            await member.keeper.batch(member.tp, offset + 2)
            await member.app.consumer.seek_to(member.tp, offset)
            positions = [(await member.keeper.batch(member.tp))[1].position for _ in range(3)]
        finally:
            member.aiokafka._max_poll_records = None
        assert positions == [offset, offset + 1, offset + 2]

    member.do(scenario())


def test_fetch_that_was_compressed_is_decoded_a_piece_at_a_time(member: Member) -> None:
    async def passed_on(position: int) -> list[int]:
        """Return how many records each batch has, from a position to the end."""
        counts = []
        while position < member.end:
            _, batch = await member.keeper.batch(member.tp, position)
            counts.append(len(batch.records))
            position = batch.next_position
        return counts

    async def scenario() -> None:
        begin, size = member.end, DECODED_BYTES_MAX // 4
        async with AIOKafkaProducer(
            bootstrap_servers=member.address, compression_type="zstd"
        ) as producer:
            for _ in range(16):  # a record batch each
                await producer.send_and_wait(member.tp.topic, b"0" * size, partition=0)
        member.end += 16
        await passed_on(begin)
        await member.app.consumer.seek_to(member.tp, begin)  # Now all are in one fetch.
        assert await passed_on(begin) == [4, 4, 4, 4]

    member.do(scenario())


def test_partition_that_is_not_assigned_cannot_be_sought(member: Member) -> None:
    with pytest.raises(FencedError, match="not assigned any more"):
        member.do(member.app.consumer.seek_to(TopicPartition(member.tp.topic, 7), 0))


def test_gap_is_lost_to_retention_only_when_the_log_begins_behind_it(member: Member) -> None:
    async def scenario() -> None:
        lost, tp = member.app.consumer.lost_to_retention, member.tp
        offset = await member.append(b"0", b"1", b"2")
        async with administration(member.address) as admin:
            await admin.delete_records(
                {ClientPartition(*tp): RecordsToDelete(before_offset=offset + 1)}
            )
        assert await lost(tp, GapError(tp, offset, offset + 1))
        assert not await lost(tp, GapError(tp, offset, offset + 2))

    member.do(scenario())


@pytest.mark.parametrize("committed", [None, Commit(0, (CLOSING,))])
def test_partition_whose_commit_is_none_or_0_is_sought_back_too(
    kafka: KafkaServer, committed: Commit | None
) -> None:
    with joined(kafka.address) as member:

        async def scenario() -> None:
            if committed is not None:
                await member.commit(committed)
            await member.app.consumer.perform_seek()
            _, batch = await member.keeper.batch(member.tp)
            assert (batch.position, batch.next_position) == (0, 1)

        member.do(scenario())


def test_batch_that_waits_for_the_agent_is_seen_until_it_is_taken(kafka: KafkaServer) -> None:
    with joined(kafka.address) as member:

        async def scenario() -> None:
            consumer, keeper = member.app.consumer, member.keeper
            assert consumer.waiting() == set()
            keeper.open.clear()
            await member.append(b"1")  # The agent has taken it, and waits inside.
            await becomes(lambda: consumer.log_ends.get(member.tp) == member.end)
            await member.append(b"2")
            await becomes(lambda: consumer.waiting() == {member.tp})
            keeper.open.set()
            await keeper.batch(member.tp, member.end - 1)
            assert consumer.waiting() == set()

        member.do(scenario())


def test_ends_are_seen_while_nothing_takes_what_is_fetched(kafka: KafkaServer) -> None:
    # So that a flow that is never resumed is noticed.
    with joined(kafka.address) as member:

        async def scenario() -> None:
            consumer = member.app.consumer
            await becomes(lambda: consumer.ends_seen().get(member.tp) == member.end)
            consumer.stop_flow()
            await member.append(b"1")
            await becomes(lambda: consumer.ends_seen()[member.tp] == member.end)

        member.do(scenario())


# --- rebalances ---------------------------------------------------------------------------------


def test_worker_without_a_partition_fetches_nothing_through_a_rebalance(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    # Faust suspends only a worker that holds something, and clears the queues of all at the end.
    async def scenario() -> None:
        app = new_app(kafka.address, topic_prefix)
        keeper, topic = Keeper(app), app.settings.kafka.events_topic
        await create_topics(kafka.address, {topic: 1})
        await produce(kafka.address, topic, b"0")
        suspended = []

        async def revoked(*_: object, **__: object) -> None:
            consumer = app.consumer
            suspended.append((not consumer.flow_active, not app.flow_control.is_active()))

        async with another_member(app) as first:
            app.on_partitions_revoked.connect(revoked)
            async with running(app):
                await becomes(lambda: app.consumer.flow_active and app.consumer_generation_id > 0)
                if app.consumer.assignment():
                    await becomes(lambda: first.assignment() == set())
                del suspended[:]
                await first.stop()
                await keeper.batch(TopicPartition(topic, 0))
                assert suspended == [(True, True)]

    run(scenario())


def test_flow_is_not_resumed_into_another_rebalance(member: Member) -> None:
    async def scenario() -> None:
        consumer, subscription = member.app.consumer, member.aiokafka._subscription.subscription
        consumer.stop_flow()
        member.app.consumer_generation_id += 1  # The next assignment is under way.
        consumer.resume_flow()
        assert not consumer.flow_active
        member.app.consumer_generation_id -= 1
        subscription._reassignment_in_progress = True  # The next rebalance has begun.
        consumer.resume_flow()
        assert not consumer.flow_active
        subscription._reassignment_in_progress = False
        consumer.resume_flow()
        assert consumer.flow_active

    member.do(scenario())


def test_revocation_does_not_wait_for_receipts(kafka: KafkaServer) -> None:
    # The connection to the receipts topic's broker may be half open: others would wait with us.
    with joined(kafka.address) as member:

        async def scenario() -> None:
            async def flush() -> None:
                await asyncio.Event().wait()

            member.app.producer.flush = flush
            async with another_member(member.app) as other:
                assert len(other.assignment()) == 1

        member.do(scenario())


# --- Kafka's client -----------------------------------------------------------------------------


async def crash_of(app: StreamApp) -> str:
    await becomes(lambda: app.crashed)
    return str(app.consumer.crash_reason)


def test_error_of_the_coordinator_that_nobody_asks_for_ends_the_worker(kafka: KafkaServer) -> None:
    with joined(kafka.address) as member:

        async def scenario() -> None:
            coordinator = member.aiokafka._coordinator

            async def park() -> None:
                coordinator._push_error_to_user(UnknownError("group.max.size")).close()

            await member.app.consumer._in_thread(park())
            assert "keeps this worker out of its group" in await crash_of(member.app)

        member.do(scenario())


def test_right_that_is_missing_in_the_group_is_asked_for_again(kafka: KafkaServer) -> None:
    with joined(kafka.address) as member:

        async def scenario() -> None:
            coordinator = member.aiokafka._coordinator

            async def park() -> None:
                await coordinator._push_error_to_user(GroupAuthorizationFailedError("group"))

            # Returns when the error was taken, so that the coordination goes on.
            await member.app.consumer._in_thread(park())
            assert coordinator._pending_exception is None
            assert not member.app.crashed

        member.do(scenario())


@pytest.mark.parametrize(
    ("name", "task_of"),
    [
        ("coordination", lambda it: it.aiokafka._coordinator._coordination_task),
        ("fetching", lambda it: it.aiokafka._fetcher._fetch_task),
        ("metadata", lambda it: it.aiokafka._client._sync_task),
        ("sending", lambda it: it.app.producer._producer._sender.sender_task),
    ],
)
def test_background_task_of_the_client_that_has_ended_ends_the_worker(
    kafka: KafkaServer, name: str, task_of: Callable[[Member], asyncio.Task[None]]
) -> None:
    with joined(kafka.address) as member:

        async def scenario() -> None:
            await member.app.maybe_start_producer()
            task = task_of(member)
            task.get_loop().call_soon_threadsafe(task.cancel)
            assert f"the {name} task of Kafka's client has ended" in await crash_of(member.app)

        member.do(scenario())
