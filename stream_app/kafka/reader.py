"""Readers of topics without a consumer group: nothing is committed, no worker is disturbed.

    TopicReader ──> starts and stops the consumer; the only poll loop
      ├── kafka.receipts_topic, for `stream-app receipts`
      ├── ReceiptsReader, EventsReader, for `stream-app redeliver`
      └── the Inspector's followers and its pool of readers

Each reader has bounds of its own for silence, memory and new partitions.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition as ClientPartition

from stream_app.config.settings import Kafka
from stream_app.kafka.connection import check_connection, client_options, translate_errors
from stream_app.kafka.positions import partition_states
from stream_app.kafka.record_batches import split
from stream_app.kafka.secrets import RenewedPassword, use_password
from stream_app.records import Batch, Headers, Undecodable

REQUEST_MS_MAX: Final = 10_000
"""Timeout of one request."""
FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Size of one fetch; a single record that is larger is fetched all the same."""
POLL_MS: Final = 500
SILENCE_SECONDS_MAX: Final = 30.0
"""Time without progress after which Kafka counts as gone."""
PROBE_SECONDS: Final = 5.0
"""Time without progress after which a follower probes the broker, and timeout of the probe."""
COUNT_SECONDS: Final = 60.0
"""Interval at which a busy follower looks for new partitions."""
RUN_RECORDS_MAX: Final = 2_000
"""Events of one batch of a run."""

OnMessage = Callable[[Headers, bytes | None], None]
"""Takes headers and value of a message."""
Choose = Callable[[Sequence[int]], Sequence[int]]
"""Chooses the partitions to read next among those that are not read to their end."""


