"""Owed deliveries, derived from the receipts alone, and whether delivering them again is safe.

A window is *owed* to a destination that has a `failed` receipt of it and no final one
(`delivered`, `redelivered`, `empty`), whatever their order. Failed events are owed where the final
receipt of a window lists some and no receipt that `answers` them has come since.

A run that ends midway may leave an object without its receipt, and an operator may correct the
destination before the next run. So the receipts topic is also the ledger of redelivery: before an
object is written it is *announced*, by a `retrying` receipt with its location and checksum.

    announced ─ put ─ redelivered       done
    announced ─ refused ─ failed        withdrawn: the object was not written
    announced                           in doubt: the object may exist

In doubt the same object may be put again, since `If-None-Match` makes S3 keep one. Another may not.

Memory is bounded by what is owed, not by the size of the topic: a first pass collects what may be
owed, a second one notes what was delivered since. Pure: messages and commits are handed in.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stream_app.config.settings import Destination
from stream_app.core.commit_metadata import Commit, UnmarkedCommitError
from stream_app.core.delivery import Delivery
from stream_app.core.object_format import FORMATS
from stream_app.core.object_key import identifier, key_time, object_key
from stream_app.core.receipt import FINAL, Problem, Receipt, ReceiptScope, Source, Status, Stored
from stream_app.core.receipt_decoder import Announced, DecodedReceipt, ObjectLocation, decode
from stream_app.errors import SetupError
from stream_app.records import Headers
from stream_app.text import iso

CANDIDATES_BYTES_MAX: Final = 256 * 1024 * 1024
"""Memory for what may be owed: some 100,000 windows."""
CANDIDATE_BYTES: Final = 2_560
"""Upper bound of the memory of one candidate, without its failed offsets."""
OFFSET_BYTES: Final = 80
"""Upper bound of the memory of one failed offset, in a candidate and in later receipts."""
ANNOUNCED: Final = "Redelivering"
"""Error code of a `retrying` receipt that announces an object."""


@dataclass(frozen=True, slots=True)
class OwedFilter:
    """Filter of owed deliveries. Times are seconds since 1970."""

    failed_events: bool = False
    """Failed events of delivered windows; otherwise windows that were given up."""
    destinations: frozenset[str] = frozenset()
    """Ids of destinations; empty: all."""
    ids: frozenset[str] = frozenset()
    """Ids of the receipts from which a delivery is owed; empty: all."""
    since: float | None = None
    """Windows that start then or later."""
    until: float | None = None
    """Windows that start before it."""

    def matches(self, receipt: DecodedReceipt) -> bool:
        """Return whether destination and time match."""
        return (
            (not self.destinations or receipt.destination in self.destinations)
            and (self.since is None or receipt.window_start >= self.since)
            and (self.until is None or receipt.window_start < self.until)
        )


@dataclass(slots=True)
class Ledger:
    """Announcements of one owed delivery."""

    open: Counter[Announced] = field(default_factory=Counter)
    """Announcements that were not withdrawn."""
    ever: Counter[Announced] = field(default_factory=Counter)

    def record(self, status: Status, announced: Announced) -> None:
        """Record an announcement, or its withdrawal."""
        if status is Status.RETRYING:
            self.open[announced] += 1
            self.ever[announced] += 1
        elif self.open[announced]:
            self.open[announced] -= 1


@dataclass(frozen=True, slots=True)
class Owed:
    """An owed delivery: a window, or failed events of it, at one destination."""

    receipt: DecodedReceipt
    """The window's `failed` receipt; for failed events its final one."""
    events: tuple[int, ...] | None
    """Offsets of the failed events; None: every event of the window."""
    ledger: Ledger

    @property
    def first(self) -> int:
        """The first offset to read."""
        return self.receipt.source.first_offset if self.events is None else self.events[0]

    @property
    def end(self) -> int:
        """The offset after the last one to read."""
        return self.receipt.source.end_offset if self.events is None else self.events[-1] + 1

    @property
    def matched(self) -> int | None:
        """Number of records that the destination must match in the run, or some are gone.

        None: unknown, since the receipt is of a record batch that could not be decoded.
        """
        return (self.receipt.matched or None) if self.events is None else len(self.events)

    @property
    def closed_at(self) -> int:
        """The closing time in the key; the window's end if the receipt has none.

        That is a receipt without an object, of a version before 0.2.
        """
        receipt = self.receipt
        if receipt.source.closed_at is not None:
            return receipt.source.closed_at
        return receipt.window_end if receipt.location is None else key_time(receipt.location.key)

    def location(self, destination: Destination) -> ObjectLocation:
        """Return the location of its object: its key, with prefix and format of the destination."""
        source = self.receipt.source
        name = (source.topic, source.partition, source.first_offset, source.closed_at)
        if self.events is None:
            digits = identifier(*name, destination.id)
        else:
            digits = events_identifier(source, destination.id, self.events)
        format_ = FORMATS[destination.format]
        key = object_key(destination.prefix, self.closed_at, digits, format_)
        return ObjectLocation(destination.bucket, key)

    def doubt(self, mine: Announced | None) -> ObjectLocation | None:
        """Return the location of another object than `mine` that an earlier attempt may have left.

        Args:
            mine: The object to be written; None: no object is to be written.
        """
        for announced, count in self.ledger.open.items():
            if count and announced != mine:
                return announced.location
        receipt = self.receipt
        moved = mine is None or receipt.location != mine.location
        return receipt.location if self.events is None and receipt.retryable and moved else None

    def is_same_object(self, mine: Announced, lines: int, size: int) -> bool:
        """Return whether an object that exists under the key of `mine` is the same object.

        True if another run has announced it, or if the worker tried to write the same lines there.
        """
        receipt = self.receipt
        return self.ledger.ever[mine] > 1 or (
            self.events is None
            and receipt.checksum is None
            and (receipt.location, receipt.lines, receipt.size_uncompressed)
            == (mine.location, lines, size)
        )

    def build_receipt(
        self,
        status: Status,
        group: str,
        delivery: Delivery,
        *,
        attempts: int = 0,
        stored: Stored | None = None,
        problem: Problem | None = None,
    ) -> Receipt:
        """Return a receipt of `delivery`, which delivers again what is owed."""
        receipt = self.receipt
        scope = ReceiptScope(
            group, receipt.source, receipt.window_start, receipt.window_end, self.closed_at
        )
        return delivery.receipt_in(
            scope,
            status,
            self.location(delivery.destination).key,
            attempts=attempts,
            stored=stored,
            problem=problem,
            answers=self.events,
        )


