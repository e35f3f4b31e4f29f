"""Batches whose header names are not UTF-8, as aiokafka's fetcher reads them.

`tests/integration/worker/test_security.py` sends one to a real worker.
"""

from typing import Any, Final

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from stream_app.kafka.record_batches import WholeBatch, give_batches, install_lenient_decoding
from stream_app.records import NO_EPOCH

Headers = list[tuple[str, bytes | None]]
GOOD: Headers = [("näme", b"\xff"), ("näme", None), ("", b"")]
GZIP = 1


class Bytes(str):
    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return str.encode(self, "latin-1")


BAD: Headers = [(Bytes("a\xff\xfe"), b"1"), ("b", b"\xff")]


def batch(base_offset: int, *headers: Headers, codec: int = 0, key: bytes = b"k\xff") -> bytes:
    """Return a batch with a record for each of these headers, as a broker stores it."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10_000,
    )
    for index, it in enumerate(headers):
        builder.append(index, timestamp=1_000 + index, key=key, value=b"\xfe", headers=it)
    # The offset is not part of what the checksum covers: the broker writes it.
    return base_offset.to_bytes(8, "big") + bytes(builder.build())[8:]


def read(records: Any) -> list[tuple[Any, ...]]:
    """Read all batches as aiokafka does."""
    found = []
    while records.has_next():
        one = records.next_batch()
        assert one.validate_crc()
        assert not one.is_control_batch
        found += [
            (it.offset, it.timestamp, it.key, it.value, it.headers, one.next_offset) for it in one
        ]
    return found


def fetched(content: bytes) -> Any:
    install_lenient_decoding()
    return fetcher.MemoryRecords(content)


@pytest.mark.parametrize("codec", [0, GZIP])
def test_batch_with_names_in_utf8_is_read_as_ever(codec: int) -> None:
    content = batch(7, GOOD, [], codec=codec) + batch(20, GOOD)
    assert read(fetched(content)) == read(MemoryRecords(content))
    assert len(read(fetched(content))) == 3


@pytest.mark.parametrize("codec", [0, GZIP])
def test_wrong_bytes_of_a_name_are_replaced_and_all_else_is_kept(codec: int) -> None:
    content = batch(7, GOOD) + batch(8, GOOD, BAD, [], codec=codec) + batch(20, BAD)
    replaced = [("a\ufffd\ufffd", b"1"), ("b", b"\xff")]
    assert read(fetched(content)) == [
        (offset, timestamp, b"k\xff", b"\xfe", headers, after)
        for offset, timestamp, headers, after in [
            (7, 1_000, GOOD, 8),
            (8, 1_000, GOOD, 11),
            (9, 1_001, replaced, 11),
            (10, 1_002, [], 11),
            (20, 1_000, replaced, 21),
        ]
    ]


def test_aiokafka_alone_cannot_read_such_a_batch() -> None:
    # When it can, `_Records` is not needed for header names any more.
    with pytest.raises(UnicodeDecodeError):
        read(MemoryRecords(batch(8, GOOD, BAD)))


def test_unfinished_batch_at_the_end_is_left_to_the_next_fetch() -> None:
    content = batch(7, BAD)
    records = fetched(content + batch(8, BAD)[:-1])
    assert len(read(records)) == 1
    assert records.size_in_bytes() == len(content) * 2 - 1


def partition_records(content: bytes, position: int) -> Any:
    """Return what aiokafka makes of a fetch from a position, read committed."""
    return fetcher.PartitionRecords(
        TopicPartition("events", 3),
        fetched(content),
        aborted_transactions=[],
        fetch_offset=position,
        key_deserializer=None,
        value_deserializer=None,
        check_crcs=True,
        isolation_level=fetcher.READ_COMMITTED,
    )


def offsets(batches: list[WholeBatch]) -> list[list[int]]:
    return [[record.offset for record in batch.records] for batch in batches]


def test_batches_hold_records_as_they_were_decoded() -> None:
    content = batch(7, GOOD, []) + batch(9, BAD) + batch(20, [], [])
    records = partition_records(content, 7)
    give_batches(records)
    batches = list(records)
    assert offsets(batches) == [[7, 8], [9], [20, 21]]
    assert [it.offset for it in batches] == [8, 9, 21]
    assert records.next_fetch_offset == 22
    alone = list(partition_records(content, 7))
    decoded = [record for it in batches for record in it.records]
    for attribute in ("offset", "timestamp", "key", "value"):
        assert [getattr(it, attribute) for it in decoded] == [
            getattr(it, attribute) for it in alone
        ]
    assert [tuple(it.headers) for it in decoded] == [it.headers for it in alone]


def test_batch_that_lies_below_the_position_is_left_out_and_one_around_it_is_whole() -> None:
    records = partition_records(batch(7, [], []) + batch(9, [], [], []), 10)
    give_batches(records)
    assert offsets(list(records)) == [[9, 10, 11]]


def test_batches_may_be_requested_again_while_they_are_read() -> None:
    records = partition_records(batch(7, [], []) + batch(9, [], []), 7)
    give_batches(records)
    first = next(records)
    give_batches(records)
    assert offsets([first, *records]) == [[7, 8], [9, 10]]


def at_epoch(leader_epoch: int, content: bytes) -> bytes:
    """Return a batch as the leader of an epoch stores it; no checksum covers that."""
    return content[:12] + leader_epoch.to_bytes(4, "big", signed=True) + content[16:]


def marker(base_offset: int) -> bytes:
    """Return the batch that ends a transaction."""
    content = bytearray(batch(base_offset, [], key=b"\0\0\0\1"))
    content[22] |= 0b110000  # transactional, of control
    content[17:21] = calc_crc32c(bytes(content[21:])).to_bytes(4, "big")
    return bytes(content)


def test_leader_epoch_is_that_of_the_batches_taken_so_far() -> None:
    content = at_epoch(4, batch(7, [])) + at_epoch(5, batch(8, [])) + at_epoch(6, marker(9))
    records = partition_records(content, 7)
    fetch = give_batches(records)
    assert fetch.leader_epoch == NO_EPOCH
    next(records)
    assert fetch.leader_epoch == 4
    next(records)
    assert fetch.leader_epoch == 5
    assert list(records) == []
    assert records.next_fetch_offset == 10
    assert fetch.leader_epoch == 6


def test_old_message_has_no_leader_epoch() -> None:
    # Its checksum is where batches have the epoch.
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=10_000)
    builder.append(0, timestamp=1_000, key=None, value=b"{}")
    records = partition_records(bytes(builder.build()), 0)
    fetch = give_batches(records)
    assert len(list(records)) == 1
    assert fetch.leader_epoch == NO_EPOCH


OLD: Final = bytes([0] * 16) + b"\1" + bytes(20)
"""The beginning of a message from before Kafka 0.11."""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (batch(7, [], []) + batch(9, []), False),
        (batch(7, [], []) + batch(9, GOOD * 100, codec=GZIP), True),
        (batch(7, []) + batch(8, GOOD * 100, codec=GZIP)[:-1], True),
        (OLD, True),
        (b"", False),
    ],
)
def test_fetch_that_may_grow_when_it_is_decoded_is_known_beforehand(
    content: bytes, *, expected: bool
) -> None:
    assert give_batches(partition_records(content, 7)).is_compressed is expected


def test_size_of_a_batch_is_that_of_its_keys_and_values() -> None:
    records = partition_records(batch(7, GOOD, []), 7)
    give_batches(records)
    assert [it.size for it in records] == [2 * len(b"k\xff\xfe")]
