"""What became of an event at each destination, told from the receipts that are held.

    receipts topic ─> Index.add ─> runs of offsets by partition, pipeline and destination
                      Index.answers(event) ─> for each destination: the outcome, and who says so

The rules are those of `docs/receipts.md`: of the receipts that speak of an event a final one counts
before `failed`, and that before `retrying`; a failed event may have been answered by `redeliver`.
The newest receipts are held, within two bounds; of an event that is older, nothing is known.

Pure: messages in, outcomes out. The time is that of the receipts.
"""

from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from stream_app.inspector.shapes import require_receipt
from stream_app.receipts import FINAL, Source, Status
from stream_app.told import read

RECEIPTS_MAX: Final = 50_000
"""Receipts held; the oldest go first."""
BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes that they may take."""
ENTRY_BYTES: Final = 1_500
"""What a receipt takes in memory beside its text."""
RUNS_BACK_MAX: Final = 8
"""Windows looked at for an offset; they overlap only where a group was set back."""
LISTS_MAX: Final = 32
"""Receipts whose lists are kept read; each has at most 256 KiB."""

Headers = Sequence[tuple[str, bytes | None]]


class Outcome(StrEnum):
    """What is known of one event at one destination."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    FAILED = "failed"
    """Its payload could not be computed, or its window was given up."""
    PENDING = "pending"
    """No receipt yet."""
    RETRYING = "retrying"
    """Its window is late because of the destination."""
    UNKNOWN = "unknown"
    """The receipt is older than those held, or the destination was not there then."""


REASONS: Final[Mapping[Outcome, str]] = {
    Outcome.SKIPPED: "the expression gave undefined",
    Outcome.PENDING: "no receipt yet: its window is open, or about to be delivered",
    Outcome.RETRYING: "its window is late because of the destination; it is tried again",
    Outcome.UNKNOWN: "no receipt that is held speaks of it: it is older than they are, or the "
    "destination was not there yet",
}
UNCOMPUTED: Final = "its payload could not be computed"
GIVEN_UP: Final = "its window was given up; `stream-app redeliver` delivers it"


class Event(NamedTuple):
    """An event, as far as receipts speak of it."""

    partition: int
    offset: int
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A receipt as it is held. Times are seconds since 1970."""

    id: str
    published_at: float | None
    partition: int
    offset: int
    """Both in the receipts topic."""
    status: Status
    destination: str
    pipeline: str | None
    source: Source
    window_start: int
    window_end: int
    matched: int
    delivered: int
    """Payloads that are lines, or would have been."""
    skipped: int
    failed: int
    size: int | None
    bucket: str | None
    key: str | None
    error: str | None
    """Why it is late or given up: code and message."""
    answers: frozenset[int] | None
    """The failed events that it speaks of; None: all events of its window."""
    value: bytes

    @property
    def is_final(self) -> bool:
        """Whether it supersedes any other receipt of its window."""
        return self.status in FINAL

    @property
    def held_bytes(self) -> int:
        """What it takes in memory."""
        return ENTRY_BYTES + len(self.value)

    def document(self) -> dict[str, Any]:
        """Return the receipt, as `schemas/receipt.schema.json` has it."""
        document: dict[str, Any] = orjson.loads(self.value)
        return document


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one event at one destination."""

    outcome: Outcome
    entry: Entry | None = None
    """The receipt that counts."""
    error: str | None = None
    reason: str | None = None
    """In words, where the outcome alone does not say it."""
    entries: tuple[Entry, ...] = ()
    """Every receipt that speaks of the event, the newest first."""


@dataclass(slots=True)
class _Runs:
    """The windows of one destination in one partition."""

    starts: list[int] = field(default_factory=list)
    entries: dict[int, list[Entry]] = field(default_factory=dict)
    """By first offset, in the order in which they came."""

    def add(self, entry: Entry) -> None:
        first = entry.source.first_offset
        if first not in self.entries:
            insort(self.starts, first)
            self.entries[first] = []
        self.entries[first].append(entry)

    def remove(self, entry: Entry) -> None:
        first = entry.source.first_offset
        self.entries[first].remove(entry)
        if not self.entries[first]:
            del self.entries[first]
            del self.starts[bisect_right(self.starts, first) - 1]

    def covering(self, offset: int) -> list[Entry]:
        """Return the receipts whose run of offsets holds this one."""
        end = bisect_right(self.starts, offset)
        return [
            entry
            for first in self.starts[max(0, end - RUNS_BACK_MAX) : end]
            for entry in self.entries[first]
            if offset < entry.source.end_offset
        ]


@dataclass(slots=True)
class _Frontier:
    """How far the receipts of a partition have come, a while ago."""

    recent: deque[tuple[float, int]] = field(default_factory=deque)
    """Times of receipts, and first offsets of their windows; both ascend."""
    offset: int = -1

    def add(self, time: float, first_offset: int) -> None:
        if not self.recent or first_offset > self.recent[-1][1]:
            self.recent.append((time, first_offset))

    def at(self, time: float) -> int:
        """Return the offset below which all receipts had come at this time."""
        while self.recent and self.recent[0][0] <= time:
            self.offset = self.recent.popleft()[1]
        return self.offset


