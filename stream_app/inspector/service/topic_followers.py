"""Followers of both topics, which outlast a broker's absence.

    receipts topic ─> ReceiptsFollower: the newest receipts, then new ones ─> the index
    events topic ───> EventsFollower: new events, while a page is open ────> the open pages

While Kafka is away, `error` holds the reason, and the connection is retried under back-off.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.inspector.core.cursors import shares
from stream_app.inspector.core.index import INDEXED_RECEIPTS_MAX, Entry, Index
from stream_app.kafka.reader import PROBE_SECONDS, TopicReader
from stream_app.records import Batch

BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Pauses between two tries to reach Kafka; the last one repeats."""
RECEIPTS_PER_POLL_MAX: Final = 500
EVENTS_PER_POLL_MAX: Final = 2_000
FOLLOWER_FETCH_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one fetch from one partition."""
BEHIND_MAX: Final = 5_000
"""Records of a partition by which the events follower may be behind before it skips some."""
KEPT_MAX: Final = 50
"""Newest records that it does not skip then."""
LINGER_SECONDS: Final = 30.0
"""Time for which events are followed after the last page has closed: it may be loaded again."""

logger = logging.getLogger(__name__)


class _TopicFollower(ABC):
    """Follower of one topic.

    Args:
        kafka: The connection.
        topic: The topic.
        partitions: Number of its partitions.
        on_error: Called with the reason why the topic cannot be read, with None when it can again.
        **options: Of the consumer.
    """

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        partitions: int,
        on_error: Callable[[str | None], None],
        **options: Any,  # noqa: ANN401 - aiokafka's
    ) -> None:
        self.error: str | None = None
        """The reason why Kafka cannot be read at present."""
        self.partitions = partitions
        """Number of the topic's partitions."""
        self._kafka = kafka
        self._topic = topic
        self._on_error = on_error
        self._options = options

    async def run(self) -> None:
        """Follow the topic until the task is cancelled."""
        failures = 0
        while True:
            try:
                await self._follow()
                failures = 0
            except SetupError as error:
                if self.error is None:
                    logger.warning("%s cannot be read: %s", self._topic, error)
                    failures = 0
                self.error = str(error)
                self._on_error(self.error)
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1

    async def _follow(self) -> None:
        reader = TopicReader(
            self._kafka,
            self._topic,
            self.partitions,
            max_partition_fetch_bytes=FOLLOWER_FETCH_BYTES_MAX,
            **self._options,
        )
        async with reader:
            self.partitions = reader.partitions
            await self._read(reader)
            self.partitions = reader.partitions

    @abstractmethod
    async def _read(self, reader: TopicReader) -> None:
        """Read until the topic has more partitions, or nothing more is wanted for now."""

    def _recovered(self) -> None:
        if self.error is not None:
            logger.info("%s is read again", self._topic)
            self.error = None
            self._on_error(None)


