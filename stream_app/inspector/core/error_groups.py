"""Causes of failures as people read them: one line each, and errors grouped by their text.

An error of S3 quotes the address of the one object that was tried, and an error of an expression
the place in it: two errors are of one group when they differ in numbers and addresses only.

Pure: texts and receipts in, texts and groups out.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from stream_app.core.receipt import Source, Status
from stream_app.inspector.core.index import Entry, EventStatus, receipt_lists
from stream_app.inspector.core.rows import iso_milliseconds
from stream_app.text import printable

CAUSE_LENGTH_MAX: Final = 300
"""Characters of a cause."""
GROUPS_MAX: Final = 50
"""Groups of one response."""
SHOWN_DESTINATIONS_MAX: Final = 3
"""Destinations named for one group."""
GROUPS_OF_RECEIPT_MAX: Final = 20
"""Groups of one receipt; the errors of further ones are one group."""
CACHED_RECEIPTS_MAX: Final = 1_000
"""Receipts whose groups are cached."""
OTHER: Final = "other errors"

_ADDRESS: Final = re.compile(r"\b(https?://[^/\s\"'?#]+)[^\s\"']*")
_NUMBER: Final = re.compile(r"\d+")
_WAITS: Final = re.compile(
    r"\A(?:(\w+): )?waits behind (the (?:open )?window .*?\bpartition \d+): "
)


class Cause(NamedTuple):
    """Why a window is late or was given up."""

    text: str
    """On one line; of an address only the host."""
    waits_for: str | None
    """The window that is tried, where this one was not."""


def cause_of(error: str) -> Cause:
    """Return the cause in the error of a receipt: code and message."""
    waits = _WAITS.match(error)
    if waits is None:
        return Cause(_line(error), None)
    code = f"{waits[1]}: " if waits[1] else ""
    return Cause(_line(code + error[waits.end() :]), waits[2])


class _Group(NamedTuple):
    """Errors of one receipt that differ in numbers only."""

    text: str
    events: int
    first_offset: int
    last_offset: int


@dataclass(slots=True)
class ErrorGroup:
    """Errors with one text: how many events have it, and the first and the last of them."""

    text: str
    first: tuple[int, int, int]
    """Start of the window, partition, offset."""
    last: tuple[int, int, int]
    count: int = 0
    destinations: dict[str, None] = field(default_factory=dict)

    def add(self, entry: Entry, it: _Group) -> None:
        """Add the errors of a receipt."""
        self.count += it.events
        self.destinations[entry.destination] = None
        self.first = min(self.first, _position(entry, it.first_offset))
        self.last = max(self.last, _position(entry, it.last_offset))

    def document(self) -> dict[str, Any]:
        """Return the group as the API has it."""
        return {
            "text": self.text,
            "count": self.count,
            "destinations": list(self.destinations)[:SHOWN_DESTINATIONS_MAX],
            "more_destinations": max(0, len(self.destinations) - SHOWN_DESTINATIONS_MAX),
            "first": _event(*self.first),
            "last": _event(*self.last),
        }


class ErrorGroups:
    """Errors of events that are not delivered, grouped by their text.

    Args:
        status: Status of the events, `failed` or `retrying`; None: both.
    """

    def __init__(self, status: EventStatus | None = None) -> None:
        self._status = status
        self.groups: dict[str, ErrorGroup] = {}
        """By text, without numbers."""

    def add(
        self, effective: Iterable[Entry], redelivered: Mapping[Source, Collection[int]]
    ) -> None:
        """Add the errors of one destination.

        Of a window that was given up, or is late, all events with a payload have its error.

        Args:
            effective: Effective receipts of its windows.
            redelivered: Offsets of failed events that were redelivered since, by window.
        """
        for entry in effective:
            for it in _groups_of(entry, redelivered.get(entry.source, ()), self._status):
                key = _NUMBER.sub("#", it.text)
                if key not in self.groups:
                    at = _position(entry, it.first_offset)
                    self.groups[key] = ErrorGroup(it.text, at, at)
                self.groups[key].add(entry, it)

    def merge(self, other: "ErrorGroups") -> None:
        """Add the errors of other destinations."""
        for key, it in other.groups.items():
            known = self.groups.setdefault(key, ErrorGroup(it.text, it.first, it.last))
            known.count += it.count
            known.destinations |= it.destinations
            known.first, known.last = min(known.first, it.first), max(known.last, it.last)

    def documents(self) -> list[dict[str, Any]]:
        """Return the groups, those of the most events first."""
        found = sorted(self.groups.values(), key=lambda it: (-it.count, it.text))
        return [it.document() for it in found[:GROUPS_MAX]]


def commonest_error(entry: Entry) -> str | None:
    """Return the commonest error of the events of a receipt; None if it lists none."""
    groups = _failed_of(entry.value) if entry.failed else ()
    return max(groups, key=lambda it: it.events).text if groups else None


def _groups_of(
    entry: Entry, redelivered: Collection[int], status: EventStatus | None
) -> list[_Group]:
    groups: list[_Group] = []
    is_late = entry.status is Status.RETRYING
    if entry.failed and status is not EventStatus.RETRYING:
        groups += _grouped(entry.value, redelivered) if redelivered else _failed_of(entry.value)
    whole = {None, EventStatus.RETRYING if is_late else EventStatus.FAILED}
    if entry.error is not None and entry.undelivered and status in whole:
        source = entry.source
        text = cause_of(entry.error).text
        groups.append(_Group(text, entry.undelivered, source.first_offset, source.end_offset - 1))
    return groups


@lru_cache(CACHED_RECEIPTS_MAX)
def _failed_of(value: bytes) -> tuple[_Group, ...]:
    return _grouped(value, ())


def _grouped(value: bytes, redelivered: Collection[int]) -> tuple[_Group, ...]:
    """Return the errors that a receipt lists, grouped."""
    groups: dict[str, _Group] = {}
    for offset, error in sorted(receipt_lists(value).failed.items()):
        if offset in redelivered:
            continue
        text = _line(error)
        key = _NUMBER.sub("#", text)
        if key not in groups and len(groups) >= GROUPS_OF_RECEIPT_MAX:
            text = key = OTHER
        known = groups.get(key, _Group(text, 0, offset, offset))
        groups[key] = known._replace(events=known.events + 1, last_offset=offset)
    return tuple(groups.values())


def _line(text: str) -> str:
    line = _ADDRESS.sub(r"\1", printable(" ".join(text.split())))
    return line if len(line) <= CAUSE_LENGTH_MAX else line[: CAUSE_LENGTH_MAX - 1] + "…"


def _position(entry: Entry, offset: int) -> tuple[int, int, int]:
    return entry.window_start, entry.source.partition, offset


def _event(window_start: int, partition: int, offset: int) -> dict[str, Any]:
    time = iso_milliseconds(window_start)
    return {"window_start": time, "partition": partition, "offset": offset}
