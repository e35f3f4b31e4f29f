"""Following the receipts topic: for people as rows of a table, for programs as JSON.

Read without a consumer group: nothing is committed, and any number of readers see every receipt.
A receipt can be published twice, with the same id; both are shown.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from stream_app.errors import SetupError
from stream_app.kafka import client_options, explained, require_topics
from stream_app.printable import printable, printable_json
from stream_app.settings import Kafka

POLL_MS: Final = 500
SILENCE_SECONDS_MAX: Final = 30
"""How long reading up to the end goes without progress before Kafka counts as gone."""

NOTHING: Final = "-"
"""Stands in a cell for what there is not."""


@dataclass(frozen=True, slots=True)
class Published:
    """A receipt, and where it was found in the receipts topic."""

    id: str | None
    """The CloudEvents id: the same receipt published again has the same."""
    time: str | None
    """When the window was settled."""
    key: str | None
    """The destination's id."""
    partition: int
    offset: int
    receipt: Any
    """The value, as `schemas/receipt.schema.json` describes it."""

    def line(self) -> str:
        """Return one JSON document: `id`, `key`, `partition`, `offset`, `receipt`.

        Raises:
            ValueError: The value is no receipt: it is nested too deeply to be written.
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
            raise ValueError(f"no receipt: {error}") from error

    def cells(self) -> tuple[str, ...]:
        """Return what a row shows, in text that cannot steer a terminal.

        In this order: time, status, destination, partition, offsets, matched, delivered, skipped,
        failed, bytes of the object, and the object or the error.

        Raises:
            ValueError: The value is no receipt.
        """
        try:
            receipt = self.receipt
            source, counts = receipt["source"], receipt["counts"]
            cells = (
                self.time or NOTHING,
                receipt["status"],
                receipt["destination"],
                source["partition"],
                f"{source['first_offset']}-{source['end_offset'] - 1}",
                *(counts[outcome] for outcome in ("matched", "delivered", "skipped", "failed")),
                _bytes(receipt),
                _object_or_error(receipt),
            )
            # Text of anybody who may write to the topic; deep lists have no text at all.
            return tuple(printable(str(cell)) for cell in cells)
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no receipt: {type(error).__name__} {error}") from error


async def receipts(
    kafka: Kafka, *, from_beginning: bool, exit_at_end: bool
) -> AsyncGenerator[Published]:
    """Yield receipts in each partition's order.

    Args:
        kafka: Where from.
        from_beginning: Start with the oldest receipt; otherwise with the next one.
        exit_at_end: End with the newest receipt there is now; otherwise go on for ever, and through
            a broker's absence.

    Raises:
        SetupError: The topic is missing, or Kafka cannot be asked.
    """
    (count,) = await require_topics(kafka, kafka.receipts_topic)
    with explained(kafka, topic=kafka.receipts_topic):
        consumer = AIOKafkaConsumer(
            **client_options(kafka),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await consumer.start()
            partitions = [TopicPartition(kafka.receipts_topic, number) for number in range(count)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            if from_beginning:
                await consumer.seek_to_beginning(*partitions)
            else:
                for partition, end in ends.items():
                    consumer.seek(partition, end)
            heard_at = asyncio.get_running_loop().time()
            while not (exit_at_end and await _is_at_end(consumer, ends)):
                fetched = await consumer.getmany(timeout_ms=POLL_MS)
                for records in fetched.values():
                    for record in records:
                        yield _published(record)
                now = asyncio.get_running_loop().time()
                heard_at = now if fetched else heard_at
                if exit_at_end and now - heard_at > SILENCE_SECONDS_MAX:
                    raise TimeoutError(f"silent for {SILENCE_SECONDS_MAX} s")
        finally:
            await consumer.stop()


async def _is_at_end(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return False
    return True


def _published(record: "ConsumerRecord[bytes | None, bytes | None]") -> Published:
    # A producer may write a header without a value.
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    try:
        receipt = None if record.value is None else orjson.loads(record.value)
    except orjson.JSONDecodeError as error:
        raise SetupError(
            f"topic '{record.topic}', partition {record.partition}, offset {record.offset}: the "
            f"record is no receipt ({error}); is [kafka] receipts_topic the right one?"
        ) from error
    return Published(
        id=headers.get("ce_id"),
        time=headers.get("ce_time"),
        key=None if record.key is None else record.key.decode(errors="replace"),
        partition=record.partition,
        offset=record.offset,
        receipt=receipt,
    )


def _bytes(receipt: Mapping[str, Any]) -> object:
    stored = receipt["object"]
    return NOTHING if stored is None or stored["size"] is None else stored["size"]


def _object_or_error(receipt: Mapping[str, Any]) -> str:
    error, stored = receipt["error"], receipt["object"]
    if error is not None:
        return f"{error['code']}: {error['message']}"
    if stored is None:
        return NOTHING
    return f"s3://{stored['bucket']}/{stored['key']}"
