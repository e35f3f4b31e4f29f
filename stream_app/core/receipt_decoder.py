"""Decoder of receipts, as read back from the receipts topic by every reader of it.

The topic may hold more than receipts of this group and version: those of other groups and later
versions, and records of other programs. Each reader states how much of the document it relies on:

    summary         `stream-app receipts`   the cells of a row, of any type
    decode          `stream-app redeliver`  window, object, failed events
    decode_details  the Inspector           all fields of its index, within the bounds of a receipt

A receipt's JSON is parsed once by each. A key counts only when it is the key of its window. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
import orjson

from stream_app.core.object_format import format_of
from stream_app.core.object_key import identifier, key_time, object_key
from stream_app.core.receipt import FINAL, UNDELIVERED, Source, Status
from stream_app.records import Headers
from stream_app.text import counted, percent

OFFSET_MAX: Final = 2**63 - 1
PARTITION_MAX: Final = 2**31 - 1

_TYPE: Final = re.compile(r"stream-app\.delivery\.([a-z]+)\.v1")
_Count = Annotated[int, msgspec.Meta(ge=0, le=OFFSET_MAX)]
_Document = TypeVar("_Document")


# --- documents: as much of `schemas/receipt.schema.json` as each reader relies on --------------


class _SummarySource(msgspec.Struct):
    partition: Any
    first_offset: Any
    end_offset: int


class _SummaryCounts(msgspec.Struct):
    matched: Any
    delivered: Any
    skipped: Any
    failed: Any


class _SummaryObject(msgspec.Struct):
    bucket: Any
    key: Any
    size: Any


class _SummaryError(msgspec.Struct):
    code: Any
    message: Any


class ReceiptSummary(msgspec.Struct):
    """Cells of a row; `Any` accepts every JSON type."""

    status: Any
    destination: Any
    source: _SummarySource
    counts: _SummaryCounts
    object: _SummaryObject | None
    error: _SummaryError | None
    failed: Any = None

    @property
    def failure(self) -> str | None:
        """The share of events without a payload, and one's error; None: there is none.

        A receipt with an error of its own has that error instead.
        """
        matched, count = self.counts.matched, self.counts.failed
        if self.error is not None or type(count) is not int or type(matched) is not int:
            return None
        if not 0 < count <= matched:
            return None
        first = self.failed[0] if isinstance(self.failed, list) and self.failed else None
        error = first.get("error") if isinstance(first, dict) else None
        share = f"{count} of {counted(matched, 'event')} failed ({percent(count, matched)})"
        return f"{share}: {error}" if isinstance(error, str) else share

    @property
    def delivered(self) -> Any:  # noqa: ANN401 - any JSON
        """Number of delivered events: none of a window that is late or was given up."""
        return 0 if self.status in UNDELIVERED else self.counts.delivered

    @property
    def undelivered(self) -> Any:  # noqa: ANN401 - any JSON
        """Number of events whose payload waits for the destination, or was given up."""
        return self.counts.delivered if self.status in UNDELIVERED else 0


class _Window(msgspec.Struct):
    start: str
    end: str


class _Source(msgspec.Struct, kw_only=True):
    topic: str
    partition: int
    first_offset: int
    end_offset: int
    closed_at: str | None = None


class _Counts(msgspec.Struct):
    matched: int
    delivered: int


class _Checksum(msgspec.Struct):
    value: str | None = None


class _Object(msgspec.Struct, kw_only=True):
    bucket: str
    key: str
    uncompressed_size: int = 0
    checksum: _Checksum | None = None


class _Error(msgspec.Struct):
    retryable: bool


class _Receipt(msgspec.Struct, kw_only=True):
    status: str
    destination: str
    pipeline: str | None
    window: _Window
    source: _Source
    counts: _Counts
    object: _Object | None
    error: _Error | None
    answers: list[int] | None = None


class _FailedOffset(msgspec.Struct):
    offset: int


class _ReceiptWithFailed(_Receipt, kw_only=True):
    failed: list[_FailedOffset]


class _BoundedSource(_Source, kw_only=True):
    partition: Annotated[int, msgspec.Meta(ge=0, le=PARTITION_MAX)]
    first_offset: _Count
    end_offset: _Count


class _AllCounts(_Counts):
    matched: _Count
    delivered: _Count
    skipped: _Count
    failed: _Count


class _StoredObject(_Object, kw_only=True):
    size: _Count | None
    etag: str | None


class _NamedError(_Error):
    code: str
    message: str


class _FailedEvent(msgspec.Struct):
    offset: _Count
    error: str


class _DetailedReceipt(_Receipt, kw_only=True):
    lists_end_offset: _Count | None = None
    stored_at: str | None = None
    source: _BoundedSource
    counts: _AllCounts
    skipped: list[tuple[_Count, _Count]]
    failed: list[_FailedEvent]
    object: _StoredObject | None
    error: _NamedError | None
    answers: list[_Count] | None = None


class _Lists(msgspec.Struct):
    skipped: list[list[int]]
    failed: list[_FailedEvent]
    lists_end_offset: _Count | None = None


_LISTS: Final = msgspec.json.Decoder(_Lists)


# --- decoded receipts --------------------------------------------------------------------------


class ObjectLocation(NamedTuple):
    """Bucket and key of an object."""

    bucket: str
    key: str


class Announced(NamedTuple):
    """An object that a run of `redeliver` is about to write."""

    location: ObjectLocation
    checksum: str


@dataclass(frozen=True, slots=True)
class DecodedReceipt:
    """A receipt, as far as redelivery needs it. Times are seconds since 1970."""

    id: str
    status: Status
    source: Source
    destination: str
    pipeline: str | None
    window_start: int
    window_end: int
    matched: int
    lines: int
    """Payloads that are lines of the object, or would have been."""
    size_uncompressed: int
    location: ObjectLocation | None
    checksum: str | None
    retryable: bool
    failed: tuple[int, ...]
    answers: tuple[int, ...] | None

    @property
    def window(self) -> tuple[Source, str]:
        """Window and destination of the receipt."""
        return self.source, self.destination

    @property
    def announced(self) -> Announced | None:
        """The object that the receipt announces (`retrying`) or withdraws (`failed`)."""
        if self.status in FINAL or self.location is None or self.checksum is None:
            return None
        return Announced(self.location, self.checksum)


@dataclass(frozen=True, slots=True)
class ReceiptDetails:
    """A receipt, as the Inspector's index holds it."""

    receipt: DecodedReceipt
    skipped: int
    failed: int
    size: int | None
    error: str | None
    """Code and message."""
    published_at: float | None
    stored_at: int | None
    """When S3 confirmed the object; None: there is none, or a version before 0.2 wrote it."""


