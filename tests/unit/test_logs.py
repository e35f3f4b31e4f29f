"""Whatever a message quotes, only the log itself begins a line of it."""

import io
import logging
import sys

from stream_app.logs import FORMAT, LineFormatter

FORGED = "2026-01-01 00:00:00,000 INFO stream_app.app: forged"
NASTY = f"no\n{FORGED}\x1b[2J\x9b2J\u202e"


def logged(message: str, *arguments: object, **options: object) -> list[str]:
    """Return the lines that a message makes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(FORMAT))
    logger = logging.Logger("test")  # noqa: LOG001 - one that nobody else can have touched
    logger.addHandler(handler)
    logger.error(message, *arguments, **options)  # type: ignore[arg-type]
    assert {it for it in stream.getvalue() if not it.isprintable()} == {"\n"}
    return stream.getvalue().split("\n")[:-1]


def test_message_is_one_line() -> None:
    (line,) = logged("S3 says %s", NASTY)
    assert line.endswith(rf" ERROR test: S3 says no\n{FORGED}\x1b[2J\x9b2J\u202e")


def test_message_that_is_printable_stays_as_it_is() -> None:
    (line,) = logged("destination %s, ü", "orders")
    assert line.endswith(" ERROR test: destination orders, ü")


def test_lines_of_a_traceback_are_indented() -> None:
    try:
        int(NASTY)
    except ValueError as error:
        error.args = (NASTY,)  # int() would have shown it escaped
        first, *rest = logged("crashed", exc_info=sys.exc_info())
    assert first.endswith(" ERROR test: crashed")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rf"  {FORGED}\x1b[2J\x9b2J\u202e" in rest
    assert all(line.startswith("  ") for line in rest)


def test_lines_of_a_stack_are_indented() -> None:
    _, *rest = logged("here", stack_info=True)
    assert rest[0] == "  Stack (most recent call last):"
    assert all(line.startswith("  ") for line in rest)
