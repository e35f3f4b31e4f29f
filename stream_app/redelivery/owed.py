"""What is to be delivered again, and whether that is safe: told by the receipts alone.

A window is *owed* to a destination that has a `failed` receipt of it and no final one
(`delivered`, `redelivered`, `empty`), whatever their order. Failed events are owed where the final
receipt of a window lists some and no receipt that `answers` them has come since.

A run that ends midway may leave an object without its receipt, and somebody may correct the
destination before the next run. So the receipts topic is also the ledger of redelivery: before an
object is written it is *announced*, by a `retrying` receipt with its place and checksum.

    announced ─ put ─ redelivered       done
    announced ─ refused ─ failed        withdrawn: nothing of it stands
    announced                           in doubt: that very object may stand

In doubt the same object may be put again, since `If-None-Match` makes S3 keep one. Another may not.

Memory is bounded by what is owed, not by what was ever told: a first pass over the topic collects
what may be owed, a second one notes what was answered. Pure: messages and commits are handed in.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stream_app.closings import Commit
from stream_app.errors import SetupError
from stream_app.objects import identifier, object_key
from stream_app.receipts import FINAL, Problem, Receipt, Source, Status, Stored, Tally
from stream_app.settings import Destination
from stream_app.told import Announced, Place, Told, read, uploaded_at

HELD_BYTES_MAX: Final = 256 * 1024 * 1024
"""Memory for what may be owed: some 100,000 windows."""
CANDIDATE_BYTES: Final = 2_560
"""More than one receipt takes that may be owed, beside its failed offsets."""
OFFSET_BYTES: Final = 80
"""More than one failed offset takes, as it is kept and as it is answered."""
ANNOUNCED: Final = "Redelivering"
"""The error code of a `retrying` receipt that announces an object."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of all that is owed; times are seconds since 1970."""

    failed_events: bool = False
    """Failed events of delivered windows; otherwise windows that were given up."""
    destinations: frozenset[str] = frozenset()
    """Empty: all."""
    ids: frozenset[str] = frozenset()
    """Of the receipts that say what is owed; empty: all."""
    since: float | None = None
    """Windows that start then or later."""
    until: float | None = None
    """Windows that start before it."""

    def takes(self, told: Told) -> bool:
        """Tell whether destination and time are wanted."""
        return (
            (not self.destinations or told.destination in self.destinations)
            and (self.since is None or told.window_start >= self.since)
            and (self.until is None or told.window_start < self.until)
        )


@dataclass(slots=True)
class Ledger:
    """The announcements for one thing that is owed."""

    open: Counter[Announced] = field(default_factory=Counter)
    """Neither withdrawn nor answered."""
    ever: Counter[Announced] = field(default_factory=Counter)

    def note(self, status: Status, announced: Announced) -> None:
        """Enter an announcement, or its withdrawal."""
        if status is Status.RETRYING:
            self.open[announced] += 1
            self.ever[announced] += 1
        elif self.open[announced]:
            self.open[announced] -= 1


