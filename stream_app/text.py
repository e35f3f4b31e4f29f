"""Text from outside as one line that can be printed, and counts, names and times as text.

An error message of a server, a pipeline or a receipt can contain a line end, which would begin a
forged line, or a control character, which a terminal executes. All characters that are not
printable by Python's definition are escaped: C0 and C1 controls, DEL, marks of the direction of
writing, other line ends, lone surrogates.

Pure: text in, text out.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_TIMES_KEPT: Final = 256
"""Times whose text is kept: all receipts of a minute have the same few."""
_DELETE = "\x7f"
"""The one control character that JSON allows in a string."""


def printable(text: str) -> str:
    r"""Return the text on one line, by Python's escapes.

    Example:
        >>> print(printable("a\x1b[2J\nb"))
        a\x1b[2J\nb
    """
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else repr(it)[1:-1] for it in text)


def printable_json(text: str) -> str:
    r"""Return the same JSON on one line, by JSON's own escapes.

    Args:
        text: A JSON document whose only white space outside of strings is spaces.

    Example:
        >>> print(printable_json('["\x9b"]'))
        ["\u009b"]
    """
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else _escape(it) for it in text)


def _escape(character: str) -> str:
    return "\\u007f" if character == _DELETE else json.dumps(character)[1:-1]


def counted(count: int, noun: str) -> str:
    """Return a number and its noun in the singular or the plural.

    Example:
        >>> counted(1, "event"), counted(2, "event")
        ('1 event', '2 events')
    """
    return f"{count} {_inflected(noun, count)}"


def listed(noun: str, names: Sequence[object], shown_max: int) -> str:
    """Return a noun and the names of what it stands for, no more than `shown_max` of them.

    Example:
        >>> listed("partition", [3], 2), listed("partition", [3, 5, 8], 2)
        ('partition 3', 'partitions 3, 5 and 1 more')
    """
    shown = ", ".join(map(str, names[:shown_max]))
    more = len(names) - shown_max
    return f"{_inflected(noun, len(names))} {shown}" + (f" and {more} more" if more > 0 else "")


def _inflected(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def percent(part: int, whole: int) -> str:
    """Return a share as text; neither none nor all, unless it is.

    Example:
        >>> percent(14, 45), percent(1, 5000), percent(4999, 5000)
        ('31 %', '<1 %', '>99 %')
    """
    share = f"{part / whole:.0%}" if whole else "0%"
    if share == "0%" and part:
        return "<1 %"
    if share == "100%" and part < whole:
        return ">99 %"
    return share.replace("%", " %")


def cell_width(text: str) -> int:
    """Return the columns of a terminal that a text takes.

    Args:
        text: Text without control characters.

    Example:
        >>> cell_width("ab"), cell_width("日本")
        (2, 4)
    """
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - slow to import, and rarely needed

    return cell_len(text)


@lru_cache(_TIMES_KEPT)
def iso(seconds: int) -> str:
    """Return a time as in receipts and logs: UTC, whole seconds, in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