class OwedSearch:
    """Search for owed deliveries: two passes over a group's receipts, then those that follow.

    Args:
        group: The consumer group.
        wanted: Which deliveries to search for.
        memory_bytes_max: Bound of the memory of the candidates.
    """

    def __init__(
        self, group: str, wanted: OwedFilter, memory_bytes_max: int = CANDIDATES_BYTES_MAX
    ) -> None:
        self.unreadable = 0
        """Messages of the first pass that are not receipts."""
        self._group = group
        self._filter = wanted
        self._statuses = FINAL if wanted.failed_events else frozenset({Status.FAILED})
        self._candidates: dict[tuple[Source, str], DecodedReceipt] = {}
        self._memory_bytes = 0
        self._memory_bytes_max = memory_bytes_max
        self._answered: set[tuple[Source, str]] = set()
        self._chain: dict[tuple[tuple[Source, str], tuple[int, ...]], DecodedReceipt] = {}
        self._ledgers: defaultdict[tuple[tuple[Source, str], tuple[int, ...] | None], Ledger] = (
            defaultdict(Ledger)
        )
        self._ids: set[str] = set()

    @property
    def found(self) -> bool:
        """Whether the first pass has found a candidate."""
        return bool(self._candidates)

    def collect(self, headers: Headers, value: bytes | None) -> None:
        """First pass: keep a receipt from which a delivery may be owed.

        Raises:
            SetupError: The candidates take more memory than allowed.
        """
        try:
            receipt = self._read(headers, value, self._statuses)
        except ValueError:
            self.unreadable += 1
            return
        if receipt is None or receipt.answers is not None or not self._filter.matches(receipt):
            return
        if self._filter.failed_events and not receipt.failed:
            return
        if not self._filter.failed_events and self._filter.ids:
            if receipt.id not in self._filter.ids:
                return
            self._ids.add(receipt.id)
        if receipt.announced is not None and receipt.window in self._candidates:
            return  # The failure of a run of `redeliver`; the worker's receipt has more.
        if receipt.window not in self._candidates:
            self._memory_bytes += CANDIDATE_BYTES + OFFSET_BYTES * len(receipt.failed)
        self._candidates[receipt.window] = receipt
        if self._memory_bytes > self._memory_bytes_max:
            raise SetupError(
                f"more windows are owed than fit in {self._memory_bytes_max} bytes of memory: "
                f"{len(self._candidates)} so far; select fewer: --destination, --since, --until"
            )

    def update(self, headers: Headers, value: bytes | None) -> None:
        """Second pass, and later: note what was delivered, announced or withdrawn."""
        try:
            receipt = self._read(headers, value, frozenset(Status))
        except ValueError:
            return  # The first pass has counted it.
        if receipt is None or receipt.window not in self._candidates:
            return
        if receipt.announced is not None:
            self._ledgers[receipt.window, receipt.answers].record(receipt.status, receipt.announced)
        elif receipt.status not in FINAL:
            return
        elif receipt.answers is not None:
            self._chain[receipt.window, receipt.answers] = receipt
        elif not self._filter.failed_events:
            self._answered.add(receipt.window)

    def owed(self) -> list[Owed]:
        """Return what is owed, in the order of partitions and offsets."""
        found = []
        for window, receipt in self._candidates.items():
            events: tuple[int, ...] | None = None
            if self._filter.failed_events:
                events = self._remaining(receipt)
                if not events:
                    continue
            elif window in self._answered:
                continue
            found.append(Owed(receipt, events, self._ledgers[window, events]))
        found.sort(key=_order)
        return found

    def is_owed(self, owed: Owed) -> bool:
        """Return whether it is still owed after the receipts that were read since."""
        window = owed.receipt.window
        if owed.events is None:
            return window not in self._answered
        return (window, owed.events) not in self._chain

    def unknown_ids(self) -> list[str]:
        """Return the ids of the filter that no candidate has."""
        return sorted(self._filter.ids - self._ids)

    def _remaining(self, receipt: DecodedReceipt) -> tuple[int, ...]:
        """Return the events that failed in the last of the receipts that answer one another."""
        ids, events = {receipt.id}, receipt.failed
        while (answer := self._chain.get((receipt.window, events))) is not None:
            ids.add(answer.id)
            if answer.failed == events:
                break  # None of them was delivered.
            events = answer.failed
        if self._filter.ids:
            self._ids |= ids & self._filter.ids
            if not ids & self._filter.ids:
                return ()
        return events

    def _read(
        self, headers: Headers, value: bytes | None, of: frozenset[Status]
    ) -> DecodedReceipt | None:
        return decode(headers, value, self._group, of, with_failed=self._filter.failed_events)


