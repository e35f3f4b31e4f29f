"""Following both topics, without a group and through a broker's absence.

    receipts topic ─> ReceiptsFeed: the last ones, then what comes ─> the index
    events topic ───> EventsTail: what comes, while a page looks ──> the pages that are open

While Kafka is away, `trouble` says so, and it is asked again under back-off.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream_app.errors import SetupError
from stream_app.inspector.consumers import start, stop
from stream_app.inspector.outcomes import RECEIPTS_MAX, Entry, Index
from stream_app.inspector.places import shares
from stream_app.kafka import explained
from stream_app.settings import Kafka

POLL_MS: Final = 500
PROBE_SECONDS: Final = 5.0
"""After so long without a message the broker is asked whether it is there."""
COUNT_SECONDS: Final = 60.0
"""After so long in any case, to learn of new partitions."""
BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Between two tries to reach Kafka; the last one again and again."""
METADATA_MS: Final = 60_000
"""How old the number of partitions may be."""
LOAD_RECORDS_MAX: Final = 500
RECORDS_MAX: Final = 2_000
PARTITION_BYTES_MAX: Final = 1024 * 1024
BEHIND_MAX: Final = 5_000
"""Records of a partition by which the tail may be behind before it leaves them out."""
KEPT_MAX: Final = 50
"""Records that it begins again with then."""
LINGER_SECONDS: Final = 30.0
"""How long the tail is followed when the last page has gone: it may be loaded again."""

logger = logging.getLogger(__name__)