class ReceiptsFollower(_TopicFollower):
    """Follower of the receipts topic: first the newest messages, about in order, then new ones.

    Args:
        kafka: The connection.
        partitions: Number of the topic's partitions.
        index: Takes the receipts.
        on_entries: Called with receipts that come after the newest ones were loaded.
        on_error: Called with the reason why there are none, with None when there are again.
        receipts_max: Messages to begin with.
    """

    def __init__(
        self,
        kafka: Kafka,
        partitions: int,
        index: Index,
        on_entries: Callable[[Sequence[Entry]], None],
        on_error: Callable[[str | None], None],
        *,
        receipts_max: int = INDEXED_RECEIPTS_MAX,
    ) -> None:
        super().__init__(
            kafka, kafka.receipts_topic, partitions, on_error, auto_offset_reset="earliest"
        )
        self.loaded = asyncio.Event()
        """Set once the newest messages were read."""
        self._index = index
        self._on_entries = on_entries
        self._receipts_max = receipts_max
        self._positions: dict[int, int] = {}

    async def _read(self, reader: TopicReader) -> None:
        ends, begins = await reader.ends(), await reader.begins()
        sizes = [end - begin for begin, end in zip(begins, ends, strict=True)]
        starts = {}
        for partition, share in enumerate(shares(sizes, self._receipts_max)):
            end = ends[partition]
            start = self._positions.setdefault(partition, end - share)
            # A position beyond the log: the topic was deleted and created again.
            starts[partition] = start if start <= end else begins[partition]
        reader.assign(starts)
        self._recovered()
        await self._load(reader, dict(enumerate(ends)))
        self.loaded.set()
        async with aclosing(reader.follow(RECEIPTS_PER_POLL_MAX)) as polls:
            async for batches in polls:
                entries = [it for item in batches.items() for it in self._take(*item)]
                if entries:
                    self._on_entries(entries)

    async def _load(self, reader: TopicReader, ends: dict[int, int]) -> None:
        """Read up to these ends, always of the partition whose last message is the oldest."""
        times = dict.fromkeys(ends, 0)
        async with aclosing(
            reader.read(
                ends,
                choose=lambda behind: [min(behind, key=times.__getitem__)],
                records_max=RECEIPTS_PER_POLL_MAX,
                silence_seconds=PROBE_SECONDS,
                on_silence=reader.probe,
            )
        ) as polls:
            async for batches in polls:
                for partition, batch in batches.items():
                    self._take(partition, batch)
                    if batch.records:
                        times[partition] = batch.records[-1].timestamp

    def _take(self, partition: int, batch: Batch) -> list[Entry]:
        self._positions[partition] = batch.next_position
        if batch.undecodable is not None:
            self._positions[partition] = batch.undecodable.end or batch.next_position
            logger.warning(
                "%s/%d: the receipts at offsets %s are left out, since their record batch cannot "
                "be decoded: %s",
                *(self._topic, partition, batch.undecodable.offsets, batch.undecodable.reason),
            )
        added = (
            self._index.add(partition, it.offset, it.headers, it.value) for it in batch.records
        )
        return [it for it in added if it is not None]


class EventsFollower(_TopicFollower):
    """Follower of the events topic while a page is open.

    Args:
        kafka: The connection.
        partitions: Number of the topic's partitions.
        on_records: Takes records, and the number of records that were skipped.
        on_error: Called with the reason why there are none, with None when there are again.
    """

    def __init__(
        self,
        kafka: Kafka,
        partitions: int,
        on_records: Callable[[Sequence[Any], int], None],
        on_error: Callable[[str | None], None],
    ) -> None:
        super().__init__(
            kafka,
            kafka.events_topic,
            partitions,
            on_error,
            auto_offset_reset="latest",
            isolation_level="read_committed",
        )
        self.at_end = asyncio.Event()
        """Set while everything that is appended is passed on."""
        self._on_records = on_records
        self._active = asyncio.Event()

    def set_active(self, *, active: bool) -> None:
        """Start following, or stop it after `LINGER_SECONDS`."""
        if active:
            self._active.set()
        else:
            self._active.clear()

    async def _follow(self) -> None:
        await self._active.wait()
        try:
            await super()._follow()
        finally:
            self.at_end.clear()

    async def _read(self, reader: TopicReader) -> None:
        reader.assign(dict(enumerate(await reader.ends())))
        self._recovered()
        self.at_end.set()
        loop = asyncio.get_running_loop()
        active_at = loop.time()
        async with aclosing(reader.follow(EVENTS_PER_POLL_MAX)) as polls:
            async for batches in polls:
                if self._active.is_set():
                    active_at = loop.time()
                elif loop.time() - active_at > LINGER_SECONDS:
                    return
                records = [it for batch in batches.values() for it in batch.records]
                if records:
                    skipped = [_catch_up(reader, *it) for it in batches.items()]
                    self._on_records(records, sum(skipped))


def _catch_up(reader: TopicReader, partition: int, batch: Batch) -> int:
    """Skip records if they are too many to show; return their number."""
    position, end = batch.next_position, reader.log_end(partition)
    if end is None or end - position <= BEHIND_MAX:
        return 0
    reader.seek(partition, end - KEPT_MAX)
    return end - KEPT_MAX - position