# --- decoding ----------------------------------------------------------------------------------


def summary(document: Any) -> ReceiptSummary:  # noqa: ANN401 - any JSON
    """Return the cells of a row, from a receipt that was parsed already.

    Raises:
        ValueError: The document is not a receipt.
    """
    return _convert(document, ReceiptSummary)


def decode(
    headers: Headers, value: bytes | None, group: str, of: frozenset[Status], *, with_failed: bool
) -> DecodedReceipt | None:
    """Return a receipt of this group and of one of these statuses, None for another one.

    Args:
        headers: The message's.
        value: The message's.
        group: The consumer group whose workers published it.
        of: Statuses; receipts of others are not parsed.
        with_failed: Whether to return the failed events: they take memory.

    Raises:
        ValueError: The message is not a receipt.
    """
    id_ = _id(headers, value, group, of)
    if id_ is None:
        return None
    if not with_failed:
        return _decoded(id_, _parse(value, _Receipt))
    document = _parse(value, _ReceiptWithFailed)
    return _decoded(id_, document, tuple(it.offset for it in document.failed))


def decode_details(headers: Headers, value: bytes | None, group: str) -> ReceiptDetails | None:
    """Return a receipt of this group with its details, None for one of another group.

    Args:
        headers: The message's.
        value: The message's.
        group: The consumer group whose workers published it.

    Raises:
        ValueError: The message is not a receipt.
    """
    id_ = _id(headers, value, group, frozenset(Status))
    if id_ is None:
        return None
    document = _parse(value, _DetailedReceipt)
    error = document.error
    return ReceiptDetails(
        _decoded(id_, document),
        skipped=document.counts.skipped,
        failed=document.counts.failed,
        size=None if document.object is None else document.object.size,
        error=None if error is None else f"{error.code}: {error.message}",
        published_at=_published_at(headers),
        stored_at=None if document.stored_at is None else _seconds(document.stored_at),
    )


