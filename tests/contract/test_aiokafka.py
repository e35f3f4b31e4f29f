"""aiokafka: what `consumer` relies on of its fetcher, its coordinator and its admin client.

Most of it is not public. Each test states one fact; where one fails after an upgrade, read the
place in `stream_app.consumer` that leans on it before anything else.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Self

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from stream_app.closings import METADATA_BYTES_MAX
from stream_app.embedded import KafkaServer

SECONDS_MAX = 30.0
NONE_COMMITTED = -1


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await work

    asyncio.run(bounded())


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine by hand; it fails the test if it gives way even once."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    pytest.fail(f"{coroutine.__qualname__} gives way")


class Topic:
    """A topic of one partition, a consumer of it and whatever else a test asks for."""

    def __init__(self, kafka: KafkaServer, prefix: str) -> None:
        self.address = kafka.address
        self.group = f"{prefix}group"
        self.tp = TopicPartition(f"{prefix}topic", 0)
        self._prefix = prefix
        self._stack = contextlib.AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        self.admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        self._stack.push_async_callback(self.admin.close)
        await self.admin.start()
        await self.admin.create_topics([NewTopic(self.tp.topic, 1, 1)])
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def produce(self, *values: bytes) -> None:
        """Append records in one batch, so that they become visible together."""
        if self._producer is None:
            self._producer = await self._stack.enter_async_context(
                AIOKafkaProducer(bootstrap_servers=self.address)
            )
        batch = self._producer.create_batch()
        for value in values:
            batch.append(key=None, value=value, timestamp=None)
        await (await self._producer.send_batch(batch, self.tp.topic, partition=0))

    async def transactional(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.address, transactional_id=f"{self._prefix}transaction"
        )
        return await self._stack.enter_async_context(producer)

    async def consumer(self, *, member: bool = False, committed: bool = True) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            group_id=self.group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
        )
        if committed:
            consumer._isolation_level = "read_committed"
        await self._stack.enter_async_context(consumer)
        if member:
            consumer.subscribe([self.tp.topic])
            await consumer._subscription.wait_for_assignment()
        else:
            consumer.assign([self.tp])
        return consumer

    async def committed(self) -> tuple[int, str]:
        found = await self.admin.list_consumer_group_offsets(self.group, partitions=[self.tp])
        return found[self.tp].offset, found[self.tp].metadata


def state_of(consumer: AIOKafkaConsumer, topic: Topic) -> Any:
    return consumer._subscription.subscription.assignment.state_value(topic.tp)


async def until_fetched(consumer: AIOKafkaConsumer, topic: Topic) -> None:
    """Return when the fetcher holds something for the partition."""
    while topic.tp not in consumer._fetcher._records:
        await consumer._fetcher._create_fetch_waiter()


async def becomes(condition: Callable[[], bool]) -> None:
    """Return when it holds; aiokafka tells nobody of what only its state shows."""
    while not condition():  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0.02)


def drain(consumer: AIOKafkaConsumer, topic: Topic) -> list[int]:
    """Take what the fetcher holds, without giving way; return the offsets."""
    fetched = at_once(consumer._fetcher.fetched_records({topic.tp}, timeout=0))
    return [record.offset for record in fetched.get(topic.tp, ())]


# --- fetching -----------------------------------------------------------------------------------


def test_fetched_records_without_a_timeout_never_gives_way(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer()
            assert drain(consumer, topic) == []
            await topic.produce(b"0", b"1", b"2")
            await until_fetched(consumer, topic)
            assert drain(consumer, topic) == [0, 1, 2]

    run(scenario())


def test_fetch_waiter_ends_when_data_has_come(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer()
            waiter = consumer._fetcher._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=0.3)
            assert not done
            await topic.produce(b"0")
            await waiter
            assert drain(consumer, topic) == [0]

    run(scenario())


def test_cancelled_fetch_waiter_is_forgotten(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer()
            waiter = consumer._fetcher._create_fetch_waiter()
            waiter.cancel()
            await asyncio.wait([waiter])
            assert waiter not in consumer._fetcher._fetch_waiters

    run(scenario())


def test_position_moves_when_records_are_taken_and_not_when_they_are_fetched(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer()
            state = state_of(consumer, topic)
            assert not state.has_valid_position
            await topic.produce(b"0", b"1")
            await until_fetched(consumer, topic)
            assert state.position == 0
            drain(consumer, topic)
            assert state.position == 2

    run(scenario())


def test_records_fetched_before_a_seek_are_not_handed_over(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer()
            await topic.produce(b"0", b"1", b"2")
            await until_fetched(consumer, topic)
            consumer.seek(topic.tp, 1)
            assert drain(consumer, topic) == []
            assert state_of(consumer, topic).position == 1
            await until_fetched(consumer, topic)
            assert drain(consumer, topic) == [1, 2]

    run(scenario())


def test_aborted_transaction_moves_the_position_without_a_record(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            producer = await topic.transactional()
            await producer.begin_transaction()
            await producer.send_and_wait(topic.tp.topic, b"aborted", partition=0)
            await producer.abort_transaction()
            consumer = await topic.consumer()
            await until_fetched(consumer, topic)
            assert drain(consumer, topic) == []
            assert state_of(consumer, topic).position == 2  # the record and the marker

    run(scenario())


def test_commit_marker_moves_the_position_beyond_the_last_record(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            producer = await topic.transactional()
            async with producer.transaction():
                await producer.send_and_wait(topic.tp.topic, b"0", partition=0)
            consumer = await topic.consumer()
            offsets: list[int] = []
            while not offsets or state_of(consumer, topic).position < 2:
                await until_fetched(consumer, topic)
                offsets += drain(consumer, topic)
            assert offsets == [0]

    run(scenario())


@pytest.mark.parametrize("committed", [True, False])
def test_isolation_level_set_before_the_start_is_the_fetchers(
    kafka: KafkaServer,
    topic_prefix: str,
    committed: bool,  # noqa: FBT001 - pytest's parameter
) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            producer = await topic.transactional()
            await producer.begin_transaction()
            await producer.send_and_wait(topic.tp.topic, b"aborted", partition=0)
            await producer.abort_transaction()
            await topic.produce(b"plain")
            consumer = await topic.consumer(committed=committed)
            offsets: list[int] = []
            while 2 not in offsets:
                await until_fetched(consumer, topic)
                offsets += drain(consumer, topic)
            assert offsets == ([2] if committed else [0, 2])

    run(scenario())


def test_each_fetch_tells_the_first_offset_that_committed_readers_cannot_see(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer()
            state = state_of(consumer, topic)
            assert state.lso is None
            await topic.produce(b"0", b"1")
            await until_fetched(consumer, topic)
            assert state.lso == 2
            drain(consumer, topic)
            producer = await topic.transactional()
            async with producer.transaction():
                await producer.send_and_wait(topic.tp.topic, b"2", partition=0)
                await topic.produce(b"3")
                await becomes(lambda: state.highwater == 4)
                assert state.lso == 2  # the transaction hides what comes behind its beginning too
            await becomes(lambda: state.lso == 5)

    run(scenario())


def test_beginning_offset_follows_what_was_deleted(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer()
            await topic.produce(b"0", b"1", b"2")
            await topic.admin.delete_records({topic.tp: RecordsToDelete(before_offset=2)})
            assert await consumer.beginning_offsets([topic.tp]) == {topic.tp: 2}

    run(scenario())


# --- committing ---------------------------------------------------------------------------------


async def commit(consumer: AIOKafkaConsumer, topic: Topic, offset: int, metadata: str = "") -> None:
    """Commit in the way of `stream_app.consumer`: one request."""
    assignment = consumer._subscription.subscription.assignment
    await consumer._coordinator._do_commit_offsets(
        assignment, {topic.tp: OffsetAndMetadata(offset, metadata)}
    )


@contextlib.contextmanager
def membership_kept(consumer: AIOKafkaConsumer) -> Iterator[None]:
    """Let the member be what it was, so that nobody must wait until its session has run out."""
    coordinator = consumer._coordinator
    kept = coordinator.generation, coordinator.member_id
    yield
    coordinator.generation, coordinator.member_id = kept


class Requests:
    """The generations under which a coordinator sends commits; it can be made to fail."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.generations: list[int] = []
        self.fail_once: Callable[[], KafkaError] | None = None
        self._send = consumer._coordinator._send_req
        consumer._coordinator._send_req = self._recorded

    async def _recorded(self, request: Any) -> Any:
        if isinstance(request, OffsetCommitRequest):
            self.generations.append(request._consumer_group_generation_id)
            if self.fail_once is not None:
                fail, self.fail_once = self.fail_once, None
                raise fail()
        return await self._send(request)


