"""Table of receipts that grows by a row for each receipt.

In a pipe a row holds everything, in columns of fixed widths. On a terminal the columns are as wide
as the widest cell so far; where there is too little room for the object or the error, it has a line
of its own, as the failed events of a window always have. The headings are repeated before they
leave the screen, and when a column has grown; a new day has a line of its own.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from stream_app.cli.tables import (
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
)
from stream_app.cli.terminal import Output
from stream_app.kafka.receipts_topic import NOTHING, PublishedReceipt
from stream_app.text import cell_width

COLUMNS: Final = (
    Column("PUBLISHED", 20),
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
"""Columns in a pipe, in the order of `PublishedReceipt.cells`."""
COUNTS: Final = ("MATCHED", "DELIVERED", "SKIPPED", "FAILED")
COUNTS_SHORT: Final = ("MATCH", "DELIV", "SKIP", "FAIL")
OBJECT_WIDTH_MIN: Final = 28
"""Minimum width for the object in the row: its bucket and the end of its key stay visible."""
DESTINATION_WIDTH_MAX: Final = 24
"""Width that is reserved from the start; a longer id widens the column when it arrives."""
INDENT: Final = 10
"""Spaces before an object on a line of its own, which puts it below the status."""
CELL_WIDTH_MAX: Final = 64
"""The longest id: other texts, which any producer of the topic can write, are cut to it."""
SIZE_DIGITS_MAX: Final = 18
BELOW_WIDTH_MIN: Final = 20
"""Minimum width of the lines that an error is wrapped into."""
DIM: Final = "dim"
STATUSES: Final = {
    "delivered": ("✓", "+", "green"),
    "empty": ("○", "o", "blue"),
    "retrying": ("↻", "~", "yellow"),
    "failed": ("✗", "x", "bold red"),
    "redelivered": ("✓", "+", "green"),
}
"""Of each status on a terminal: the mark, the mark without Unicode, and the style."""
UNKNOWN: Final = ("?", "?", "yellow")
COUNT_STYLES: Final = {"SKIPPED": "yellow", "FAILED": "bold red"}
"""Styles of the counts that an operator looks for; a zero is dim."""


def status_cell(output: Output, status: str) -> Cell:
    """Return a status with its mark and its color."""
    mark, plain, style = STATUSES.get(status, UNKNOWN)
    return Cell(output.mark(mark, plain) + status, style)


def count_cells(counts: Sequence[str]) -> list[Cell]:
    """Return the counts matched, delivered, skipped and failed with their styles."""
    return [
        Cell(count, DIM if count == "0" else COUNT_STYLES.get(name, ""))
        for name, count in zip(COUNTS, counts, strict=True)
    ]


class ReceiptTable(Protocol):
    """A table of receipts that grows at its end."""

    def begin(self) -> None:
        """Print the headings."""

    def add(self, published: PublishedReceipt) -> None:
        """Print a receipt.

        Raises:
            ValueError: The document is not a receipt; nothing is printed.
        """

    def end(self) -> None:
        """Print the totals."""


def receipt_table(output: Output, destinations: Sequence[str]) -> ReceiptTable:
    """Return the table for an output.

    Args:
        output: The terminal or pipe to print to.
        destinations: Expected ids, for which a terminal's column has room from the start.
    """
    return _TerminalTable(output, destinations) if output.is_terminal else _PlainTable(output)


class _PlainTable:
    def __init__(self, output: Output) -> None:
        self._output = output
        self._widths = fitted(COLUMNS, [], None)

    def begin(self) -> None:
        self._output.line(*aligned(COLUMNS, self._widths, headings(COLUMNS)))

    def add(self, published: PublishedReceipt) -> None:
        *cells, result = published.cells()
        failure = published.failure()
        last = result if failure is None else f"{result}  {failure}"
        row = [Cell(text) for text in (*cells, last)]
        self._output.line(*aligned(COLUMNS, self._widths, row))

    def end(self) -> None:
        pass


class _Layout(NamedTuple):
    """Columns and widths of the rows from now on."""

    columns: Sequence[Column]
    widths: Sequence[int]
    has_object: bool
    """Whether the row holds the object and its size."""


class _TerminalTable:
    def __init__(self, output: Output, destinations: Sequence[str]) -> None:
        self._output = output
        self._statuses: Counter[str] = Counter()
        self._day = ""
        self._lines = 0
        """Lines since the headings."""
        widest = max(map(len, destinations), default=0)
        first = (
            Column("PUBLISHED"),
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
        """Widest cell of each column so far, except for the object."""
        self._layout = self._lay_out()

    def begin(self) -> None:
        self._print_headings()

    def add(self, published: PublishedReceipt) -> None:
        time, status, destination, partition, offsets, *counts, stored, result = published.cells()
        day, _, clock = time.partition("T")
        is_error = published.receipt["error"] is not None
        is_size = stored.isdecimal() and len(stored) <= SIZE_DIGITS_MAX
        row = [
            Cell(clock.removesuffix("Z") or time, DIM),
            status_cell(self._output, status),
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
        self._print_row(row, Cell(result, "red" if is_error else DIM), is_error=is_error)
        failure = published.failure()
        if failure is not None:
            self._print_below("", Cell(failure, "red"), is_error=True)

    def end(self) -> None:
        counts = ", ".join(f"{count} {status}" for status, count in self._statuses.items())
        self._output.line(Cell(f"receipts: {counts or 'none'}", DIM))

    def _make_room(self, row: Sequence[Cell]) -> None:
        """Widen columns for a row; print the headings again where they are needed."""
        self._seen[: len(row)] = [
            max(width, cell_width(cell.text))
            for width, cell in zip(self._seen[: len(row)], row, strict=True)
        ]
        layout = self._lay_out()
        if layout != self._layout or self._lines >= (self._output.height or 0) - 1:
            self._layout = layout
            self._print_headings()

    def _lay_out(self) -> _Layout:
        room = self._output.width or 0
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

    def _print_row(self, row: Sequence[Cell], result: Cell, *, is_error: bool) -> None:
        columns, widths, has_object = self._layout
        # An error is shown whole.
        is_below = not has_object or (is_error and cell_width(result.text) > widths[-1])
        cells = [*row, Cell("") if is_below else result][: len(columns)]
        self._print(*aligned(columns, widths, cells))
        if is_below and result.text != NOTHING:
            self._print_below("" if has_object else row[-1].text, result, is_error=is_error)

    def _print_below(self, stored: str, result: Cell, *, is_error: bool) -> None:
        """Print the object with its size, or the error, on lines below the row."""
        room = max(BELOW_WIDTH_MIN, (self._output.width or 0) - INDENT)
        before = f"{stored}  " if stored else ""
        if is_error:
            texts = textwrap.wrap(before + result.text, room, break_on_hyphens=False)
        else:
            texts = [before + shortened(result.text, room - len(before))]
        for text in texts:
            self._print(Cell(" " * INDENT), Cell(text, result.style))

    def _print_headings(self) -> None:
        columns, widths, _ = self._layout
        self._output.line(*aligned(columns, widths, headings(columns)))
        self._lines = 1

    def _print(self, *cells: Cell) -> None:
        self._output.line(*cells)
        self._lines += 1
