"""Excerpt of an expression at a position: the line with a caret below it, for a terminal.

Pure: text in, text out.
"""

from typing import Final

from stream_app.text import cell_width

WIDTH_MAX: Final = 72
"""Columns of the expression that are shown; a longer line is cut around the position."""


def excerpt(text: str, line: int, column: int) -> str:
    r"""Return two lines: the text's line with its number, and a caret under the position.

    Args:
        text: The expression; its characters that are not printable show as spaces.
        line: From 1; a line that the text has.
        column: From 1, in characters; at most one behind the line's end.

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
    return f"{number} | {shown}\n{' ' * len(number)} | {' ' * cell_width(before)}^"


def _printable(text: str) -> str:
    return "".join(it if it.isprintable() else " " for it in text)
