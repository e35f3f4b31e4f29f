r"""The log of a worker: standard error, in which only a message of the log begins a line.

    text   2026-11-25 12:00:00 INFO ready: 2 destinations, windows of 60 s
    json   {"time": "2026-11-25T12:00:00.123Z", "level": "info", "event": "ready", "message": …}

Messages quote what others wrote: S3's and Kafka's errors, an exception's text. A line end in one of
them must not forge a message, nor a control character steer the terminal that shows it. So each
message is one printable line, in JSON each text of it, and a traceback stays with its message: on
indented lines below it, or in its field.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TextIO

from stream_app.happenings import DELIVERY, LEFT_OUT, LIBRARY, LINES_PER_MINUTE_MAX, Happening
from stream_app.printable import printable, printable_json
from stream_app.receipts import iso

Format = Literal["auto", "text", "json"]

INDENT: Final = "  "
TEXT_LENGTH_MAX: Final = 4_000
"""Characters of a message, and of each of its fields; what is longer is cut."""
TRACEBACK_LENGTH_MAX: Final = 16_000
"""Its end stays, which says what was raised."""
LEVELS: Final = logging.getLevelNamesMapping()
MINUTE_SECONDS: Final = 60
OURS: Final = "stream_app"
_COLOURS: Final = {"DEBUG": 2, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}
"""Codes of "select graphic rendition"."""
_DIM: Final = 2


def say(
    logger: logging.Logger,
    what: Happening,
    text: str,
    /,
    *arguments: object,
    **fields: object,
) -> None:
    """Log one event of the worker's life.

    Args:
        logger: The module's.
        what: Which kind it is of; its level is the message's.
        text: For people, as the logger's own methods take it.
        *arguments: Of the text.
        **fields: What it speaks of, for machines; those that are None are left out.
    """
    level = LEVELS[what.level.upper()]
    if logger.isEnabledFor(level):
        extra = {"happening": what, "fields": fields}
        logger.log(level, text, *arguments, extra=extra, stacklevel=2)


class LineFormatter(logging.Formatter):
    """Formats a message as one line, and what belongs to it as indented lines.

    Args:
        has_colours: Whether the level is coloured.
    """

    def __init__(self, *, has_colours: bool = False) -> None:
        super().__init__()
        self._has_colours = has_colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the message's lines, without an end."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        level = record.levelname
        if self._has_colours:
            at, level = _coloured(_DIM, at), _coloured(_COLOURS.get(level, 0), level)
        name = "" if _is_ours(record) else f"{record.name}: "
        first = f"{at} {level} {printable(name)}{_cut(_message(record))}"
        return "\n".join([first, *(INDENT + line for line in _details(record))])


class JsonFormatter(logging.Formatter):
    """Formats a message as one JSON object on one line, of ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        what: Happening = getattr(record, "happening", LIBRARY)
        at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}"
        document: dict[str, Any] = {
            "time": f"{at}.{int(record.created % 1 * 1000):03}Z",
            "level": record.levelname.lower(),
            "event": what.name,
            "message": _cut(_message(record)),
        }
        if what is LIBRARY:
            document["logger"] = printable(record.name)
        fields: Mapping[str, object] = getattr(record, "fields", {})
        for name in dict.fromkeys((*DELIVERY, *fields)):  # what it speaks of first
            value = fields.get(name)
            if value is not None:
                document[name] = _cut(value) if isinstance(value, str) else value
        details = list(_details(record))
        if details:
            document["traceback"] = "\n".join(details)
        return printable_json(json.dumps(document, default=str))


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Writes messages, of each kind only so many a minute, and then how many it has left out.

    Args:
        stream: Where to.
        is_bounded: Whether any is left out.
    """

    def __init__(self, stream: TextIO, *, is_bounded: bool) -> None:
        super().__init__(stream)
        self._is_bounded = is_bounded
        self._minute = 0
        self._written: Counter[str] = Counter()
        """By kind, in this minute; messages of libraries by their logger as well."""
        self._left_out: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, or leave it out."""
        minute = int(record.created // MINUTE_SECONDS)
        if minute != self._minute:
            self._tell()
            self._minute = minute
            self._written.clear()
        what: Happening | None = getattr(record, "happening", None)
        kind, most = (what.name, what.lines_max) if what else (record.name, LINES_PER_MINUTE_MAX)
        self._written[kind] += 1
        if self._is_bounded and self._written[kind] > most:
            self._left_out[what.name if what else LIBRARY.name] += 1
        else:
            super().emit(record)

    def close(self) -> None:
        """Tell what was left out last."""
        self._tell()
        super().close()

    def _tell(self) -> None:
        if not self._left_out:
            return
        left_out = dict(self._left_out)
        self._left_out.clear()
        told = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        text = f"left out in the minute from {iso(self._minute * MINUTE_SECONDS)}: {told}"
        record = logging.LogRecord(__name__, logging.INFO, __file__, 0, text, None, None)
        record.happening, record.fields = LEFT_OUT, {"left_out": left_out}
        super().emit(record)


def is_json(log_format: Format, stream: TextIO) -> bool:
    """Whether messages to a stream are JSON."""
    return log_format == "json" or (log_format == "auto" and not stream.isatty())


def formatter(
    log_format: Format, stream: TextIO, environment: Mapping[str, str]
) -> logging.Formatter:
    """Return what formats messages to a stream; see `log_to_standard_error`."""
    if is_json(log_format, stream):
        return JsonFormatter()
    shows = stream.isatty() and environment.get("TERM") != "dumb"
    return LineFormatter(has_colours=shows and not environment.get("NO_COLOR"))


def log_to_standard_error(level: str, log_format: Format, environment: Mapping[str, str]) -> None:
    """Log messages of `level` and above from now on.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        log_format: `text`, `json`, or by whether standard error is a terminal: `auto`.
        environment: Colours are for terminals, unless `NO_COLOR` or `TERM=dumb` is set there.
    """
    handler = BoundedHandler(sys.stderr, is_bounded=LEVELS[level.upper()] > logging.DEBUG)
    handler.setFormatter(formatter(log_format, sys.stderr, environment))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    _log_what_python_says()


def _log_what_python_says() -> None:
    """Make messages of what Python itself would write to standard error."""
    logger = logging.getLogger("python")

    def raised(kind: Any, error: Any, frames: Any) -> None:  # noqa: ANN401 - Python's signature
        logger.error("not caught: %r", error, exc_info=(kind, error, frames))

    def unraisable(it: "sys.UnraisableHookArgs") -> None:
        raised(it.exc_type, it.exc_value, it.exc_traceback)

    def in_thread(it: threading.ExceptHookArgs) -> None:
        raised(it.exc_type, it.exc_value, it.exc_traceback)

    sys.excepthook, sys.unraisablehook, threading.excepthook = raised, unraisable, in_thread
    logging.captureWarnings(capture=True)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # A library's, whose arguments do not fit: they say something all the same.
        return f"{record.msg} {record.args!r}"


def _details(record: logging.LogRecord) -> Iterator[str]:
    """Yield the lines of the traceback and the stack that belong to a message."""
    texts = []
    if record.exc_info and record.exc_info[1] is not None:
        texts += ["".join(traceback.format_exception(record.exc_info[1]))]
    if record.stack_info:
        texts += [record.stack_info]
    for text in texts:
        more = len(text) - TRACEBACK_LENGTH_MAX
        if more > 0:
            yield f"({more} characters left out)"
        for line in text[-TRACEBACK_LENGTH_MAX:].rstrip("\n").split("\n"):
            yield printable(line)


def _cut(text: str) -> str:
    """Return a text on one line, and no longer than it may be."""
    more = len(text) - TEXT_LENGTH_MAX
    if more > 0:
        text = f"{text[:TEXT_LENGTH_MAX]}… ({more} characters more)"
    return printable(text)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == OURS


def _coloured(code: int, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
