"""Record batches as aiokafka's fetcher decodes them: header names of any bytes, whole batches.

A batch that cannot be decoded (a wrong checksum, an error of its codec, records that do not add up)
is an exception in aiokafka, which ends whatever reads: also other partitions, and what was taken of
them before is lost. Here it is the last item of its fetch, an `Undecodable`, and the position stays
before it.

Kafka defines a header's name as text, but no broker checks it: a producer can write any bytes.
aiokafka 0.14 decodes names strictly, so one such record would crash every worker that fetches it,
and again after each start. aiokafka has no extension point here; so `install_lenient_decoding`
gives its fetcher classes of ours, which decode such a batch once more with U+FFFD for such bytes.

And aiokafka passes records on one by one, each in an object of eleven fields: that costs more than
receiving and decoding them. After `give_batches` a fetch gives the records as they were decoded, a
list for each batch; transactions and positions stay aiokafka's own.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from stream_app.records import NO_EPOCH, Record, Undecodable
from stream_app.text import printable

REASON_LENGTH_MAX: Final = 200
"""Characters of a codec's error that are kept."""

_HEAD: Final = struct.Struct(">qi")
"""Head of a batch: the offset of its first record, and the length of the rest."""
_HEAD_TO_ATTRIBUTES: Final = struct.Struct(">qi4xb4xh")
"""Head, leader epoch, magic, checksum and attributes (KIP-98)."""
_LENGTH_EPOCH_AND_MAGIC: Final = struct.Struct(">8xiib")
"""Of the same head."""
_HEADER: Final = struct.Struct(">qi4xb4x2xi30xi")
"""Head, magic, distance of the last offset from the first one, and number of records."""
_LEGACY_SIZE_MIN: Final = 26
"""Size of the smallest message from before Kafka 0.11."""
_MAGIC: Final = 2
"""Magic of record batches; messages from before Kafka 0.11 have a lower one and another layout."""
_COMPRESSION: Final = 0b111
"""Bits of the attributes that hold the codec; 0 is none."""


def install_lenient_decoding() -> None:
    """Let every consumer of this process read on where aiokafka's own decoding fails.

    Called once by each process that consumes: worker, Inspector, `receipts`, `redeliver`, `demo`.
    """
    # The names under which the fetcher has its own.
    fetcher.MemoryRecords = _Records
    fetcher.PartitionRecords = _PartitionRecords


class WholeBatch(NamedTuple):
    """The records of a batch, in place of one of aiokafka's records."""

    offset: int
    """Offset of the last record."""
    records: list[Record]

    @property
    def size(self) -> int:
        """Size of all keys and values in bytes."""
        return sum([len(it.key or b"") + len(it.value or b"") for it in self.records])


def give_batches(fetched: Any) -> "_Records":  # noqa: ANN401 - aiokafka's PartitionRecords
    """Let a fetch of a partition give a `WholeBatch` at a time; call it before the fetch is read.

    The first batch may begin below the position: records there are not removed.

    Returns:
        The fetch: whether it is compressed, and so can be many times its size on the wire; and the
        leader epoch of what was taken of it.
    """
    records: _Records = fetched._records  # noqa: SLF001
    if not records.gives_batches:
        records.gives_batches = True
        fetched._consumer_record = _as_it_is  # noqa: SLF001
    return records


def split(items: Sequence[Any]) -> tuple[Sequence[Any], Undecodable | None]:
    """Return what was fetched of a partition without the batch that ends it, and that batch."""
    if items and isinstance(items[-1], Undecodable):
        return items[:-1], items[-1]
    return items, None


