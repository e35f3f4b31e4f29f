"""The log of events as pages want it: back from a place, one event, the events of a window.

Every request is bounded: by what it returns, by the records that it looks at, and by time. What it
holds of a record that it has read is its row.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, NamedTuple

from stream_app.errors import StreamAppError
from stream_app.inspector.outcomes import Entry
from stream_app.inspector.places import RUN_MAX, Backwards, Item, Place, Run, cursor, window_cursor
from stream_app.inspector.readers import Reader, Readers
from stream_app.inspector.rows import Lines, Search, row

SEARCHED_MAX: Final = 20_000
"""Events that one request looks at."""
SEARCH_SECONDS_MAX: Final = 5.0
"""How long it looks."""
RUN: Final = 64
"""Offsets of a partition that are read at first: a record can have megabytes."""
SLOW_SECONDS: Final = 0.5
"""What took longer was too much to read at a time."""
NEIGHBOURS: Final = 2
"""Offsets that are read at each side of an event to find the ones beside it."""
NEIGHBOURS_MAX: Final = 1_024
COUNTED_MAX: Final = 200_000
"""Records that are read to count a line's number."""
COUNT_SECONDS_MAX: Final = 5.0
WINDOW_ROWS_MAX: Final = 100


class NotThereError(StreamAppError):
    """The log has no such event; the text says why."""


class MistakeError(StreamAppError):
    """The request cannot be meant; the text says what to write."""


@dataclass(slots=True)
class Page:
    """Events, the newest first."""

    items: list[tuple[int, Item]] = field(default_factory=list)
    """Each with its partition."""
    cursor: str | None = None
    """Where to go on; None: there is nothing older."""
    searched: int = 0
    searched_to_ms: int | None = None
    complete: bool = True
    """False: there may be more to find in what was to be looked at."""


class Found(NamedTuple):
    """One event, and the offsets beside it in its partition."""

    record: Any
    older: int | None
    newer: int | None


@dataclass(slots=True)
class WindowPage:
    """Events that a destination matched in a window, in offset order."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """With the number of its `line` as the window's receipt has it, and no outcomes."""
    keys: list[bytes | None] = field(default_factory=list)
    cursor: str | None = None


