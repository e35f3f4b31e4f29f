"""aiokafka: facts of its fetcher, coordinator and admin client on which `stream_app.kafka` relies.

Most of them are not public. Each test states one; where one fails after an upgrade, read first the
code of `stream_app/kafka/fetch_thread.py` that relies on it.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    OffsetMetadataTooLargeError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from stream_app.core.commit_metadata import METADATA_BYTES_MAX
from stream_app.embedded.servers import KafkaServer
from stream_app.kafka.positions import partition_states

SECONDS_MAX = 120.0
NONE_COMMITTED = -1


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine by hand; the test fails if it yields to the loop even once."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    pytest.fail(f"{coroutine.__qualname__} gives way")


class Topic:
    """Topic of one partition, with its producers, consumers and commits."""

    def __init__(self, kafka: KafkaServer, prefix: str) -> None:
        self.address = kafka.address
        self.group = f"{prefix}group"
        self.tp = TopicPartition(f"{prefix}topic", 0)
        self.prefix = prefix
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

    async def produce(self, *values: bytes) -> int:
        """Append records in one batch, so that they become visible together; return its offset."""
        if self._producer is None:
            self._producer = await self._stack.enter_async_context(
                AIOKafkaProducer(bootstrap_servers=self.address)
            )
        batch = self._producer.create_batch()
        for value in values:
            batch.append(key=None, value=value, timestamp=None)
        sent = await (await self._producer.send_batch(batch, self.tp.topic, partition=0))
        return int(sent.offset)

    async def transactional(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.address, transactional_id=f"{self.prefix}transaction"
        )
        return await self._stack.enter_async_context(producer)

    async def consumer(
        self, *, member: bool = False, committed: bool = True, reset: str = "earliest"
    ) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            group_id=self.group,
            auto_offset_reset=reset,
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


@pytest.fixture
def topic(kafka: KafkaServer, topic_prefix: str) -> Topic:
    return Topic(kafka, topic_prefix)


def on_a_topic(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test of the fixture `topic` while that is open, within SECONDS_MAX."""

    @functools.wraps(test)
    def run(topic: Topic, **parameters: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(SECONDS_MAX), topic:
                await test(topic=topic, **parameters)

        asyncio.run(bounded())

    return run


def state_of(consumer: AIOKafkaConsumer, topic: Topic) -> Any:
    return consumer._subscription.subscription.assignment.state_value(topic.tp)


async def until_fetched(consumer: AIOKafkaConsumer, topic: Topic) -> None:
    """Return when the fetcher has fetched something of the partition."""
    while topic.tp not in consumer._fetcher._records:
        await consumer._fetcher._create_fetch_waiter()


async def becomes(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; aiokafka has no event for it."""
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.02)


def drain(consumer: AIOKafkaConsumer, topic: Topic) -> list[int]:
    """Take fetched records without yielding to the loop; return the offsets."""
    fetched = at_once(consumer._fetcher.fetched_records({topic.tp}, timeout=0))
    return [record.offset for record in fetched.get(topic.tp, ())]


# --- fetching -----------------------------------------------------------------------------------


@on_a_topic
async def test_fetched_records_without_a_timeout_never_yields_to_the_loop(topic: Topic) -> None:
    consumer = await topic.consumer()
    assert drain(consumer, topic) == []
    await topic.produce(b"0", b"1", b"2")
    await until_fetched(consumer, topic)
    assert drain(consumer, topic) == [0, 1, 2]


@on_a_topic
async def test_fetch_waiter_ends_when_data_has_come(topic: Topic) -> None:
    consumer = await topic.consumer()
    waiter = consumer._fetcher._create_fetch_waiter()
    done, _ = await asyncio.wait([waiter], timeout=0.3)
    assert not done
    await topic.produce(b"0")
    await waiter
    assert drain(consumer, topic) == [0]


@on_a_topic
async def test_cancelled_fetch_waiter_is_forgotten(topic: Topic) -> None:
    consumer = await topic.consumer()
    waiter = consumer._fetcher._create_fetch_waiter()
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter not in consumer._fetcher._fetch_waiters


@on_a_topic
async def test_position_moves_when_records_are_taken_and_not_when_they_are_fetched(
    topic: Topic,
) -> None:
    consumer = await topic.consumer()
    state = state_of(consumer, topic)
    assert not state.has_valid_position
    await topic.produce(b"0", b"1")
    await until_fetched(consumer, topic)
    assert state.position == 0
    drain(consumer, topic)
    assert state.position == 2


@on_a_topic
async def test_records_fetched_before_a_seek_are_not_returned(topic: Topic) -> None:
    consumer = await topic.consumer()
    await topic.produce(b"0", b"1", b"2")
    await until_fetched(consumer, topic)
    consumer.seek(topic.tp, 1)
    assert drain(consumer, topic) == []
    assert state_of(consumer, topic).position == 1
    await until_fetched(consumer, topic)
    assert drain(consumer, topic) == [1, 2]


@on_a_topic
async def test_position_is_known_as_soon_as_a_partition_was_sought(topic: Topic) -> None:
    consumer = await topic.consumer()
    assert partition_states(consumer) == {}
    consumer.seek(topic.tp, 7)
    assert partition_states(consumer)[topic.tp].position == 7


@on_a_topic
async def test_deleted_offset_is_an_error_where_positions_are_not_reset(topic: Topic) -> None:
    await topic.produce(b"0", b"1", b"2")
    await topic.admin.delete_records({topic.tp: RecordsToDelete(before_offset=2)})
    consumer = await topic.consumer(reset="none")
    consumer.seek(topic.tp, 1)

    async def fetch() -> None:
        while not await consumer.getmany(topic.tp, timeout_ms=100):
            pass

    with pytest.raises(OffsetOutOfRangeError) as caught:
        await fetch()
    assert caught.value.args[0] == {topic.tp: 1}


@on_a_topic
async def test_aborted_transaction_moves_the_position_without_a_record(topic: Topic) -> None:
    producer = await topic.transactional()
    await producer.begin_transaction()
    await producer.send_and_wait(topic.tp.topic, b"aborted", partition=0)
    await producer.abort_transaction()
    consumer = await topic.consumer()
    await until_fetched(consumer, topic)
    assert drain(consumer, topic) == []
    assert state_of(consumer, topic).position == 2  # the record and the marker


@on_a_topic
async def test_commit_marker_moves_the_position_beyond_the_last_record(topic: Topic) -> None:
    producer = await topic.transactional()
    async with producer.transaction():
        await producer.send_and_wait(topic.tp.topic, b"0", partition=0)
    consumer = await topic.consumer()
    offsets: list[int] = []
    while not offsets or state_of(consumer, topic).position < 2:
        await until_fetched(consumer, topic)
        offsets += drain(consumer, topic)
    assert offsets == [0]


@pytest.mark.parametrize("committed", [True, False])
@on_a_topic
async def test_isolation_level_set_before_the_start_is_the_fetchers(
    topic: Topic,
    committed: bool,  # noqa: FBT001 - pytest's parameter
) -> None:
    producer = await topic.transactional()
    await producer.begin_transaction()
    await producer.send_and_wait(topic.tp.topic, b"aborted", partition=0)
    await producer.abort_transaction()
    # The broker may write the marker of the end after this record, and so give it another offset.
    plain = await topic.produce(b"plain")
    consumer = await topic.consumer(committed=committed)
    offsets: list[int] = []
    while plain not in offsets:
        await until_fetched(consumer, topic)
        offsets += drain(consumer, topic)
    assert offsets == ([plain] if committed else [0, plain])


@on_a_topic
async def test_each_fetch_has_the_first_offset_that_committed_readers_cannot_see(
    topic: Topic,
) -> None:
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


@on_a_topic
async def test_beginning_offset_follows_what_was_deleted(topic: Topic) -> None:
    consumer = await topic.consumer()
    await topic.produce(b"0", b"1", b"2")
    await topic.admin.delete_records({topic.tp: RecordsToDelete(before_offset=2)})
    assert await consumer.beginning_offsets([topic.tp]) == {topic.tp: 2}


# --- committing ---------------------------------------------------------------------------------


async def commit(consumer: AIOKafkaConsumer, topic: Topic, offset: int, metadata: str = "") -> None:
    """Commit as `stream_app/kafka/fetch_thread.py` does: one request."""
    assignment = consumer._subscription.subscription.assignment
    await consumer._coordinator._do_commit_offsets(
        assignment, {topic.tp: OffsetAndMetadata(offset, metadata)}
    )


@contextlib.contextmanager
def membership_kept(consumer: AIOKafkaConsumer) -> Iterator[None]:
    """Restore the member, so that no test waits until its session has expired."""
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


@on_a_topic
async def test_commit_is_read_back_with_its_metadata(topic: Topic) -> None:
    consumer = await topic.consumer(member=True)
    assert await topic.committed() == (NONE_COMMITTED, "")
    await commit(consumer, topic, 7, "recorded")
    assert await topic.committed() == (7, "recorded")
    await commit(consumer, topic, 7, "another")  # the offset stays, the metadata changes
    assert await topic.committed() == (7, "another")
    await commit(consumer, topic, 3)
    assert await topic.committed() == (3, "")


@on_a_topic
async def test_metadata_may_have_4096_bytes_and_no_more(topic: Topic) -> None:
    consumer = await topic.consumer(member=True)
    longest = "x" * METADATA_BYTES_MAX
    await commit(consumer, topic, 1, longest)
    with pytest.raises(OffsetMetadataTooLargeError) as refusal:
        await commit(consumer, topic, 2, longest + "x")
    assert not refusal.value.retriable
    assert await topic.committed() == (1, longest)


@on_a_topic
async def test_commit_request_is_made_before_it_yields_to_the_loop(topic: Topic) -> None:
    consumer = await topic.consumer(member=True)
    requests, generation = Requests(consumer), consumer._coordinator.generation
    committing = commit(consumer, topic, 1)
    assert requests.generations == []
    committing.send(None)  # up to where it waits for the broker
    assert requests.generations == [generation]
    committing.close()


@on_a_topic
async def test_broker_refuses_a_stale_generation(topic: Topic) -> None:
    consumer = await topic.consumer(member=True)
    with membership_kept(consumer):
        consumer._coordinator.generation -= 1
        with pytest.raises(IllegalGenerationError):
            await commit(consumer, topic, 1)
    assert await topic.committed() == (NONE_COMMITTED, "")


@on_a_topic
async def test_broker_refuses_an_unknown_member(topic: Topic) -> None:
    consumer = await topic.consumer(member=True)
    with membership_kept(consumer):
        consumer._coordinator.member_id = "another-member"
        with pytest.raises(UnknownMemberIdError):
            await commit(consumer, topic, 1)
    assert await topic.committed() == (NONE_COMMITTED, "")


@on_a_topic
async def test_broker_accepts_a_members_commit_for_any_partition(topic: Topic) -> None:
    # So ownership of a partition must be checked by the client, in the step that makes the request.
    consumer = await topic.consumer(member=True)
    await topic.admin.create_topics([NewTopic(f"{topic.prefix}other", 1, 1)])
    topic.tp = TopicPartition(f"{topic.prefix}other", 0)
    await topic.produce(b"1")  # From then on the whole broker knows of it.
    assert topic.tp not in consumer.assignment()
    await commit(consumer, topic, 1, "not ours")
    assert await topic.committed() == (1, "not ours")


@on_a_topic
async def test_public_commit_repeats_itself_under_the_generation_of_the_moment(
    topic: Topic,
) -> None:
    # The reason not to use it: the second request is one of a later assignment, with an old offset.
    consumer = await topic.consumer(member=True)
    coordinator = consumer._coordinator
    requests, generation = Requests(consumer), coordinator.generation

    def rejoin_and_lose_the_answer() -> KafkaError:
        coordinator.generation = generation + 1  # as a rebalance does, meanwhile
        return RequestTimedOutError()

    requests.fail_once = rejoin_and_lose_the_answer
    # The broker refuses the second only because no member has rejoined.
    with membership_kept(consumer), pytest.raises(CommitFailedError):
        await consumer.commit({topic.tp: OffsetAndMetadata(1, "")})
    assert requests.generations == [generation, generation + 1]


@on_a_topic
async def test_single_request_is_not_repeated(topic: Topic) -> None:
    consumer = await topic.consumer(member=True)
    requests = Requests(consumer)
    requests.fail_once = RequestTimedOutError
    with pytest.raises(RequestTimedOutError) as failure:
        await commit(consumer, topic, 1)
    assert failure.value.retriable
    assert len(requests.generations) == 1


@pytest.mark.parametrize(
    "error", [UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError]
)
def test_errors_of_a_rebalance_are_kafka_errors(error: type[Exception]) -> None:
    assert issubclass(error, KafkaError)


@on_a_topic
async def test_generation_is_minus_one_while_there_is_none(topic: Topic) -> None:
    consumer = await topic.consumer(member=True)
    assert consumer._coordinator.generation == 1
    consumer._coordinator.reset_generation()
    assert consumer._coordinator.generation == -1


@on_a_topic
async def test_requested_rejoin_brings_a_later_generation(topic: Topic) -> None:
    # So that a commit whose response was lost is refused if it still arrives.
    consumer = await topic.consumer(member=True)
    coordinator = consumer._coordinator
    generation, member_id = coordinator.generation, coordinator.member_id
    coordinator.request_rejoin()
    await becomes(lambda: coordinator.generation > generation)
    assert coordinator.member_id == member_id


@on_a_topic
async def test_coordinator_has_the_lock_that_keeps_commits_apart(topic: Topic) -> None:
    consumer = await topic.consumer(member=True)
    async with consumer._coordinator._commit_lock:
        public = asyncio.create_task(consumer.commit({topic.tp: 1}))
        done, _ = await asyncio.wait([public], timeout=0.2)
        assert not done
    await public
    assert await topic.committed() == (1, "")
