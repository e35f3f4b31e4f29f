"""Receipt: one JSON document for each window and destination that accounts for every event.

The records that a destination matches are those whose key is its pipeline (every record, when it
has none). Delivered are the matched ones in neither `skipped` nor `failed`, in offset order: the
n-th of them is the n-th line of the object. So one small document accounts for a whole window.

A receipt travels as a CloudEvents 1.0 message in the binary mode of the Kafka binding: attributes
as headers, the document as the value, the destination id as the key. Its `ce_id` is a hash of the
window, destination and status, so a receipt published twice is recognized by (ce_source, ce_id).
`schemas/receipt.schema.json` describes the value.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import itemgetter
from typing import Any, Final

import orjson

from stream_app.text import iso

RECEIPT_BYTES_MAX: Final = 256 * 1024
"""Bound of the lists of one receipt: before it is exceeded, the window closes early."""
SKIPPED_RUN_BYTES: Final = 44
"""Upper bound of one run: two offsets of at most 19 digits, brackets and commas."""
FAILED_ENTRY_BYTES: Final = 80
"""Upper bound of one failed entry beside its two texts: names, offset, quotes."""
SHORT_ERROR_LENGTH: Final = 40
"""Characters of each error text that a shortened receipt keeps."""
LISTS_END_BYTES: Final = 40
"""Upper bound of the field `lists_end_offset`, with its comma."""
MEMORY_FACTOR: Final = 3
"""Python's lists and numbers take some 2.5 times the room of their JSON."""


class Status(StrEnum):
    """Status of a window at its destination, as a receipt records it."""

    DELIVERED = "delivered"
    EMPTY = "empty"
    """Every matched event was skipped or failed: there is no object."""
    RETRYING = "retrying"
    """The window is late because of its destination; a later receipt supersedes this one."""
    FAILED = "failed"
    """Given up; `redeliver` can deliver it under the same key."""
    REDELIVERED = "redelivered"
    """Delivered by `redeliver`: a window that was given up, or failed events of a window."""


FINAL: Final = frozenset({Status.DELIVERED, Status.EMPTY, Status.REDELIVERED})
"""Statuses that supersede any other receipt of the same window and destination."""
UNDELIVERED: Final = (Status.RETRYING, Status.FAILED)
"""Statuses of windows of which nothing is delivered: they count what would have been."""


@dataclass(frozen=True, slots=True)
class Source:
    """A run of offsets of one partition; `end_offset` is the first that is not in it."""

    topic: str
    partition: int
    first_offset: int
    end_offset: int
    closed_at: int | None = None
    """The window's closing time, in seconds since 1970, without which offsets name nothing: they
    begin anew with each new log. None: a version before 0.2 recorded the closing."""

    @property
    def name(self) -> list[str]:
        """The parts of the window's name."""
        name = [self.topic, str(self.partition), str(self.first_offset)]
        return name if self.closed_at is None else [*name, f"closed at {self.closed_at}"]


@dataclass(frozen=True, slots=True)
class ReceiptScope:
    """Group and window of a receipt. Times are whole seconds since 1970, UTC."""

    group: str
    source: Source
    window_start: int
    window_end: int
    closed_at: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored object: what S3 returned, and what was sent.

    One that already existed is described as it is: its bytes may be of another build of the
    compressor than ours.
    """

    size: int | None
    """None: unknown, as the bytes are not ours."""
    etag: str | None
    version_id: str | None
    checksum: str | None
    """SHA-256 of the object's bytes, in base64, as S3 writes it; None: unknown, as they are not
    ours."""
    already_existed: bool
    """A predecessor had stored it: S3 responded with 412."""
    stored_at: int | None
    """When S3 confirmed that it is there, in seconds since 1970; None: it is not there yet."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Reason why a window is late or given up."""

    code: str
    message: str
    retryable: bool


