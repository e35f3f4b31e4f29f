"""Tables as text: rows that are printed as they come, fitted to the terminal that shows them.

A pipe gets every column in full and no colour. A terminal gets what fits its width: a text that is
too long for its column loses its middle, and columns that a narrow terminal has no room for are
left out. Pure.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

GAP: Final = "  "
HIDDEN: Final = -1
REST_MIN: Final = 24
"""A last column narrower than this says nothing."""


class Column(NamedTuple):
    """A column of a table."""

    heading: str
    width: int
    """Characters: the least in a pipe, exactly so many on a terminal. 0: what is left."""
    narrow: int
    """The same on a terminal without room for all columns; `HIDDEN`: not shown there."""
    is_number: bool = False


class Cell(NamedTuple):
    """A text, and the colour that a terminal shows it in."""

    text: str
    colour: str | None = None


def fitted(columns: Sequence[Column], width: int | None) -> list[tuple[int, Column]]:
    """Return the columns to show, with their places.

    Args:
        columns: All of them; the last one takes what is left.
        width: The terminal's; None: it is none, and all are shown.
    """
    every = list(enumerate(columns))
    if width is None or _taken(columns) + REST_MIN <= width:
        return every
    narrow = [(place, it._replace(width=it.narrow)) for place, it in every if it.narrow != HIDDEN]
    if _taken([it for _, it in narrow]) + REST_MIN <= width:
        return narrow
    return [(place, it) for place, it in narrow if it.width]


def line(
    cells: Sequence[Cell], columns: Sequence[tuple[int, Column]], width: int | None
) -> list[Cell]:
    """Return the row as pieces that follow each other, the gaps between them included.

    Args:
        cells: One for each column there is, also of those that are not shown.
        columns: What `fitted` returned.
        width: The terminal's; None: it is none, and nothing is shortened.
    """
    pieces: list[Cell] = []
    used = 0
    for number, (place, column) in enumerate(columns):
        text, colour = cells[place]
        room = column.width
        if width is not None:
            room = column.width or max(1, width - used)
            text = shortened(text, room)
        is_last = number == len(columns) - 1
        padded = text.rjust(column.width) if column.is_number else text.ljust(column.width)
        padded = padded.rstrip() if is_last else padded
        pieces.append(Cell(padded, colour))
        if not is_last:
            pieces.append(Cell(GAP))
        used += len(padded) + len(GAP)
    return pieces


def shortened(text: str, width: int) -> str:
    """Return a text of at most so many characters, without its middle if it is longer.

    Example:
        >>> shortened("orders/2026/11/24.gz", 12)
        'orders…24.gz'
    """
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def size(count: int) -> str:
    """Return bytes as a person reads them.

    Example:
        >>> size(812), size(1536), size(5 * 1024 * 1024)
        ('812 B', '1.5 KiB', '5.0 MiB')
    """
    number, units = float(count), iter(("KiB", "MiB", "GiB", "TiB"))
    unit = "B"
    while number >= 1024 and unit != "TiB":  # noqa: PLR2004 - what the units mean
        number, unit = number / 1024, next(units)
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def _taken(columns: Sequence[Column]) -> int:
    """Return the width of all but what is left, the gaps included."""
    return sum(it.width + len(GAP) for it in columns) - len(GAP)
