"""The receipt: one JSON document for each window and destination, from which every event is told.

The records that a destination matches are those whose key is its pipeline (every record, when it
has none). Delivered are the matched ones in neither `skipped` nor `failed`, in offset order: the
n-th of them is the n-th line of the object. So one small document answers for a whole window.

A receipt travels as a CloudEvents 1.0 message in the binary mode of the Kafka binding: attributes
as headers, the document as the value, the destination id as the key. Its `ce_id` is a hash of what
it speaks of, so a receipt published twice is recognised by (ce_source, ce_id).
`schemas/receipt.schema.json` describes the value.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson

RECEIPT_BYTES_MAX: Final = 256 * 1024
"""A window closes early before the lists of one of its receipts grow beyond this."""
SKIPPED_RUN_BYTES: Final = 44
"""More than one run takes: two offsets of at most 19 digits, brackets and commas."""
FAILED_ENTRY_BYTES: Final = 80
"""More than one failed entry takes beside its two texts: names, offset, quotes."""
MEMORY_FACTOR: Final = 3
"""Python's lists and numbers take some 2.5 times the room of their JSON."""


class Status(StrEnum):
    """What a receipt says of its window at its destination."""

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
"""What supersedes any other receipt of its window and destination."""


@dataclass(frozen=True, slots=True)
class Source:
    """A run of offsets of one partition; `end_offset` is the first that is not in it."""

    topic: str
    partition: int
    first_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What S3 said of an object that is there, and what was sent."""

    size: int
    etag: str | None
    version_id: str | None
    checksum: str
    """SHA-256 of the object's bytes, in base64, as S3 writes it."""
    already_existed: bool
    """A predecessor had finished it: S3 answered 412."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a window is late or given up."""

    code: str
    message: str
    retryable: bool


@dataclass(slots=True)
class Tally:
    """What became of the records that one destination matched in one window."""

    matched: int = 0
    skipped: list[list[int]] = field(default_factory=list)
    """Inclusive runs of offsets: each matched record within one of them was skipped."""
    skipped_count: int = 0
    failed: list[tuple[int, str, str]] = field(default_factory=list)
    """Offset, name of the record, and error text."""
    bytes_estimate: int = 0
    """No less than what the two lists take in the receipt."""
    run_open: bool = False
    """The newest matched record was skipped, so that a further one lengthens its run."""

    @property
    def held(self) -> int:
        """Bytes of memory that the two lists take."""
        return self.bytes_estimate * MEMORY_FACTOR

    @property
    def delivered(self) -> int:
        """Records whose payload is a line."""
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
        # JSON is UTF-8, which cannot say half of a surrogate pair; an engine's error can hold one.
        error = error.encode(errors="replace").decode()
        self.failed.append((offset, record, error))
        self.bytes_estimate += FAILED_ENTRY_BYTES + len(record) + len(orjson.dumps(error))


@dataclass(frozen=True, slots=True)
class Message:
    """A receipt as Kafka carries it."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """One window at one destination. Times are whole seconds since 1970, UTC.

    `stored` beside a `problem` is what `redeliver` is about to write, or failed to.
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
    uploaded_at: int
    attempts: int
    stored: Stored | None = None
    problem: Problem | None = None
    answers: tuple[int, ...] | None = None
    """The failed events that this receipt answers, by offset, ascending; None: the window's all."""

    @property
    def id(self) -> str:
        """64 hex digits: the same receipt published again has the same."""
        source = self.source
        name = [
            source.topic,
            str(source.partition),
            str(source.first_offset),
            self.destination,
            str(self.status),
        ]
        if self.answers is not None:
            name += ["failed-events", *map(str, self.answers)]
        if self.status is Status.RETRYING and self.stored is not None:
            name += ["announced", self.bucket, self.key, self.stored.checksum]
        return hashlib.sha256("\0".join(name).encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """Return the value as JSON types."""
        tally, source = self.tally, self.source
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
            },
            "counts": {
                "matched": tally.matched,
                "delivered": tally.delivered,
                "skipped": tally.skipped_count,
                "failed": len(tally.failed),
            },
            "skipped": tally.skipped,
            "failed": [
                {"offset": offset, "record": record, "error": error}
                for offset, record, error in tally.failed
            ],
            "object": self._object(),
            "attempts": self.attempts,
            "already_existed": self.stored is not None and self.stored.already_existed,
            "uploaded_at": None
            if self.stored is None or self.problem is not None
            else iso(self.uploaded_at),
            "error": None
            if self.problem is None
            else {
                "code": self.problem.code,
                "message": self.problem.message,
                "retryable": self.problem.retryable,
            },
            **({} if self.answers is None else {"answers": self.answers}),
        }

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
        return {
            "bucket": self.bucket,
            "key": self.key,
            "size": stored and stored.size,
            "lines": self.tally.delivered,
            "uncompressed_size": self.size_uncompressed,
            "etag": stored and stored.etag,
            "version_id": stored and stored.version_id,
            "checksum": stored and {"algorithm": "SHA256", "value": stored.checksum},
        }


def iso(seconds: int) -> str:
    """Return a time as receipts, and all that speaks of windows, have it: UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