def _as_it_is(_: object, record: WholeBatch) -> WholeBatch:
    return record


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc] # aiokafka has no types here
    """Records of one fetch of one partition; an `Undecodable` is the last one."""

    def _unpack_records(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
        except Exception as error:  # noqa: BLE001 - each codec has its own exceptions
            yield self._records.undecodable(self.next_fetch_offset, error)


class _Records:
    """The batches of one fetch of one partition, as aiokafka's fetcher uses them."""

    def __init__(self, content: bytes) -> None:
        self.gives_batches = False
        self._content = content
        self._records = MemoryRecords(content)
        self._start = self._end = 0
        """Where the newest batch lies in the content."""
        self.leader_epoch = NO_EPOCH
        """The newest leader epoch of the batches that were taken, markers of transactions too."""
        self._epoch_before = NO_EPOCH
        """The same before the newest batch."""
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes
        if content and not self.has_next():
            # A broker sends the first batch whole, so its length is wrong.
            self.has_next = _yes

    @cached_property
    def is_compressed(self) -> bool:
        """Whether a batch is compressed, or may be."""
        start, end = 0, len(self._content) - _HEAD_TO_ATTRIBUTES.size
        while start <= end:
            _, length, magic, attributes = _HEAD_TO_ATTRIBUTES.unpack_from(self._content, start)
            if magic < _MAGIC or attributes & _COMPRESSION or length < 0:
                return True
            start += _HEAD.size + length
        return False

    def next_batch(self) -> "_Batch":
        """Return the next batch.

        Raises:
            CorruptRecordException: Its length cannot be right.
        """
        content, start = self._content, self._end
        self._start = start
        self._epoch_before = self.leader_epoch
        if len(content) - start < _LEGACY_SIZE_MIN:
            raise CorruptRecordException(f"the fetch ends {len(content) - start} bytes after it")
        length, leader_epoch, magic = _LENGTH_EPOCH_AND_MAGIC.unpack_from(content, start)
        self._end = end = start + _HEAD.size + length
        size_min = _LEGACY_SIZE_MIN if 0 <= magic < _MAGIC else _HEADER.size
        if not start + size_min <= end <= len(content):
            raise CorruptRecordException(f"the length in its header is wrong: {length}")
        if magic >= _MAGIC and leader_epoch > self.leader_epoch:
            self.leader_epoch = leader_epoch
        return _Batch(self._records.next_batch(), content, start, self.gives_batches)

    def undecodable(self, first: int, error: Exception) -> Undecodable:
        """Return the newest batch as one that cannot be decoded; `first` is the position."""
        self.leader_epoch = self._epoch_before  # No checksum covers that of the batch.
        text = " ".join(printable(f"{type(error).__name__}: {error}").split())
        end, is_as_sent = self._end_offset(first), _sound(self._content, self._start) is not None
        return Undecodable(first, end, text[:REASON_LENGTH_MAX], is_as_sent)

    def _end_offset(self, first: int) -> int | None:
        """Return the offset after the newest batch, or None if no part of the fetch proves it.

        A batch that follows and is sound proves it best. Otherwise the header counts, if its
        checksum is right, or if what it says of offsets agrees with its number of records. The
        checksum does not cover the first offset: it counts only if no offset is left out by it.
        """
        content, start = self._content, self._start
        if len(content) - start < _HEADER.size:
            return None
        base, length, magic, delta, count = _HEADER.unpack_from(content, start)
        end = start + _HEAD.size + length
        if length < 0 or end > len(content):
            return None
        following = _sound(content, end)
        if following is None:
            agrees = count == delta + 1 or _sound(content, start) is not None
            if magic >= _MAGIC and base <= first and agrees:
                following = base + delta + 1
        return None if following is None or following <= first else following


def _yes() -> bool:
    return True


def _sound(content: bytes, start: int) -> int | None:
    """Return the first offset of the batch at `start`, if it is whole and its checksum right."""
    if len(content) - start < _HEADER.size:
        return None
    base, length, magic, *_ = _HEADER.unpack_from(content, start)
    end = start + _HEAD.size + length
    if magic < _MAGIC or not start + _HEADER.size <= end <= len(content):
        return None
    return base if DefaultRecordBatch(content[start:end]).validate_crc() else None


class _Batch:
    """Batch of aiokafka whose records are decoded leniently."""

    __slots__ = ("_batch", "_content", "_is_whole", "_start")

    def __init__(
        self,
        batch: Any,  # noqa: ANN401 - one of three classes
        content: bytes,
        start: int,
        is_whole: bool,  # noqa: FBT001 - by position: this is made for each batch
    ) -> None:
        self._batch = batch
        self._content = content
        self._start = start
        self._is_whole = is_whole

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of aiokafka's
        return getattr(self._batch, name)

    def __next__(self) -> Any:  # noqa: ANN401 - a control record, which has no header
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        records = self._decoded()
        if self._is_whole and records:
            return iter([WholeBatch(records[-1].offset, records)])
        return iter(records)

    def _decoded(self) -> list[Any]:
        try:
            return list(self._batch)
        except UnicodeDecodeError:
            _, length = _HEAD.unpack_from(self._content, self._start)
            end = self._start + _HEAD.size + length
            batch = _DefaultRecordBatchPy(memoryview(self._content)[self._start : end])
            batch._maybe_uncompress()  # noqa: SLF001
            batch._buffer = _Lenient(batch._buffer)  # noqa: SLF001
            return list(batch)


class _Lenient(bytearray):
    """Bytes whose slices decode without an error."""

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - an index or a slice, as bytearray
        found = super().__getitem__(index)
        return _Lenient(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)
