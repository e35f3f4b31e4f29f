"""Event log: pages of the events topic, backwards from a position; one event; a window's events.

Every request is bounded in rows, records and time. Of a record that was read only its row is kept.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, NamedTuple

from stream_app.errors import StreamAppError
from stream_app.inspector.core.cursors import (
    RUN_MAX,
    Item,
    RecordPosition,
    ReverseMerge,
    Run,
    format_cursor,
    format_window_cursor,
    shares,
)
from stream_app.inspector.core.index import Entry
from stream_app.inspector.core.rows import LineCounter, TextSearch, event_row
from stream_app.inspector.service.consumer_pool import ConsumerPool, Reader
from stream_app.text import counted

SEARCHED_MAX: Final = 20_000
"""Events that one request examines."""
SEARCH_SECONDS_MAX: Final = 5.0
"""Time to examine them."""
FIRST_RUN: Final = 64
"""Offsets of a partition in the first read: a record can have megabytes."""
SLOW_READ_SECONDS: Final = 0.5
"""A longer read makes the next one smaller."""
NEIGHBORS: Final = 2
"""Offsets read on each side of an event at first, to find the neighboring events."""
NEIGHBOR_DISTANCE_MAX: Final = 1_024
"""Offsets on each side within which a neighboring event is found."""
COUNTED_MAX: Final = 200_000
"""Records that are read to determine a line number."""
COUNT_SECONDS_MAX: Final = 5.0
"""Time to determine a line number."""
WINDOW_ROWS_MAX: Final = 100
BLOCKING_SECONDS_MAX: Final = 0.02
"""Time of computing outcomes before other requests get the event loop."""


class NotFoundError(StreamAppError):
    """The log has no such event; the message says why."""


class InvalidRequestError(StreamAppError):
    """The request is invalid; the message says what to write."""


@dataclass(slots=True)
class Page:
    """Page of events, newest first."""

    items: list[tuple[int, Item]] = field(default_factory=list)
    """Events, each with its partition."""
    cursor: str | None = None
    """Cursor of the next page; None: there are no older events."""
    searched: int = 0
    searched_to_ms: int | None = None
    complete: bool = True
    """False: the search stopped at a bound, and older events can match."""


class Selection(NamedTuple):
    """Selection of events by what receipts say of them."""

    takes: Callable[[int, Item], bool]
    """Returns whether an event of a partition is selected; called in the event loop."""
    within: Mapping[int, Sequence[Run]] | None
    """Runs of offsets that hold every selected event; None: all."""


class Found(NamedTuple):
    """An event, and the offsets of its neighbors in the partition."""

    record: Any
    older: int | None
    newer: int | None


@dataclass(slots=True)
class WindowPage:
    """Page of the events of a window that a destination matches, in offset order."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Rows with the line number by the window's receipt (`line`), without outcomes."""
    keys: list[bytes | None] = field(default_factory=list)
    cursor: str | None = None