@dataclass(slots=True)
class Tally:
    """Outcomes of the records that one destination matched in one window."""

    matched: int = 0
    skipped: list[list[int]] = field(default_factory=list)
    """Inclusive runs of offsets: each matched record within one of them was skipped."""
    skipped_count: int = 0
    failed: list[tuple[int, str, str]] = field(default_factory=list)
    """Offset, name of the record, and error text of each failed record."""
    bytes_estimate: int = 0
    """Upper bound of the bytes of the two lists in the receipt."""
    run_open: bool = False
    """Whether the newest matched record was skipped: a further one lengthens its run."""

    @property
    def held(self) -> int:
        """Bytes of memory that the two lists take."""
        return self.bytes_estimate * MEMORY_FACTOR

    @property
    def delivered(self) -> int:
        """Number of records whose payload is a line."""
        return self.matched - self.skipped_count - len(self.failed)

    def deliver(self, count: int) -> None:
        """Count records whose payloads are lines."""
        self.matched += count
        self.run_open = False

    def skip(self, offset: int) -> None:
        """Count a record whose expression gave `undefined`."""
        self.matched += 1
        self.skipped_count += 1
        if self.run_open:
            self.skipped[-1][1] = offset
        else:
            self.skipped.append([offset, offset])
            self.bytes_estimate += SKIPPED_RUN_BYTES
            self.run_open = True

    def fail(self, offset: int, record: str, error: str) -> None:
        """Count a record whose payload could not be computed, and why."""
        self.matched += 1
        self.run_open = False
        # JSON is UTF-8, which has no half of a surrogate pair; an error of the engine may have one.
        error = error.encode(errors="replace").decode()
        self.failed.append((offset, record, error))
        self.bytes_estimate += FAILED_ENTRY_BYTES + len(record) + len(orjson.dumps(error))