class _Feed(ABC):
    """One topic that is followed.

    Args:
        kafka: Where.
        topic: Which.
        partitions: How many it has now.
        on_trouble: Is told why it cannot be read, and None when it can be again.
        **options: For the consumer.
    """

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        partitions: int,
        on_trouble: Callable[[str | None], None],
        **options: Any,  # noqa: ANN401 - aiokafka's
    ) -> None:
        self.trouble: str | None = None
        """Why Kafka cannot be read at the moment."""
        self.partitions = partitions
        self._kafka = kafka
        self._topic = topic
        self._on_trouble = on_trouble
        self._options = options

    async def run(self) -> None:
        """Follow the topic for ever."""
        failures = 0
        while True:
            try:
                await self._follow()
                failures = 0
            except (SetupError, KafkaError) as error:
                if self.trouble is None:
                    logger.warning("%s cannot be read: %s", self._topic, error)
                    failures = 0
                self.trouble = str(error)
                self._on_trouble(self.trouble)
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1

    async def _follow(self) -> None:
        with explained(self._kafka, topic=self._topic):
            consumer = await start(
                self._kafka,
                metadata_max_age_ms=METADATA_MS,
                max_partition_fetch_bytes=PARTITION_BYTES_MAX,
                **self._options,
            )
            try:
                self._count(consumer)
                await self._read(consumer)
            finally:
                await stop(consumer)

    @abstractmethod
    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Read until the partitions are others, or there is nothing more to do for now."""

    def _assign(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        partitions = [TopicPartition(self._topic, it) for it in range(self.partitions)]
        consumer.assign(partitions)
        return partitions

    async def _poll(
        self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], records_max: int
    ) -> AsyncIterator[dict[TopicPartition, list[Any]]]:
        """Yield what comes, be it nothing, until the topic has more partitions."""
        loop = asyncio.get_running_loop()
        heard_at = counted_at = loop.time()
        while True:
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=records_max)
            yield fetched
            now = loop.time()
            heard_at = now if fetched else heard_at
            if now - heard_at > PROBE_SECONDS or now - counted_at > COUNT_SECONDS:
                await self._probe(consumer, partitions)
                heard_at = counted_at = loop.time()
                if self._count(consumer):
                    return

    async def _probe(self, consumer: AIOKafkaConsumer, of: Sequence[TopicPartition]) -> None:
        """Ask the broker whether it is there."""
        async with asyncio.timeout(PROBE_SECONDS):
            await consumer.end_offsets(of)
        self._is_well()

    def _count(self, consumer: AIOKafkaConsumer) -> bool:
        """Note how many partitions the topic has; return whether they have become more."""
        known = len(consumer.partitions_for_topic(self._topic) or ())
        has_more = known > self.partitions
        self.partitions = max(self.partitions, known)
        return has_more

    def _is_well(self) -> None:
        if self.trouble is not None:
            logger.info("%s is read again", self._topic)
            self.trouble = None
            self._on_trouble(None)


class ReceiptsFeed(_Feed):
    """The receipts topic: its last messages, in about the order in which they came, then all.

    Args:
        kafka: Where.
        partitions: How many the topic has.
        index: Takes the receipts.
        on_entries: Is told of those that come once the last ones are read.
        on_trouble: Is told why there are none, and None when there are again.
        receipts_max: How many messages to begin with.
    """

    def __init__(
        self,
        kafka: Kafka,
        partitions: int,
        index: Index,
        on_entries: Callable[[Sequence[Entry]], None],
        on_trouble: Callable[[str | None], None],
        *,
        receipts_max: int = RECEIPTS_MAX,
    ) -> None:
        super().__init__(
            kafka, kafka.receipts_topic, partitions, on_trouble, auto_offset_reset="earliest"
        )
        self.loaded = asyncio.Event()
        """Whether the last messages were read."""
        self._index = index
        self._on_entries = on_entries
        self._receipts_max = receipts_max
        self._positions: dict[TopicPartition, int] = {}

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        partitions = self._assign(consumer)
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        given = shares([ends[it] - begins[it] for it in partitions], self._receipts_max)
        for tp, share in zip(partitions, given, strict=True):
            begin = self._positions.setdefault(tp, ends[tp] - share)
            # It lies beyond the log if the topic was deleted and made anew.
            consumer.seek(tp, begin if begin <= ends[tp] else begins[tp])
        self._is_well()
        await self._load(consumer, ends)
        self.loaded.set()
        await self._go_on(consumer, partitions)

    async def _load(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        """Read up to the newest that there are now, always of the partition that is oldest."""
        loop = asyncio.get_running_loop()
        times = dict.fromkeys(ends, 0)
        heard_at = loop.time()
        while behind := [it for it, end in ends.items() if await consumer.position(it) < end]:
            oldest = min(behind, key=times.__getitem__)
            fetched = await consumer.getmany(
                oldest, timeout_ms=POLL_MS, max_records=LOAD_RECORDS_MAX
            )
            for records in fetched.values():
                self._take(records)
                times[oldest] = records[-1].timestamp if records else times[oldest]
                heard_at = loop.time()
            if loop.time() - heard_at > PROBE_SECONDS:
                await self._probe(consumer, list(ends))
                heard_at = loop.time()

    async def _go_on(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        async for fetched in self._poll(consumer, partitions, LOAD_RECORDS_MAX):
            entries = [it for records in fetched.values() for it in self._take(records)]
            if entries:
                self._on_entries(entries)

    def _take(self, records: Sequence[Any]) -> list[Entry]:
        entries = []
        for record in records:
            entry = self._index.add(record.partition, record.offset, record.headers, record.value)
            if entry is not None:
                entries.append(entry)
        if records:
            tp = TopicPartition(self._topic, records[-1].partition)
            self._positions[tp] = records[-1].offset + 1
        return entries


class EventsTail(_Feed):
    """What comes into the events topic, while somebody looks.

    Args:
        kafka: Where.
        partitions: How many the topic has.
        on_records: Takes records, and how many more came and were left out.
        on_trouble: Is told why there are none, and None when there are again.
    """

    def __init__(
        self,
        kafka: Kafka,
        partitions: int,
        on_records: Callable[[Sequence[Any], int], None],
        on_trouble: Callable[[str | None], None],
    ) -> None:
        super().__init__(
            kafka,
            kafka.events_topic,
            partitions,
            on_trouble,
            auto_offset_reset="latest",
            isolation_level="read_committed",
        )
        self.at_end = asyncio.Event()
        """Whether everything that comes from now on is told."""
        self._on_records = on_records
        self._wanted = asyncio.Event()

    def want(self, *, wanted: bool) -> None:
        """Say whether anybody looks."""
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()

    async def _follow(self) -> None:
        await self._wanted.wait()
        try:
            await super()._follow()
        finally:
            self.at_end.clear()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        partitions = self._assign(consumer)
        for tp, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(tp, end)
        self._is_well()
        self.at_end.set()
        loop = asyncio.get_running_loop()
        wanted_at = loop.time()
        async for fetched in self._poll(consumer, partitions, RECORDS_MAX):
            if self._wanted.is_set():
                wanted_at = loop.time()
            elif loop.time() - wanted_at > LINGER_SECONDS:
                return
            if fetched:
                left_out = [await self._catch_up(consumer, tp) for tp in fetched]
                self._on_records(
                    [it for records in fetched.values() for it in records], sum(left_out)
                )

    async def _catch_up(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> int:
        """Leave out what nobody can look at any more; return how many records that were."""
        position, end = await consumer.position(tp), consumer.last_stable_offset(tp)
        if end is None or end - position <= BEHIND_MAX:
            return 0
        consumer.seek(tp, end - KEPT_MAX)
        return int(end - KEPT_MAX - position)