class EventLog:
    """Bounded reads of the events topic.

    Args:
        readers: Pool of readers.
    """

    def __init__(self, readers: ConsumerPool) -> None:
        self._readers = readers

    async def page(
        self,
        *,
        limit: int,
        begin: RecordPosition | int | Sequence[int] | None,
        search: TextSearch | None,
        since_ms: int | None = None,
        selection: Selection | None = None,
    ) -> Page:
        """Return the newest events up to a position.

        Args:
            limit: Events at most.
            begin: An event, which is included; a time in ms; the positions of a cursor; None: the
                end of the log.
            search: Search that events must match; None: every event matches.
            since_ms: Time of the oldest event, in ms since 1970; None: the log's oldest.
            selection: Selection by outcome; None: of every outcome.

        Raises:
            InvalidRequestError: There is no such position.
            BusyError: Too many requests read Kafka.
            SetupError: Kafka cannot be read.
        """
        deadline = asyncio.get_running_loop().time() + SEARCH_SECONDS_MAX
        page = Page()
        async with self._readers.borrow() as reader:
            begins = await reader.begins()
            positions = await self._start(reader, begins, begin)
            if since_ms is not None:
                begins = list(map(max, begins, await reader.positions_at(since_ms - 1)))
            is_filtered = search is not None or selection is not None
            few = 2 * limit // reader.partitions + 1
            back = ReverseMerge(
                begins,
                positions,
                run=FIRST_RUN if is_filtered else min(FIRST_RUN, few),
                within=None if selection is None else selection.within,
            )
            while len(page.items) < limit and not back.at_end:
                late = asyncio.get_running_loop().time() > deadline
                if page.searched >= SEARCHED_MAX or late:
                    page.complete = False
                    break
                missing = back.missing()
                if missing:
                    await _fill(reader, back, missing, search, selection)
                elif (newest := back.pop()) is not None:
                    page.searched += 1
                    page.searched_to_ms = newest[1].time_ms
                    if newest[1].row is not None:
                        page.items.append(newest)
        page.cursor = None if back.at_end else format_cursor(back.positions)
        return page

    async def newest_keys(self, events: int) -> list[bytes | None]:
        """Return the keys of the newest events, as many of each partition.

        Raises:
            BusyError: Too many requests read Kafka.
            SetupError: Kafka cannot be read.
        """
        keys: list[bytes | None] = []

        async def take(_: int, records: Sequence[Any]) -> None:
            keys.extend(it.key for it in records)

        async with self._readers.borrow() as reader:
            begins, ends = await reader.begins(), await reader.ends()
            sizes = [end - begin for begin, end in zip(begins, ends, strict=True)]
            given = shares(sizes, events)
            await reader.read_runs(
                {it: Run(end - given[it], end) for it, end in enumerate(ends)}, take
            )
        return keys

    async def event(self, position: RecordPosition) -> Found:
        """Return an event and its neighbors.

        Raises:
            NotFoundError: The log has no such event.
            BusyError: Too many requests read Kafka.
            SetupError: Kafka cannot be read.
        """
        async with self._readers.borrow() as reader:
            begin, end = await _bounds(reader, position)
            near = await _run(
                reader,
                position.partition,
                Run(
                    max(begin, position.offset - NEIGHBORS),
                    min(end, position.offset + NEIGHBORS + 1),
                ),
            )
            record = near.get(position.offset)
            if record is None:
                raise _no_event(position)
            older, newer = await _neighbors(reader, position, begin, end, near)
        return Found(record, older, newer)

    async def record(self, position: RecordPosition) -> Any:  # noqa: ANN401 - aiokafka's record
        """Return an event's record.

        Raises:
            NotFoundError: The log has no such event.
            BusyError: Too many requests read Kafka.
            SetupError: Kafka cannot be read.
        """
        async with self._readers.borrow() as reader:
            await _bounds(reader, position)
            found = await _run(
                reader, position.partition, Run(position.offset, position.offset + 1)
            )
        if position.offset not in found:
            raise _no_event(position)
        return found[position.offset]

    async def numbers(
        self,
        position: RecordPosition,
        entries: Mapping[str, Entry],
        *,
        counted_max: int = COUNTED_MAX,
        seconds_max: float = COUNT_SECONDS_MAX,
    ) -> dict[str, int | None]:
        """Return the line numbers of an event by reading its windows up to the event.

        Args:
            position: The event.
            entries: Receipts of windows that contain the event, by any name.
            counted_max: Records before the event at most; else the number is None.
            seconds_max: Time to read; what is unknown then is None.

        Raises:
            BusyError: Too many requests read Kafka.
            SetupError: Kafka cannot be read.
        """
        near = {
            name: it
            for name, it in entries.items()
            if position.offset - it.source.first_offset < counted_max
        }
        numbers: dict[str, int | None] = dict.fromkeys(entries)
        if not near:
            return numbers
        lines = {name: LineCounter(it) for name, it in near.items()}

        async def take(_: int, records: Sequence[Any]) -> None:
            for record in records:
                for name, it in near.items():
                    if record.offset >= it.source.first_offset:
                        number = lines[name].next_number(record.offset, record.key)
                        if record.offset == position.offset:
                            numbers[name] = number

        first = min(it.source.first_offset for it in near.values())
        deadline = asyncio.get_running_loop().time() + seconds_max
        async with self._readers.borrow() as reader:
            begins = await reader.begins()
            if begins[position.partition] > first:
                return numbers  # Retention deleted events that must be counted.
            for run in _slices(first, position.offset + 1):
                await reader.read_runs({position.partition: run}, take)
                if asyncio.get_running_loop().time() > deadline:
                    break
        return numbers

    async def window(self, entry: Entry, offset: int, lines_before: int) -> WindowPage:
        """Return the events of a receipt's window that its destination matches, from an offset on.

        Args:
            entry: The receipt.
            offset: First offset of the page.
            lines_before: Lines of the events before it.

        Raises:
            BusyError: Too many requests read Kafka.
            SetupError: Kafka cannot be read.
        """
        source, loop = entry.source, asyncio.get_running_loop()
        deadline = loop.time() + SEARCH_SECONDS_MAX
        page = _WindowPage(entry, lines_before)

        async def take(_: int, records: Sequence[Any]) -> None:
            await asyncio.to_thread(page.take, records)

        begin = position = max(offset, source.first_offset)
        async with self._readers.borrow() as reader:
            if source.partition >= reader.partitions:
                raise NotFoundError(f"the topic has no partition {source.partition}")
            log_begin = (await reader.begins())[source.partition]
            log_end = (await reader.ends())[source.partition]
            end = min(source.end_offset, log_end)
            for run in _slices(max(begin, log_begin), end):
                await reader.read_runs({source.partition: run}, take)
                position = run.end if page.next_offset is None else page.next_offset
                late = loop.time() > deadline or run.end - begin >= SEARCHED_MAX
                if page.next_offset is not None or late:
                    break
            else:
                position = end
        if position < end:
            page.shown.cursor = format_window_cursor(position, page.lines)
        return page.shown

    async def _start(
        self,
        reader: Reader,
        begins: Sequence[int],
        begin: RecordPosition | int | Sequence[int] | None,
    ) -> Sequence[int]:
        if begin is None:
            return await reader.ends()
        if isinstance(begin, RecordPosition):
            return await _at_event(reader, begins, begin)
        if isinstance(begin, int):
            return await reader.positions_at(begin)
        ends = await reader.ends()
        given = [*begin, *([0] * (reader.partitions - len(begin)))]
        return [min(it, end) for it, end in zip(given, ends, strict=True)]