def events_identifier(source: Source, destination: str, events: Sequence[int]) -> str:
    """Return the 64 hex digits that name the object of these failed events of a window.

    Two runs that deliver the same events write to the same key. Once some of them were delivered,
    the remaining ones have another key.
    """
    name = [*source.name, destination, "failed-events", *map(str, events)]
    return hashlib.sha256("\0".join(name).encode()).hexdigest()


def obstacle(
    owed: Owed,
    destinations: Mapping[str, Destination],
    topic: str,
    commits: Mapping[int, Commit | UnmarkedCommitError],
) -> str | None:
    """Return the reason why this cannot be delivered now, None if it can.

    Args:
        owed: The owed delivery.
        destinations: The configuration's, by id.
        topic: The events topic.
        commits: The group's, by partition.
    """
    receipt, source = owed.receipt, owed.receipt.source
    if source.topic != topic:
        return f"its events are of topic '{source.topic}'; set [kafka] events_topic to it"
    return _wrong_destination(receipt, destinations.get(receipt.destination)) or _wrong_commit(
        owed, commits.get(source.partition)
    )


def _wrong_destination(receipt: DecodedReceipt, destination: Destination | None) -> str | None:
    if destination is None:
        return "the destination is not in the configuration; put it back there"
    if destination.pipeline != receipt.pipeline:
        return (
            f"the destination took {_pipeline(receipt.pipeline)} then and takes "
            f"{_pipeline(destination.pipeline)} now; set its pipeline back for a while"
        )
    return None


def _wrong_commit(owed: Owed, commit: Commit | UnmarkedCommitError | None) -> str | None:
    source = owed.receipt.source
    if commit is None:
        return (
            "the group has committed nothing for this partition, so workers would read it from its "
            "beginning; start one"
        )
    if isinstance(commit, UnmarkedCommitError):
        return f'{commit}; see "Commits of others" in docs/operations.md'
    if owed.closed_at < commit.began_at:
        return (
            f"the log of partition {source.partition} has begun anew at {iso(commit.began_at)}, "
            f"after this window was closed: its offsets name other events now, and its own are gone"
        )
    if commit.offset < source.end_offset and not any(
        closing.settled and closing.end == source.end_offset for closing in commit.closings
    ):
        return (
            "workers have not settled the window yet and may still deliver it; run this again when "
            "the group has committed beyond it"
        )
    return None


def _pipeline(pipeline: str | None) -> str:
    return "every pipeline" if pipeline is None else f"pipeline '{pipeline}'"


def _order(owed: Owed) -> tuple[str, int, int, str]:
    source = owed.receipt.source
    return source.topic, source.partition, owed.first, owed.receipt.destination
