"""Faust apps of ours in this process, against a real broker, with an agent that keeps what it gets.

For the tests of what `stream_app.consumer` relies on, and of what it does itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.structs import TopicPartition
from faust.types import EventT, StreamT

from stream_app.app import _new_app
from stream_app.batches import Batch
from stream_app.consumer import StreamApp
from stream_app.expressions import TP
from stream_app.settings import S3, Delivery, Kafka, Settings

SECONDS_MAX = 30.0


def run(work: Awaitable[Any]) -> None:
    """Run to the end, or fail after SECONDS_MAX."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await work

    asyncio.run(bounded())


def new_app(address: str = "127.0.0.1:1", prefix: str = "", **kafka: Any) -> StreamApp:
    """Return the worker's app with nothing on it yet: topic `PREFIXevents`, group `PREFIXgroup`."""
    settings = Kafka(
        broker=f"kafka://{address}",
        group=f"{prefix}group",
        events_topic=f"{prefix}events",
        receipts_topic=f"{prefix}receipts",
        **kafka,
    )
    return _new_app(Settings(settings, S3(), Delivery(), ()))


class Keeper:
    """An agent on the events topic: keeps each event, and can be made to wait or to fail."""

    def __init__(self, app: StreamApp) -> None:
        self.events: asyncio.Queue[EventT[Any]] = asyncio.Queue()
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None
        topic = app.topic(
            app.settings.kafka.events_topic,
            key_type=bytes,
            key_serializer="raw",
            value_type=None,
            value_serializer="raw",
            acks=False,
        )

        @app.agent(topic, name="keep")
        async def keep(batches: StreamT[Any]) -> None:
            async for event in batches.events():
                await self.open.wait()
                self.events.put_nowait(event)
                if self.error is not None:
                    raise self.error

    async def batch(self, tp: TP, position: int | None = None) -> tuple[int, Batch]:
        """Return generation and batch of the next event of a partition, at a position if given."""
        while True:
            message = (await self.events.get()).message
            if message.tp == tp and (position is None or message.value.position == position):
                return message.generation_id, message.value


@contextlib.contextmanager
def unstarted(app: StreamApp) -> Iterator[StreamApp]:
    """Give an app that is only looked at, and close the loop that its consumer has made."""
    try:
        yield app
    finally:
        app.consumer._thread.thread_loop.close()


@contextlib.asynccontextmanager
async def running(app: StreamApp) -> AsyncIterator[None]:
    """Start an app and stop it in the end."""
    await app.start()
    try:
        yield
    finally:
        await app.stop()


async def becomes(condition: Callable[[], bool]) -> None:
    """Return when it holds; for what nobody is told of."""
    while not condition():  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def administration(address: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def create_topics(address: str, partitions: Mapping[str, int]) -> None:
    async with administration(address) as admin:
        await admin.create_topics([NewTopic(name, count, 1) for name, count in partitions.items()])


async def produce(address: str, topic: str, *values: bytes, partition: int = 0) -> None:
    """Append records in one batch, so that they become visible together."""
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        batch = producer.create_batch()
        for value in values:
            batch.append(key=None, value=value, timestamp=None)
        await (await producer.send_batch(batch, topic, partition=partition))


async def committed(address: str, group: str) -> dict[TopicPartition, tuple[int, str]]:
    """Return offset and metadata of all that a group has committed."""
    async with administration(address) as admin:
        found = await admin.list_consumer_group_offsets(group)
    return {tp: (it.offset, it.metadata) for tp, it in found.items() if it.offset >= 0}


class _Told(ConsumerRebalanceListener):  # type: ignore[misc] # it has no types
    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        del revoked

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._tell(f"another got {len(assigned)}")


@contextlib.asynccontextmanager
async def another_member(
    app: StreamApp, tell: Callable[[str], None] = lambda _: None
) -> AsyncIterator[AIOKafkaConsumer]:
    """Let a plain consumer join the app's group; it has its partitions when this is entered."""
    kafka = app.settings.kafka
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.broker.removeprefix("kafka://"),
        group_id=kafka.group,
        partition_assignment_strategy=[RoundRobinPartitionAssignor],
        enable_auto_commit=False,
        heartbeat_interval_ms=300,
    )
    async with consumer:
        consumer.subscribe([kafka.events_topic], listener=_Told(tell))
        await consumer._subscription.wait_for_assignment()
        yield consumer