@dataclass(frozen=True, slots=True)
class Owed:
    """What one destination is to be delivered again of one window."""

    receipt: Told
    """The window's `failed` receipt; for failed events its final one."""
    events: tuple[int, ...] | None
    """The failed events, by offset; None: every event of the window."""
    ledger: Ledger

    @property
    def first(self) -> int:
        """The first offset to read."""
        return self.receipt.source.first_offset if self.events is None else self.events[0]

    @property
    def end(self) -> int:
        """The first offset not to read any more."""
        return self.receipt.source.end_offset if self.events is None else self.events[-1] + 1

    @property
    def matched(self) -> int:
        """How many records the destination must match there, or some are gone."""
        return self.receipt.matched if self.events is None else len(self.events)

    @property
    def uploaded_at(self) -> int:
        """The upload time in the key; the window's end, if it had no object."""
        place = self.receipt.place
        return self.receipt.window_end if place is None else uploaded_at(place.key)

    def place(self, destination: Destination) -> Place:
        """Return where its object is to be: under the original key, but for a changed prefix."""
        source = self.receipt.source
        name = (source.topic, source.partition, source.first_offset, destination.id)
        it = identifier(*name) if self.events is None else events_identifier(*name, self.events)
        return Place(destination.bucket, object_key(destination.prefix, self.uploaded_at, it))

    def doubt(self, mine: Announced | None) -> Place | None:
        """Return where another object than `mine` may stand that an earlier try has left.

        None for `mine`: no object is to be written, so any other is another one.
        """
        for announced, count in self.ledger.open.items():
            if count and announced != mine:
                return announced.place
        receipt = self.receipt
        moved = mine is None or receipt.place != mine.place
        return receipt.place if self.events is None and receipt.retryable and moved else None

    def wrote(self, mine: Announced, lines: int, size: int) -> bool:
        """Tell whether an object that is found under the key of `mine` is the same.

        It is if another run has announced it, or if the worker tried the same lines there.
        """
        receipt = self.receipt
        return self.ledger.ever[mine] > 1 or (
            self.events is None
            and receipt.checksum is None
            and (receipt.place, receipt.lines, receipt.size_uncompressed)
            == (mine.place, lines, size)
        )

    def answer(
        self,
        status: Status,
        group: str,
        destination: Destination,
        tally: Tally,
        size: int,
        *,
        attempts: int = 0,
        stored: Stored | None = None,
        problem: Problem | None = None,
    ) -> Receipt:
        """Return a receipt that speaks of what is owed here."""
        place, receipt = self.place(destination), self.receipt
        return Receipt(
            status=status,
            group=group,
            destination=destination.id,
            pipeline=destination.pipeline,
            window_start=receipt.window_start,
            window_end=receipt.window_end,
            source=receipt.source,
            tally=tally,
            bucket=place.bucket,
            key=place.key,
            size_uncompressed=size,
            uploaded_at=self.uploaded_at,
            attempts=attempts,
            stored=stored,
            problem=problem,
            answers=self.events,
        )


