"""Text that others wrote, made fit for one line of a log or a terminal.

An error message of a server, a pipeline or a receipt can hold a line end, which would begin a
forged line, or a control character, which a terminal takes for a command. Whatever Python calls
not printable is written as an escape: C0 and C1 controls, DEL, marks that turn the direction of
writing, other line ends, halves of surrogate pairs.

Pure: text in, text out.
"""

import json

_DELETE = "\x7f"
"""The one control character that JSON lets stand in a string."""


def printable(text: str) -> str:
    r"""Return the text on one line.

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
