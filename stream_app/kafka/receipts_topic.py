"""Receipts topic: receipts as rows of a table and as JSON, and producers of receipts.

The topic is read without a consumer group: nothing is committed, and any number of readers see
every receipt. A receipt can be published twice, with the same id; both are returned.
"""

import asyncio
import heapq
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Self

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from stream_app.config.settings import Kafka
from stream_app.core.receipt import Message
from stream_app.core.receipt_decoder import ReceiptSummary, summary
from stream_app.errors import SetupError, TooLargeError, TransientError
from stream_app.kafka.connection import client_options, translate_errors
from stream_app.kafka.reader import TopicReader
from stream_app.kafka.topics import require_topics
from stream_app.records import Batch, Record, Undecodable
from stream_app.text import printable, printable_json

PUBLISHED_MAX: Final = 64
"""Receipts published at a time: aiokafka wakes every waiting sender for each batch that leaves."""
REQUEST_SECONDS_MAX: Final = 30.0
"""Timeout of a producer's request, and of a receipt for a partition that has no leader, such as one
that is gone since the topic was created again with fewer."""
PUBLISH_SECONDS_MAX: Final = 40.0
"""Timeout of one attempt to publish a receipt, whatever the client waits for."""

_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordTooLargeError)

NOTHING: Final = "-"
"""Text of an empty cell."""


@dataclass(frozen=True, slots=True)
class PublishedReceipt:
    """A receipt, and its position in the receipts topic."""

    id: str | None
    """The CloudEvents id: the same receipt published again has the same id."""
    time: str | None
    """Time at which it was published."""
    key: str | None
    """The destination's id."""
    partition: int
    offset: int
    receipt: Any
    """The value, as `schemas/receipt.schema.json` describes it."""

    def line(self) -> str:
        """Return one JSON document: `id`, `key`, `partition`, `offset`, `receipt`.

        Raises:
            ValueError: The value is nested too deeply to be written.
        """
        document = {
            "id": self.id,
            "key": self.key,
            "partition": self.partition,
            "offset": self.offset,
            "receipt": self.receipt,
        }
        try:
            return printable_json(orjson.dumps(document).decode())
        except orjson.JSONEncodeError as error:
            raise ValueError(f"not a receipt: {error}") from error

    def failure(self) -> str | None:
        """Return the share of failed events and an error, in text without control characters.

        Raises:
            ValueError: The value is not a receipt.
        """
        text = summary(self.receipt).failure
        return None if text is None else printable(text)

    def cells(self) -> tuple[str, ...]:
        """Return the cells of a row, in text without control characters.

        In this order: time of the publication, status, destination, partition, offsets, matched,
        delivered, skipped, failed, bytes of the object, and the object or the error.

        Raises:
            ValueError: The value is not a receipt.
        """
        receipt = summary(self.receipt)
        source, counts = receipt.source, receipt.counts
        cells = (
            self.time or NOTHING,
            receipt.status,
            receipt.destination,
            source.partition,
            f"{source.first_offset}-{source.end_offset - 1}",
            counts.matched,
            receipt.delivered,
            counts.skipped,
            counts.failed,
            _bytes(receipt),
            _object_or_error(receipt),
        )
        try:
            # Anybody who may write to the topic wrote the text; deep lists have no text at all.
            return tuple(printable(str(cell)) for cell in cells)
        except RecursionError as error:
            raise ValueError("not a receipt: nested too deeply") from error


async def receipts(
    kafka: Kafka,
    *,
    from_beginning: bool,
    exit_at_end: bool,
    on_ready: Callable[[], None],
    on_undecodable: Callable[[int, Undecodable], None],
) -> AsyncGenerator[PublishedReceipt]:
    """Yield receipts in each partition's order; those that are fetched together, by time.

    Args:
        kafka: The connection.
        from_beginning: Start with the oldest receipt; otherwise with the next one.
        exit_at_end: End with the newest receipt at this time; otherwise go on without an end, also
            through a broker's absence.
        on_ready: Called when the topic is read, before the first receipt.
        on_undecodable: Called with a partition and a record batch of it that cannot be decoded.

    Raises:
        SetupError: The topic is missing, a record is not JSON, or Kafka cannot be reached.
    """
    (count,) = await require_topics(kafka, kafka.receipts_topic)
    async with TopicReader(
        kafka, kafka.receipts_topic, count, auto_offset_reset="earliest"
    ) as reader:
        ends = await reader.ends()
        reader.assign(dict(enumerate(await reader.begins() if from_beginning else ends)))
        on_ready()
        async with aclosing(reader.read(dict(enumerate(ends)) if exit_at_end else None)) as polls:
            async for batches in polls:
                for _, partition, record in _by_time(batches):
                    yield _published(kafka.receipts_topic, partition, record)
                for partition, batch in batches.items():
                    if batch.undecodable is not None:
                        on_undecodable(partition, batch.undecodable)


