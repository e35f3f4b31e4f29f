"""Batches that cannot be decoded, as aiokafka's fetcher reads them: the last item of their fetch.

`integration/worker/test_undecodable.py` has a worker meet two of them.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

import pytest
from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition

from stream_app.kafka.record_batches import (
    REASON_LENGTH_MAX,
    WholeBatch,
    give_batches,
    install_lenient_decoding,
    split,
)
from stream_app.records import Undecodable
from tests.damaged_batches import (
    CODEC,
    COUNT,
    GZIP,
    HEADER_BYTES,
    LAST_OFFSET,
    LENGTH,
    LZ4,
    MAGIC,
    NONE,
    SNAPPY,
    ZSTD,
    Damage,
    batch,
    damaged,
    wrong_content_checksum,
)

VALUES: Final = [b"value of an event, which is long enough %d" % number for number in range(5)]
FIRST: Final = 10
END: Final = FIRST + len(VALUES)
BEFORE: Final = batch(7, VALUES[:3])
BEHIND: Final = batch(END, VALUES[:2])


def fetched(content: bytes, position: int = 7) -> Any:
    """Return what aiokafka makes of a fetch from a position, read committed."""
    install_lenient_decoding()
    return fetcher.PartitionRecords(
        TopicPartition("events", 3),
        fetcher.MemoryRecords(content),
        aborted_transactions=[],
        fetch_offset=position,
        key_deserializer=None,
        value_deserializer=None,
        check_crcs=True,
        isolation_level=fetcher.READ_COMMITTED,
    )


def at(index: int, value: int) -> Damage:
    def change(content: bytearray) -> None:
        content[index] = value

    return change


def number(place: slice, value: int) -> Damage:
    def change(content: bytearray) -> None:
        content[place] = struct.pack(">i", value)

    return change


def cut(content: bytearray) -> None:
    del content[-4:]


def turned(content: bytearray) -> None:
    content[HEADER_BYTES + 20] ^= 0x10


def tail(content: bytearray) -> None:
    content += b"more"


DAMAGES: Final = {
    "a bit turned on the disk": (NONE, turned, False),
    "a bit of compressed bytes turned on the disk": (ZSTD, turned, False),
    "gzip that is cut": (GZIP, cut, True),
    "gzip with a wrong checksum": (GZIP, lambda it: at(len(it) - 8, it[-8] ^ 1)(it), True),
    "gzip that is none": (GZIP, at(HEADER_BYTES, 0), True),
    "snappy that is cut": (SNAPPY, cut, True),
    "snappy with a wrong length": (SNAPPY, at(HEADER_BYTES + 19, 3), True),
    "LZ4 that is cut": (LZ4, cut, True),
    "LZ4 that is none": (LZ4, at(HEADER_BYTES, 0), True),
    "LZ4 with a wrong checksum of the content": (NONE, wrong_content_checksum, True),
    "zstd that is cut": (ZSTD, cut, True),
    "zstd that is none": (ZSTD, at(HEADER_BYTES, 0), True),
    "a codec that does not exist": (NONE, at(CODEC, 5), True),
    "a codec that it has not": (NONE, at(CODEC, ZSTD), True),
    "a record's length that is wrong": (NONE, at(HEADER_BYTES, 0x70), True),
    "a record's length that does not end": (NONE, at(HEADER_BYTES, 0xFF), True),
    "a record's length that is negative": (NONE, at(HEADER_BYTES, 1), True),
    "more records than there are": (NONE, number(COUNT, 9), True),
    "fewer records than there are": (NONE, number(COUNT, 2), True),
    "bytes behind the last record": (NONE, tail, True),
    "a magic of before Kafka 0.11": (NONE, lambda it: (at(MAGIC, 1)(it), turned(it)), False),
    "a magic of before Kafka 0.10": (GZIP, lambda it: (at(MAGIC, 0)(it), turned(it)), False),
    "a magic that does not exist": (NONE, lambda it: (at(MAGIC, 9)(it), turned(it)), False),
    "a last offset that is wrong": (NONE, number(LAST_OFFSET, 1 << 20), False),
}
"""Codec, damage, and whether the checksum is right."""

each_damage = pytest.mark.parametrize(
    ("codec", "damage", "signed"), DAMAGES.values(), ids=DAMAGES.keys()
)
ways = pytest.mark.parametrize("way", [lambda _: None, give_batches], ids=["records", "batches"])


@each_damage
@ways
def test_batch_that_cannot_be_decoded_is_the_last_item_and_the_position_stays_before_it(
    codec: int, damage: Damage, way: Callable[[Any], object], *, signed: bool
) -> None:
    broken = damaged(batch(FIRST, VALUES, codec=codec), damage, signed=signed)
    records = fetched(BEFORE + broken + BEHIND)
    way(records)
    found, undecodable = split(list(records))
    assert [it.offset for it in found][-1] == FIRST - 1
    assert undecodable is not None
    assert (undecodable.first, undecodable.end) == (FIRST, END)
    assert undecodable.offsets == f"{FIRST} to {END - 1}"
    assert undecodable.is_as_sent is signed
    assert undecodable.reason.isprintable()
    assert undecodable.reason.strip()
    assert records.next_fetch_offset == FIRST
    # The next fetch begins with it.
    again = fetched(broken + BEHIND, FIRST)
    way(again)
    assert [it.offsets for it in again] == [undecodable.offsets]
    assert again.next_fetch_offset == FIRST


@each_damage
def test_end_of_the_last_batch_of_a_fetch_is_right_or_unknown(
    codec: int, damage: Damage, *, signed: bool
) -> None:
    broken = damaged(batch(FIRST, VALUES, codec=codec), damage, signed=signed)
    (undecodable,) = fetched(broken, FIRST)
    is_known = damage is not DAMAGES["a last offset that is wrong"][1] and broken[MAGIC] >= 2
    assert undecodable.end == (END if is_known else None)


@pytest.mark.parametrize("length", [-1, -12, 0, 13, 48, 1 << 20, 2**31 - 1])
@ways
def test_end_of_a_batch_of_a_wrong_length_is_right_or_unknown(
    length: int, way: Callable[[Any], object]
) -> None:
    broken = damaged(batch(FIRST, VALUES), number(LENGTH, length), signed=False)
    records = fetched(broken + BEHIND, FIRST)
    way(records)
    (undecodable,) = records
    assert undecodable.end in {END, None}
    assert records.next_fetch_offset == FIRST


@pytest.mark.parametrize("size", [1, 11, 12, 17, 25, 26, 60])
def test_fetch_of_less_than_a_batch_is_not_taken_for_one_without_records(size: int) -> None:
    (undecodable,) = fetched(batch(FIRST, VALUES)[:size], FIRST)
    assert undecodable.end is None
    assert undecodable.offsets == "10 to an unknown end"


def test_fetch_without_a_byte_has_no_batch() -> None:
    install_lenient_decoding()
    assert not fetcher.MemoryRecords(b"").has_next()


def test_damaged_batch_that_follows_proves_no_end() -> None:
    broken = damaged(batch(FIRST, VALUES), number(LAST_OFFSET, 1 << 20), signed=False)
    follows = damaged(BEHIND, turned, signed=False)
    (undecodable,) = fetched(broken + follows, FIRST)
    assert undecodable.end is None
    (undecodable,) = fetched(broken + BEHIND[:-1], FIRST)
    assert undecodable.end is None


def test_batch_around_the_position_is_undecodable_from_there_on() -> None:
    broken = damaged(batch(FIRST, VALUES), turned, signed=False)
    (undecodable,) = fetched(broken, FIRST + 3)
    assert (undecodable.first, undecodable.end) == (FIRST + 3, END)


def test_end_that_the_header_puts_beyond_the_log_does_not_count() -> None:
    broken = Undecodable(FIRST, END, "gzip")
    assert broken.within(END) is broken
    assert broken.within(None) is broken
    assert broken.within(END - 1) == Undecodable(FIRST, None, "gzip")
    assert broken.within(END - 1).within(5) == Undecodable(FIRST, None, "gzip")


def test_reason_is_one_line_of_a_bounded_length() -> None:
    records = fetched(BEFORE)
    list(records)
    error = ValueError("lines\nand \x1b[2J" + "x" * 1_000)
    reason = records._records.undecodable(FIRST, error).reason
    assert reason.isprintable()
    assert len(reason) == REASON_LENGTH_MAX


def test_neighbors_of_such_a_fetch_are_taken_in_the_same_call() -> None:
    # As an exception, it would lose what was taken of other partitions before it.
    broken = damaged(batch(FIRST, VALUES), turned, signed=False)
    fetches = {1: fetched(BEFORE), 2: fetched(broken, FIRST), 3: fetched(BEFORE)}
    taken = {}
    for partition, records in fetches.items():
        give_batches(records)
        taken[partition] = list(records)
    assert [len(it) for it in taken.values()] == [1, 1, 1]
    assert isinstance(taken[2][0], Undecodable)
    assert isinstance(taken[3][0], WholeBatch)


def test_leader_epoch_of_such_a_batch_does_not_count() -> None:
    # No checksum covers it, so it may be any number.
    broken = bytearray(damaged(batch(FIRST, VALUES), turned, signed=False))
    broken[12:16] = (2**30).to_bytes(4, "big")
    for content, first in ((bytes(broken), FIRST), (BEFORE + bytes(broken), None)):
        records = fetched(content) if first is None else fetched(content, first)
        fetch = give_batches(records)
        assert isinstance(list(records)[-1], Undecodable)
        assert fetch.leader_epoch < 2**30
