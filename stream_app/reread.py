"""Reading topics again, outside of the group: nothing is committed, and no worker is disturbed.

`Receipts` reads the whole receipts topic, and later what has come since. `Events` reads runs of
offsets of the events topic as a worker would: committed records only. `read_commits` tells how far
the group has come.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from stream_app.closings import Commit, decode
from stream_app.errors import SetupError
from stream_app.kafka import administration, client_options, explained
from stream_app.settings import Kafka

POLL_MS: Final = 500
SILENCE_SECONDS_MAX: Final = 30.0
"""How long reading goes without progress before Kafka counts as gone."""
RECORDS_MAX: Final = 2_000
"""Events handed out at a time."""
NONE_COMMITTED: Final = -1
"""What Kafka answers as offset where nothing was ever committed."""

Note = Callable[[Sequence[tuple[str, bytes]], bytes | None], None]
"""Takes a message's headers and value."""


class _Reader:
    """A consumer without a group; an async context manager."""

    def __init__(self, kafka: Kafka, topic: str, **options: Any) -> None:  # noqa: ANN401
        self._kafka = kafka
        self._topic = topic
        self._options = options

    async def __aenter__(self) -> Self:
        with explained(self._kafka, topic=self._topic):
            self._consumer = AIOKafkaConsumer(
                **client_options(self._kafka),
                group_id=None,
                enable_auto_commit=False,
                **self._options,
            )
            try:
                await self._consumer.start()
            except BaseException:
                await self._consumer.stop()
                raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._consumer.stop()


class Receipts(_Reader):
    """The receipts topic."""

    def __init__(self, kafka: Kafka, partitions: int) -> None:
        super().__init__(kafka, kafka.receipts_topic, auto_offset_reset="earliest")
        self._partitions = [TopicPartition(self._topic, number) for number in range(partitions)]

    async def read_all(self, note: Note) -> None:
        """Hand over every message from the oldest to the newest that there is now.

        Raises:
            SetupError: Kafka refuses, or has stopped to answer.
        """
        with explained(self._kafka, topic=self._topic):
            self._consumer.assign(self._partitions)
            await self._consumer.seek_to_beginning(*self._partitions)
            await self._read(note, await self._consumer.end_offsets(self._partitions))

    async def follow(self, note: Note) -> None:
        """Hand over what has come since, up to the newest that there is now."""
        with explained(self._kafka, topic=self._topic):
            await self._read(note, await self._consumer.end_offsets(self._partitions))

    async def _read(self, note: Note, ends: dict[TopicPartition, int]) -> None:
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while True:
            behind = [it for it, end in ends.items() if await self._consumer.position(it) < end]
            if not behind:
                return
            fetched = await self._consumer.getmany(*behind, timeout_ms=POLL_MS)
            for records in fetched.values():
                for record in records:
                    note(record.headers, record.value)
            heard_at = loop.time() if fetched else heard_at
            if loop.time() - heard_at > SILENCE_SECONDS_MAX:
                raise TimeoutError(f"silent for {SILENCE_SECONDS_MAX:.0f} s")


class Events(_Reader):
    """The events topic."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(
            kafka,
            kafka.events_topic,
            # What retention has deleted must not be passed over without a word.
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        self._next: tuple[TopicPartition, int] | None = None
        """Where the consumer goes on by itself, with what it has fetched ahead."""

    async def read(
        self, partition: int, first: int, end: int
    ) -> AsyncGenerator[tuple[int, int, Sequence[Any]]]:
        """Yield what is left of the offsets from `first` to `end`, which is not one of them.

        Yields:
            Runs without a gap between them: first offset, the first offset behind, and records.

        Raises:
            SetupError: Kafka refuses, or has stopped to answer.
        """
        tp = TopicPartition(self._topic, partition)
        loop = asyncio.get_running_loop()
        with explained(self._kafka, topic=self._topic, unless=(OffsetOutOfRangeError,)):
            if self._next is None or self._next[0] != tp:
                self._consumer.assign([tp])
                self._next = None
            position = max(first, (await self._consumer.beginning_offsets([tp]))[tp])
            # It lies beyond the log if the topic was deleted and made anew.
            end = min(end, (await self._consumer.end_offsets([tp]))[tp])
            if position < end and self._next != (tp, position):
                self._consumer.seek(tp, position)
            heard_at = loop.time()
            while position < end:
                try:
                    fetched = await self._consumer.getmany(
                        tp, timeout_ms=POLL_MS, max_records=min(RECORDS_MAX, end - position)
                    )
                except OffsetOutOfRangeError:
                    self._next = None
                    return  # retention was quicker
                self._next = tp, await self._consumer.position(tp)
                following = min(end, self._next[1])
                if following > position:
                    records = [it for it in fetched.get(tp, ()) if it.offset < end]
                    yield position, following, records
                    heard_at, position = loop.time(), following
                elif loop.time() - heard_at > SILENCE_SECONDS_MAX:
                    raise TimeoutError(f"silent for {SILENCE_SECONDS_MAX:.0f} s")


async def read_commits(kafka: Kafka, partitions: Sequence[int]) -> dict[int, Commit]:
    """Return what the group has committed, by partition; those without a commit are left out.

    Raises:
        SetupError: Kafka cannot be asked.
        InvariantError: A commit is not of this program.
    """
    if not partitions:
        return {}
    tps = [TopicPartition(kafka.events_topic, it) for it in partitions]
    async with administration(kafka) as admin:
        found = await admin.list_consumer_group_offsets(kafka.group, partitions=tps)
    if found.keys() < set(tps):
        # What was asked for is always answered; aiokafka passes over an error of the whole group.
        raise SetupError(
            f"Kafka does not say what group '{kafka.group}' has committed; run it again, and see "
            "whether its user may describe the group"
        )
    return {
        tp.partition: decode(it.offset, it.metadata)
        for tp, it in found.items()
        if it.offset != NONE_COMMITTED
    }
