"""The log of a worker: standard error, in which only a message of the log begins a line.

Messages quote what others wrote: S3's and Kafka's errors, an exception's text. A line end in one of
them must not forge a message, nor a control character steer the terminal that shows it. So each
message is one printable line, and the lines of a traceback below it are indented.
"""

import logging
from types import TracebackType
from typing import Final

from stream_app.printable import printable

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
INDENT: Final = "  "

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter):
    """Formats a message as one line, and what belongs to it as indented lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the message's own line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - logging's name
        """Return the traceback's lines."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """Return the stack's lines."""
        return _indented(super().formatStack(stack_info))


def log_to_standard_error(level: str) -> None:
    """Log messages of `level` (debug, info, warning, error) and above from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _indented(text: str) -> str:
    return "\n".join(INDENT + printable(line) for line in text.split("\n"))