class ListedOutcomes(NamedTuple):
    """Outcomes that a receipt lists."""

    skipped: Sequence[Sequence[int]]
    """Inclusive runs of offsets."""
    failed: Mapping[int, str]
    """Errors by offset."""
    end_offset: int | None
    """Offset before which the lists are complete; None: they are."""

    def cover(self, offset: int) -> bool:
        """Whether the lists are complete at an offset."""
        return self.end_offset is None or offset < self.end_offset


def decode_lists(value: bytes) -> ListedOutcomes:
    """Return what a receipt lists.

    Args:
        value: Of a message that `decode_details` has accepted.
    """
    lists = _LISTS.decode(value)
    failed = {it.offset: it.error for it in lists.failed}
    return ListedOutcomes(lists.skipped, failed, lists.lists_end_offset)


def _id(headers: Headers, value: bytes | None, group: str, of: frozenset[Status]) -> str | None:
    """Return the id of a receipt that is asked for, None for another one."""
    attributes = {name: (text or b"").decode(errors="replace") for name, text in headers}
    match = _TYPE.fullmatch(attributes.get("ce_type", ""))
    if match is None or value is None:
        raise ValueError("the message has not the headers of a receipt")
    if match[1] not in of or not attributes.get("ce_source", "").startswith(f"/{group}/"):
        return None
    if "ce_id" not in attributes:
        raise ValueError("the message has no ce_id")
    return attributes["ce_id"]


def _parse(value: bytes | None, type_: type[_Document]) -> _Document:
    return _convert(orjson.loads(value or b""), type_)


def _convert(document: Any, type_: type[_Document]) -> _Document:  # noqa: ANN401 - any JSON
    try:
        return msgspec.convert(document, type_)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a receipt: {error}") from error


def _decoded(id_: str, document: _Receipt, failed: Sequence[int] = ()) -> DecodedReceipt:
    described, source = document.object, _source(document.source)
    location = None if described is None else ObjectLocation(described.bucket, described.key)
    if location is not None and document.answers is None:
        name = (source.topic, source.partition, source.first_offset, source.closed_at)
        digits = identifier(*name, document.destination)
        end = object_key("", key_time(location.key), digits, format_of(location.key))
        if not location.key.endswith(end):
            raise ValueError(f"{location.key} is not the key of its window")
    checksum = None if described is None else described.checksum
    return DecodedReceipt(
        id=id_,
        status=Status(document.status),
        source=source,
        destination=document.destination,
        pipeline=document.pipeline,
        window_start=_seconds(document.window.start),
        window_end=_seconds(document.window.end),
        matched=document.counts.matched,
        lines=document.counts.delivered,
        size_uncompressed=0 if described is None else described.uncompressed_size,
        location=location,
        checksum=None if checksum is None else checksum.value,
        retryable=document.error is not None and document.error.retryable,
        failed=tuple(failed),
        answers=None if document.answers is None else tuple(document.answers),
    )


def _source(source: _Source) -> Source:
    closed_at = None if source.closed_at is None else _seconds(source.closed_at)
    return Source(source.topic, source.partition, source.first_offset, source.end_offset, closed_at)


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def _published_at(headers: Headers) -> float | None:
    for name, text in headers:
        if name == "ce_time" and text is not None:
            return datetime.fromisoformat(text.decode()).timestamp()
    return None
