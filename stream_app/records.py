"""Records of Kafka: events, batches and partitions. Pure."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

import orjson

from stream_app.errors import InvariantError

Headers = Sequence[tuple[str, bytes | None]]
"""Names and values of a record's headers; names may repeat."""


def event_mistake(value: bytes) -> str | None:
    """Return why a record's value is not an event (JSON in UTF-8) and what to do, else None."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        # orjson rejects some JSON that the engine of payload expressions reads (lone surrogates).
        try:
            json.loads(value.decode(), parse_constant=_refuse)
        except UnicodeDecodeError as error:
            return f"byte {error.start + 1} of the line is not UTF-8; write UTF-8"
        except RecursionError:
            return "it is nested too deeply; write a flatter event"
        except ValueError as error:
            return f"it is not JSON: {error}; write one JSON value on each line"
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")


class Record(Protocol):
    """Kafka record, as far as it is used here; all records of aiokafka conform."""

    @property
    def offset(self) -> int:
        """Position in the partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970; -1 if the record has none."""

    @property
    def key(self) -> bytes | None:
        """Name of the pipeline."""

    @property
    def value(self) -> bytes | None:
        """The event as JSON; None for a tombstone."""

    @property
    def headers(self) -> Headers:
        """Names and values; names may repeat."""


def _offset(record: Record) -> int:
    return record.offset


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Record batch that the client cannot decode, so that none of its records can be read."""

    first: int
    """First offset that is not read."""
    end: int | None
    """Offset after its last one; None: its header cannot be trusted, and no batch follows yet."""
    reason: str
    """The client's error, as one line."""
    is_as_sent: bool = False
    """Whether its checksum is right: no other copy of it differs."""

    @property
    def offsets(self) -> str:
        """Offsets as texts name them."""
        end = "an unknown end" if self.end is None else str(self.end - 1)
        return f"{self.first} to {end}"

    def within(self, log_end: int | None) -> "Undecodable":
        """Return the same, without an end that lies beyond the log's: its header is damaged."""
        if self.end is None or log_end is None or self.end <= log_end:
            return self
        return replace(self, end=None)


NO_EPOCH: Final = -1
"""Leader epoch of records from a broker that states none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Batch of records of one partition in offset order, with the positions before and after.

    Offsets may have gaps (compaction, transaction markers), so the positions are more than the
    records' offsets: a batch without records still advances its partition.
    """

    position: int
    """The consumer's position before the fetch."""
    next_position: int
    """The consumer's position after the fetch: that of the next batch."""
    records: Sequence[Record]
    undecodable: Undecodable | None = None
    """The record batch at `next_position`, if it cannot be decoded."""
    seek: int = 0
    """Number of the partition's seeks before the fetch."""
    leader_epoch: int = NO_EPOCH
    """The newest leader epoch of what lies before `next_position`, markers of transactions too; or
    of what follows in the same fetch."""

    def epoch_after(self, known: int) -> int:
        """Return the newest leader epoch up to the end of the batch; `known` is that before it."""
        return NO_EPOCH if self.leader_epoch == NO_EPOCH else max(known, self.leader_epoch)

    def after(self, offset: int) -> "Batch":
        """Return the part of the batch from `offset` on."""
        if offset <= self.position:
            return self
        cut = bisect_left(self.records, offset, key=_offset)
        end = max(offset, self.next_position)
        rest = self.records[cut:]
        return Batch(offset, end, rest, self.undecodable, self.seek, self.leader_epoch)

    def before(self, offset: int) -> "Batch":
        """Return the part of this batch that lies below `offset`."""
        if self.next_position <= offset:
            return self
        cut = bisect_left(self.records, offset, key=_offset)
        first, records = min(self.position, offset), self.records[:cut]
        return Batch(first, offset, records, None, self.seek, self.leader_epoch)

    def pieces(self, count: int) -> list["Batch"]:
        """Return the batch as at most `count` consecutive ones of about the same size."""
        pieces, rest = [], self
        size = -(-len(self.records) // count)
        for index in range(size, len(self.records), max(1, size)):
            offset = self.records[index].offset
            after = rest.after(offset)
            pieces.append(rest.before(offset))
            rest = after
        return [*pieces, rest]


NO_POSITION: Final = -1


class OutOfRange(NamedTuple):
    """Response of the broker that a log has no record at a position."""

    position: int
    """The position; `NO_POSITION` where nothing is committed and none was sought."""
    seek: int = 0
    """Number of the partition's seeks before the fetch."""

    @property
    def next_position(self) -> int:
        """The position still: nothing was read."""
        return self.position


class TopicPartition(NamedTuple):
    """Partition of a topic; equal to the tuples of Faust and aiokafka."""

    topic: str
    partition: int


class GapError(InvariantError):
    """Gap between a partition's position and its next batch: records between were not read."""

    def __init__(self, tp: TopicPartition, position: int, found: int) -> None:
        super().__init__(
            f"{tp.topic}/{tp.partition}: expected offset {position}, the batch starts at {found}"
        )
        self.position = position
        self.found = found
