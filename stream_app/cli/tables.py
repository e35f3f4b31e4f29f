"""Tables as text: columns, their widths, and rows that fit into them.

On a terminal a long cell of a column that may be cut loses its middle, so that both ends stay
visible. A pipe or a file has no width: its rows are whole, aligned by spaces.

Pure: text in, text out; `terminal` prints.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from stream_app.text import cell_width

GAP: Final = 2
"""Spaces between two columns."""
CUT_WIDTH_MIN: Final = 12
"""Minimum width of a column that is cut: a shorter text would not be recognized."""
ELLIPSIS: Final = "…"


class Cell(NamedTuple):
    """Text with the style that a terminal shows it in, as rich spells styles."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """Heading and layout of a column."""

    heading: str
    width: int = 0
    """Minimum width."""
    is_number: bool = False
    """Cells are aligned to the right."""
    is_cut: bool = False
    """Cells are cut where a terminal is too narrow."""


def headings(columns: Iterable[Column]) -> list[Cell]:
    """Return the row of headings."""
    return [Cell(column.heading, "bold") for column in columns]


def fitted(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], room: int | None
) -> list[int]:
    """Return the columns' widths; columns that may be cut are narrowed to fit the room.

    Args:
        columns: All columns of the table.
        rows: The rows, or those that are known so far.
        room: Width of the terminal; None: unlimited.
    """
    widths = [max(column.width, cell_width(column.heading)) for column in columns]
    for row in rows:
        shown = zip(widths, row, strict=True)
        widths = [max(width, cell_width(cell.text)) for width, cell in shown]
    for index, column in enumerate(columns):
        if column.is_cut and room is not None:
            over = max(0, total(widths) - room)
            widths[index] = max(widths[index] - over, min(widths[index], CUT_WIDTH_MIN))
    return widths


def total(widths: Sequence[int]) -> int:
    """Return the width of a row, including the gaps."""
    return sum(widths) + GAP * (len(widths) - 1)


def aligned(columns: Iterable[Column], widths: Iterable[int], cells: Iterable[Cell]) -> list[Cell]:
    """Return a row's cells with the spaces between them; a cell too long to cut overflows."""
    row: list[Cell] = []
    for column, width, (text, style) in zip(columns, widths, cells, strict=True):
        shown = Cell(shortened(text, width) if column.is_cut else text, style)
        space = Cell(" " * (width - cell_width(shown.text)))
        row += [space, shown] if column.is_number else [shown, space]
        row.append(Cell(" " * GAP))
    return row[:-1]


def shortened(text: str, width: int) -> str:
    """Return a text of at most this width; a longer one loses its middle.

    Example:
        >>> shortened("orders/2026/11/24.gz", 12)
        'orders…24.gz'
    """
    if cell_width(text) <= width:
        return text
    end = (width - 1) // 2
    return _beginning(text, width - 1 - end) + ELLIPSIS + _beginning(text[::-1], end)[::-1]


def size(count: int) -> str:
    """Return a number of bytes with a unit.

    Example:
        >>> size(812), size(1536), size(5 * 1024 * 1024)
        ('812 B', '1.5 KiB', '5.0 MiB')
    """
    number, units = float(count), iter(("KiB", "MiB", "GiB", "TiB"))
    unit = "B"
    while number >= 1024 and unit != "TiB":  # noqa: PLR2004 - by the units' definition
        number, unit = number / 1024, next(units)
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def _beginning(text: str, width: int) -> str:
    taken = list(accumulate(map(cell_width, text)))
    return text[: bisect_right(taken, width)]