def _by_time(batches: Mapping[int, Batch]) -> Iterator[tuple[int, int, Record]]:
    """Yield time, partition and record of all records, by time and in each partition's order."""
    of_partitions = (
        [(record.timestamp, partition, record) for record in batch.records]
        for partition, batch in batches.items()
    )
    return heapq.merge(*of_partitions, key=itemgetter(0))


def _published(topic: str, partition: int, record: Record) -> PublishedReceipt:
    # A producer may write a header without a value.
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    try:
        receipt = None if record.value is None else orjson.loads(record.value)
    except orjson.JSONDecodeError as error:
        raise SetupError(
            f"topic '{topic}', partition {partition}, offset {record.offset}: the record is not a "
            f"receipt ({error}); is [kafka] receipts_topic the right one?"
        ) from error
    return PublishedReceipt(
        id=headers.get("ce_id"),
        time=headers.get("ce_time"),
        key=None if record.key is None else record.key.decode(errors="replace"),
        partition=partition,
        offset=record.offset,
        receipt=receipt,
    )


class ReceiptPublisher:
    """Publisher of a worker's receipts, a bounded number at a time.

    Args:
        topic: The receipts topic.
        producer: Returns the started producer, with `acks=all`.
    """

    def __init__(self, topic: str, producer: Callable[[], Awaitable[AIOKafkaProducer]]) -> None:
        self._topic = topic
        self._producer = producer
        self._publishing = asyncio.Semaphore(PUBLISHED_MAX)

    async def publish(self, message: Message) -> None:
        """Return once the broker has acknowledged a receipt.

        Raises:
            TooLargeError: The topic takes no message of this size.
            TransientError: The broker did not within `PUBLISH_SECONDS_MAX`, or refuses otherwise;
                publish it again.
        """
        async with self._publishing:
            try:
                async with asyncio.timeout(PUBLISH_SECONDS_MAX):
                    await self._send(message)
            except _TOO_LARGE as error:
                raise _refused(self._topic, message, error) from error
            except TimeoutError as error:
                raise TransientError(
                    "ReceiptTimeout", f"no acknowledgement within {PUBLISH_SECONDS_MAX:.0f} s"
                ) from error
            except KafkaError as error:
                raise TransientError(type(error).__name__, str(error)) from error

    async def _send(self, message: Message) -> None:
        producer = await self._producer()
        # Of aiokafka's own producer: Faust's topic adds a callback to the future that raises when
        # the future is cancelled, which a rebalance does.
        headers = list(message.headers)
        sent = await producer.send(self._topic, message.value, key=message.key, headers=headers)
        try:
            await sent
        except _TOO_LARGE:
            # The broker judges a batch as a whole, and this receipt may have been in one with
            # others: alone, it is not refused for their sizes.
            batch = producer.create_batch()
            batch.append(key=message.key, value=message.value, timestamp=None, headers=headers)
            batch.close()
            partitions = list(await producer.partitions_for(self._topic))
            partition = DefaultPartitioner()(message.key, partitions, partitions)
            await (await producer.send_batch(batch, self._topic, partition=partition))


class ReceiptProducer:
    """Producer of receipts outside a worker: idempotent, `acks=all`; an async context manager.

    Raises:
        SetupError: When entered: Kafka cannot be reached, or refuses.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._producer.stop()

    async def _start(self) -> None:
        with translate_errors(self._kafka):
            self._producer = AIOKafkaProducer(
                **client_options(self._kafka),
                enable_idempotence=True,
                acks="all",
                request_timeout_ms=int(REQUEST_SECONDS_MAX * 1000),
            )
            try:
                await self._producer.start()
            except BaseException:
                await self._producer.stop()
                raise

    async def publish(self, message: Message) -> None:
        """Return once the broker has acknowledged a receipt.

        Raises:
            TooLargeError: The topic takes no message of this size.
            SetupError: Kafka refuses, or does not respond.
        """
        topic = self._kafka.receipts_topic
        try:
            with translate_errors(self._kafka, topic=topic, unless=_TOO_LARGE):
                async with asyncio.timeout(PUBLISH_SECONDS_MAX):
                    await self._producer.send_and_wait(
                        topic, message.value, key=message.key, headers=list(message.headers)
                    )
        except _TOO_LARGE as error:
            # The refused message had a sequence number: without it the broker would take no further
            # one of this producer (OutOfOrderSequenceNumber).
            await self._producer.stop()
            await self._start()
            raise _refused(topic, message, error) from error


def _refused(topic: str, message: Message, error: KafkaError) -> TooLargeError:
    size = len(message.value)
    return TooLargeError(
        type(error).__name__,
        f"{topic} does not take a receipt of {size} bytes; raise the topic's max.message.bytes",
        size,
    )


def _bytes(receipt: ReceiptSummary) -> object:
    stored = receipt.object
    return NOTHING if stored is None or stored.size is None else stored.size


def _object_or_error(receipt: ReceiptSummary) -> str:
    if receipt.error is not None:
        text = f"{receipt.error.code}: {receipt.error.message}"
        return f"{receipt.undelivered} not delivered: {text}" if receipt.undelivered else text
    if receipt.object is None:
        return NOTHING
    return f"s3://{receipt.object.bucket}/{receipt.object.key}"
