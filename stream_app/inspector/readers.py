"""Reading runs of the events topic again, without a group: a small pool of consumers.

    async with readers.borrow() as reader:
        ends = await reader.ends()
        await reader.read({0: Run(100, 200)}, take)

Only committed records are read, as a worker reads them. A reader that has failed is not used again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from stream_app.errors import SetupError
from stream_app.inspector.consumers import start, stop
from stream_app.inspector.places import Run
from stream_app.inspector.turns import Turns
from stream_app.kafka import explained
from stream_app.settings import Kafka

READERS_MAX: Final = 4
"""Requests that read at the same time; the others wait."""
PARTITION_BYTES_MAX: Final = 256 * 1024
FETCH_WAIT_MS: Final = 50
"""How long the broker may wait at the end of the log: the next request waits for it too."""
POLL_MS: Final = 500
RECORDS_MAX: Final = 500
"""Records handed out at a time: between two times others have their turn."""
SILENCE_SECONDS_MAX: Final = 5.0
"""How long reading goes without progress before Kafka counts as gone."""

Take = Callable[[int, list[Any]], Awaitable[None]]
"""Takes records of a partition, in offset order."""


class Reader:
    """A consumer without a group, and the topic that it reads."""

    def __init__(self, kafka: Kafka, consumer: AIOKafkaConsumer, partitions: int) -> None:
        self._kafka = kafka
        self._topic = kafka.events_topic
        self._consumer = consumer
        self._partitions = [TopicPartition(self._topic, it) for it in range(partitions)]

    @property
    def partitions(self) -> int:
        """How many the topic has."""
        return len(self._partitions)

    async def begins(self) -> list[int]:
        """Return the first offset of each partition's log."""
        with explained(self._kafka, topic=self._topic):
            found = await self._consumer.beginning_offsets(self._partitions)
        return [found[it] for it in self._partitions]

    async def ends(self) -> list[int]:
        """Return the offset behind the last committed record of each partition."""
        with explained(self._kafka, topic=self._topic):
            found = await self._consumer.end_offsets(self._partitions)
        return [found[it] for it in self._partitions]

    async def positions_at(self, time_ms: int) -> list[int]:
        """Return, for each partition, the offset of the first record that is later."""
        ends = await self.ends()
        with explained(self._kafka, topic=self._topic):
            found = await self._consumer.offsets_for_times(
                dict.fromkeys(self._partitions, time_ms + 1)
            )
        return [
            end if (at := found.get(it)) is None else min(end, at.offset)
            for it, end in zip(self._partitions, ends, strict=True)
        ]

    async def read(self, runs: Mapping[int, Run], take: Take) -> None:
        """Hand out the records of runs of offsets, of each partition in order; holes are possible.

        What retention deletes meanwhile is passed over.

        Raises:
            SetupError: Kafka refuses, or has stopped to answer.
        """
        ends = {
            TopicPartition(self._topic, partition): run.end
            for partition, run in runs.items()
            if run.first < run.end
        }
        if not ends:
            return
        with explained(self._kafka, topic=self._topic, unless=(OffsetOutOfRangeError,)):
            self._consumer.assign(list(ends))
            for tp in ends:
                self._consumer.seek(tp, runs[tp.partition].first)
            try:
                await self._read(ends, take)
            finally:
                # Nothing is fetched for nobody; what was fetched goes with the next assignment.
                self._consumer.pause(*ends)

    async def _read(self, ends: Mapping[TopicPartition, int], take: Take) -> None:
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        seen = dict.fromkeys(ends, -1)
        waiting = set(ends)
        while waiting:
            fetched: Mapping[TopicPartition, list[Any]] = {}
            try:
                fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
            except OffsetOutOfRangeError as error:
                waiting -= set(error.args[0])
            for tp, records in fetched.items():
                if tp in waiting:
                    await take(tp.partition, [it for it in records if it.offset < ends[tp]])
            for tp in tuple(waiting):
                position = await self._consumer.position(tp)
                if position != seen[tp]:
                    seen[tp], heard_at = position, loop.time()
                if position >= ends[tp]:
                    waiting.discard(tp)
            if loop.time() - heard_at > SILENCE_SECONDS_MAX:
                raise TimeoutError(f"silent for {SILENCE_SECONDS_MAX:.0f} s")


class Readers:
    """The pool; close it at the end.

    Args:
        kafka: Where from.
        partitions: Tells how many the topic has.
        readers_max: Readers at a time.
    """

    def __init__(
        self, kafka: Kafka, partitions: Callable[[], int], *, readers_max: int = READERS_MAX
    ) -> None:
        self._kafka = kafka
        self._partitions = partitions
        self._turns = Turns(readers_max, "read Kafka")
        self._idle: list[AIOKafkaConsumer] = []

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Reader]:
        """Give a reader for one request.

        Raises:
            BusyError: None is free in time.
            SetupError: Kafka cannot be asked.
        """
        async with self._turns.turn():
            consumer = self._idle.pop() if self._idle else await self._start()
            try:
                yield Reader(self._kafka, consumer, self._partitions())
            except (SetupError, KafkaError, TimeoutError, asyncio.CancelledError):
                await stop(consumer)
                raise
            except BaseException:
                self._idle.append(consumer)
                raise
            self._idle.append(consumer)

    async def aclose(self) -> None:
        """Close every reader that is idle."""
        while self._idle:
            await stop(self._idle.pop())

    async def _start(self) -> AIOKafkaConsumer:
        with explained(self._kafka, topic=self._kafka.events_topic):
            return await start(
                self._kafka,
                # What retention has deleted is passed over, and never read from its other end.
                auto_offset_reset="none",
                isolation_level="read_committed",
                max_partition_fetch_bytes=PARTITION_BYTES_MAX,
                fetch_max_wait_ms=FETCH_WAIT_MS,
            )
