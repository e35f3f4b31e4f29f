"""Receipts as a table that grows: a line for each, for as long as receipts come.

In a pipe a line holds everything, in columns of fixed widths. On a terminal the columns are as wide
as what was seen so far, and where the terminal is too narrow for the object (or the error), that
stands on a line of its own. The headings come again before they leave the screen, and when a column
has grown; the day is a line of its own when it changes.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from stream_app.follow import NOTHING, Published
from stream_app.screen import Screen
from stream_app.tables import (
    CUT_WIDTH_MIN,
    GAP,
    Cell,
    Column,
    aligned,
    fitted,
    headings,
    shortened,
    size,
    total,
    width_of,
)

COLUMNS: Final = (
    Column("TIME", 20),
    Column("STATUS", 11),
    Column("DESTINATION", 24),
    Column("PARTITION", is_number=True),
    Column("OFFSETS", 15),
    Column("MATCHED", is_number=True),
    Column("DELIVERED", is_number=True),
    Column("SKIPPED", is_number=True),
    Column("FAILED", is_number=True),
    Column("BYTES", 8, is_number=True),
    Column("OBJECT OR ERROR"),
)
"""The columns in a pipe; `Published.cells` has a text for each."""
COUNTS: Final = ("MATCHED", "DELIVERED", "SKIPPED", "FAILED")
COUNTS_SHORT: Final = ("MATCH", "DELIV", "SKIP", "FAIL")
OBJECT_WIDTH_MIN: Final = 28
"""With less room the object has a line of its own: its bucket and the end of its key are seen."""
DESTINATION_WIDTH_MAX: Final = 24
"""Room that is kept from the start; a longer id makes the column wider when it comes."""
INDENT: Final = 10
"""Of an object on a line of its own: below the status."""
CELL_WIDTH_MAX: Final = 64
"""As long as an id may be: whoever may write to the topic cannot make a column wider."""
SIZE_DIGITS_MAX: Final = 18
BELOW_WIDTH_MIN: Final = 20
"""An error is folded to no less, however narrow the terminal."""
DIM: Final = "dim"
STATUSES: Final = {
    "delivered": ("✓", "+", "green"),
    "empty": ("○", "o", "blue"),
    "retrying": ("↻", "~", "yellow"),
    "failed": ("✗", "x", "bold red"),
    "redelivered": ("✓", "+", "green"),
}
"""How a status looks: its mark, one for a terminal without Unicode, and its style."""
UNKNOWN: Final = ("?", "?", "yellow")
COUNT_STYLES: Final = {"SKIPPED": "yellow", "FAILED": "bold red"}
"""What an operator looks for stands out; a zero steps back."""


def status_cell(screen: Screen, status: str) -> Cell:
    """Return a status with its mark and its colour."""
    mark, plain, style = STATUSES.get(status, UNKNOWN)
    return Cell(screen.mark(mark, plain) + status, style)


def count_cells(counts: Sequence[str]) -> list[Cell]:
    """Return the four counts, matched to failed, as a terminal shows them."""
    return [
        Cell(count, DIM if count == "0" else COUNT_STYLES.get(name, ""))
        for name, count in zip(COUNTS, counts, strict=True)
    ]


class ReceiptTable(Protocol):
    """A table of receipts that grows at its end."""

    def begin(self) -> None:
        """Print the headings."""

    def add(self, published: Published) -> None:
        """Print a receipt.

        Raises:
            ValueError: It is none; nothing is printed.
        """

    def end(self) -> None:
        """Print what is to be said of all."""


def receipt_table(screen: Screen, destinations: Sequence[str]) -> ReceiptTable:
    """Return the table for a screen.

    Args:
        screen: Where it grows.
        destinations: Ids that may come: a terminal's column has room for them from the start.
    """
    return _TerminalTable(screen, destinations) if screen.is_terminal else _PlainTable(screen)


class _PlainTable:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._widths = fitted(COLUMNS, [], None)

    def begin(self) -> None:
        self._screen.line(*aligned(COLUMNS, self._widths, headings(COLUMNS)))

    def add(self, published: Published) -> None:
        cells = [Cell(text) for text in published.cells()]
        self._screen.line(*aligned(COLUMNS, self._widths, cells))

    def end(self) -> None:
        pass


class _Layout(NamedTuple):
    """How rows are printed now."""

    columns: Sequence[Column]
    widths: Sequence[int]
    has_object: bool
    """The object, and its size, stand in the row."""


class _TerminalTable:
    def __init__(self, screen: Screen, destinations: Sequence[str]) -> None:
        self._screen = screen
        self._statuses: Counter[str] = Counter()
        self._day = ""
        self._lines = 0
        """Printed since the headings."""
        widest = max(map(len, destinations), default=0)
        first = (
            Column("TIME", 8),
            Column("STATUS", 13),
            Column("DESTINATION", min(widest, DESTINATION_WIDTH_MAX), is_cut=True),
            Column("OFFSETS", CUT_WIDTH_MIN, is_number=True, is_cut=True),
        )
        counts, short = (
            tuple(Column(name, is_number=True) for name in names)
            for names in (COUNTS, COUNTS_SHORT)
        )
        last = Column("SIZE", 8, is_number=True), Column("OBJECT OR ERROR", is_cut=True)
        self._columns = (*first, *counts, *last)
        self._without_object = ((*first, *counts), (*first, *short))
        self._seen = [0] * len(self._columns)
        """The widest text of each column so far, but for the object."""
        self._layout = self._lay_out()

    def begin(self) -> None:
        self._print_headings()

    def add(self, published: Published) -> None:
        time, status, destination, partition, offsets, *counts, stored, place = published.cells()
        day, _, clock = time.partition("T")
        is_error = published.receipt["error"] is not None
        is_size = stored.isdecimal() and len(stored) <= SIZE_DIGITS_MAX
        row = [
            Cell(clock.removesuffix("Z") or time, DIM),
            status_cell(self._screen, status),
            Cell(destination),
            Cell(f"{partition}@{offsets}"),
            *count_cells(counts),
            Cell(size(int(stored)) if is_size else "", DIM),
        ]
        row = [Cell(shortened(text, CELL_WIDTH_MAX), style) for text, style in row]
        self._statuses[status if status in STATUSES else "of another status"] += 1
        self._make_room(row)
        if clock and day != self._day:
            self._day = day
            self._print(Cell(f"{day} UTC", "bold"))
        self._print_row(row, Cell(place, "red" if is_error else DIM), is_error=is_error)

    def end(self) -> None:
        told = ", ".join(f"{count} {status}" for status, count in self._statuses.items())
        self._screen.line(Cell(f"receipts: {told or 'none'}", DIM))

    def _make_room(self, row: Sequence[Cell]) -> None:
        """Lay the table out anew for what is wider; print the headings where they are wanted."""
        self._seen[: len(row)] = [
            max(width, width_of(cell.text))
            for width, cell in zip(self._seen[: len(row)], row, strict=True)
        ]
        layout = self._lay_out()
        if layout != self._layout or self._lines >= (self._screen.height or 0) - 1:
            self._layout = layout
            self._print_headings()

    def _lay_out(self) -> _Layout:
        room = self._screen.width or 0
        seen = [Cell(" " * width) for width in self._seen[:-1]]
        columns: Sequence[Column] = self._columns
        widths = fitted(columns[:-1], [seen], None)
        left = room - total(widths) - GAP
        if left >= OBJECT_WIDTH_MIN:
            return _Layout(columns, [*widths, left], has_object=True)
        for columns in self._without_object:
            widths = fitted(columns, [seen[: len(columns)]], None)
            if total(widths) <= room:
                break
        else:
            widths = fitted(columns, [seen[: len(columns)]], room)
        return _Layout(columns, widths, has_object=False)

    def _print_row(self, row: Sequence[Cell], place: Cell, *, is_error: bool) -> None:
        columns, widths, has_object = self._layout
        # An error is worth reading to its end.
        is_below = not has_object or (is_error and width_of(place.text) > widths[-1])
        cells = [*row, Cell("") if is_below else place][: len(columns)]
        self._print(*aligned(columns, widths, cells))
        if is_below and place.text != NOTHING:
            self._print_below("" if has_object else row[-1].text, place, is_error=is_error)

    def _print_below(self, stored: str, place: Cell, *, is_error: bool) -> None:
        """Print the object with its size, or the error, on lines of their own."""
        room = max(BELOW_WIDTH_MIN, (self._screen.width or 0) - INDENT)
        before = f"{stored}  " if stored else ""
        if is_error:
            texts = textwrap.wrap(before + place.text, room, break_on_hyphens=False)
        else:
            texts = [before + shortened(place.text, room - len(before))]
        for text in texts:
            self._print(Cell(" " * INDENT), Cell(text, place.style))

    def _print_headings(self) -> None:
        columns, widths, _ = self._layout
        self._screen.line(*aligned(columns, widths, headings(columns)))
        self._lines = 1

    def _print(self, *cells: Cell) -> None:
        self._screen.line(*cells)
        self._lines += 1
