"""Newest events of the events topic, read without a group: real events to try expressions on."""

import heapq
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from stream_app.config.settings import MIB, Kafka
from stream_app.errors import SetupError
from stream_app.kafka.reader import EventsReader
from stream_app.kafka.topics import require_topics

BYTES_MAX: Final = 256 * MIB
"""Bytes of the events that are held."""


class NewestEvent(NamedTuple):
    """Event with its place, in the order of time."""

    timestamp: int
    partition: int
    offset: int
    record: Any
    """aiokafka's."""


async def newest_events(kafka: Kafka, count: int) -> Sequence[NewestEvent]:
    """Return the newest events of all partitions, the oldest of them first.

    Args:
        kafka: The connection.
        count: How many.

    Raises:
        SetupError: Kafka refuses or does not respond, or the events are too large.
    """
    (partitions,) = await require_topics(kafka, kafka.events_topic)
    newest: list[NewestEvent] = []
    held = 0
    async with EventsReader(kafka, partitions) as reader:
        begins, ends = await reader.begins(), await reader.ends()
        for partition, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            async with aclosing(
                reader.read_run(partition, max(begin, end - count), end)
            ) as batches:
                async for batch in batches:
                    for record in batch.records:
                        event = NewestEvent(record.timestamp, partition, record.offset, record)
                        held += _bytes_of(record)
                        if len(newest) < count:
                            heapq.heappush(newest, event)
                        else:
                            held -= _bytes_of(heapq.heappushpop(newest, event).record)
                        if held > BYTES_MAX:
                            raise SetupError(
                                f"the newest {count} events have more than {BYTES_MAX} bytes; "
                                "ask for fewer"
                            )
    return sorted(newest)


def _bytes_of(record: Any) -> int:  # noqa: ANN401 - aiokafka's
    return len(record.value or b"") + len(record.key or b"")
