"""Index of receipts: the outcome of an event at each destination.

    receipts topic ─> Index.add ─> runs of offsets by partition, pipeline and destination
                      Index.outcomes(event) ─> for each destination: the status, and its receipt

The rules are those of `docs/receipts.md`: of the receipts that cover an event those of the newest
window count, since offsets may have begun anew. Of these a final one precedes `failed`, and that
precedes `retrying`; `redeliver` may have delivered a failed event since. The index holds the newest
receipts, within two bounds; the outcome of an older event is unknown.

Pure: messages in, outcomes out. The clock is that of the receipts.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from stream_app.core.receipt import FINAL, Source, Status
from stream_app.core.receipt_decoder import ListedOutcomes, decode_details, decode_lists
from stream_app.records import Headers

INDEXED_RECEIPTS_MAX: Final = 50_000
"""Receipts in the index; the oldest are evicted first."""
INDEX_BYTES_MAX: Final = 64 * 1024 * 1024
"""Memory of the index."""
ENTRY_BYTES: Final = 1_500
"""Memory of a receipt beside its value."""
RUNS_BACK_MAX: Final = 8
"""Windows examined for an offset; they overlap only where offsets began anew, or were reset."""
LISTS_MAX: Final = 32
"""Receipts whose decoded lists are cached; each has at most 256 KiB."""


class EventStatus(StrEnum):
    """Status of one event at one destination."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    FAILED = "failed"
    """Its payload could not be computed, or its window was given up."""
    PENDING = "pending"
    """No receipt yet."""
    RETRYING = "retrying"
    """Its window is late because of the destination."""
    UNKNOWN = "unknown"
    """The receipt is older than the index, or the destination was not configured then."""


REASONS: Final[Mapping[EventStatus, str]] = {
    EventStatus.SKIPPED: "the expression gave undefined, or the record has no value",
    EventStatus.PENDING: "no receipt yet: its window is open or about to be delivered, or the "
    "destination is newer than the event",
    EventStatus.RETRYING: "its window is late because of the destination; the worker retries",
    EventStatus.UNKNOWN: "no receipt in memory covers it: it is older than they are, or the "
    "destination was not configured yet",
}
UNCOMPUTED: Final = "its payload could not be computed"
NOT_LISTED: Final = (
    "the receipts topic did not take the whole receipt, which only counts this event; raise the "
    "topic's max.message.bytes for later ones"
)
HELD_UP: Final = (
    "no receipt yet: its window is open, or waits for the destination, whose last receipt is "
    "`{status}`"
)
GIVEN_UP: Final = "its window was given up; `stream-app redeliver` delivers it"


