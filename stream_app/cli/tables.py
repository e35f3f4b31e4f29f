"""Tables as text: columns, their widths, and rows that fit into them.

On a terminal what may be cut loses its middle, so that both ends stay to be seen. Anything else has
no width: it gets the same columns, whole, aligned by spaces. Pure: text in, text out; `screen`
prints it.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

GAP: Final = 2
"""Spaces between two columns."""
CUT_WIDTH_MIN: Final = 12
"""Nothing is cut to less: less tells nothing."""
ELLIPSIS: Final = "…"


class Cell(NamedTuple):
    """Text, and how a terminal shows it: a style as rich spells it."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """What holds for all cells of a column."""

    heading: str
    width: int = 0
    """It is at least as wide as this."""
    is_number: bool = False
    """Its cells stand to the right."""
    is_cut: bool = False
    """On a terminal that is too narrow, its cells give way."""


def headings(columns: Iterable[Column]) -> list[Cell]:
    """Return the first row of a table."""
    return [Cell(column.heading, "bold") for column in columns]


def fitted(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], room: int | None
) -> list[int]:
    """Return the columns' widths; where the room is too small, those that may be cut give way.

    Args:
        columns: Of the table.
        rows: Its rows, or as many as are known.
        room: The terminal's width; None: there is none.
    """
    widths = [max(column.width, width_of(column.heading)) for column in columns]
    for row in rows:
        widths = [max(width, width_of(cell.text)) for width, cell in zip(widths, row, strict=True)]
    for index, column in enumerate(columns):
        if column.is_cut and room is not None:
            over = max(0, total(widths) - room)
            widths[index] = max(widths[index] - over, min(widths[index], CUT_WIDTH_MIN))
    return widths


def total(widths: Sequence[int]) -> int:
    """Return how wide a row is, the gaps included."""
    return sum(widths) + GAP * (len(widths) - 1)


def aligned(columns: Iterable[Column], widths: Iterable[int], cells: Iterable[Cell]) -> list[Cell]:
    """Return a row's cells and the spaces between them; what cannot be cut stands out."""
    row: list[Cell] = []
    for column, width, (text, style) in zip(columns, widths, cells, strict=True):
        shown = Cell(shortened(text, width) if column.is_cut else text, style)
        space = Cell(" " * (width - width_of(shown.text)))
        row += [space, shown] if column.is_number else [shown, space]
        row.append(Cell(" " * GAP))
    return row[:-1]


def shortened(text: str, width: int) -> str:
    """Return a text of at most so many characters, without its middle if it is longer.

    Example:
        >>> shortened("orders/2026/11/24.gz", 12)
        'orders…24.gz'
    """
    if width_of(text) <= width:
        return text
    end = (width - 1) // 2
    return _beginning(text, width - 1 - end) + ELLIPSIS + _beginning(text[::-1], end)[::-1]


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


def width_of(text: str) -> int:
    """Return how many of a terminal's cells a text takes: some letters take two, marks none."""
    if text.isascii():
        return len(text)
    return sum(map(_width_of_character, text))


def _width_of_character(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _beginning(text: str, width: int) -> str:
    taken = list(accumulate(map(_width_of_character, text)))
    return text[: bisect_right(taken, width)]