class Log:
    """Reads the events topic.

    Args:
        readers: Who read it.
    """

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def page(
        self, *, limit: int, begin: Place | int | Sequence[int] | None, search: Search | None
    ) -> Page:
        """Return the events before a place.

        Args:
            limit: At most so many.
            begin: The place: an event, a time in ms, the positions of a cursor, or None: the end.
            search: What they must have; None: all do.

        Raises:
            MistakeError: There is no such place.
            BusyError: Too many read.
            SetupError: Kafka cannot be read.
        """
        deadline = asyncio.get_running_loop().time() + SEARCH_SECONDS_MAX
        page = Page()
        async with self._readers.borrow() as reader:
            begins = await reader.begins()
            run = RUN if search is not None else min(RUN, 2 * limit // reader.partitions + 1)
            back = Backwards(begins, await self._start(reader, begins, begin), run=run)
            while len(page.items) < limit and not back.at_end:
                late = asyncio.get_running_loop().time() > deadline
                if page.searched >= SEARCHED_MAX or late:
                    page.complete = False
                    break
                wanted = back.wanted()
                if wanted:
                    await _fill(reader, back, wanted, search)
                elif (taken := back.take()) is not None:
                    page.searched += 1
                    page.searched_to_ms = taken[1].time_ms
                    if taken[1].row is not None:
                        page.items.append(taken)
        page.cursor = None if back.at_end else cursor(back.positions)
        return page

    async def event(self, place: Place) -> Found:
        """Return an event and its neighbours.

        Raises:
            NotThereError: The log has no such event.
            BusyError: Too many read.
            SetupError: Kafka cannot be read.
        """
        async with self._readers.borrow() as reader:
            begin, end = await _bounds(reader, place)
            near = await _run(
                reader,
                place.partition,
                Run(max(begin, place.offset - NEIGHBOURS), min(end, place.offset + NEIGHBOURS + 1)),
            )
            record = near.get(place.offset)
            if record is None:
                raise _hole(place)
            older, newer = await _neighbours(reader, place, begin, end, near)
        return Found(record, older, newer)

    async def record(self, place: Place) -> Any:  # noqa: ANN401 - aiokafka's record
        """Return an event's record.

        Raises:
            NotThereError: The log has no such event.
            BusyError: Too many read.
            SetupError: Kafka cannot be read.
        """
        async with self._readers.borrow() as reader:
            await _bounds(reader, place)
            found = await _run(reader, place.partition, Run(place.offset, place.offset + 1))
        if place.offset not in found:
            raise _hole(place)
        return found[place.offset]

    async def numbers(
        self,
        place: Place,
        entries: Mapping[str, Entry],
        *,
        counted_max: int = COUNTED_MAX,
        seconds_max: float = COUNT_SECONDS_MAX,
    ) -> dict[str, int | None]:
        """Return the numbers of an event's lines by reading the windows up to it.

        Args:
            place: The event.
            entries: The receipts for windows that it is in, by any name.
            counted_max: A window that has more records before the event is not counted.
            seconds_max: And none for longer than this.

        Raises:
            BusyError: Too many read.
            SetupError: Kafka cannot be read.
        """
        near = {
            name: it
            for name, it in entries.items()
            if place.offset - it.source.first_offset < counted_max
        }
        numbers: dict[str, int | None] = dict.fromkeys(entries)
        if not near:
            return numbers
        lines = {name: Lines(it) for name, it in near.items()}

        async def take(_: int, records: Sequence[Any]) -> None:
            for record in records:
                for name, it in near.items():
                    if record.offset >= it.source.first_offset:
                        number = lines[name].take(record.offset, record.key)
                        if record.offset == place.offset:
                            numbers[name] = number

        first = min(it.source.first_offset for it in near.values())
        deadline = asyncio.get_running_loop().time() + seconds_max
        async with self._readers.borrow() as reader:
            begins = await reader.begins()
            if begins[place.partition] > first:
                return numbers  # Retention has deleted what would have to be counted.
            for run in _slices(first, place.offset + 1):
                await reader.read({place.partition: run}, take)
                if asyncio.get_running_loop().time() > deadline:
                    break
        return numbers

    async def window(self, entry: Entry, offset: int, lines_before: int) -> WindowPage:
        """Return the events of a receipt's window from an offset on, its destination's only.

        Args:
            entry: The receipt.
            offset: Where to begin.
            lines_before: Lines of the events before.

        Raises:
            BusyError: Too many read.
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
                raise NotThereError(f"the topic has no partition {source.partition}")
            log_begin = (await reader.begins())[source.partition]
            log_end = (await reader.ends())[source.partition]
            end = min(source.end_offset, log_end)
            for run in _slices(max(begin, log_begin), end):
                await reader.read({source.partition: run}, take)
                position = run.end if page.next_offset is None else page.next_offset
                late = loop.time() > deadline or run.end - begin >= SEARCHED_MAX
                if page.next_offset is not None or late:
                    break
            else:
                position = end
        if position < end:
            page.shown.cursor = window_cursor(position, page.lines)
        return page.shown

    async def _start(
        self, reader: Reader, begins: Sequence[int], begin: Place | int | Sequence[int] | None
    ) -> Sequence[int]:
        if begin is None:
            return await reader.ends()
        if isinstance(begin, Place):
            return await _at_event(reader, begins, begin)
        if isinstance(begin, int):
            return await reader.positions_at(begin)
        ends = await reader.ends()
        given = [*begin, *([0] * (reader.partitions - len(begin)))]
        return [min(it, end) for it, end in zip(given, ends, strict=True)]


class _WindowPage:
    """Chooses the events of a window that a page shows."""

    def __init__(self, entry: Entry, lines_before: int) -> None:
        self.shown = WindowPage()
        self.next_offset: int | None = None
        """Where to go on, once the page is full."""
        self.lines = lines_before
        self._lines_before = lines_before
        self._key = None if entry.pipeline is None else entry.pipeline.encode()
        self._numbers = Lines(entry)

    def take(self, records: Sequence[Any]) -> None:
        for record in records:
            if self.next_offset is not None:
                return
            if self._key is not None and record.key != self._key:
                continue
            if len(self.shown.rows) == WINDOW_ROWS_MAX:
                self.next_offset = record.offset
                return
            number = self._numbers.take(record.offset, record.key)
            if number is not None:
                number += self._lines_before
                self.lines = number
            self.shown.rows.append(row(record, {}) | {"line": number})
            self.shown.keys.append(record.key)


async def _fill(
    reader: Reader, back: Backwards, wanted: Mapping[int, Run], search: Search | None
) -> None:
    items: dict[int, list[Item]] = {}

    async def take(partition: int, records: Sequence[Any]) -> None:
        # Reading JSON takes long where events are long; the loop stays free for others.
        found = await asyncio.to_thread(_items, records, search)
        items.setdefault(partition, []).extend(found)

    began = asyncio.get_running_loop().time()
    await reader.read(wanted, take)
    was_slow = asyncio.get_running_loop().time() - began > SLOW_SECONDS
    back.give(wanted, items, was_slow=was_slow)


def _items(records: Sequence[Any], search: Search | None) -> list[Item]:
    return [
        Item(
            it.timestamp,
            it.offset,
            it.key,
            row(it, {}) if search is None or search.matches(it.key, it.value) else None,
        )
        for it in records
    ]


async def _run(
    reader: Reader, partition: int, run: Run, keep: Callable[[Any], Any] = lambda record: record
) -> dict[int, Any]:
    """Return what is to be kept of each record, by offset."""
    found: dict[int, Any] = {}

    async def take(_: int, records: Sequence[Any]) -> None:
        found.update({it.offset: keep(it) for it in records})

    await reader.read({partition: run}, take)
    return found


async def _bounds(reader: Reader, place: Place) -> tuple[int, int]:
    """Return where the log of an event's partition begins and ends; the event is within."""
    name = f"{place.partition}@{place.offset}"
    if place.partition >= reader.partitions:
        raise NotThereError(
            f"{name} does not exist: the topic has {reader.partitions} partitions, from 0"
        )
    begin = (await reader.begins())[place.partition]
    end = (await reader.ends())[place.partition]
    if place.offset < begin:
        raise NotThereError(
            f"{name} was deleted by the topic's retention; the oldest is {place.partition}@{begin}"
        )
    if place.offset >= end:
        raise NotThereError(f"{name} is not there yet; the next is {place.partition}@{end}")
    return begin, end


async def _at_event(reader: Reader, begins: Sequence[int], place: Place) -> list[int]:
    try:
        await _bounds(reader, place)
    except NotThereError as error:
        raise MistakeError(str(error)) from error
    first = max(begins[place.partition], place.offset - NEIGHBOURS_MAX)
    found: dict[int, Any] = {}
    for run in (Run(place.offset, place.offset + 1), Run(first, place.offset)):
        found = found or await _run(reader, place.partition, run, attrgetter("timestamp"))
    if found:
        positions = await reader.positions_at(max(0, found[max(found)]))
    else:
        positions = [0] * reader.partitions
    positions[place.partition] = place.offset + 1
    return positions


async def _neighbours(
    reader: Reader, place: Place, begin: int, end: int, near: Mapping[int, Any]
) -> tuple[int | None, int | None]:
    """Return the offsets of the events beside one, if they are not far."""
    older = max((it for it in near if it < place.offset), default=None)
    newer = min((it for it in near if it > place.offset), default=None)
    below, above = place.offset - NEIGHBOURS, place.offset + NEIGHBOURS + 1
    if older is None and below > begin:
        run = Run(max(begin, below - NEIGHBOURS_MAX), below)
        older = max(await _run(reader, place.partition, run, attrgetter("offset")), default=None)
    if newer is None and above < end:
        run = Run(above, min(end, above + NEIGHBOURS_MAX))
        newer = min(await _run(reader, place.partition, run, attrgetter("offset")), default=None)
    return older, newer


def _hole(place: Place) -> NotThereError:
    return NotThereError(
        f"{place.partition}@{place.offset} is no event: it was compacted away, or is a mark of a "
        "transaction"
    )


def _slices(first: int, end: int) -> Iterator[Run]:
    for it in range(first, end, RUN_MAX):
        yield Run(it, min(it + RUN_MAX, end))
