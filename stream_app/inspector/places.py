"""Places in the log of events, and the way back from one: newest first over all partitions.

    partition 0   … 40 41 42 ▏        Backwards takes, again and again, the newest of the last ones
    partition 1   … 17 18 ▏           of all partitions: 42, 18, 41, …

Each partition is read in runs, from its end towards its beginning. Where everything is that was not
taken yet fits into a text of some bytes for each partition, the cursor, so that nothing need be
kept between two requests.

Pure: offsets and records in, offsets out.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

RUN_MIN: Final = 16
RUN_MAX: Final = 2_000
"""Offsets that are read at a time of a partition."""
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_CURSOR: Final = re.compile(r"[0-9a-z]{1,13}(?:\.[0-9a-z]{1,13})*")
_OFFSET: Final = re.compile(r"(\d{1,9})@(\d{1,18})", re.ASCII)
_WINDOW_CURSOR: Final = re.compile(r"(\d{1,18})\.(\d{1,18})", re.ASCII)


class Place(NamedTuple):
    """An event."""

    partition: int
    offset: int


def at(text: str) -> Place | int:
    """Read a place to begin at: `partition@offset`, or a time, which becomes ms since 1970.

    Raises:
        ValueError: It is neither; the text says what to write.
    """
    match = _OFFSET.fullmatch(text.strip())
    if match is not None:
        return Place(int(match[1]), int(match[2]))
    try:
        time = datetime.fromisoformat(text.strip())
        seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except ValueError as error:
        raise ValueError(
            f"'{text[:100]}' is no place; write partition@offset (0@4242), or a time as "
            "2026-11-25T12:00:00Z"
        ) from error
    return max(0, round(seconds * 1000))


def cursor(positions: Sequence[int]) -> str:
    """Return the text for the offsets, by partition, below which to go on."""
    return ".".join(map(_base36, positions))


def positions(text: str, partitions: int) -> list[int]:
    """Read a cursor again.

    Args:
        text: As `cursor` gave it.
        partitions: As many as there are now; of those that are new nothing is to be read.

    Raises:
        ValueError: It is none.
    """
    if _CURSOR.fullmatch(text) is None:
        raise ValueError(f"'{text[:100]}' is no cursor; begin again without one")
    found = [int(it, 36) for it in text.split(".")]
    if len(found) > partitions:
        raise ValueError(
            f"the cursor is for {len(found)} partitions and the topic has {partitions}; "
            "begin again without one"
        )
    return found + [0] * (partitions - len(found))


def window_cursor(offset: int, lines: int) -> str:
    """Return the text for where to go on within a window: an offset, and the lines before it."""
    return f"{offset}.{lines}"


def in_window(text: str) -> tuple[int, int]:
    """Read the cursor of a window again.

    Raises:
        ValueError: It is none.
    """
    match = _WINDOW_CURSOR.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text[:100]}' is no cursor of a window; begin again without one")
    return int(match[1]), int(match[2])


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """Share a number out among partitions: as much for each, and no more than it has.

    Args:
        sizes: What each has.
        total: What there is to be shared.
    """
    given = [0] * len(sizes)
    rest = total
    for done, number in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        given[number] = min(sizes[number], rest // (len(sizes) - done))
        rest -= given[number]
    return given


class Item(NamedTuple):
    """A record on the way back."""

    time_ms: int
    offset: int
    key: bytes | None
    row: dict[str, Any] | None
    """None if it is not what is searched for."""


class Run(NamedTuple):
    """Offsets of a partition; the end is excluded."""

    first: int
    end: int


@dataclass(slots=True)
class _Side:
    """One partition."""

    begin: int
    """Of its log."""
    position: int
    """Everything from here on was taken."""
    read_from: int
    """Everything from here on was read."""
    size: int
    waiting: deque[Item] = field(default_factory=deque)
    """Read and not taken, the newest first."""

    @property
    def is_dry(self) -> bool:
        return not self.waiting and self.read_from > self.begin


class Backwards:
    """Goes back through all partitions at once.

    Args:
        begins: The first offset of each partition's log.
        positions: Where to begin, below these offsets.
        run: How many offsets to read of each at first; then twice as many each time.
    """

    def __init__(
        self, begins: Sequence[int], positions: Sequence[int], *, run: int = RUN_MIN
    ) -> None:
        self._sides = [
            _Side(begin, max(begin, position), max(begin, position), min(run, RUN_MAX))
            for begin, position in zip(begins, positions, strict=True)
        ]

    @property
    def positions(self) -> list[int]:
        """Where to go on."""
        return [it.position for it in self._sides]

    @property
    def at_end(self) -> bool:
        """Whether everything was taken."""
        return not any(it.waiting or it.is_dry for it in self._sides)

    def wanted(self) -> dict[int, Run]:
        """Return what has to be read, by partition, before the next one can be taken."""
        wanted = {}
        for partition, side in enumerate(self._sides):
            if side.is_dry:
                wanted[partition] = Run(max(side.begin, side.read_from - side.size), side.read_from)
        return wanted

    def give(
        self,
        read: Mapping[int, Run],
        items: Mapping[int, Sequence[Item]],
        *,
        was_slow: bool = False,
    ) -> None:
        """Take what was read.

        Args:
            read: The runs that were wanted.
            items: Their records, in offset order; there may be holes.
            was_slow: Whether it took long, since the records are large: less is wanted next.
        """
        for partition, run in read.items():
            side = self._sides[partition]
            side.size = max(1, side.size // 4) if was_slow else min(2 * side.size, RUN_MAX)
            side.read_from = run.first
            side.waiting.extend(reversed(items.get(partition, ())))
            if not side.waiting:
                side.position = side.read_from

    def take(self) -> tuple[int, Item] | None:
        """Return partition and record of the newest that was not taken; None: nothing waits."""
        newest = max(
            (
                (it.waiting[0].time_ms, number)
                for number, it in enumerate(self._sides)
                if it.waiting
            ),
            default=None,
        )
        if newest is None:
            return None
        side = self._sides[newest[1]]
        item = side.waiting.popleft()
        side.position = item.offset if side.waiting else side.read_from
        return newest[1], item


def _base36(number: int) -> str:
    digits = ""
    while number >= len(_DIGITS):
        number, rest = divmod(number, len(_DIGITS))
        digits = _DIGITS[rest] + digits
    return _DIGITS[number] + digits
