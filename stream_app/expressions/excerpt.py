"""Shows a place in an expression: the line with a caret below it, as a terminal prints it.

Pure: text in, text out.
"""

import unicodedata
from typing import Final

WIDTH_MAX: Final = 72
"""Columns of the expression that are shown; a longer line is cut around the place."""


def excerpt(text: str, line: int, column: int) -> str:
    r"""Return two lines: the text's line with its number, and a caret under the place.

    Args:
        text: The expression; anything in it that is no printable character shows as a space.
        line: From 1; a line that the text has.
        column: From 1, in characters; one more than the line has points behind its end.

    Example:
        >>> print(excerpt("a b", 1, 3))
        1 | a b
          |   ^
    """
    content = text.split("\n")[line - 1]
    start = max(0, column - 1 - WIDTH_MAX // 2) if len(content) > WIDTH_MAX else 0
    before, shown = ("…", "…") if start else ("", "")
    shown += _printable(content[start : start + WIDTH_MAX])
    before += _printable(content[start : column - 1])
    if start + WIDTH_MAX < len(content):
        shown += "…"
    number = str(line)
    return f"{number} | {shown}\n{' ' * len(number)} | {' ' * _columns(before)}^"


def _printable(text: str) -> str:
    return "".join(it if it.isprintable() else " " for it in text)


def _columns(text: str) -> int:
    """Return the columns that a terminal needs: two for a wide character, none for a mark."""
    return sum(
        0 if unicodedata.combining(it) else 1 + (unicodedata.east_asian_width(it) in "WF")
        for it in text
    )
