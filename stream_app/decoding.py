"""How aiokafka's fetcher decodes records: any header name, and batches as a whole.

Kafka calls a header's name text, but no broker looks at it: a producer can write any bytes there.
aiokafka 0.14 decodes names strictly, so one such record would crash every worker that fetches it,
and again after each start. It has no extension point at this place; so its fetcher is given a class
of ours for what it fetched, which decodes such a batch once more with U+FFFD for the wrong bytes.

And aiokafka passes records on one by one, each in an object of eleven fields: that costs more than
to receive and decode them. Whoever asks for batches (`give_batches`) gets the records as they were
decoded, a list for each batch; what aiokafka does about transactions and positions stays its own.
"""

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from stream_app.expressions import Record

_HEAD: Final = struct.Struct(">qi")
"""How a batch begins: the offset of its first record, and the length of what follows."""
_HEAD_TO_ATTRIBUTES: Final = struct.Struct(">qi4xb4xh")
"""The same, leader epoch, magic, checksum and attributes (KIP-98)."""
_MAGIC: Final = 2
"""Messages of before Kafka 0.11 have less; their attributes stand elsewhere."""
_COMPRESSION: Final = 0b111
"""The bits of the attributes that name the codec; 0 is none."""


def accept_any_header_name() -> None:
    """Let every consumer of this process read records with header names of any bytes."""
    fetcher.MemoryRecords = _Records  # what it imported


class WholeBatch(NamedTuple):
    """The records of a batch, in the place where aiokafka has a record."""

    offset: int
    """The last one's."""
    records: list[Record]

    @property
    def size(self) -> int:
        """Bytes of all keys and values."""
        return sum([len(it.key or b"") + len(it.value or b"") for it in self.records])


def give_batches(fetched: Any) -> bool:  # noqa: ANN401 - aiokafka's PartitionRecords
    """Let a fetch of a partition give a `WholeBatch` at a time; to be asked before it is read.

    The first one may begin below the position: what lies there is not taken out.

    Returns:
        Whether it is compressed, and so can be many times as large as it came over the wire.
    """
    records: _Records = fetched._records  # noqa: SLF001
    if not records.gives_batches:
        records.gives_batches = True
        fetched._consumer_record = _as_it_is  # noqa: SLF001
    return records.is_compressed


def _as_it_is(_: object, record: WholeBatch) -> WholeBatch:
    return record


class _Records:
    """The batches of one fetch of one partition, as aiokafka's fetcher uses them."""

    def __init__(self, content: bytes) -> None:
        self.gives_batches = False
        self._content = content
        self._records = MemoryRecords(content)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    @cached_property
    def is_compressed(self) -> bool:
        """Whether one of the batches is, or may be."""
        start, end = 0, len(self._content) - _HEAD_TO_ATTRIBUTES.size
        while start <= end:
            _, length, magic, attributes = _HEAD_TO_ATTRIBUTES.unpack_from(self._content, start)
            if magic < _MAGIC or attributes & _COMPRESSION:
                return True
            start += _HEAD.size + length
        return False

    def next_batch(self) -> "_Batch":
        return _Batch(self._records.next_batch(), self._content, is_whole=self.gives_batches)


class _Batch:
    """aiokafka's batch, but for how its records are decoded."""

    __slots__ = ("_batch", "_content", "_is_whole")

    def __init__(
        self,
        batch: Any,  # noqa: ANN401 - one of three classes
        content: bytes,
        *,
        is_whole: bool,
    ) -> None:
        self._batch = batch
        self._content = content
        self._is_whole = is_whole

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the batch has
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
            batch = _DefaultRecordBatchPy(_found(self._content, self._batch.base_offset))
            batch._maybe_uncompress()  # noqa: SLF001
            batch._buffer = _Lenient(batch._buffer)  # noqa: SLF001
            return list(batch)


class _Lenient(bytearray):
    """Bytes whose slices can be decoded, whatever they hold."""

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - an index or a slice, as bytearray
        found = super().__getitem__(place)
        return _Lenient(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


def _found(content: bytes, base_offset: int) -> memoryview:
    """Return the batch that begins with this offset; it is known to be there."""
    start = 0
    while True:
        offset, length = _HEAD.unpack_from(content, start)
        end = start + _HEAD.size + length
        if offset == base_offset:
            return memoryview(content)[start:end]
        start = end