def test_commit_is_read_back_with_its_metadata(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            assert await topic.committed() == (NONE_COMMITTED, "")
            await commit(consumer, topic, 7, "recorded")
            assert await topic.committed() == (7, "recorded")
            await commit(consumer, topic, 7, "another")  # the offset stays, the metadata changes
            assert await topic.committed() == (7, "another")
            await commit(consumer, topic, 3)
            assert await topic.committed() == (3, "")

    run(scenario())


def test_metadata_may_have_4096_bytes_and_no_more(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            longest = "x" * METADATA_BYTES_MAX
            await commit(consumer, topic, 1, longest)
            with pytest.raises(OffsetMetadataTooLargeError) as refusal:
                await commit(consumer, topic, 2, longest + "x")
            assert not refusal.value.retriable
            assert await topic.committed() == (1, longest)

    run(scenario())


def test_commit_request_is_made_before_it_gives_way(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            requests, generation = Requests(consumer), consumer._coordinator.generation
            committing = commit(consumer, topic, 1)
            assert requests.generations == []
            committing.send(None)  # up to where it waits for the broker
            assert requests.generations == [generation]
            committing.close()

    run(scenario())


def test_broker_refuses_a_stale_generation(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            with membership_kept(consumer):
                consumer._coordinator.generation -= 1
                with pytest.raises(IllegalGenerationError):
                    await commit(consumer, topic, 1)
            assert await topic.committed() == (NONE_COMMITTED, "")

    run(scenario())


def test_broker_refuses_an_unknown_member(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            with membership_kept(consumer):
                consumer._coordinator.member_id = "somebody-else"
                with pytest.raises(UnknownMemberIdError):
                    await commit(consumer, topic, 1)
            assert await topic.committed() == (NONE_COMMITTED, "")

    run(scenario())


def test_broker_takes_a_members_commit_for_any_partition(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    # So whether a partition is ours must be looked at here, in the step that makes the request.
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            await topic.admin.create_topics([NewTopic(f"{topic_prefix}other", 1, 1)])
            topic.tp = TopicPartition(f"{topic_prefix}other", 0)
            await topic.produce(b"1")  # From then on the whole broker knows of it.
            assert topic.tp not in consumer.assignment()
            await commit(consumer, topic, 1, "not ours")
            assert await topic.committed() == (1, "not ours")

    run(scenario())


def test_public_commit_repeats_itself_under_the_generation_of_the_moment(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    # Why it is not used: the second request is one of a later assignment, with an old offset.
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            coordinator = consumer._coordinator
            requests, generation = Requests(consumer), coordinator.generation

            def rejoin_and_lose_the_answer() -> KafkaError:
                coordinator.generation = generation + 1  # as a rebalance does, meanwhile
                return RequestTimedOutError()

            requests.fail_once = rejoin_and_lose_the_answer
            # The broker refuses the second only because in truth nobody has rejoined.
            with membership_kept(consumer), pytest.raises(CommitFailedError):
                await consumer.commit({topic.tp: OffsetAndMetadata(1, "")})
            assert requests.generations == [generation, generation + 1]

    run(scenario())


def test_single_request_is_not_repeated(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            requests = Requests(consumer)
            requests.fail_once = RequestTimedOutError
            with pytest.raises(RequestTimedOutError) as failure:
                await commit(consumer, topic, 1)
            assert failure.value.retriable
            assert len(requests.generations) == 1

    run(scenario())


@pytest.mark.parametrize(
    "error", [UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError]
)
def test_errors_of_a_rebalance_are_kafka_errors(error: type[Exception]) -> None:
    assert issubclass(error, KafkaError)


def test_generation_is_minus_one_while_there_is_none(kafka: KafkaServer, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            assert consumer._coordinator.generation == 1
            consumer._coordinator.reset_generation()
            assert consumer._coordinator.generation == -1

    run(scenario())


def test_requested_rejoin_brings_a_later_generation(kafka: KafkaServer, topic_prefix: str) -> None:
    # So that a commit whose answer was lost is refused, should it still arrive.
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            coordinator = consumer._coordinator
            generation, member_id = coordinator.generation, coordinator.member_id
            coordinator.request_rejoin()
            await becomes(lambda: coordinator.generation > generation)
            assert coordinator.member_id == member_id

    run(scenario())


def test_coordinator_has_the_lock_that_keeps_commits_apart(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        async with Topic(kafka, topic_prefix) as topic:
            consumer = await topic.consumer(member=True)
            async with consumer._coordinator._commit_lock:
                public = asyncio.create_task(consumer.commit({topic.tp: 1}))
                done, _ = await asyncio.wait([public], timeout=0.2)
                assert not done
            await public
            assert await topic.committed() == (1, "")

    run(scenario())