class Event(NamedTuple):
    """Position and key of an event: all that determines its receipts."""

    partition: int
    offset: int
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A receipt in the index. Times are seconds since 1970."""

    id: str
    published_at: float | None
    partition: int
    offset: int
    """Partition and offset are those of the receipts topic."""
    status: Status
    destination: str
    pipeline: str | None
    source: Source
    window_start: int
    window_end: int
    stored_at: int | None
    """When S3 confirmed the object; None: unknown, or there is none."""
    matched: int
    lines: int
    """Payloads that are lines, or would have been."""
    skipped: int
    failed: int
    size: int | None
    bucket: str | None
    key: str | None
    error: str | None
    """Why it is late or given up: code and message."""
    answers: frozenset[int] | None
    """Offsets of the failed events that it covers; None: all events of its window."""
    value: bytes

    @property
    def closed_at(self) -> int:
        """When its window was closed; 0 for one of a version before 0.2."""
        return self.source.closed_at or 0

    @property
    def is_final(self) -> bool:
        """Whether it supersedes any other receipt of its window."""
        return self.status in FINAL

    @property
    def delivered(self) -> int:
        """Number of events that it delivered: none of a window that is late or was given up."""
        return self.lines if self.is_final else 0

    @property
    def undelivered(self) -> int:
        """Number of events whose payload waits for the destination, or was given up."""
        return self.lines - self.delivered

    @property
    def counts(self) -> dict[str, int]:
        """Number of events that it matches, and of each outcome; those of its document differ.

        There, `delivered` of a window that was given up counts what would have been delivered.
        """
        return {
            "matched": self.matched,
            "delivered": self.delivered,
            "undelivered": self.undelivered,
            "skipped": self.skipped,
            "failed": self.failed,
        }

    @property
    def memory_bytes(self) -> int:
        """Memory of the entry."""
        return ENTRY_BYTES + len(self.value)

    def document(self) -> dict[str, Any]:
        """Return the receipt, as `schemas/receipt.schema.json` has it."""
        document: dict[str, Any] = orjson.loads(self.value)
        return document


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """The outcome of one event at one destination."""

    status: EventStatus
    entry: Entry | None = None
    """The effective receipt."""
    error: str | None = None
    reason: str | None = None
    """Explanation where the status needs one."""
    entries: tuple[Entry, ...] = ()
    """Every receipt that covers the event, the newest first."""


@dataclass(slots=True)
class _Runs:
    """The windows of one destination in one partition."""

    starts: list[int] = field(default_factory=list)
    entries: dict[int, list[Entry]] = field(default_factory=dict)
    """By first offset, in order of arrival."""

    def add(self, entry: Entry) -> None:
        first = entry.source.first_offset
        self._supersede(entry)
        if first not in self.entries:
            insort(self.starts, first)
            self.entries[first] = []
        self.entries[first].append(entry)

    def remove(self, entry: Entry) -> None:
        first = entry.source.first_offset
        if entry not in self.entries.get(first, ()):
            return  # It is superseded.
        self.entries[first].remove(entry)
        if not self.entries[first]:
            del self.entries[first]
            del self.starts[bisect_right(self.starts, first) - 1]

    def _supersede(self, newer: Entry) -> None:
        """Remove the windows that start within a newer one: their offsets name other events now."""
        low, high = newer.source.first_offset, newer.source.end_offset
        starts = self.starts[bisect_left(self.starts, low) : bisect_left(self.starts, high)]
        for start in starts:
            for entry in list(self.entries[start]):
                if entry.closed_at < newer.closed_at:
                    self.remove(entry)

    def covering(self, offset: int) -> list[Entry]:
        """Return the receipts of the newest window whose run of offsets contains an offset."""
        end = bisect_right(self.starts, offset)
        return _of_newest_window(
            [
                entry
                for first in self.starts[max(0, end - RUNS_BACK_MAX) : end]
                for entry in self.entries[first]
                if offset < entry.source.end_offset
            ]
        )


@dataclass(slots=True)
class _Frontier:
    """Offset below which every window of a partition has receipts, as of an earlier time."""

    recent: deque[tuple[float, int]] = field(default_factory=deque)
    """Times of receipts with the first offsets of their windows; both ascend."""
    offset: int = -1

    def add(self, time: float, first_offset: int) -> None:
        if not self.recent or first_offset > self.recent[-1][1]:
            self.recent.append((time, first_offset))

    def at(self, time: float) -> int:
        """Return the offset below which all receipts had arrived at a time."""
        while self.recent and self.recent[0][0] <= time:
            self.offset = self.recent.popleft()[1]
        return self.offset


class Index:
    """Index of the newest receipts.

    Args:
        topic: Events topic; receipts of another topic are ignored.
        group: Consumer group; receipts of another group are ignored.
        configured: Pipelines of the configured destinations, by id.
        settled_after_seconds: A window without any receipt so long after a later window of its
            partition got one will get none.
        receipts_max: Receipts at most.
        bytes_max: Memory at most.
    """

    def __init__(
        self,
        topic: str,
        group: str,
        configured: Mapping[str, str | None],
        *,
        settled_after_seconds: float,
        receipts_max: int = INDEXED_RECEIPTS_MAX,
        bytes_max: int = INDEX_BYTES_MAX,
    ) -> None:
        self.not_receipts = 0
        """Number of messages that were not receipts."""
        self.memory_bytes = 0
        self._topic = topic
        self._group = group
        self._settled_after_seconds = settled_after_seconds
        self._receipts_max = receipts_max
        self._bytes_max = bytes_max
        self._entries: deque[Entry] = deque()
        self._ids: set[str] = set()
        self._runs: dict[tuple[int, bytes | None], dict[str, _Runs]] = {}
        """By partition and pipeline, then by destination."""
        self._of_destination: dict[str, deque[Entry]] = {}
        self._frontiers: dict[int, _Frontier] = {}
        self._newest_at = 0.0
        self._configured: dict[bytes | None, list[str]] = {}
        self.configure(configured)

    def configure(self, configured: Mapping[str, str | None]) -> None:
        """Set the pipelines of the configured destinations, by id."""
        self._configured = {}
        for id_, pipeline in configured.items():
            self._configured.setdefault(_key(pipeline), []).append(id_)

    @property
    def receipt_count(self) -> int:
        """Number of receipts in the index."""
        return len(self._entries)

    @property
    def oldest_at(self) -> float | None:
        """Time at which the oldest receipt in the index was published."""
        return next((it.published_at for it in self._entries if it.published_at is not None), None)

    def destinations(self) -> list[str]:
        """Return the ids of destinations that are configured or have receipts."""
        configured = {id_ for ids in self._configured.values() for id_ in ids}
        return sorted(configured | self._of_destination.keys())

    def add(
        self, partition: int, offset: int, headers: Headers, value: bytes | None
    ) -> Entry | None:
        """Add a message of the receipts topic.

        Returns:
            The receipt; None if the message is not a receipt of this group and topic, or a
            duplicate.
        """
        try:
            entry = _entry(partition, offset, headers, value, self._group)
        except ValueError:
            self.not_receipts += 1
            return None
        if entry is None or entry.source.topic != self._topic or entry.id in self._ids:
            return None
        self._insert(entry)
        while len(self._entries) > self._receipts_max or self.memory_bytes > self._bytes_max:
            self._evict(self._entries.popleft())
        return entry

    def outcomes(self, event: Event, only: str | None = None) -> dict[str, EventOutcome]:
        """Return the outcome of an event at each destination that matches it, by id.

        Args:
            event: The event.
            only: The one destination to look at; None: all.
        """
        found: dict[str, EventOutcome] = {}
        keys = {None, event.key}
        for key in keys:
            for id_, runs in self._runs.get((event.partition, key), {}).items():
                entries = runs.covering(event.offset) if only in {None, id_} else []
                if any(entry.answers is None for entry in entries):
                    found[id_] = _outcome(entries, event.offset)
        if missing := [
            id_
            for key in keys
            for id_ in self._configured.get(key, ())
            if id_ not in found and only in {None, id_}
        ]:
            status = self._without_receipt(event)
            found |= dict.fromkeys(missing, EventOutcome(status, reason=REASONS[status]))
            if status is EventStatus.PENDING:
                found |= {id_: it for id_ in missing if (it := self._held_up(id_)) is not None}
        return found

    def outcome_counts(self, event: Event) -> dict[str, int]:
        """Return the number of destinations that match an event, and the number for each status."""
        counts = Counter(it.status for it in self.outcomes(event).values())
        return {"matched": counts.total(), **{str(it): counts[it] for it in EventStatus}}

    def window(self, destination: str, partition: int, first_offset: int) -> tuple[Entry, ...]:
        """Return the receipts of one window: the effective one, then the others, newest first.

        Of several that begin at this offset, since offsets began anew, the newest window counts.
        """
        entries = _of_newest_window(
            [
                entry
                for entry in self.of_destination(destination)
                if entry.source.partition == partition and entry.source.first_offset == first_offset
            ]
        )
        whole = [entry for entry in entries if entry.answers is None]
        if not whole:
            return ()
        effective = effective_receipt(whole)
        return effective, *(it for it in reversed(entries) if it is not effective)

    def of_destination(self, destination: str) -> Sequence[Entry]:
        """Return a destination's receipts, the oldest first."""
        return self._of_destination.get(destination, ())

    def entries(self, destination: str | None = None) -> tuple[Entry, ...]:
        """Return the receipts of a destination, or all, the oldest first."""
        return tuple(self._entries if destination is None else self.of_destination(destination))

    def _without_receipt(self, event: Event) -> EventStatus:
        """Return the status of an event that no receipt covers: pending, or unknown."""
        frontier = self._frontiers.get(event.partition)
        passed_at = self._newest_at - self._settled_after_seconds
        if frontier is not None and event.offset < frontier.at(passed_at):
            return EventStatus.UNKNOWN
        return EventStatus.PENDING

    def _held_up(self, destination: str) -> EventOutcome | None:
        """Return the outcome of a pending event whose destination fails by its last receipt.

        A receipt of a batch that could not be decoded counts no event, and is not about S3.
        """
        last = next(reversed(self.of_destination(destination)), None)
        if last is None or last.is_final or not last.matched:
            return None
        reason = HELD_UP.format(status=last.status)
        return EventOutcome(EventStatus.PENDING, error=last.error, reason=reason)

    def _insert(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._ids.add(entry.id)
        self.memory_bytes += entry.memory_bytes
        self._of_destination.setdefault(entry.destination, deque()).append(entry)
        shard = entry.source.partition, _key(entry.pipeline)
        self._runs.setdefault(shard, {}).setdefault(entry.destination, _Runs()).add(entry)
        if entry.published_at is not None:
            frontier = self._frontiers.setdefault(entry.source.partition, _Frontier())
            frontier.add(entry.published_at, entry.source.first_offset)
            self._newest_at = max(self._newest_at, entry.published_at)

    def _evict(self, entry: Entry) -> None:
        self._ids.discard(entry.id)
        self.memory_bytes -= entry.memory_bytes
        # Both keep receipts in order of arrival.
        of_destination = self._of_destination[entry.destination]
        of_destination.popleft()
        if not of_destination:
            del self._of_destination[entry.destination]
        shard = entry.source.partition, _key(entry.pipeline)
        runs = self._runs[shard][entry.destination]
        runs.remove(entry)
        if not runs.starts:
            del self._runs[shard][entry.destination]
            if not self._runs[shard]:
                del self._runs[shard]


def _of_newest_window(entries: list[Entry]) -> list[Entry]:
    """Return the receipts of the window that was closed last."""
    newest = max((it.closed_at for it in entries), default=0)
    return [it for it in entries if it.closed_at == newest]


def effective_receipt(entries: Sequence[Entry]) -> Entry:
    """Return the receipt of a window that supersedes its others; there must be one."""
    return max(reversed(entries), key=_rank)


def in_runs(offset: int, skipped: Sequence[Sequence[int]]) -> bool:
    """Return whether an offset is within one of these inclusive runs, which ascend."""
    index = bisect_right(skipped, offset, key=_first)
    return index > 0 and offset <= skipped[index - 1][1]


@lru_cache(LISTS_MAX)
def receipt_lists(value: bytes) -> ListedOutcomes:
    """Return the lists of a receipt."""
    return decode_lists(value)


def _first(run: Sequence[int]) -> int:
    return run[0]


def _rank(entry: Entry) -> int:
    if entry.is_final:
        return 2
    return 1 if entry.status is Status.FAILED else 0


def _outcome(entries: Sequence[Entry], offset: int) -> EventOutcome:
    """Return the outcome of an event in the window of these receipts."""
    window = effective_receipt([entry for entry in entries if entry.answers is None])
    covering = [it for it in entries if it.answers is None or offset in it.answers]
    newest_first = tuple(reversed(covering))
    outcome = _outcome_in(window, offset, newest_first)
    if outcome.status is EventStatus.FAILED and window.is_final:
        redelivered = [it for it in covering if it.answers is not None and it.is_final]
        if redelivered:
            least = min(redelivered, key=lambda it: len(it.answers or ()))
            return _outcome_in(least, offset, newest_first)
    return outcome


def _outcome_in(entry: Entry, offset: int, entries: tuple[Entry, ...]) -> EventOutcome:
    """Return the outcome of an event by one receipt."""
    if entry.skipped or entry.failed:
        lists = receipt_lists(entry.value)
        if offset in lists.failed:
            error = lists.failed[offset]
            return EventOutcome(EventStatus.FAILED, entry, error, UNCOMPUTED, entries)
        if in_runs(offset, lists.skipped):
            return EventOutcome(
                EventStatus.SKIPPED, entry, None, REASONS[EventStatus.SKIPPED], entries
            )
        if not lists.cover(offset):
            return EventOutcome(EventStatus.UNKNOWN, entry, None, NOT_LISTED, entries)
    if entry.is_final:
        return EventOutcome(EventStatus.DELIVERED, entry, entries=entries)
    if entry.status is Status.FAILED:
        return EventOutcome(EventStatus.FAILED, entry, entry.error, GIVEN_UP, entries)
    return EventOutcome(
        EventStatus.RETRYING, entry, entry.error, REASONS[EventStatus.RETRYING], entries
    )


def _key(pipeline: str | None) -> bytes | None:
    return None if pipeline is None else pipeline.encode(errors="surrogatepass")


def _entry(
    partition: int, offset: int, headers: Headers, value: bytes | None, group: str
) -> Entry | None:
    details = decode_details(headers, value, group)
    if details is None or value is None:  # Only a receipt has a value.
        return None
    receipt = details.receipt
    return Entry(
        id=receipt.id,
        published_at=details.published_at,
        partition=partition,
        offset=offset,
        status=receipt.status,
        destination=receipt.destination,
        pipeline=receipt.pipeline,
        source=receipt.source,
        window_start=receipt.window_start,
        window_end=receipt.window_end,
        stored_at=details.stored_at,
        matched=receipt.matched,
        lines=receipt.lines,
        skipped=details.skipped,
        failed=details.failed,
        size=details.size,
        bucket=receipt.location and receipt.location.bucket,
        key=receipt.location and receipt.location.key,
        error=details.error,
        answers=None if receipt.answers is None else frozenset(receipt.answers),
        value=value,
    )