class _WindowPage:
    """Selection of the events of one page of a window."""

    def __init__(self, entry: Entry, lines_before: int) -> None:
        self.shown = WindowPage()
        self.next_offset: int | None = None
        """First offset of the next page, once this one is full."""
        self.lines = lines_before
        self._lines_before = lines_before
        self._key = None if entry.pipeline is None else entry.pipeline.encode()
        self._numbers = LineCounter(entry)

    def take(self, records: Sequence[Any]) -> None:
        for record in records:
            if self.next_offset is not None:
                return
            if self._key is not None and record.key != self._key:
                continue
            if len(self.shown.rows) == WINDOW_ROWS_MAX:
                self.next_offset = record.offset
                return
            number = self._numbers.next_number(record.offset, record.key)
            if number is not None:
                number += self._lines_before
                self.lines = number
            self.shown.rows.append(event_row(record, {}) | {"line": number})
            self.shown.keys.append(record.key)


async def _fill(
    reader: Reader,
    back: ReverseMerge,
    missing: Mapping[int, Run],
    search: TextSearch | None,
    selection: Selection | None,
) -> None:
    items: dict[int, list[Item]] = {}

    async def take(partition: int, records: Sequence[Any]) -> None:
        # Parsing long events takes long, so it does not block the event loop.
        found = await asyncio.to_thread(_items, records, search)
        if selection is not None:
            found = await _selected(partition, found, selection)
        items.setdefault(partition, []).extend(found)

    began = asyncio.get_running_loop().time()
    await reader.read_runs(missing, take)
    was_slow = asyncio.get_running_loop().time() - began > SLOW_READ_SECONDS
    back.add(missing, items, was_slow=was_slow)


