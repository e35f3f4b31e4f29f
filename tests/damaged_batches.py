"""Record batches that cannot be decoded, made of real ones, as a broker stores them."""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
"""Codecs, as Kafka numbers them."""

HEADER_BYTES: Final = 61
LENGTH: Final = slice(8, 12)
MAGIC: Final = 16
CHECKSUM: Final = slice(17, 21)
COVERED: Final = slice(21, None)
"""What the checksum covers."""
CODEC: Final = 22
LAST_OFFSET: Final = slice(23, 27)
"""Distance of the last offset from the first one."""
COUNT: Final = slice(57, 61)

Damage = Callable[[bytearray], None]
"""Changes a batch in place."""


def batch(first: int, values: Sequence[bytes], *, codec: int = NONE) -> bytes:
    """Return a sound batch with these values."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for index, value in enumerate(values):
        builder.append(index, timestamp=1_000, key=b"orders", value=value, headers=[])
    # The offset is not part of what the checksum covers: the broker writes it.
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


def damaged(sound: bytes, damage: Damage, *, signed: bool) -> bytes:
    """Return a batch after a damage; `signed` as a producer's own, with the right checksum."""
    content = bytearray(sound)
    damage(content)
    if signed:
        content[LENGTH] = struct.pack(">i", len(content) - LENGTH.stop)
        content[CHECKSUM] = struct.pack(">I", calc_crc32c(bytes(content[COVERED])))
    return bytes(content)


def wrong_content_checksum(content: bytearray) -> None:
    """Compress the records by LZ4, with a checksum of the content that is wrong.

    No broker looks at it, so that a producer can send such a batch.
    """
    compressor = cramjam.lz4.Compressor(level=1, content_checksum=True, block_linked=False)
    compressor.compress(bytes(content[HEADER_BYTES:]))
    content[HEADER_BYTES:] = bytes(compressor.finish())
    content[-1] ^= 0xFF
    content[CODEC] |= LZ4


class _Builder:
    """aiokafka's builder of a batch, whose result is damaged."""

    def __init__(self, builder: Any, damage: Damage) -> None:
        self._builder = builder
        self._damage = damage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._builder, name)

    def build(self) -> bytearray:
        return bytearray(damaged(bytes(self._builder.build()), self._damage, signed=True))


async def send_damaged(
    broker: str, topic: str, partition: int, values: Sequence[bytes], damage: Damage
) -> int:
    """Send a batch with these values, damaged, and return its first offset."""
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        made = producer.create_batch()
        made._builder = _Builder(
            _DefaultRecordBatchBuilderPy(
                magic=2,
                compression_type=NONE,
                is_transactional=0,
                producer_id=-1,
                producer_epoch=-1,
                base_sequence=-1,
                batch_size=1 << 20,
            ),
            damage,
        )
        for value in values:
            made.append(timestamp=None, key=b"orders", value=value, headers=[])
        sent = await (await producer.send_batch(made, topic, partition=partition))
        return int(sent.offset)
