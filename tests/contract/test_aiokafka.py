"""aiokafka: what `consumer` relies on of its fetcher, its coordinator and its admin client.

Most of it is not public. Each test states one fact; where one fails after an upgrade, read the
place in `stream_app.consumer` that leans on it before anything else.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
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


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
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

    async def __aenter__(self) -> "Topic":
        self.admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        self._stack.push_async_callback(self.admin.close)
        await self.admin.start()
        await self.admin.create_topics([NewTopic(self.tp.topic, 1, 1)])
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def produce(self, *values: bytes) -> None:
        if self._producer is None:
            self._producer = await self._stack.enter_async_context(
                AIOKafkaProducer(bootstrap_servers=self.address)
            )
        for value in values:
            await self._producer.send_and_wait(self.tp.topic, value, partition=0)

    async def transactional(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.address, transactional_id=f"{self._prefix}transaction"
        )
        return await self._stack.enter_async_context(producer)

    async def consumer(self, *, member: bool = False, committed: bool = True) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            group_id=self.group if member else None,
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


def state_of(consumer: AIOKafkaConsumer, topic: Topic) -> Any:  # noqa: ANN401 - aiokafka's own
    return consumer._subscription.subscription.assignment.state_value(topic.tp)


async def until_fetched(consumer: AIOKafkaConsumer, topic: Topic) -> None:
    """Return when the fetcher holds something for the partition."""
    while topic.tp not in consumer._fetcher._records:
        await consumer._fetcher._create_fetch_waiter()


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
            while state_of(consumer, topic).position is None or not offsets:
                await until_fetched(consumer, topic)
                offsets += drain(consumer, topic)
            while state_of(consumer, topic).position < 2:
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
                while state.highwater != 4:
                    await asyncio.sleep(0.05)
                assert state.lso == 2  # the transaction hides what comes behind its beginning too
            while state.lso != 5:
                await asyncio.sleep(0.05)

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


async def commit(
    consumer: AIOKafkaConsumer, topic: Topic, offset: int, metadata: str = ""
) -> None:
    """Commit in the way of `stream_app.consumer`: one request."""
    assignment = consumer._subscription.subscription.assignment
    await consumer._coordinator._do_commit_offsets(
        assignment, {topic.tp: OffsetAndMetadata(offset, metadata)}
    )


class Requests:
    """What a coordinator sends, recorded on the way; `before` may spoil it."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.generations: list[int] = []
        self.errors: list[KafkaError] = []
        self.coordinator = consumer._coordinator
        self._send = self.coordinator._send_req
        self.coordinator._send_req = self.send

    async def send(self, request: Any) -> Any:  # noqa: ANN401 - aiokafka's own
        generation = getattr(request, "_generation_id", None)
        if type(request).__name__ != "OffsetCommitRequest":
            return await self._send(request)
        self.generations.append(generation)
        if self.errors:
            raise self.errors.pop(0)
        return await self._send(request)


def test_placeholder() -> None:
    pass