async def _selected(partition: int, items: Sequence[Item], selection: Selection) -> list[Item]:
    """Return the items without the rows of those that are not selected."""
    selected = []
    yield_at = time.monotonic() + BLOCKING_SECONDS_MAX
    for it in items:
        takes = it.row is not None and selection.takes(partition, it)
        selected.append(it if takes else it._replace(row=None))
        if time.monotonic() > yield_at:
            await asyncio.sleep(0)
            yield_at = time.monotonic() + BLOCKING_SECONDS_MAX
    return selected


def _items(records: Sequence[Any], search: TextSearch | None) -> list[Item]:
    return [
        Item(
            it.timestamp,
            it.offset,
            it.key,
            event_row(it, {}) if search is None or search.matches(it.key, it.value) else None,
        )
        for it in records
    ]


async def _run(
    reader: Reader, partition: int, run: Run, keep: Callable[[Any], Any] = lambda record: record
) -> dict[int, Any]:
    """Return what `keep` keeps of each record, by offset."""
    found: dict[int, Any] = {}

    async def take(_: int, records: Sequence[Any]) -> None:
        found.update({it.offset: keep(it) for it in records})

    await reader.read_runs({partition: run}, take)
    return found


async def _bounds(reader: Reader, position: RecordPosition) -> tuple[int, int]:
    """Return begin and end of the log of an event's partition, which contains the event."""
    if position.partition >= reader.partitions:
        existing = counted(reader.partitions, "partition")
        raise NotFoundError(f"{position} does not exist: the topic has {existing}, from 0")
    begin = (await reader.begins())[position.partition]
    end = (await reader.ends())[position.partition]
    if position.offset < begin:
        raise NotFoundError(
            f"{position} was deleted by the topic's retention; the oldest is "
            f"{RecordPosition(position.partition, begin)}"
        )
    if position.offset >= end:
        following = RecordPosition(position.partition, end)
        raise NotFoundError(f"{position} is not there yet; the next is {following}")
    return begin, end


async def _at_event(reader: Reader, begins: Sequence[int], position: RecordPosition) -> list[int]:
    try:
        await _bounds(reader, position)
    except NotFoundError as error:
        raise InvalidRequestError(str(error)) from error
    first = max(begins[position.partition], position.offset - NEIGHBOR_DISTANCE_MAX)
    found: dict[int, Any] = {}
    for run in (Run(position.offset, position.offset + 1), Run(first, position.offset)):
        found = found or await _run(reader, position.partition, run, attrgetter("timestamp"))
    if found:
        positions = await reader.positions_at(max(0, found[max(found)]))
    else:
        positions = [0] * reader.partitions
    positions[position.partition] = position.offset + 1
    return positions


async def _neighbors(
    reader: Reader, position: RecordPosition, begin: int, end: int, near: Mapping[int, Any]
) -> tuple[int | None, int | None]:
    """Return the offsets of the neighbors of an event, if they are near."""
    older = max((it for it in near if it < position.offset), default=None)
    newer = min((it for it in near if it > position.offset), default=None)
    below, above = position.offset - NEIGHBORS, position.offset + NEIGHBORS + 1
    if older is None and below > begin:
        run = Run(max(begin, below - NEIGHBOR_DISTANCE_MAX), below)
        older = max(await _run(reader, position.partition, run, attrgetter("offset")), default=None)
    if newer is None and above < end:
        run = Run(above, min(end, above + NEIGHBOR_DISTANCE_MAX))
        newer = min(await _run(reader, position.partition, run, attrgetter("offset")), default=None)
    return older, newer


def _no_event(position: RecordPosition) -> NotFoundError:
    return NotFoundError(
        f"{position} is not an event: it was compacted away, is a transaction marker, or its "
        "record batch cannot be decoded"
    )


def _slices(first: int, end: int) -> Iterator[Run]:
    for it in range(first, end, RUN_MAX):
        yield Run(it, min(it + RUN_MAX, end))
