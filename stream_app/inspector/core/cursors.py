"""Positions in the events topic, and reading back from one, newest first over all partitions.

    partition 0   … 40 41 42 ▏        ReverseMerge repeatedly takes the newest of the last records
    partition 1   … 17 18 ▏           of all partitions: 42, 18, 41, …

Each partition is read in runs, from its end towards its beginning. The positions below which
nothing was returned yet are encoded as a cursor of some bytes per partition, so that the server
keeps no state between two requests.

Pure: offsets and records in, offsets out.
"""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

RUN_MIN: Final = 16
RUN_MAX: Final = 2_000
"""Offsets of one partition that are read at a time."""
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_CURSOR: Final = re.compile(r"[0-9a-z]{1,13}(?:\.[0-9a-z]{1,13})*")
_OFFSET: Final = re.compile(r"(\d{1,9})@(\d{1,18})", re.ASCII)
_WINDOW_CURSOR: Final = re.compile(r"(\d{1,18})\.(\d{1,18})", re.ASCII)


class RecordPosition(NamedTuple):
    """Partition and offset of an event; as text `partition@offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"


def parse_start(text: str) -> RecordPosition | int:
    """Return where to begin: the position in `partition@offset`, or a time in ms since 1970.

    Raises:
        ValueError: The text is neither; the message says what to write.
    """
    match = _OFFSET.fullmatch(text.strip())
    if match is not None:
        return RecordPosition(int(match[1]), int(match[2]))
    try:
        return parse_time(text)
    except ValueError as error:
        raise ValueError(
            f"'{text[:100]}' is not a position; write partition@offset (0@4242), or a time as "
            "2026-11-25T12:00:00Z"
        ) from error


def parse_time(text: str) -> int:
    """Return a time in ms since 1970; without a zone it is in UTC.

    Raises:
        ValueError: The text is not a time; the message says what to write.
    """
    try:
        time = datetime.fromisoformat(text.strip())
        seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except ValueError as error:
        raise ValueError(
            f"'{text[:100]}' is not a time; write one as 2026-11-25T12:00:00Z"
        ) from error
    return max(0, round(seconds * 1000))


def format_cursor(positions: Sequence[int]) -> str:
    """Return the cursor for the offsets, by partition, below which to continue."""
    return ".".join(map(_base36, positions))


def parse_cursor(text: str, partitions: int) -> list[int]:
    """Return the offsets of a cursor, by partition.

    Args:
        text: A cursor as `format_cursor` returned it.
        partitions: Current number of partitions; those added since get offset 0.

    Raises:
        ValueError: The text is not a cursor of this topic.
    """
    if _CURSOR.fullmatch(text) is None:
        raise ValueError(f"'{text[:100]}' is not a cursor; begin again without one")
    found = [int(it, 36) for it in text.split(".")]
    if len(found) > partitions:
        raise ValueError(
            f"the cursor is for {len(found)} partitions and the topic has {partitions}; "
            "begin again without one"
        )
    return found + [0] * (partitions - len(found))


def format_window_cursor(offset: int, lines: int) -> str:
    """Return the cursor for a position in a window: an offset, and how many lines precede it."""
    return f"{offset}.{lines}"


def parse_window_cursor(text: str) -> tuple[int, int]:
    """Return the offset and the number of lines before it of a window's cursor.

    Raises:
        ValueError: The text is not a cursor of a window.
    """
    match = _WINDOW_CURSOR.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:100]}' is not a cursor of a window; begin again without one")
    return int(match[1]), int(match[2])


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """Return a fair share of a total for each partition, and no more than its size.

    Args:
        sizes: Records of each partition.
        total: Records to distribute.
    """
    given = [0] * len(sizes)
    rest = total
    for done, partition in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        given[partition] = min(sizes[partition], rest // (len(sizes) - done))
        rest -= given[partition]
    return given


class Item(NamedTuple):
    """A record that was read, reduced to what a page needs."""

    time_ms: int
    offset: int
    key: bytes | None
    row: dict[str, Any] | None
    """None if the search does not match it."""


class Run(NamedTuple):
    """Run of offsets of one partition; the end is excluded."""

    first: int
    end: int


@dataclass(slots=True)
class _PartitionState:
    """Progress in one partition."""

    begin: int
    """First offset of the log."""
    position: int
    """Every record from here on was returned."""
    read_from: int
    """Every record from here on was read."""
    run: int
    """Offsets to read next."""
    buffered: deque[Item] = field(default_factory=deque)
    """Records that were read and not returned yet, the newest first."""

    @property
    def must_read(self) -> bool:
        return not self.buffered and self.read_from > self.begin


class ReverseMerge:
    """Merge of all partitions, newest record first.

    Args:
        begins: First offset of each partition's log.
        positions: Start offsets, by partition; records below them are returned.
        run: Offsets of each partition to read at first; the number doubles with each read.
        within: Ascending runs of offsets, by partition: others are passed over. None: all are read.
    """

    def __init__(
        self,
        begins: Sequence[int],
        positions: Sequence[int],
        *,
        run: int = RUN_MIN,
        within: Mapping[int, Sequence[Run]] | None = None,
    ) -> None:
        self._within = within
        self._partitions = [
            _PartitionState(begin, max(begin, position), max(begin, position), min(run, RUN_MAX))
            for begin, position in zip(begins, positions, strict=True)
        ]

    @property
    def positions(self) -> list[int]:
        """Offsets below which to continue, by partition."""
        return [it.position for it in self._partitions]

    @property
    def at_end(self) -> bool:
        """Whether every record was returned."""
        return not any(it.buffered or it.must_read for it in self._partitions)

    def missing(self) -> dict[int, Run]:
        """Return the runs, by partition, that must be read before the next record is known."""
        found = {}
        for partition, it in enumerate(self._partitions):
            run = self._next_run(partition, it) if it.must_read else None
            if run is not None:
                found[partition] = run
        return found

    def _next_run(self, partition: int, state: _PartitionState) -> Run | None:
        """Return the run to read next; None, and the partition is at its end, if there is none."""
        if self._within is None:
            return Run(max(state.begin, state.read_from - state.run), state.read_from)
        runs = self._within.get(partition, ())
        below = bisect_left(runs, state.read_from, key=itemgetter(0))
        if below and runs[below - 1].end > state.begin:
            end = min(runs[below - 1].end, state.read_from)
            return Run(max(state.begin, runs[below - 1].first, end - state.run), end)
        state.read_from = state.position = state.begin
        return None

    def add(
        self,
        read: Mapping[int, Run],
        items: Mapping[int, Sequence[Item]],
        *,
        was_slow: bool = False,
    ) -> None:
        """Add the records of runs that were missing.

        Args:
            read: The runs.
            items: Their records by partition, in offset order; holes are possible.
            was_slow: Whether reading took long, as with large records: the next runs are shorter.
        """
        for partition, run in read.items():
            state = self._partitions[partition]
            state.run = max(1, state.run // 4) if was_slow else min(2 * state.run, RUN_MAX)
            state.read_from = run.first
            state.buffered.extend(reversed(items.get(partition, ())))
            if not state.buffered:
                state.position = state.read_from

    def pop(self) -> tuple[int, Item] | None:
        """Return partition and record of the newest one left; None if no record is buffered."""
        newest = max(
            (
                (it.buffered[0].time_ms, partition)
                for partition, it in enumerate(self._partitions)
                if it.buffered
            ),
            default=None,
        )
        if newest is None:
            return None
        _, partition = newest
        state = self._partitions[partition]
        item = state.buffered.popleft()
        state.position = item.offset if state.buffered else state.read_from
        return partition, item


def _base36(number: int) -> str:
    digits = ""
    while number >= len(_DIGITS):
        number, rest = divmod(number, len(_DIGITS))
        digits = _DIGITS[rest] + digits
    return _DIGITS[number] + digits