class Search:
    """Reads the receipts of a group, twice, and then any that come while it delivers."""

    def __init__(self, group: str, wanted: Wanted, held_bytes_max: int = HELD_BYTES_MAX) -> None:
        self.unreadable = 0
        """Messages of the first pass that are no receipts."""
        self._group = group
        self._wanted = wanted
        self._begin = FINAL if wanted.failed_events else frozenset({Status.FAILED})
        self._candidates: dict[tuple[Source, str], Told] = {}
        self._held = 0
        self._held_bytes_max = held_bytes_max
        self._answered: set[tuple[Source, str]] = set()
        self._chain: dict[tuple[tuple[Source, str], tuple[int, ...]], Told] = {}
        self._ledgers: defaultdict[tuple[tuple[Source, str], tuple[int, ...] | None], Ledger] = (
            defaultdict(Ledger)
        )
        self._ids: set[str] = set()

    @property
    def found(self) -> bool:
        """Whether the first pass has found anything that may be owed."""
        return bool(self._candidates)

    def collect(self, headers: Sequence[tuple[str, bytes]], value: bytes | None) -> None:
        """First pass: keep what may be owed.

        Raises:
            SetupError: It is more than memory was set aside for.
        """
        try:
            told = self._read(headers, value, self._begin)
        except ValueError:
            self.unreadable += 1
            return
        if told is None or told.answers is not None or not self._wanted.takes(told):
            return
        if self._wanted.failed_events and not told.failed:
            return
        if not self._wanted.failed_events and self._wanted.ids:
            if told.id not in self._wanted.ids:
                return
            self._ids.add(told.id)
        if told.announced is not None and told.window in self._candidates:
            return  # a run's own failure; the worker's says more
        if told.window not in self._candidates:
            self._held += CANDIDATE_BYTES + OFFSET_BYTES * len(told.failed)
        self._candidates[told.window] = told
        if self._held > self._held_bytes_max:
            raise SetupError(
                f"more receipts ask for redelivery than fit in {self._held_bytes_max} bytes of "
                f"memory: {len(self._candidates)} so far; ask for fewer: --destination, --since, "
                "--until"
            )

    def note(self, headers: Sequence[tuple[str, bytes]], value: bytes | None) -> None:
        """Second pass, and later on: note what was answered, announced or withdrawn."""
        try:
            told = self._read(headers, value, frozenset(Status))
        except ValueError:
            return  # counted by the first pass
        if told is None or told.window not in self._candidates:
            return
        if told.announced is not None:
            self._ledgers[told.window, told.answers].note(told.status, told.announced)
        elif told.status not in FINAL:
            return
        elif told.answers is not None:
            self._chain[told.window, told.answers] = told
        elif not self._wanted.failed_events:
            self._answered.add(told.window)

    def owed(self) -> list[Owed]:
        """Return what is owed, in the order of partitions and offsets."""
        found = []
        for window, receipt in self._candidates.items():
            events: tuple[int, ...] | None = None
            if self._wanted.failed_events:
                events = self._left(receipt)
                if not events:
                    continue
            elif window in self._answered:
                continue
            found.append(Owed(receipt, events, self._ledgers[window, events]))
        found.sort(key=_order)
        return found

    def is_owed(self, owed: Owed) -> bool:
        """Tell whether nobody has answered it since."""
        window = owed.receipt.window
        if owed.events is None:
            return window not in self._answered
        return (window, owed.events) not in self._chain

    def unknown_ids(self) -> list[str]:
        """Return the wanted ids that no receipt has which could say that something is owed."""
        return sorted(self._wanted.ids - self._ids)

    def _left(self, receipt: Told) -> tuple[int, ...]:
        """Follow the answers from a window's receipt to what failed each time."""
        ids, events = {receipt.id}, receipt.failed
        while (answer := self._chain.get((receipt.window, events))) is not None:
            ids.add(answer.id)
            if answer.failed == events:
                break  # it has answered nothing
            events = answer.failed
        if self._wanted.ids:
            self._ids |= ids & self._wanted.ids
            if not ids & self._wanted.ids:
                return ()
        return events

    def _read(
        self, headers: Sequence[tuple[str, bytes]], value: bytes | None, of: frozenset[Status]
    ) -> Told | None:
        return read(headers, value, self._group, of, with_failed=self._wanted.failed_events)


def events_identifier(
    topic: str, partition: int, first_offset: int, destination: str, events: Sequence[int]
) -> str:
    """Return the 64 hex digits that name the object of these failed events of a window.

    Whoever answers the same events writes to the same place. Once some of them are answered, those
    that are left are others, and so is the place.
    """
    name = [topic, str(partition), str(first_offset), destination, "failed-events"]
    return hashlib.sha256("\0".join([*name, *map(str, events)]).encode()).hexdigest()


def obstacle(
    owed: Owed, destinations: Mapping[str, Destination], topic: str, commits: Mapping[int, Commit]
) -> str | None:
    """Return why this cannot be delivered now, None if it can.

    Args:
        owed: What is to be delivered.
        destinations: Those of the configuration, by id.
        topic: The events topic.
        commits: What the group has committed, by partition.
    """
    receipt, source = owed.receipt, owed.receipt.source
    destination = destinations.get(receipt.destination)
    if destination is None:
        return "the destination is not in the configuration; put it back there"
    if destination.pipeline != receipt.pipeline:
        return (
            f"the destination took {_pipeline(receipt.pipeline)} then and takes "
            f"{_pipeline(destination.pipeline)} now; set its pipeline back for a while"
        )
    if source.topic != topic:
        return f"its events are of topic '{source.topic}'; set [kafka] events_topic to it"
    commit = commits.get(source.partition)
    if commit is None:
        return (
            "the group has committed nothing for this partition, so workers would read it from its "
            "beginning; start one"
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
