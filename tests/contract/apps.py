"""Faust apps in the tests' process, with a real broker and an agent that keeps its events."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, ParamSpec

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition as ClientPartition
from faust.types import EventT, StreamT

from stream_app.config.settings import S3, Delivery, Kafka, Settings
from stream_app.kafka.assignor import StreamAppAssignor
from stream_app.records import Batch, TopicPartition
from stream_app.worker.faust_app import StreamApp
from stream_app.worker.faust_app import new_app as faust_app

SECONDS_MAX = 120.0
P = ParamSpec("P")


def run(work: Awaitable[Any]) -> None:
    """Run to the end, or fail after SECONDS_MAX."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await work

    asyncio.run(bounded())


def in_a_bounded_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in an event loop of its own, for SECONDS_MAX at most."""

    @functools.wraps(test)
    def bounded(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return bounded


def new_app(address: str = "127.0.0.1:1", prefix: str = "", **kafka: Any) -> StreamApp:
    """Return the worker's app with nothing on it yet: topic `PREFIXevents`, group `PREFIXgroup`."""
    settings = Kafka(
        broker=f"kafka://{address}",
        group=f"{prefix}group",
        events_topic=f"{prefix}events",
        receipts_topic=f"{prefix}receipts",
        **kafka,
    )
    return faust_app(Settings(settings, S3(), Delivery(), ()))


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

    async def batch(self, tp: TopicPartition, position: int | None = None) -> tuple[int, Batch]:
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
    """Return when the condition holds; for state without an event."""
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


async def committed(address: str, group: str) -> dict[ClientPartition, tuple[int, str]]:
    """Return offset and metadata of all that a group has committed."""
    async with administration(address) as admin:
        found = await admin.list_consumer_group_offsets(group)
    return {tp: (it.offset, it.metadata) for tp, it in found.items() if it.offset >= 0}


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # it has no types
    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report

    def on_partitions_revoked(self, revoked: set[ClientPartition]) -> None:
        del revoked

    def on_partitions_assigned(self, assigned: set[ClientPartition]) -> None:
        self._report(f"another got {len(assigned)}")


@contextlib.asynccontextmanager
async def another_member(
    app: StreamApp, report: Callable[[str], None] = lambda _: None
) -> AsyncIterator[AIOKafkaConsumer]:
    """Let a plain consumer join the app's group; it has its partitions when this is entered."""
    kafka = app.settings.kafka
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.broker.removeprefix("kafka://"),
        group_id=kafka.group,
        partition_assignment_strategy=[StreamAppAssignor],
        enable_auto_commit=False,
        heartbeat_interval_ms=300,
    )
    async with consumer:
        consumer.subscribe([kafka.events_topic], listener=_Listener(report))
        await consumer._subscription.wait_for_assignment()
        yield consumer