class Index:
    """The receipts that are held.

    Args:
        topic: The events topic; receipts for another are passed over.
        group: The consumer group; receipts of another are passed over.
        configured: The destinations' pipelines, by id.
        settled_after_seconds: After so long a window has a receipt, be it a `retrying` one, if any
            later window of its partition has.
        receipts_max: How many are held.
        bytes_max: How much memory they may take.
    """

    def __init__(
        self,
        topic: str,
        group: str,
        configured: Mapping[str, str | None],
        *,
        settled_after_seconds: float,
        receipts_max: int = RECEIPTS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.not_receipts = 0
        """Messages that were no receipts."""
        self.bytes_held = 0
        self._topic = topic
        self._group = group
        self._settled_after_seconds = settled_after_seconds
        self._receipts_max = receipts_max
        self._bytes_max = bytes_max
        self._entries: deque[Entry] = deque()
        self._ids: set[str] = set()
        self._runs: dict[tuple[int, bytes | None], dict[str, _Runs]] = {}
        """By partition and pipeline, and there by destination."""
        self._of_destination: dict[str, deque[Entry]] = {}
        self._frontiers: dict[int, _Frontier] = {}
        self._newest_at = 0.0
        self._configured: dict[bytes | None, list[str]] = {}
        self.configure(configured)

    def configure(self, configured: Mapping[str, str | None]) -> None:
        """Take the destinations' pipelines, by id."""
        self._configured = {}
        for id_, pipeline in configured.items():
            self._configured.setdefault(_key(pipeline), []).append(id_)

    @property
    def held(self) -> int:
        """Receipts held."""
        return len(self._entries)

    @property
    def oldest(self) -> float | None:
        """When the oldest receipt that is held was published."""
        return next((it.published_at for it in self._entries if it.published_at is not None), None)

    def destinations(self) -> list[str]:
        """Return the ids of destinations that are configured or have receipts."""
        configured = {id_ for ids in self._configured.values() for id_ in ids}
        return sorted(configured | self._of_destination.keys())

    def add(
        self, partition: int, offset: int, headers: Headers, value: bytes | None
    ) -> Entry | None:
        """Take a message of the receipts topic.

        Returns:
            The receipt; None when it is nobody's, another group's or topic's, or held already.
        """
        try:
            entry = _entry(partition, offset, headers, value, self._group)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.not_receipts += 1
            return None
        if entry is None or entry.source.topic != self._topic or entry.id in self._ids:
            return None
        self._hold(entry)
        while len(self._entries) > self._receipts_max or self.bytes_held > self._bytes_max:
            self._let_go(self._entries.popleft())
        return entry

    def answers(self, event: Event) -> dict[str, Answer]:
        """Return the outcome of an event, by destination: those that match it, and no others."""
        found: dict[str, Answer] = {}
        keys = {None, event.key}
        for key in keys:
            for id_, runs in self._runs.get((event.partition, key), {}).items():
                entries = runs.covering(event.offset)
                if any(entry.answers is None for entry in entries):
                    found[id_] = _answer(entries, event.offset)
        if missing := [
            id_ for key in keys for id_ in self._configured.get(key, ()) if id_ not in found
        ]:
            outcome = self._unanswered(event)
            found |= dict.fromkeys(missing, Answer(outcome, reason=REASONS[outcome]))
        return found

    def dest(self, event: Event) -> dict[str, int]:
        """Return how many destinations match an event, and how many have each outcome."""
        counts = Counter(answer.outcome for answer in self.answers(event).values())
        return {
            "matched": counts.total(),
            **{str(outcome): counts[outcome] for outcome in Outcome},
        }

    def window(self, destination: str, partition: int, first_offset: int) -> tuple[Entry, ...]:
        """Return the receipts of one window, the one that counts first, then the newest first."""
        entries = [
            entry
            for entry in self.of_destination(destination)
            if entry.source.partition == partition and entry.source.first_offset == first_offset
        ]
        whole = [entry for entry in entries if entry.answers is None]
        if not whole:
            return ()
        counting = counts(whole)
        return counting, *(it for it in reversed(entries) if it is not counting)

    def of_destination(self, destination: str) -> Sequence[Entry]:
        """Return a destination's receipts, the oldest first."""
        return self._of_destination.get(destination, ())

    def _unanswered(self, event: Event) -> Outcome:
        """Return what no receipt means: it is to come, or it is not held."""
        frontier = self._frontiers.get(event.partition)
        passed_at = self._newest_at - self._settled_after_seconds
        if frontier is not None and event.offset < frontier.at(passed_at):
            return Outcome.UNKNOWN
        return Outcome.PENDING

    def _hold(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._ids.add(entry.id)
        self.bytes_held += entry.held_bytes
        self._of_destination.setdefault(entry.destination, deque()).append(entry)
        place = entry.source.partition, _key(entry.pipeline)
        self._runs.setdefault(place, {}).setdefault(entry.destination, _Runs()).add(entry)
        if entry.published_at is not None:
            frontier = self._frontiers.setdefault(entry.source.partition, _Frontier())
            frontier.add(entry.published_at, entry.source.first_offset)
            self._newest_at = max(self._newest_at, entry.published_at)

    def _let_go(self, entry: Entry) -> None:
        self._ids.discard(entry.id)
        self.bytes_held -= entry.held_bytes
        # Both hold them in the order in which they came.
        of_destination = self._of_destination[entry.destination]
        of_destination.popleft()
        if not of_destination:
            del self._of_destination[entry.destination]
        place = entry.source.partition, _key(entry.pipeline)
        runs = self._runs[place][entry.destination]
        runs.remove(entry)
        if not runs.starts:
            del self._runs[place][entry.destination]
            if not self._runs[place]:
                del self._runs[place]


def counts(entries: Sequence[Entry]) -> Entry:
    """Return the one that counts of the receipts for one window; there must be one."""
    return max(reversed(entries), key=_rank)


def is_in(offset: int, skipped: Sequence[Sequence[int]]) -> bool:
    """Tell whether an offset is within one of these inclusive runs, which ascend."""
    place = bisect_right(skipped, offset, key=_first)
    return place > 0 and offset <= skipped[place - 1][1]


@lru_cache(LISTS_MAX)
def lists(value: bytes) -> tuple[list[list[int]], dict[int, str]]:
    """Return what a receipt lists: runs of skipped offsets, and errors by offset."""
    document = orjson.loads(value)
    return document["skipped"], {it["offset"]: it["error"] for it in document["failed"]}


def _first(run: Sequence[int]) -> int:
    return run[0]


def _rank(entry: Entry) -> int:
    if entry.is_final:
        return 2
    return 1 if entry.status is Status.FAILED else 0


def _answer(entries: Sequence[Entry], offset: int) -> Answer:
    """Return the outcome of an event of which these receipts speak."""
    window = counts([entry for entry in entries if entry.answers is None])
    said = [it for it in entries if it.answers is None or offset in it.answers]
    newest_first = tuple(reversed(said))
    answer = _by(window, offset, newest_first)
    if answer.outcome is Outcome.FAILED and window.is_final:
        answering = [it for it in said if it.answers is not None and it.is_final]
        if answering:
            least = min(answering, key=lambda it: len(it.answers or ()))
            return _by(least, offset, newest_first)
    return answer


def _by(entry: Entry, offset: int, entries: tuple[Entry, ...]) -> Answer:
    """Return what one receipt says of an event."""
    if entry.skipped or entry.failed:
        skipped, failed = lists(entry.value)
        if offset in failed:
            return Answer(Outcome.FAILED, entry, failed[offset], UNCOMPUTED, entries)
        if is_in(offset, skipped):
            return Answer(Outcome.SKIPPED, entry, None, REASONS[Outcome.SKIPPED], entries)
    if entry.is_final:
        return Answer(Outcome.DELIVERED, entry, entries=entries)
    if entry.status is Status.FAILED:
        return Answer(Outcome.FAILED, entry, entry.error, GIVEN_UP, entries)
    return Answer(Outcome.RETRYING, entry, entry.error, REASONS[Outcome.RETRYING], entries)


def _key(pipeline: str | None) -> bytes | None:
    return None if pipeline is None else pipeline.encode(errors="surrogatepass")


def _entry(
    partition: int, offset: int, headers: Headers, value: bytes | None, group: str
) -> Entry | None:
    told = read(headers, value, group, frozenset(Status), with_failed=False)
    if told is None or value is None:  # Only a receipt has a value.
        return None
    require_receipt(value)
    document = orjson.loads(value)
    tallied, error = document["counts"], document["error"]
    return Entry(
        id=told.id,
        published_at=_published_at(headers),
        partition=partition,
        offset=offset,
        status=told.status,
        destination=told.destination,
        pipeline=told.pipeline,
        source=told.source,
        window_start=told.window_start,
        window_end=told.window_end,
        matched=told.matched,
        delivered=told.lines,
        skipped=int(tallied["skipped"]),
        failed=int(tallied["failed"]),
        size=(document["object"] or {}).get("size"),
        bucket=told.place and told.place.bucket,
        key=told.place and told.place.key,
        error=error and f"{error['code']}: {error['message']}",
        answers=None if told.answers is None else frozenset(told.answers),
        value=value,
    )


def _published_at(headers: Headers) -> float | None:
    for name, text in headers:
        if name == "ce_time" and text is not None:
            return datetime.fromisoformat(text.decode()).timestamp()
    return None