@dataclass(frozen=True, slots=True)
class Message:
    """A receipt as a Kafka message."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class ShortLists:
    """Lists of a receipt that was shortened, in place of those of its tally."""

    skipped: Sequence[Sequence[int]]
    failed: Sequence[tuple[int, str, str]]
    end_offset: int | None
    """Offset before which they are complete; None: they are, only error texts were cut."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Receipt of one window at one destination. Times are whole seconds since 1970, UTC.

    `stored` beside a `problem` is the object that `redeliver` announces, or failed to store.
    """

    status: Status
    group: str
    destination: str
    pipeline: str | None
    window_start: int
    window_end: int
    source: Source
    tally: Tally
    bucket: str
    key: str
    size_uncompressed: int
    closed_at: int
    attempts: int
    stored: Stored | None = None
    problem: Problem | None = None
    answers: tuple[int, ...] | None = None
    """Offsets of the failed events that this receipt answers, ascending; None: the whole window."""
    lists: ShortLists | None = None
    """The lists, if the receipt was shortened."""

    @property
    def id(self) -> str:
        """64 hex digits: the same receipt published again has the same."""
        name = [*self.source.name, self.destination, str(self.status)]
        if self.answers is not None:
            name += ["failed-events", *map(str, self.answers)]
        if self.status is Status.FAILED and not self.tally.matched:
            name.append("undecodable")  # an earlier `failed` receipt of the window has its events
        if self.status is Status.RETRYING and self.stored is not None:
            name += ["announced", self.bucket, self.key, str(self.stored.checksum)]
        return hashlib.sha256("\0".join(name).encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """Return the value as JSON types."""
        tally, source = self.tally, self.source
        lists = self.lists or ShortLists(tally.skipped, tally.failed, None)
        stored = None if self.problem is not None else self.stored
        return {
            "status": str(self.status),
            "destination": self.destination,
            "pipeline": self.pipeline,
            "window": {"start": iso(self.window_start), "end": iso(self.window_end)},
            "source": {
                "topic": source.topic,
                "partition": source.partition,
                "first_offset": source.first_offset,
                "end_offset": source.end_offset,
                **({} if source.closed_at is None else {"closed_at": iso(source.closed_at)}),
            },
            "counts": {
                "matched": tally.matched,
                "delivered": tally.delivered,
                "skipped": tally.skipped_count,
                "failed": len(tally.failed),
            },
            "skipped": lists.skipped,
            "failed": [_failed_entry(*it) for it in lists.failed],
            "object": self._object(),
            "attempts": self.attempts,
            "already_existed": self.stored is not None and self.stored.already_existed,
            "uploaded_at": stored and iso(self.closed_at),
            "stored_at": stored and stored.stored_at and iso(stored.stored_at),
            "error": None
            if self.problem is None
            else {
                "code": self.problem.code,
                "message": self.problem.message,
                "retryable": self.problem.retryable,
            },
            **({} if self.answers is None else {"answers": self.answers}),
            **({} if lists.end_offset is None else {"lists_end_offset": lists.end_offset}),
        }

    def shortened(self, bytes_max: int) -> "Receipt | None":
        """Return a shorter form of the receipt, with the same id and counts.

        First the error texts are cut, then both lists, at one offset. The shortest form has empty
        lists; it is returned where even it has more bytes than wanted. That of a receipt which
        answers failed events has whole lists: an event that it did not list would count as
        delivered, and never be owed again.

        Args:
            bytes_max: Bytes of the value that are wanted.

        Returns:
            The receipt; None if this is the shortest form already.
        """
        listed, is_whole = self.lists or self.tally, self.answers is not None
        if not (listed.skipped or listed.failed) or (is_whole and self.lists is not None):
            return None
        bare = replace(self, lists=ShortLists((), (), None))
        room = bytes_max - len(orjson.dumps(bare.document())) - LISTS_END_BYTES
        failed = [(*it[:2], it[2][:SHORT_ERROR_LENGTH]) for it in self.tally.failed]
        entries: list[tuple[int, Any]] = [(it[0], it) for it in self.tally.skipped]
        entries += [(it[0], _failed_entry(*it)) for it in failed]
        entries.sort(key=_first)
        for offset, entry in entries:
            room -= 1 + len(orjson.dumps(entry))
            if room < 0 and not is_whole:
                skipped = self.tally.skipped[: bisect_left(self.tally.skipped, offset, key=_first)]
                failed = failed[: bisect_left(failed, offset, key=_first)]
                return replace(self, lists=ShortLists(skipped, failed, offset))
        return replace(self, lists=ShortLists(self.tally.skipped, failed, None))

    def message(self, completed_at: int) -> Message:
        """Return the Kafka message; `completed_at` becomes `ce_time`."""
        attributes = {
            "ce_specversion": "1.0",
            "ce_id": self.id,
            "ce_source": f"/{self.group}/{self.destination}",
            "ce_type": f"stream-app.delivery.{self.status}.v1",
            **({} if self.status is Status.EMPTY else {"ce_subject": self.key}),
            "ce_time": iso(completed_at),
            "content-type": "application/json",
        }
        return Message(
            key=self.destination.encode(),
            value=orjson.dumps(self.document()),
            headers=tuple((name, text.encode()) for name, text in attributes.items()),
        )

    def _object(self) -> dict[str, Any] | None:
        if self.status is Status.EMPTY:
            return None
        stored = self.stored
        checksum = stored and stored.checksum
        return {
            "bucket": self.bucket,
            "key": self.key,
            "size": stored and stored.size,
            "lines": self.tally.delivered,
            "uncompressed_size": self.size_uncompressed,
            "etag": stored and stored.etag,
            "version_id": stored and stored.version_id,
            "checksum": checksum and {"algorithm": "SHA256", "value": checksum},
        }


_first: Final = itemgetter(0)


def _failed_entry(offset: int, record: str, error: str) -> dict[str, Any]:
    return {"offset": offset, "record": record, "error": error}