class TopicReader:
    """Consumer of one topic without a group; an async context manager.

    Args:
        kafka: The connection.
        topic: The topic.
        partitions: Number of its partitions, as far as it is known.
        **options: Of `AIOKafkaConsumer`.

    Raises:
        SetupError: From every method: Kafka refuses, or does not respond.
    """

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        partitions: int,
        **options: Any,  # noqa: ANN401 - aiokafka's
    ) -> None:
        self.partitions = partitions
        """Number of the topic's partitions."""
        self._kafka = kafka
        self._password = RenewedPassword(kafka)
        self._topic = topic
        self._options = options
        self._probed_at = 0.0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect."""
        with self._translated():
            await check_connection(self._kafka)
            self._consumer = AIOKafkaConsumer(
                **client_options(self._kafka),
                group_id=None,
                enable_auto_commit=False,
                request_timeout_ms=REQUEST_MS_MAX,
                fetch_max_bytes=FETCH_BYTES_MAX,
                **self._options,
            )
            try:
                await self._consumer.start()
                self._count()
            except BaseException:
                await self.stop()
                raise

    async def stop(self) -> None:
        """Disconnect, whether the broker responds or not."""
        try:
            await self._consumer.stop()
        except asyncio.CancelledError:
            # aiokafka awaits fetches that it has cancelled itself. If one fails just then, `stop`
            # raises as if this task were cancelled, and leaves its connections open.
            await self._consumer._client.close()  # noqa: SLF001 - there is no other way
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    async def begins(self) -> list[int]:
        """Return the first offset of each partition's log."""
        with self._translated():
            found = await self._consumer.beginning_offsets(self._all)
        return [found[it] for it in self._all]

    async def ends(self) -> list[int]:
        """Return the offset after the last readable record of each partition."""
        with self._translated():
            found = await self._consumer.end_offsets(self._all)
        return [found[it] for it in self._all]

    async def positions_at(self, time_ms: int) -> list[int]:
        """Return, for each partition, the offset of the first record that is later."""
        ends = await self.ends()
        with self._translated():
            found = await self._consumer.offsets_for_times(dict.fromkeys(self._all, time_ms + 1))
        return [
            end if (at := found.get(it)) is None else min(end, at.offset)
            for it, end in zip(self._all, ends, strict=True)
        ]

    def assign(self, positions: Mapping[int, int]) -> None:
        """Read these partitions, each from its offset; records fetched ahead are dropped."""
        with self._translated():
            self._consumer.assign([self._tp(it) for it in positions])
            for partition, offset in positions.items():
                self._consumer.seek(self._tp(partition), offset)

    def seek(self, partition: int, offset: int) -> None:
        """Read an assigned partition from another offset."""
        with self._translated():
            self._consumer.seek(self._tp(partition), offset)

    def pause(self) -> None:
        """Fetch nothing ahead until the next `assign`."""
        self._consumer.pause(*self._consumer.assignment())

    def log_end(self, partition: int) -> int | None:
        """Return the end of the log that a reader of committed records sees, if it is known."""
        end: int | None = self._consumer.last_stable_offset(self._tp(partition))
        return end

    async def probe(self) -> None:
        """Ask the broker for the ends of the log, and note new partitions."""
        password = self._password.renewed()
        if password is not None:
            use_password(self._consumer._client, password)  # noqa: SLF001
        with self._translated():
            async with asyncio.timeout(PROBE_SECONDS):
                await self._consumer.end_offsets(list(self._consumer.assignment()))
        self._count()
        self._probed_at = asyncio.get_running_loop().time()

    async def read(
        self,
        ends: Mapping[int, int] | None = None,
        *,
        choose: Choose | None = None,
        records_max: int | None = None,
        silence_seconds: float = SILENCE_SECONDS_MAX,
        on_silence: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[Mapping[int, Batch]]:
        """Yield what is fetched of the assigned partitions, also when that is nothing.

        Args:
            ends: Offsets at which to stop, by partition; the last batch may go beyond. None: read
                on without an end.
            choose: The partitions to read next; None: all that are not read to their end.
            records_max: Records of all batches that are yielded together.
            silence_seconds: Time without progress after which `on_silence` is called.
            on_silence: By default reading fails, unless there is no end.

        Yields:
            Batches by partition. Where the consumer has `auto_offset_reset="none"` and retention
            deletes what is about to be read, the partition is left out from then on. A record batch
            that cannot be decoded is left out: the next batch of its partition begins after it. If
            its end is unknown, the partition is left out from then on.
        """
        left = None if ends is None else dict(ends)
        loop = asyncio.get_running_loop()
        last_progress_at = loop.time()
        with self._translated():
            while True:
                before = self._positions()
                behind = () if left is None else _behind(left, before)
                if left is not None and not behind:
                    return
                chosen = behind if choose is None else choose(behind)
                fetched: Mapping[ClientPartition, list[Any]] = {}
                try:
                    fetched = await self._consumer.getmany(
                        *map(self._tp, chosen),
                        timeout_ms=POLL_MS,
                        max_records=_limit(records_max, left, chosen, before),
                    )
                except OffsetOutOfRangeError as error:
                    if left is None:
                        raise
                    for tp in error.args[0]:
                        left.pop(tp.partition, None)
                batches = self._batches(before, fetched, left)
                yield batches
                if batches:
                    last_progress_at = loop.time()
                elif loop.time() - last_progress_at > silence_seconds:
                    if on_silence is not None:
                        await on_silence()
                    elif left is not None:
                        raise TimeoutError(f"silent for {silence_seconds:.0f} s")
                    last_progress_at = loop.time()

    async def follow(self, records_max: int) -> AsyncGenerator[Mapping[int, Batch]]:
        """Yield what is appended, also when that is nothing, until the topic has more partitions.

        The broker is probed when nothing has come for a while, so that its absence is an error.
        """
        loop = asyncio.get_running_loop()
        self._probed_at = loop.time()
        assigned = len(self._consumer.assignment())
        async with aclosing(
            self.read(records_max=records_max, silence_seconds=PROBE_SECONDS, on_silence=self.probe)
        ) as polls:
            async for batches in polls:
                yield batches
                if loop.time() - self._probed_at > COUNT_SECONDS:
                    await self.probe()
                if self.partitions > assigned:
                    return

    def _batches(
        self,
        before: Mapping[int, int],
        fetched: Mapping[ClientPartition, Sequence[Any]],
        left: dict[int, int] | None,
    ) -> dict[int, Batch]:
        batches = {}
        for partition, position in self._positions().items():
            records, undecodable = split(fetched.get(self._tp(partition), ()))
            if undecodable is not None:
                undecodable = self._leave_out(partition, undecodable, left)
            if position != before.get(partition) or undecodable is not None:
                begin = before.get(partition, position)
                batches[partition] = Batch(begin, position, records, undecodable)
        return batches

    def _leave_out(
        self, partition: int, found: Undecodable, left: dict[int, int] | None
    ) -> Undecodable:
        """Continue after a record batch that cannot be decoded; return what is known of it."""
        tp = self._tp(partition)
        found = found.within(self._consumer.highwater(tp))
        if found.end is not None:
            self._consumer.seek(tp, found.end)
        elif left is None:
            self._consumer.pause(tp)
        else:
            left.pop(partition, None)
        return found

    @property
    def _all(self) -> list[ClientPartition]:
        return [self._tp(it) for it in range(self.partitions)]

    def _tp(self, partition: int) -> ClientPartition:
        return ClientPartition(self._topic, partition)

    def _positions(self) -> dict[int, int]:
        return {tp.partition: it.position for tp, it in partition_states(self._consumer).items()}

    def _count(self) -> None:
        known = self._consumer.partitions_for_topic(self._topic) or ()
        self.partitions = max(self.partitions, len(known))

    def _translated(self) -> AbstractContextManager[None]:
        return translate_errors(self._kafka, topic=self._topic)


def _behind(ends: Mapping[int, int], positions: Mapping[int, int]) -> tuple[int, ...]:
    """Return the partitions that are not read to their end."""
    return tuple(it for it, end in ends.items() if positions.get(it, -1) < end)


def _limit(
    records_max: int | None,
    ends: Mapping[int, int] | None,
    chosen: Sequence[int],
    positions: Mapping[int, int],
) -> int | None:
    """Return how many records to take: what lies beyond an end stays fetched, for a later read."""
    if ends is None:
        return records_max
    left = sum(ends[it] - positions.get(it, 0) for it in chosen)
    return left if records_max is None else min(records_max, left)


class ReceiptsReader(TopicReader):
    """Reader of the receipts topic."""

    def __init__(self, kafka: Kafka, partitions: int) -> None:
        super().__init__(kafka, kafka.receipts_topic, partitions, auto_offset_reset="earliest")
        self.undecodable: list[str] = []
        """Receipts that could not be decoded, as texts name their offsets."""

    async def read_all(self, on_message: OnMessage) -> None:
        """Pass on every message from the oldest to the newest at this time."""
        self.assign(dict(enumerate(await self.begins())))
        await self.read_new(on_message)

    async def read_new(self, on_message: OnMessage) -> None:
        """Pass on what was not read yet, up to the newest message at this time."""
        ends = dict(enumerate(await self.ends()))
        async with aclosing(self.read(ends)) as polls:
            async for batches in polls:
                for partition, batch in batches.items():
                    for record in batch.records:
                        on_message(record.headers, record.value)
                    if batch.undecodable is not None:
                        self.undecodable.append(f"{partition}@{batch.undecodable.offsets}")


class EventsReader(TopicReader):
    """Reader of runs of offsets of the events topic: committed records only, as a worker."""

    def __init__(self, kafka: Kafka, partitions: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(
            kafka,
            kafka.events_topic,
            partitions,
            # With another value records that retention has deleted would be skipped silently.
            auto_offset_reset="none",
            isolation_level="read_committed",
            **options,
        )
        self._next: tuple[int, int] | None = None
        """Partition and offset at which the consumer continues with what it has fetched ahead."""

    async def read_run(self, partition: int, first: int, end: int) -> AsyncGenerator[Batch]:
        """Yield what is left of the offsets from `first` up to `end`, which is excluded.

        Yields:
            Batches that continue one another.
        """
        tp = self._tp(partition)
        with self._translated():
            position = max(first, (await self._consumer.beginning_offsets([tp]))[tp])
            # An end beyond the log: the topic was deleted and created again.
            end = min(end, (await self._consumer.end_offsets([tp]))[tp])
        if position >= end:
            return
        if self._next != (partition, position):
            self.assign({partition: position})
        self._next = None
        async with aclosing(self.read({partition: end}, records_max=RUN_RECORDS_MAX)) as polls:
            async for batches in polls:
                for batch in batches.values():
                    is_there = batch.undecodable is None  # Otherwise the consumer was sought.
                    self._next = (partition, batch.next_position) if is_there else None
                    yield batch.before(end)
